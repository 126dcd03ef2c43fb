"""Ingest of a declared data set into the catalog: fetch, read, inspect, group, split, and one commit."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.applicability import vet_applies
from curation.catalog.attributes import types_of
from curation.catalog.catalog import Catalog
from curation.catalog.commit import PendingCommit
from curation.catalog.held_back_labels import hold_back
from curation.catalog.label_validation import NO_CLASS
from curation.catalog.schema import EVALUATION
from curation.catalog.slice_columns import frame_of
from curation.catalog.slice_vetting import vet
from curation.errors import BadInput
from curation.files.digest import digest
from curation.files.progress import StageProgress
from curation.images.decoding import ImageFacts, inspect_all
from curation.images.embeddings import add_vectors, check_vectors
from curation.images.near_duplicates import near_duplicate_groups
from curation.ingestion.box_check import with_checked_boxes
from curation.ingestion.dataset import Dataset
from curation.ingestion.file_keys import with_one_key_a_file
from curation.ingestion.read_dataset import read
from curation.ingestion.readers.content import Content, without
from curation.ingestion.readers.declared_base import Entries
from curation.ingestion.readers.declared_tables import Tables
from curation.ingestion.readers.findings import Aside, BadEntry, Findings
from curation.ingestion.splits import keep_splits, split_of

__all__ = ["Ingested", "ingest"]


_KNOWN = ["key", "location", "split", "width", "height"]


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """The result of one ingest: samples in the data set, new ones, labels imported and held back, and quarantined.

    `quarantined` holds location and reason of each entry, `aside` the same entries as file, entry, value and rule.
    `notes` tells what was passed over or changed. `forgotten` are keys that `amber forget` removed earlier, and new
    keys of images that it removed: they are left out, with all their labels.
    """

    dataset: str
    samples: int
    new: int
    labels: int
    held_back: int
    quarantined: tuple[tuple[str, str], ...]
    commit: int
    aside: tuple[Aside, ...] = ()
    notes: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()


def ingest(
    catalog: Catalog, dataset: Dataset, *, author: str, seed: int = 0, quarantine: bool = False,
    progress: StageProgress | None = None,
) -> Ingested:  # fmt: skip
    """Add `dataset` to the catalog in one commit; the same content again is a no-op.

    Unreadable images are quarantined with their reason, and the rest goes in. An entry of the source or a label that
    breaks a rule stops the ingest before anything is written; with `quarantine` it is quarantined too. Attributes and
    labels of samples that the catalog already holds are added to those samples. Vectors become embeddings after the
    commit. `seed` decides the splits of new groups; a sample with a split keeps it. Labels of evaluation splits are
    imported; labels of train that the data set holds back go to the oracle's file.
    """
    report, findings = progress or (lambda stage, done, total: None), Findings(quarantine=quarantine)
    content, known, forgotten = _read_beside(catalog, dataset, report, findings)
    images, late = _with_and_without_image(content.samples)
    facts, unread = _inspect(images, report)
    if len(images) and not facts:
        raise BadInput(_none_readable(dataset.name, unread))
    forgotten = sorted({*forgotten, *_forgotten_images(catalog, facts)})
    content = _with_checked_boxes(content, dataset, known, facts, findings)
    batch = _batch(dataset, seed, facts, content)
    content, images, late = content.without(forgotten), *(without(part, forgotten) for part in (images, late))
    samples = _keep(images, list(facts))
    _note_tasks_and_splits(content, dataset, findings)
    attributes = _with_splits(samples, facts, dataset, seed, {key: row["split"] for key, row in known.items()})
    splits = {key: row["split"] for key, row in known.items()}
    splits |= dict(zip(*(attributes[name].to_pylist() for name in ("key", "split")), strict=True))
    unusable = [key for key in images["key"].to_pylist() if key not in facts]
    labels, held_back = _divide(content, unusable, splits)
    embeddings = {model: without(table, unusable) for model, table in content.embeddings.items()}
    check_vectors(catalog.home, embeddings, splits)
    late = late if dataset.split.by == "given" else _dropped(late, "split")
    _vet_ahead(catalog, dataset, attributes, late)
    message = f"ingest {dataset.name}: {len(samples) + len(late)} samples"
    with catalog.commit(author=author, message=message, batch=batch) as change:
        change.add_tasks(task for task in dataset.task if not task.applies)
        new = change.add_samples(_sample_rows(samples, facts), dataset=dataset.name)
        change.add_attributes(attributes)
        change.add_attributes(late)
        change.add_tasks(task for task in dataset.task if task.applies)  # they may read the attributes
        aside = dataset.name if quarantine else ""
        with _naming_unknown(dataset):
            count = change.add_labels(labels, source=dataset.reader.said_by, quarantine=aside)
        for part in dataset.slice:
            change.add_slice(part.name, part.predicate, task=part.task, rare=part.rare)
        change.add_quarantine(
            [*unread, *((part.location, part.reason) for part in findings.aside)], dataset=dataset.name
        )
        if len(held_back) and not change.repeated:  # a repeated commit would bring forgotten samples back
            held_back = change.check_labels(held_back, quarantine=aside)
            hold_back(catalog.home, held_back)
        quarantined = _quarantined(change)
    for model, vectors in embeddings.items():
        add_vectors(catalog.home, model, vectors)
    return Ingested(
        dataset=dataset.name, samples=len(samples) + len(late), new=new, labels=count, held_back=len(held_back),
        quarantined=quarantined, commit=change.id, aside=_asides(quarantined, findings), notes=tuple(findings.notes),
        forgotten=tuple(forgotten),
    )  # fmt: skip


def _read_beside(
    catalog: Catalog, dataset: Dataset, report: StageProgress, findings: Findings
) -> tuple[Content, dict[str, dict[str, Any]], list[str]]:
    """The content of the source, the samples that the catalog holds, by key, and keys that it has forgotten."""
    content = read(dataset, report, findings)
    with catalog.read() as now:
        known = {row["key"]: row for row in now.samples().select(_KNOWN).to_pylist()}
        content = with_one_key_a_file(content, {key: row["location"] for key, row in known.items()}, findings)
        forgotten = now.forgotten(content.keys())
    return _with_sound_splits(content, dataset, findings), known, forgotten


def _forgotten_images(catalog: Catalog, facts: Mapping[str, ImageFacts]) -> list[str]:
    """Keys of new images that the catalog has forgotten under another key."""
    keys, hashes = list(facts), [found.sha256 for found in facts.values()]
    with catalog.read() as now:
        return now.forgotten_images(
            pa.table({"key": pa.array(keys, pa.string()), "sha256": pa.array(hashes, pa.string())})
        )


@contextmanager
def _naming_unknown(dataset: Dataset) -> Iterator[None]:
    """Add to the refusal of a word that is no class the option that lists words for unknown, if the reader has it."""
    try:
        yield
    except BadInput as error:
        if not str(error).endswith(NO_CLASS) or not isinstance(dataset.reader, Entries | Tables):
            raise
        table = "[reader]" if isinstance(dataset.reader, Entries) else "[[reader.table]]"
        raise BadInput(f"{error}, or list it in unknown of {table} if it means unknown") from None


def _vet_ahead(catalog: Catalog, dataset: Dataset, *attributes: pa.Table) -> None:
    """Vet all predicates on the columns that the catalog will have: the commit finds the results, and no writer waits
    for the vetting."""
    with catalog.read() as now:
        tasks, known = now.tasks(), now.attributes()
    for table in attributes:
        known = types_of(table, known)
    frame = frame_of({**tasks, **{task.name: task for task in dataset.task}}, known)
    for task in dataset.task:
        vet_applies(task, frame)
    for part in dataset.slice:
        vet(part.predicate, frame)


def _with_checked_boxes(
    content: Content, dataset: Dataset, known: Mapping[str, Mapping[str, int]], facts: Mapping[str, ImageFacts],
    findings: Findings,
) -> Content:  # fmt: skip
    """The content with boxes inside their images, whether the catalog holds these already or not."""
    sizes = {key: (row["width"], row["height"]) for key, row in known.items()}
    sizes |= {key: (row.width, row.height) for key, row in facts.items()}
    return with_checked_boxes(content, sizes, dataset.task, dataset.reader.box_rules(), findings)


def _asides(quarantined: Collection[tuple[str, str]], findings: Findings) -> tuple[Aside, ...]:
    """The quarantined entries by file, entry, value and rule."""
    known = {part.reason: part for part in findings.aside}
    return tuple(known.get(reason) or _aside(location, reason) for location, reason in quarantined)


def _aside(location: str, reason: str) -> Aside:
    """An unreadable image, or a label that the ledger refused."""
    found = Aside.read(reason)
    if found.entry:
        return found
    return Aside(file=location, entry="", value="", rule=reason.rpartition("; ")[0] or reason, reason=reason)


def _none_readable(dataset: str, unread: Sequence[tuple[str, str]]) -> str:
    reasons = Counter(reason for _, reason in unread)
    shown = ", ".join(f"{count:,} {reason.partition('; ')[0]}" for reason, count in reasons.most_common(3))
    more = ", ..." if len(reasons) > 3 else ""
    return (
        f"data set {dataset}: none of its {len(unread):,} images can be read ({shown}{more}), the first is "
        f"{unread[0][0]}; check the images and their folder in [reader]"
    )


def _note_tasks_and_splits(content: Content, dataset: Dataset, findings: Findings) -> None:
    """Note declared tasks without a label, and a split that leaves nothing to evaluate."""
    labelled = {*pc.unique(content.labels["task"]).to_pylist(), *pc.unique(content.held_back["task"]).to_pylist()}
    missing = [task.name for task in dataset.task if task.name not in labelled]
    if missing:
        findings.note(
            f"data set {dataset.name}: brings no label of the task{'s' * (len(missing) > 1)} {', '.join(missing)}"
        )
    split = dataset.split
    if split.by != "given" and not split.test and not split.validation and len(content.samples):
        findings.note(
            f'[split] by = "{split.by}" without test and validation: new groups go to train, and nothing can be '
            "evaluated; set test and validation, such as 0.2 and 0.1"
        )


def _quarantined(change: PendingCommit) -> tuple[tuple[str, str], ...]:
    """Location (or key of a label) and reason of each entry that this commit quarantined, repeated commits included."""
    now, before = (
        Counter((row["location"], row["reason"]) for row in change.now.earlier(commit).quarantine().to_pylist())
        for commit in (change.id, change.id - 1)
    )
    return tuple(sorted((now - before).elements()))


def _with_and_without_image(samples: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Samples with an image, and attributes (without location) of samples that the catalog already holds."""
    located = pc.is_valid(samples["location"])
    return samples.filter(located), samples.filter(pc.invert(located)).drop_columns(["location"])


def _inspect(images: pa.Table, report: StageProgress) -> tuple[dict[str, ImageFacts], list[tuple[str, str]]]:
    """Facts by key of each readable image, and (location, reason) of each unreadable one."""
    keys, locations = images["key"].to_pylist(), images["location"].to_pylist()
    facts: dict[str, ImageFacts] = {}
    quarantined: list[tuple[str, str]] = []
    found = inspect_all(locations, progress=lambda done, total: report("inspect", done, total))
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
    """The attributes of the samples, with `group` and `split` as `[split]` declares."""
    attributes = samples.drop_columns(["location"])
    if dataset.split.by == "given":
        given = "split" in attributes.column_names
        return attributes if given else attributes.append_column("split", pa.nulls(len(attributes), pa.string()))
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


def _with_sound_splits(content: Content, dataset: Dataset, findings: Findings) -> Content:
    """The content without the samples whose split, given by the source, is none or is missing: these are refused."""
    if dataset.split.by != "given":
        return content
    rows, wrong = content.samples, []
    given = rows["split"].to_pylist() if "split" in rows.column_names else [None] * len(rows)
    where = f"data set {dataset.name}"
    for key, location, split in zip(rows["key"].to_pylist(), rows["location"].to_pylist(), given, strict=True):
        if split is None and location is not None:
            fix = 'give it one, or choose by = "group" in [split]'
            findings.refuse(BadEntry(where, key, "has no split", fix))
            wrong.append(key)
        elif split not in (None, "train", *EVALUATION):
            rule = "is not train, validation or test"
            findings.refuse(BadEntry(where, f"{key}: split {split!r}", rule, "correct it"))
            wrong.append(key)
    return content.without(wrong)


def _set(table: pa.Table, name: str, values: Sequence[str]) -> pa.Table:
    return _dropped(table, name).append_column(name, pa.array(values, pa.string()))


def _dropped(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name]) if name in table.column_names else table


def _divide(content: Content, unreadable: Sequence[str], splits: Mapping[str, str]) -> tuple[pa.Table, pa.Table]:
    """Labels for the ledger and labels for the oracle; held-back labels of evaluation samples are imported.

    Labels of quarantined images are dropped. Labels of unknown samples stay: the ledger refuses them.
    """
    evaluated = pa.array([key for key, split in splits.items() if split != "train"], pa.string())
    held = without(content.held_back, unreadable)
    revealed = pc.is_in(held["key"], value_set=evaluated)
    return (
        pa.concat_tables([without(content.labels, unreadable), held.filter(revealed)]),
        held.filter(pc.invert(revealed)),
    )


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


def _batch(dataset: Dataset, seed: int, facts: dict[str, ImageFacts], content: Content) -> str:
    """The batch id: a hash of the declaration, the seed, the bytes of every image, its attributes and its labels."""
    hashed = hashlib.sha256(dataset.model_dump_json(exclude={"folder"}).encode())
    hashed.update(f"{seed}".encode())
    for key in sorted(facts):
        hashed.update(f"{key}:{facts[key].sha256}".encode())
    tables = [content.samples.drop_columns(["location"])]
    tables += [part.drop_columns(["origin"]) for part in (content.labels, content.held_back)]
    tables += [content.embeddings[model] for model in sorted(content.embeddings)]
    for table in tables:
        hashed.update(digest(table).encode())
    return f"ingest:{dataset.name}:{hashed.hexdigest()}"
