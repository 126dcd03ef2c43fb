"""Taking a declared data set into the catalog: fetch, read, inspect, group, split, and one commit."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.commit import PendingCommit
from curation.catalog.held_back_labels import hold_back
from curation.errors import BadInput
from curation.files.digest import digest
from curation.images.decoding import ImageFacts, inspect_all
from curation.images.embeddings import add_vectors, check_vectors
from curation.images.near_duplicates import near_duplicate_groups
from curation.ingest.dataset import Dataset
from curation.ingest.read_dataset import Progress, read
from curation.ingest.readers.content import Content
from curation.ingest.splits import keep_splits, split_of

__all__ = ["Ingested", "Progress", "ingest"]


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
    nothing goes in; with `quarantine` it is put aside with its reason, and the rest goes in. What the data set says of
    samples that the catalog holds already is added to them; vectors become embeddings once the commit is made. `seed`
    draws the splits of groups that are new: what has a split keeps it. Labels of evaluation splits are imported; those
    that the data set holds back of train go to the oracle's file.
    """
    tell = progress or (lambda stage, done, total: None)
    content = read(dataset, tell)
    images, late = _parted(content.samples)
    facts, unread = _inspect(images, tell)
    samples = _keep(images, list(facts))
    if len(images) and not len(samples):
        raise BadInput(f"data set {dataset.name}: none of its {len(images)} images can be read; check them")
    with catalog.read() as now:
        known = dict(zip(*(now.samples()[name].to_pylist() for name in ("key", "split")), strict=True))
    attributes = _with_splits(samples, facts, dataset, seed, known)
    splits = known | dict(zip(*(attributes[name].to_pylist() for name in ("key", "split")), strict=True))
    unusable = pa.array([key for key in images["key"].to_pylist() if key not in facts], pa.string())
    labels, held_back = _divide(content, unusable, splits)
    embeddings = {model: _without(table, unusable) for model, table in content.embeddings.items()}
    check_vectors(catalog.home, embeddings, splits)
    batch = _batch(dataset, seed, facts, content)
    message = f"ingest {dataset.name}: {len(samples) + len(late)} samples"
    with catalog.commit(author=author, message=message, batch=batch) as change:
        change.add_tasks(task for task in dataset.task if not task.applies)
        new = change.add_samples(_sample_rows(samples, facts), dataset=dataset.name)
        change.add_attributes(attributes)
        change.add_attributes(late if dataset.split.by == "given" else _dropped(late, "split"))
        change.add_tasks(task for task in dataset.task if task.applies)  # they may read the attributes
        aside = dataset.name if quarantine else ""
        count = change.add_labels(labels, source=dataset.reader.said_by, quarantine=aside)
        for part in dataset.slice:
            change.add_slice(part.name, part.predicate, task=part.task, rare=part.rare)
        change.add_quarantine(unread, dataset=dataset.name)
        if len(held_back) and not change.repeated:  # else what was forgotten since would come back
            held_back = change.check_labels(held_back, quarantine=aside)
            hold_back(catalog.home, held_back)
        quarantined = _quarantined(change)
    for model, vectors in embeddings.items():
        add_vectors(catalog.home, model, vectors)
    return Ingested(
        dataset=dataset.name, samples=len(samples) + len(late), new=new, labels=count, held_back=len(held_back),
        quarantined=quarantined, commit=change.id,
    )  # fmt: skip


def _quarantined(change: PendingCommit) -> tuple[tuple[str, str], ...]:
    """What this commit put aside, also when it is a repeated one: location, or key of a label, and the reason."""
    now, before = (
        Counter((row["location"], row["reason"]) for row in change.now.earlier(commit).quarantine().to_pylist())
        for commit in (change.id, change.id - 1)
    )
    return tuple(sorted((now - before).elements()))


def _parted(samples: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Images to take in, and attributes, without location, of samples that the catalog holds already."""
    here = pc.is_valid(samples["location"])
    return samples.filter(here), samples.filter(pc.invert(here)).drop_columns(["location"])


def _inspect(images: pa.Table, tell: Progress) -> tuple[dict[str, ImageFacts], list[tuple[str, str]]]:
    """Facts by key of every image that can be read, and (location, reason) of every one that cannot."""
    keys, locations = images["key"].to_pylist(), images["location"].to_pylist()
    facts: dict[str, ImageFacts] = {}
    quarantined: list[tuple[str, str]] = []
    found = inspect_all(locations, progress=lambda done, total: tell("inspect", done, total))
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
        return _given(attributes, dataset.name)
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


def _given(attributes: pa.Table, dataset: str) -> pa.Table:
    if "split" not in attributes.column_names:
        attributes = attributes.append_column("split", pa.nulls(len(attributes), pa.string()))
    without = attributes.filter(pc.is_null(attributes["split"]))
    if len(without):
        key = without["key"][0].as_py()
        raise BadInput(f'data set {dataset}: {key} has no split; give it one, or choose by = "group" in [split]')
    return attributes


def _set(table: pa.Table, name: str, values: Sequence[str]) -> pa.Table:
    return _dropped(table, name).append_column(name, pa.array(values, pa.string()))


def _dropped(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name]) if name in table.column_names else table


def _without(table: pa.Table, keys: pa.Array) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["key"], value_set=keys)))


def _divide(content: Content, aside: pa.Array, splits: Mapping[str, str]) -> tuple[pa.Table, pa.Table]:
    """Labels for the ledger and labels for the oracle: what evaluation samples hold back is imported.

    Labels of images that were set aside go with them; those of a sample that is nowhere are for the ledger to refuse.
    """
    evaluated = pa.array([key for key, split in splits.items() if split != "train"], pa.string())
    held = _without(content.held_back, aside)
    revealed = pc.is_in(held["key"], value_set=evaluated)
    return (
        pa.concat_tables([_without(content.labels, aside), held.filter(revealed)]),
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
    """The batch id of this content: the declaration, the seed, the bytes of every image and what is said of them."""
    hashed = hashlib.sha256(dataset.model_dump_json(exclude={"folder"}).encode())
    hashed.update(f"{seed}".encode())
    for key in sorted(facts):
        hashed.update(f"{key}:{facts[key].sha256}".encode())
    said = [content.samples.drop_columns(["location"])]
    said += [table.drop_columns(["origin"]) for table in (content.labels, content.held_back)]
    said += [content.embeddings[model] for model in sorted(content.embeddings)]
    for table in said:
        hashed.update(digest(table).encode())
    return f"ingest:{dataset.name}:{hashed.hexdigest()}"
