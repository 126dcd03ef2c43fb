"""Edits: import edits made in the App as one commit, labels as a person's and tags as attributes for slices."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import as_labels
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.fiftyone_app.columns import Columns, Overlay, columns_of
from curation.fiftyone_app.refresh import comparable, newer_commits
from curation.requests.manual_requests import TAG

__all__ = ["Edits", "commit_edits", "edits_of"]


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Edits since the mirror of `commit` was written: `labels` (key, task, state and value) and `tags` (key, tag, on).

    `passed_over` has a line for each edit that cannot be imported.
    """

    commit: int
    labels: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    passed_over: list[str]

    @property
    def batch(self) -> str:
        """The batch id of the commit: equal edits are committed once, whoever imports them."""
        content = json.dumps([self.commit, self.labels, self.tags], sort_keys=True)
        return f"browse:{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def edits_of(dataset: Any, now: Snapshot, scene: Overlay) -> Edits:
    """The edits made in the App since the mirror was written. BadInput when the data set is no mirror."""
    state = dataset.info.get("amber")
    if not state:
        raise BadInput(f"data set {dataset.name}: was not written by `amber browse`; its edits cannot be imported")
    then = now.earlier(state["commit"])
    found = dataset._sample_collection.find({"last_modified_at": {"$gt": state["at"]}})
    edited = {document["key"]: document for document in found if "key" in document}
    ids = {row["key"]: row["sample_id"] for row in then.samples().select(["key", "sample_id"]).to_pylist()}
    labels: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    strange = sorted(edited.keys() - ids.keys())
    forgotten = now.forgotten(pa.array(strange, pa.string()))
    passed_over = [
        f"{key}: {'was forgotten' if key in forgotten else 'the catalog has no such sample'}" for key in strange
    ]
    newer = newer_commits(dataset)
    for commit in sorted({newer.get(key, then.commit) for key in edited}):
        own = sorted(ids[key] for key in edited if key in ids and newer.get(key, then.commit) == commit)
        shown = columns_of(now.earlier(commit), scene, lambda key, location: None, np.asarray(own, np.int64))
        labels += _labels(shown, edited, then.tasks().values())
        some, more = _tags(shown, edited, {*then.slices()})
        tags, passed_over = tags + some, passed_over + more
    return Edits(commit=then.commit, labels=labels, tags=tags, passed_over=passed_over)


def commit_edits(catalog: Catalog, edits: Edits, *, author: str) -> int | None:
    """Commit edits as labels of `author`, once; returns the commit's id, None without edits."""
    if not edits.labels and not edits.tags:
        return None
    message = f"{len(edits.labels)} labels and {len(edits.tags)} tags from the App"
    with catalog.commit(author=author, message=message, batch=edits.batch) as change:
        if edits.labels:
            rows = [{"annotator": author, **row} for row in edits.labels]
            change.add_labels(as_labels(pa.Table.from_pylist(rows)), source="human")
        if edits.tags:
            change.add_attributes(_attributes(edits.tags))
    return change.id


def _labels(shown: Columns, edited: dict[str, dict[str, Any]], tasks: Iterable[Task]) -> list[dict[str, Any]]:
    """The labels that differ from those shown."""
    labels = []
    for row, key in enumerate(shown["key"]):
        for task in tasks:
            was, is_ = shown[f"label_{task.name}"][row], edited[key].get(f"label_{task.name}")
            if comparable(was) != comparable(is_):
                size = shown["width"][row], shown["height"][row]
                labels.append({"key": key, "task": task.name, **_value(task, is_, size)})
    return labels


def _attributes(tags: list[dict[str, Any]]) -> pa.Table:
    rows: dict[str, dict[str, Any]] = {}
    for each in tags:
        rows.setdefault(each["key"], {"key": each["key"]})[TAG + each["tag"]] = each["on"]
    names = sorted({name for row in rows.values() for name in row} - {"key"})
    schema = pa.schema([("key", pa.string()), *((name, pa.bool_()) for name in names)])
    return pa.Table.from_pylist(list(rows.values()), schema)


def _value(task: Task, label: Any, size: tuple[int, int]) -> dict[str, Any]:
    """A label of the App in the columns of `LABELS`; a removed one means unsure."""
    if label is None or (task.kind in ("binary", "categorical") and not label.get("label")):
        return {"state": "unsure"}
    width, height = size
    match task.kind:
        case "regression":
            value: dict[str, Any] = {"number": label.get("value")}
        case "multilabel":
            value = {"names": [each["label"] for each in label.get("classifications", [])]}
        case "detection":
            value = {"boxes": [_box(each, width, height) for each in label.get("detections", [])]}
        case _:
            value = {"text": label["label"]}
    return {"state": "known", **value}


def _box(detection: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    x, y, w, h = detection["bounding_box"]
    attributes = [
        (name.removeprefix("attr_"), str(value)) for name, value in detection.items() if name.startswith("attr_")
    ]
    return {
        "class": detection["label"], "x": x * width, "y": y * height, "w": w * width, "h": h * height,
        "attributes": attributes,
    }  # fmt: skip


def _tags(
    shown: Columns, edited: dict[str, dict[str, Any]], slices: set[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The tags that were added or removed, and a line for each that is a slice and so cannot be edited."""
    tags, passed_over = [], []
    for row, key in enumerate(shown["key"]):
        was, is_ = set(shown["tags"][row]), set(edited[key].get("tags") or ())
        for tag in sorted(was ^ is_):
            if tag in slices:
                passed_over.append(f"{key}: tag {tag!r} is a slice, computed from labels and attributes; edit these")
            else:
                tags.append({"key": key, "tag": tag, "on": tag in is_})
    return tags, passed_over
