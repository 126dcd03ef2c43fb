"""What the catalog knows of samples, as columns of FiftyOne documents.

A field is called as a slice would call it: `attr_weather`, `label_light_color`, `pred_light_color`. What is unknown
stays empty; a task of which somebody could not tell stands in `unsure`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.schema import KNOWN, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.images.near_duplicates import near_duplicate_groups
from curation.requests.manual_requests import TAG

__all__ = [
    "ATTRIBUTE_TYPES", "KNOWN_TASKS", "NEAR", "Columns", "Scene", "SliceError", "columns_of", "field_types",
    "near_duplicates",
]  # fmt: skip

Ids = npt.NDArray[np.int64]
Columns = dict[str, list[Any]]

ATTRIBUTE_TYPES: Final = {"text": "string", "number": "float", "flag": "boolean", "time": "date"}
RESERVED: Final = {"group", "split", "excluded", "captured_at"}
"""Attributes that `Snapshot.samples` gives with their defaults."""

NEAR: Final = "near_duplicate_of"
"""The field that holds the first key, by name, of the images that near-duplicates chain to one."""

KNOWN_TASKS: Final = "known_tasks"
"""The field that counts the tasks whose label is known."""

LABEL_TYPES: Final = {
    "binary": "Classification", "categorical": "Classification", "multilabel": "Classifications",
    "regression": "Regression", "detection": "Detections",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SliceError:
    """How wrong a run is on a slice of a task: `error` (0 is right), and `told`, its figure in words. Where it is not
    `sure`, there is too little data to say."""

    task: str
    slice: str
    error: float
    told: str
    sure: bool


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is shown besides what is known: of a run its predictions, of a plan, or whatever else, columns by `key`.

    `predictions` is the Parquet file of `run`, `before` that of the run `against` that it is held against, `worst` its
    slices, the worst first; `extra` has a column `key` and columns of numbers. `urls` names where and when the URLs of
    images hold: once it changes, all is written anew. `pinned` says that an older commit was asked for.
    """

    run: str = ""
    against: str = ""
    predictions: str | None = None
    before: str | None = None
    worst: tuple[SliceError, ...] = ()
    extra: pa.Table | None = None
    urls: str = ""
    pinned: bool = False

    @property
    def numbers(self) -> list[str]:
        """Names of the columns of `extra`."""
        return [] if self.extra is None else [name for name in self.extra.column_names if name != "key"]


def field_types(now: Snapshot, scene: Scene) -> dict[str, str]:
    """The fields of the mirror, each with the name of its type: a label's class, or a plain type."""
    tasks = now.tasks().values()
    types = {
        "key": "string", "url": "string", "dataset": "string", "attr_split": "string", "attr_group": "string",
        "attr_captured_at": "date", "unsure": "strings", "disputed": "strings", "requests": "strings", NEAR: "string",
        KNOWN_TASKS: "integer",
    }  # fmt: skip
    types |= {f"attr_{name}": ATTRIBUTE_TYPES[type_] for name, type_ in now.attributes().items()}
    types |= {f"label_{task.name}": LABEL_TYPES[task.kind] for task in tasks}
    if scene.predictions:
        for task in (task for task in tasks if task.outputs):
            types[f"pred_{task.name}"] = LABEL_TYPES[task.kind]
            types[f"error_{task.name}"] = "float" if task.kind == "regression" else "boolean"
            if scene.before and task.kind != "regression":
                types[f"flip_{task.name}"] = "string"
    return types | dict.fromkeys(scene.numbers, "float")


def near_duplicates(now: Snapshot) -> dict[str, str]:
    """Of each image that has near-duplicates, by key, the first key of those that they chain together."""
    hashes = now.hashes()
    keys = hashes["key"].to_pylist()
    first = near_duplicate_groups(keys, hashes["phash"].to_numpy())
    sizes = Counter(first)
    return {key: name for key, name in zip(keys, first, strict=True) if sizes[name] > 1}


def columns_of(
    now: Snapshot, scene: Scene, url_for: Callable[[str, str], str | None], ids: Ids | None = None,
    near: Mapping[str, str] | None = None,
) -> Columns:  # fmt: skip
    """The columns of the samples `ids`, or of all, by sample id: those of `field_types`, and what a document needs.

    Labels are dicts of FiftyOne's form without their `_id`; boxes are fractions of the image. `url_for(key, location)`
    says under which URL a browser finds an image that is no local file; `near` are the near-duplicates.
    """
    samples = now.samples().sort_by("sample_id")
    if ids is not None:
        samples = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(ids)))
    place = {id_: row for row, id_ in enumerate(samples["sample_id"].to_pylist())}
    columns: Columns = {name: samples[name].to_pylist() for name in ("key", "location", "dataset", "width", "height")}
    columns["size_bytes"], columns["mime_type"] = samples["bytes"].to_pylist(), samples["format"].to_pylist()
    columns["url"] = [url_for(*where) for where in zip(columns["key"], columns["location"], strict=True)]
    columns[NEAR] = [(near or {}).get(key) for key in columns["key"]]
    for name in sorted(RESERVED):
        columns[f"attr_{name}"] = samples[name].to_pylist()
    builder = _Builder(now, scene, columns, place)
    builder.attributes()
    builder.labels()
    builder.requests()
    builder.slices()
    builder.extra()
    return columns


class _Builder:
    """Fills columns; `place` says in which row a sample id stands."""

    def __init__(self, now: Snapshot, scene: Scene, columns: Columns, place: Mapping[int, int]) -> None:
        self._now, self._scene, self._columns, self._place = now, scene, columns, place
        self._ids = pa.array(list(place), pa.int64())

    def attributes(self) -> None:
        for name in self._now.attributes().keys() - RESERVED:
            self._fill(f"attr_{name}", self._mine(self._now.attribute(name)), "value")

    def labels(self) -> None:
        unsure: list[list[str]] = [[] for _ in self._place]
        contested: list[list[str]] = [[] for _ in self._place]
        count = [0] * len(self._place)
        sizes = list(zip(self._columns["width"], self._columns["height"], strict=True))
        for task in self._now.tasks().values():
            column = self._new(f"label_{task.name}")
            known: dict[int, Any] = {}
            for row in self._mine(self._now.labels(task.name)).to_pylist():
                at = self._place[row["sample_id"]]
                if row["state"] == UNSURE:
                    unsure[at].append(task.name)
                elif row["state"] == KNOWN:
                    known[at] = row["code"] if task.kind != "regression" else row["number"]
                    column[at] = label(task, row, sizes[at])
                    count[at] += 1
            if self._scene.predictions and task.outputs:
                self._predictions(task, known)
            for id_ in disputed(self._mine(self._now.labels.by_annotator(task.name)), task):
                contested[self._place[id_]].append(task.name)
        self._columns[KNOWN_TASKS] = count
        self._columns["unsure"] = [names or None for names in unsure]
        self._columns["disputed"] = [names or None for names in contested]

    def _predictions(self, task: Task, known: Mapping[int, Any]) -> None:
        column, errors = self._new(f"pred_{task.name}"), self._new(f"error_{task.name}")
        codes: dict[int, Any] = {}
        for row in self._mine(self._now.runs.predictions(task.name, str(self._scene.predictions))).to_pylist():
            at = self._place[row["sample_id"]]
            column[at], codes[at] = label(task, row, (1, 1)), row["code"]
            if at in known and task.kind == "regression":
                errors[at] = abs(row["number"] - known[at])
            elif at in known:
                errors[at] = row["code"] != known[at]
        if self._scene.before and task.kind != "regression":
            self._flips(task, known, codes)

    def _flips(self, task: Task, known: Mapping[int, Any], codes: Mapping[int, Any]) -> None:
        """Where the run says something else than the one before: "mended", "broken", or "changed" without a verdict."""
        column = self._new(f"flip_{task.name}")
        for row in self._mine(self._now.runs.predictions(task.name, str(self._scene.before))).to_pylist():
            at = self._place[row["sample_id"]]
            if at in codes and codes[at] != row["code"]:
                truth = known.get(at)
                column[at] = {codes[at]: "mended", row["code"]: "broken"}.get(truth, "changed")

    def requests(self) -> None:
        """Each label request as "TASK STATE", the newest of a task last."""
        column = self._new("requests")
        for row in self._mine(self._now.requests()).to_pylist():
            at = self._place[row["sample_id"]]
            column[at] = [*(column[at] or []), f"{row['task']} {row['state']}"]

    def slices(self) -> None:
        """The tags of a sample are the slices that it is in, and the attributes `tag_NAME` that are true."""
        tags: list[list[str]] = [[] for _ in self._place]
        for name in sorted(self._now.attributes()):
            if name.startswith(TAG) and name != TAG:
                for at in (at for at, value in enumerate(self._columns[f"attr_{name}"]) if value is True):
                    tags[at].append(name.removeprefix(TAG))
        for name, part in self._now.slices().items():
            if part.reads_predictions and not self._scene.predictions:
                continue
            members = self._now.members(part.predicate, predictions=self._scene.predictions).tolist()
            for id_ in self._place.keys() & members:
                tags[self._place[id_]].append(name)
        self._columns["tags"] = tags

    def extra(self) -> None:
        if self._scene.extra is None:
            return
        row_of = {key: row for row, key in enumerate(self._columns["key"])}
        rows = [row_of.get(key) for key in self._scene.extra["key"].to_pylist()]
        for name in self._scene.numbers:
            if not pa.types.is_floating(self._scene.extra[name].type):
                raise BadInput(f"column {name!r} of what is shown: {self._scene.extra[name].type}; must be of floats")
            column = self._new(name)
            for row, value in zip(rows, self._scene.extra[name].to_pylist(), strict=True):
                if row is not None:
                    column[row] = value

    def _mine(self, table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["sample_id"], value_set=self._ids))

    def _fill(self, name: str, table: pa.Table, value: str) -> None:
        column = self._new(name)
        for id_, each in zip(table["sample_id"].to_pylist(), table[value].to_pylist(), strict=True):
            column[self._place[id_]] = each

    def _new(self, name: str) -> list[Any]:
        column: list[Any] = [None] * len(self._place)
        self._columns[name] = column
        return column


def disputed(statements: pa.Table, task: Task) -> list[int]:
    """Ids of the samples of which people say different things of one task; numbers differ beyond its tolerance."""
    people = pc.and_(
        pc.is_in(statements["source"], value_set=pa.array(["human", "oracle"])), pc.equal(statements["state"], KNOWN)
    )
    said = statements.filter(people)
    if task.kind == "regression":
        span = said.group_by("sample_id").aggregate([("number", "min"), ("number", "max")])
        apart = pc.greater(pc.subtract(span["number_max"], span["number_min"]), task.tolerance)
        return sorted(span.filter(apart)["sample_id"].to_pylist())
    column = {"multilabel": "codes", "detection": "boxes"}.get(task.kind, "code")
    values = pa.table({"sample_id": said["sample_id"], "said": [repr(value) for value in said[column].to_pylist()]})
    counted = values.group_by("sample_id").aggregate([("said", "count_distinct")])
    return sorted(counted.filter(pc.greater(counted["said_count_distinct"], 1))["sample_id"].to_pylist())


def label(task: Task, row: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """A known label, or a prediction, as FiftyOne writes it, without `_id`; boxes as fractions of `size`."""
    sure = {} if row.get("confidence") is None else {"confidence": row["confidence"]}
    match task.kind:
        case "regression":
            return {"_cls": "Regression", "tags": [], "value": row["number"], **sure}
        case "multilabel":
            return {"_cls": "Classifications", "classifications": [_class(task, code) for code in row["codes"]]}
        case "detection":
            return {"_cls": "Detections", "detections": [_box(task, box, size) for box in row["boxes"]]}
    return _class(task, row["code"]) | sure


def _class(task: Task, code: int) -> dict[str, Any]:
    return {"_cls": "Classification", "tags": [], "label": task.classes[code]}


def _box(task: Task, box: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    return {
        "_cls": "Detection", "attributes": {}, "tags": [], "label": task.classes[box["code"]],
        "bounding_box": [box["x"] / width, box["y"] / height, box["w"] / width, box["h"] / height],
        **{f"attr_{name}": value for name, value in box["attributes"] or []},
    }  # fmt: skip
