"""The mirror: a FiftyOne data set that shows the catalog at a commit.

An update writes only the samples that later commits touched. A rebuild writes a new data set beside the old one and
then replaces it: if it is killed, the old mirror or none remains, and the next call completes it.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import numpy as np

from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.columns import FLIPS, NEAR, Overlay, columns_of, field_types, near_duplicates
from curation.fiftyone_app.documents import documents
from curation.fiftyone_app.mongod import companion, fiftyone
from curation.fiftyone_app.panels import evaluate
from curation.fiftyone_app.refresh import clear_newer_commits, newer_commits
from curation.fiftyone_app.views import arrange, arrange_holes

__all__ = ["MirrorResult", "UrlFor", "mirror"]

UrlFor = Callable[[str, str], str | None]
"""Gives the URL at which a browser finds the image of a key and a location; None for a local file."""

BATCH: Final = 2_000
REBUILD: Final = 0.5
"""Share of touched samples above which the mirror is rebuilt."""


@dataclass(frozen=True, kw_only=True)
class MirrorResult:
    """The name of the data set, how many samples it holds, and how many were written.

    `since` is the commit from which it was updated; None when it was rebuilt.
    """

    name: str
    samples: int
    written: int
    since: int | None


def mirror(
    now: Snapshot, name: str, *, scene: Overlay, url_for: UrlFor, progress: Callable[[int, int], None],
    at: datetime | None = None,
) -> MirrorResult:  # fmt: skip
    """Update or rebuild the data set `name` so that it shows `now`.

    An edit made in the App survives only if nothing else of its sample has changed. A caller that has imported edits
    passes the time `at` before it looked for them: later edits are kept for the next import. Without `at` all are.
    """
    fo = fiftyone()
    shown = _identity(now, scene)
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        state = dataset.info.get("amber", {})
        if state.get("shown") == shown and _is_earlier(now, dataset):
            ids, at = now.touched(state["commit"]), at or state["at"]
            if len(ids) <= REBUILD * max(1, len(dataset)):
                if len(ids):
                    _update(now, dataset, ids, scene, url_for, at)
                    arrange_holes(dataset, now)
                    evaluate(dataset, now, scene)
                _record(dataset, now, shown, scene, at)
                return MirrorResult(name=name, samples=len(dataset), written=len(ids), since=state["commit"])
    return _build(now, name, shown, scene, url_for, progress)


def _identity(now: Snapshot, scene: Overlay) -> str:
    """A hash of everything that decides fields, tags and extra columns, except the content of single samples.

    It includes the number of forgotten samples, so that forgetting one rebuilds the mirror.
    """
    parts: list[Any] = [
        now.counts()["forgotten"],
        field_types(now, scene),
        [task.model_dump(mode="json") for task in now.tasks().values()],
        [(part.name, part.predicate) for part in now.slices().values()],
        scene.predictions,
        scene.before and [scene.before, *FLIPS],
        [vars(part) for part in scene.worst],
        [vars(part) for part in scene.findings],
        scene.urls,
        None if scene.extra is None else hashlib.sha256(repr(scene.extra.to_pydict()).encode()).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _is_earlier(now: Snapshot, dataset: Any) -> bool:
    """Whether every sample of the mirror shows this or an earlier commit of the same history."""
    state = dataset.info["amber"]
    latest = max([state["commit"], *newer_commits(dataset).values()])
    return bool(latest <= now.commit and now.earlier(state["commit"]).digest == state["digest"])


def _build(
    now: Snapshot, name: str, shown: str, scene: Overlay, url_for: UrlFor, progress: Callable[[int, int], None]
) -> MirrorResult:
    fo, at = fiftyone(), datetime.now(UTC)
    part = f"{name}.part"
    if fo.dataset_exists(part):
        fo.delete_dataset(part)
    dataset = fo.Dataset(part, persistent=True)
    _add_fields(dataset, field_types(now, scene))
    columns = columns_of(now, scene, url_for, near=near_duplicates(now))
    total = len(columns["key"])
    if total:
        dataset.media_type = "image"
    _write(dataset, columns, at, lambda done: progress(done, total))
    arrange(dataset, now, scene, remote=any(columns["url"]))
    evaluate(dataset, now, scene)
    _record(dataset, now, shown, scene, at)
    if fo.dataset_exists(name):
        fo.delete_dataset(name)
    dataset.name = name
    return MirrorResult(name=name, samples=total, written=total, since=None)


def _add_fields(dataset: Any, types: dict[str, str]) -> None:
    fo = fiftyone()
    plain = {"string": fo.StringField, "float": fo.FloatField, "boolean": fo.BooleanField,
             "date": fo.DateTimeField, "integer": fo.IntField}  # fmt: skip
    for name, type_ in types.items():
        if type_ == "strings":
            dataset.add_sample_field(name, fo.ListField, subfield=fo.StringField)
        elif type_ in plain:
            dataset.add_sample_field(name, plain[type_])
        else:
            dataset.add_sample_field(name, fo.EmbeddedDocumentField, embedded_doc_type=getattr(fo, type_))


def _write(dataset: Any, columns: dict[str, list[Any]], at: datetime, progress: Callable[[int], None]) -> None:
    fields = _own_fields(dataset)
    made = documents(columns, fields, dataset._doc.id, at)
    done = 0
    while batch := list(islice(made, BATCH)):
        done += len(dataset._sample_collection.insert_many(batch, ordered=False).inserted_ids)
        progress(done)
    dataset.create_index("key", unique=True)


def _update(now: Snapshot, dataset: Any, ids: Any, scene: Overlay, url_for: UrlFor, at: datetime) -> None:
    replaced = companion("pymongo").ReplaceOne
    near, ids = _near(now, dataset, np.asarray(ids))
    columns = columns_of(now, scene, url_for, ids, near)
    collection = dataset._sample_collection
    present = {row["key"]: row["_id"] for row in collection.find({"key": {"$in": columns["key"]}}, {"key": 1})}
    made = documents(columns, _own_fields(dataset), dataset._doc.id, at)
    requests = [
        replaced({"key": row["key"]}, row | {"_id": present.get(row["key"], row["_id"])}, upsert=True) for row in made
    ]
    collection.bulk_write(requests, ordered=False)
    dataset.reload()


def _near(now: Snapshot, dataset: Any, ids: Any) -> tuple[dict[str, str], Any]:
    """Near-duplicates, and `ids` with the samples whose group changed; groups change only when samples are added."""
    samples = now.samples().select(["key", "sample_id"])
    if len(samples) == len(dataset):
        found = dataset._sample_collection.find({NEAR: {"$exists": True}}, {"key": 1, NEAR: 1})
        return {row["key"]: row[NEAR] for row in found}, ids
    near, id_of = near_duplicates(now), dict(zip(*samples.to_pydict().values(), strict=True))
    written = set(ids.tolist())
    chains = {first for key, first in near.items() if id_of[key] in written}
    return near, np.asarray(sorted(written | {id_of[key] for key, first in near.items() if first in chains}))


def _own_fields(dataset: Any) -> list[str]:
    builtin = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}
    return [name for name in dataset.get_field_schema() if name not in builtin]


def _record(dataset: Any, now: Snapshot, shown: str, scene: Overlay, at: datetime) -> None:
    """Record, as the last step, which commit the mirror shows, and what a button needs to refresh a sample."""
    clear_newer_commits(dataset)
    seen = {"run": scene.run, "against": scene.against, "pinned": scene.pinned}
    dataset.info["amber"] = {"commit": now.commit, "digest": now.digest, "shown": shown, "at": at, **seen}
    dataset.save()
