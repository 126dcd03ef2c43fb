"""One key for one image file, whatever it is called: by a link, by another path, or by the key of an earlier ingest."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput
from curation.files.locations import is_url
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.findings import Findings
from curation.ingestion.readers.sample_rows import join_samples

__all__ = ["with_one_key_a_file"]


def with_one_key_a_file(content: Content, known: Mapping[str, str], findings: Findings) -> Content:
    """`content` with each image file under one key; `known` maps the keys of the catalog to their locations.

    A file keeps the key that the catalog has for it, whichever data set brought it and by which path. Otherwise the
    name that is no link counts, then the first one. Attributes and labels of all names of a file are joined; BadInput
    if they differ.
    """
    keys, locations = content.samples["key"].to_pylist(), content.samples["location"].to_pylist()
    renamed = _known_keys(keys, locations, known)
    if renamed:
        named = [f"{old} is the file that the catalog has as {new}" for old, new in renamed.items()]
        findings.note_several(named, f"read under the key {next(iter(renamed.values()))!r}")
    links = _links(keys, locations)
    if links:
        first = next(iter(links.items()))
        findings.note_several(
            [f"{old} is the same file as {new}" for old, new in links.items()], f"read under the key {first[1]!r}"
        )
    renamed = {old: renamed.get(new, new) for old, new in links.items()} | {
        old: new for old, new in renamed.items() if old not in links
    }
    return _renamed(content, renamed, findings) if renamed else content


def _known_keys(keys: Sequence[str], locations: Sequence[str | None], known: Mapping[str, str]) -> dict[str, str]:
    """The key in the catalog of each file that has a new key here."""
    new = {key: path for key, path in zip(keys, locations, strict=True) if path and key not in known}
    if not new or not known:
        return {}
    paths = {*new.values()}
    behind = {path: _behind_links(path) for path in paths if not is_url(path)}
    names = {os.path.basename(path) for pair in behind.items() for path in pair}
    by_location: dict[str, str] = {}
    by_file: dict[str, str] = {}
    for key, location in known.items():
        if location in paths:
            by_location.setdefault(location, key)
        if not is_url(location) and os.path.basename(location) in names:
            by_file.setdefault(_behind_links(location), key)
    found = {key: by_location.get(path) or by_file.get(behind.get(path, ""), "") for key, path in new.items()}
    used = set(keys)
    return {key: earlier for key, earlier in found.items() if earlier and earlier not in used}


def _behind_links(path: str) -> str:
    """The path of the file itself."""
    try:
        return os.path.realpath(path)
    except ValueError:  # a zero byte; inspection names it
        return path


def _links(keys: Sequence[str], locations: Sequence[str | None]) -> dict[str, str]:
    """For each key whose file has another name too, the key that counts."""
    same: dict[tuple[int, int], list[int]] = {}
    for row, location in enumerate(locations):
        if location and not is_url(location):
            try:
                facts = os.stat(location)
            except (OSError, ValueError):
                continue  # inspection names it
            same.setdefault((facts.st_dev, facts.st_ino), []).append(row)
    found: dict[str, str] = {}
    for rows in same.values():
        if len(rows) > 1:
            by_path: dict[str, list[int]] = {}
            for row in rows:  # hard links are files of their own
                by_path.setdefault(os.path.realpath(str(locations[row])), []).append(row)
            for path, members in by_path.items():
                chosen = next((row for row in members if locations[row] == path), members[0])
                found |= {keys[row]: keys[chosen] for row in members if keys[row] != keys[chosen]}
    return found


def _renamed(content: Content, names: Mapping[str, str], findings: Findings) -> Content:
    """`content` with other keys; rows that become one sample or one label are joined."""
    samples = _with_keys(content.samples, names)
    own = samples["location"].to_pylist()
    location: dict[str, str] = {}
    for old, key, place in zip(content.samples["key"].to_pylist(), samples["key"].to_pylist(), own, strict=True):
        if old == key or key not in location:
            location[key] = place
    paths = pa.array([location[key] for key in samples["key"].to_pylist()], pa.string())
    samples = samples.set_column(samples.schema.get_field_index("location"), "location", paths)
    labels, kept = _distinct(_with_keys(content.labels, names))
    held_back, held_kept = _distinct(_with_keys(content.held_back, names))
    origins = content.box_origins
    if origins is not None:
        origins = origins.take(kept if len(kept) else held_kept)
    return replace(
        content,
        samples=join_samples([samples], findings),
        labels=labels,
        held_back=held_back,
        box_origins=origins,
        embeddings={model: _one_vector(_with_keys(table, names)) for model, table in content.embeddings.items()},
    )


def _with_keys(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    row = pc.index_in(table["key"], value_set=pa.array(list(names), pa.string()))
    keys = pc.coalesce(pa.array(list(names.values()), pa.string()).take(row), table["key"])
    return table.set_column(table.schema.get_field_index("key"), "key", keys)


def _distinct(labels: pa.Table) -> tuple[pa.Table, pa.Array]:
    """The labels without repetitions of one label, and their rows; the ledger refuses labels that differ."""
    seen: set[str] = set()
    rows = []
    for row, label in enumerate(labels.drop_columns(["origin"]).to_pylist()):
        text = repr(label)
        if text not in seen:
            rows.append(row)
        seen.add(text)
    kept = pa.array(rows, pa.int64())
    return labels.take(kept), kept


def _one_vector(table: pa.Table) -> pa.Table:
    """The first vector of each key; BadInput if another one differs."""
    first: dict[str, int] = {}
    for row, key in enumerate(table["key"].to_pylist()):
        before = first.setdefault(key, row)
        if not np.array_equal(table["vector"][before].as_py(), table["vector"][row].as_py()):
            raise BadInput(f"{key!r}: has two vectors, under two names of its file; keep one")
    return table.take(pa.array(list(first.values()), pa.int64()))
