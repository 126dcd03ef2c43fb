"""Samples of the catalog as columns of FiftyOne documents.

Fields have the names that slices use: `attr_weather`, `label_light_color`, `pred_light_color`. An unknown value is an
empty field; `unsure` lists the tasks whose label is unsure, `inapplicable` those that do not apply.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Ints
from curation.catalog.schema import INAPPLICABLE, KNOWN, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.images.near_duplicates import near_duplicate_groups
from curation.requests.manual_requests import TAG

__all__ = [
    "ATTRIBUTE_TYPES", "FLIPS", "FOUND", "KNOWN_TASKS", "NEAR", "Columns", "Finding", "Overlay", "SliceError",
    "columns_of", "field_types", "label", "near_duplicates", "share_wrong",
]  # fmt: skip

Columns = dict[str, list[Any]]

ATTRIBUTE_TYPES: Final = {"text": "string", "number": "float", "flag": "boolean", "time": "date", "integer": "integer"}
RESERVED: Final = {"group", "split", "excluded", "captured_at"}
"""Attributes that `Snapshot.samples` returns with their defaults."""

NEAR: Final = "near_duplicate_of"
"""The field with the first key, by name, of an image's group of near-duplicates (linked by chains)."""

KNOWN_TASKS: Final = "known_tasks"
"""The field with the number of tasks whose label is known."""

FOUND: Final = "found"
"""The field with the names of the findings about a sample."""

FIXED, BROKEN, CHANGED = FLIPS = ("fixed", "broken", "changed")
"""The values of `flip_TASK`."""

LABEL_TYPES: Final = {
    "binary": "Classification", "categorical": "Classification", "multilabel": "Classifications",
    "regression": "Regression", "detection": "Detections",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SliceError:
    """The error of a run on a slice of a task: `error` (0 is perfect), and `told`, the same with its interval as text.

    `sure` is false when there is too little data.
    """

    task: str
    slice: str
    error: float
    told: str
    sure: bool


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Samples that a verb found, such as doubts or the members of a discovered slice: the App shows them as a view.

    `keys` are the most telling first, `told` says in words what was found. `bad`: the view is red.
    """

    name: str
    keys: tuple[str, ...]
    told: str
    bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """What the App shows besides the catalog: predictions of a run, columns of a plan, or other numbers.

    Attributes:
        predictions: Parquet file of the predictions of `run`.
        boxed: tasks of boxes that `run` predicts; of others it predicts those that have a head.
        before: Parquet file of the predictions of `against`, the run that `run` is compared with.
        worst: slices of `run`, the worst first.
        findings: what verbs found about `run`.
        extra: a table with a column `key` and columns of floats.
        urls: names the service and validity of image URLs; when it changes, the mirror is rebuilt.
        pinned: an older commit was requested.
    """

    run: str = ""
    against: str = ""
    predictions: str | None = None
    boxed: tuple[str, ...] = ()
    before: str | None = None
    worst: tuple[SliceError, ...] = ()
    findings: tuple[Finding, ...] = ()
    extra: pa.Table | None = None
    urls: str = ""
    pinned: bool = False

    def predicts(self, task: Task) -> bool:
        """Whether the run has a column of this task."""
        return bool(self.predictions) and (bool(task.outputs) or task.name in self.boxed)

    @property
    def numbers(self) -> list[str]:
        """Names of the number columns of `extra`."""
        return [] if self.extra is None else [name for name in self.extra.column_names if name != "key"]


def field_types(now: Snapshot, scene: Overlay) -> dict[str, str]:
    """The fields of the mirror with the names of their types: a FiftyOne label class, or a plain type."""
    tasks = now.tasks().values()
    types = {
        "key": "string", "url": "string", "dataset": "string", "attr_split": "string", "attr_group": "string",
        "attr_captured_at": "date", "unsure": "strings", "inapplicable": "strings",
        "disputed": "strings", "requests": "strings", NEAR: "string",
        KNOWN_TASKS: "integer",
    }  # fmt: skip
    types |= {f"attr_{name}": ATTRIBUTE_TYPES[type_] for name, type_ in now.attributes().items()}
    types |= {f"label_{task.name}": LABEL_TYPES[task.kind] for task in tasks}
    for task in (task for task in tasks if scene.predicts(task)):
        types[f"pred_{task.name}"] = LABEL_TYPES[task.kind]
        if task.outputs:
            types[f"error_{task.name}"] = "float" if task.kind in ("regression", "multilabel") else "boolean"
            if scene.before and task.kind in ("binary", "categorical"):
                types[f"flip_{task.name}"] = "string"
    if scene.findings:
        types[FOUND] = "strings"
    return types | dict.fromkeys(scene.numbers, "float")


def near_duplicates(now: Snapshot) -> dict[str, str]:
    """The first key of the group of each image that has near-duplicates, by key; chains of pairs form a group."""
    hashes = now.hashes()
    keys = hashes["key"].to_pylist()
    first = near_duplicate_groups(keys, hashes["phash"].to_numpy())
    sizes = Counter(first)
    return {key: name for key, name in zip(keys, first, strict=True) if sizes[name] > 1}


def columns_of(
    now: Snapshot, scene: Overlay, url_for: Callable[[str, str], str | None], ids: Ints | None = None,
    near: Mapping[str, str] | None = None,
) -> Columns:  # fmt: skip
    """The columns of the samples `ids` (default: all), sorted by sample id.

    They are those of `field_types`, and what a document needs besides. Labels are dicts in FiftyOne's form without
    `_id`; boxes are fractions of the image. `url_for(key, location)` gives the URL of an image that is not a local
    file; `near` is the result of `near_duplicates`.
    """
    samples = now.samples().sort_by("sample_id")
    if ids is not None:
        samples = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(ids)))
    row_of = {id_: row for row, id_ in enumerate(samples["sample_id"].to_pylist())}
    columns: Columns = {name: samples[name].to_pylist() for name in ("key", "location", "dataset", "width", "height")}
    columns["size_bytes"], columns["mime_type"] = samples["bytes"].to_pylist(), samples["format"].to_pylist()
    columns["url"] = [url_for(*where) for where in zip(columns["key"], columns["location"], strict=True)]
    columns[NEAR] = [(near or {}).get(key) for key in columns["key"]]
    for name in sorted(RESERVED):
        columns[f"attr_{name}"] = samples[name].to_pylist()
    builder = _Builder(now, scene, columns, row_of)
    builder.attributes()
    builder.labels()
    builder.requests()
    builder.slices()
    builder.extra()
    builder.findings()
    return columns


class _Builder:
    """Fills columns; `row_of` has the row of each sample id."""

    def __init__(self, now: Snapshot, scene: Overlay, columns: Columns, row_of: Mapping[int, int]) -> None:
        self._now, self._scene, self._columns, self._row_of = now, scene, columns, row_of
        self._ids = pa.array(list(row_of), pa.int64())

    def attributes(self) -> None:
        for name in self._now.attributes().keys() - RESERVED:
            self._fill(f"attr_{name}", self._selected(self._now.attribute(name)), "value")

    def labels(self) -> None:
        stated: dict[int, list[list[str]]] = {state: [[] for _ in self._row_of] for state in (UNSURE, INAPPLICABLE)}
        contested: list[list[str]] = [[] for _ in self._row_of]
        count = [0] * len(self._row_of)
        sizes = list(zip(self._columns["width"], self._columns["height"], strict=True))
        for task in self._now.tasks().values():
            column = self._new(f"label_{task.name}")
            known: dict[int, Any] = {}
            for row in self._selected(self._now.labels(task.name)).to_pylist():
                at = self._row_of[row["sample_id"]]
                if row["state"] in stated:
                    stated[row["state"]][at].append(task.name)
                elif row["state"] == KNOWN:
                    known[at] = {"regression": row["number"], "multilabel": row}.get(task.kind, row["code"])
                    column[at] = label(task, row, sizes[at])
                    count[at] += 1
            if self._scene.predicts(task):
                predict = self._predictions if task.outputs else self._boxes
                predict(task, known)
            for id_ in disputed(self._selected(self._now.labels.by_annotator(task.name)), task):
                contested[self._row_of[id_]].append(task.name)
        self._columns[KNOWN_TASKS] = count
        for state, name in ((UNSURE, "unsure"), (INAPPLICABLE, "inapplicable")):
            self._columns[name] = [names or None for names in stated[state]]
        self._columns["disputed"] = [names or None for names in contested]

    def _predictions(self, task: Task, known: Mapping[int, Any]) -> None:
        column, errors = self._new(f"pred_{task.name}"), self._new(f"error_{task.name}")
        codes: dict[int, Any] = {}
        for row in self._selected(self._now.runs.predictions(task.name, str(self._scene.predictions))).to_pylist():
            at = self._row_of[row["sample_id"]]
            column[at], codes[at] = label(task, row, (1, 1)), row["code"]
            if at in known and task.kind == "regression":
                errors[at] = abs(row["number"] - known[at])
            elif at in known and task.kind == "multilabel":
                errors[at] = share_wrong(task, known[at], row["codes"])
            elif at in known:
                errors[at] = row["code"] != known[at]
        if self._scene.before and task.kind in ("binary", "categorical"):
            self._flips(task, known, codes)

    def _boxes(self, task: Task, known: Mapping[int, Any]) -> None:
        """The predicted boxes of each sample with their scores; whether they are right is FiftyOne's to say."""
        column = self._new(f"pred_{task.name}")
        sizes = list(zip(self._columns["width"], self._columns["height"], strict=True))
        for row in self._selected(self._now.runs.predictions(task.name, str(self._scene.predictions))).to_pylist():
            at = self._row_of[row["sample_id"]]
            column[at] = label(task, row, sizes[at])

    def _flips(self, task: Task, known: Mapping[int, Any], codes: Mapping[int, Any]) -> None:
        """Where the predictions of the two runs differ: "fixed" (now right), "broken" (now wrong), or "changed" (the
        label is unknown, or both are wrong)."""
        column = self._new(f"flip_{task.name}")
        for row in self._selected(self._now.runs.predictions(task.name, str(self._scene.before))).to_pylist():
            at = self._row_of[row["sample_id"]]
            if at in codes and codes[at] != row["code"]:
                truth = known.get(at)
                column[at] = {codes[at]: FIXED, row["code"]: BROKEN}.get(truth, CHANGED)

    def requests(self) -> None:
        """Each label request as "TASK STATE", the newest of a task last."""
        column = self._new("requests")
        for row in self._selected(self._now.requests()).to_pylist():
            at = self._row_of[row["sample_id"]]
            column[at] = [*(column[at] or []), f"{row['task']} {row['state']}"]

    def slices(self) -> None:
        """The tags of a sample: the slices that contain it, and the attributes `tag_NAME` that are true."""
        tags: list[list[str]] = [[] for _ in self._row_of]
        for name in sorted(self._now.attributes()):
            if name.startswith(TAG) and name != TAG:
                for at in (at for at, value in enumerate(self._columns[f"attr_{name}"]) if value is True):
                    tags[at].append(name.removeprefix(TAG))
        read = {
            name: part.predicate for name, part in self._now.slices().items()
            if self._scene.predictions or not part.reads_predictions
        }  # fmt: skip
        for name, members in self._now.members_of(read, predictions=self._scene.predictions).items():
            for id_ in self._row_of.keys() & members.tolist():
                tags[self._row_of[id_]].append(name)
        self._columns["tags"] = tags

    def extra(self) -> None:
        if self._scene.extra is None:
            return
        row_of = {key: row for row, key in enumerate(self._columns["key"])}
        rows = [row_of.get(key) for key in self._scene.extra["key"].to_pylist()]
        for name in self._scene.numbers:
            if not pa.types.is_floating(self._scene.extra[name].type):
                raise BadInput(f"extra column {name!r}: {self._scene.extra[name].type}; must be floats")
            column = self._new(name)
            for row, value in zip(rows, self._scene.extra[name].to_pylist(), strict=True):
                if row is not None:
                    column[row] = value

    def findings(self) -> None:
        """The names of the findings about each sample."""
        if not self._scene.findings:
            return
        column, row_of = self._new(FOUND), {key: row for row, key in enumerate(self._columns["key"])}
        for finding in self._scene.findings:
            for at in sorted(row_of[key] for key in {*finding.keys} & row_of.keys()):
                column[at] = [*(column[at] or []), finding.name]

    def _selected(self, table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["sample_id"], value_set=self._ids))

    def _fill(self, name: str, table: pa.Table, value: str) -> None:
        column = self._new(name)
        for id_, each in zip(table["sample_id"].to_pylist(), table[value].to_pylist(), strict=True):
            column[self._row_of[id_]] = each

    def _new(self, name: str) -> list[Any]:
        column: list[Any] = [None] * len(self._row_of)
        self._columns[name] = column
        return column


def disputed(statements: pa.Table, task: Task) -> list[int]:
    """Ids of the samples whose labels of `task` by several people differ (numbers: by more than its tolerance)."""
    people = pc.and_(
        pc.is_in(statements["source"], value_set=pa.array(["human", "oracle"])), pc.equal(statements["state"], KNOWN)
    )
    known = statements.filter(people)
    if task.kind == "regression":
        span = known.group_by("sample_id").aggregate([("number", "min"), ("number", "max")])
        apart = pc.greater(pc.subtract(span["number_max"], span["number_min"]), task.tolerance)
        return sorted(span.filter(apart)["sample_id"].to_pylist())
    column = {"multilabel": "codes", "detection": "boxes"}.get(task.kind, "code")
    values = pa.table({"sample_id": known["sample_id"], "value": [repr(value) for value in known[column].to_pylist()]})
    counted = values.group_by("sample_id").aggregate([("value", "count_distinct")])
    return sorted(counted.filter(pc.greater(counted["value_count_distinct"], 1))["sample_id"].to_pylist())


def label(task: Task, row: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """A known label or a prediction in FiftyOne's form without `_id`; boxes are fractions of `size`."""
    sure = {} if row.get("confidence") is None else {"confidence": row["confidence"]}
    match task.kind:
        case "regression":
            return {"_cls": "Regression", "tags": [], "value": row["number"], **sure}
        case "multilabel":
            chances = row.get("probabilities")
            return {"_cls": "Classifications", "classifications": [
                _class(task, code) | ({"confidence": chances[code]} if chances else {}) for code in row["codes"]
            ]}  # fmt: skip
        case "detection":
            return {"_cls": "Detections", "detections": [_box(task, box, size) for box in row["boxes"]]}
    return _class(task, row["code"]) | sure


def share_wrong(task: Task, known: Mapping[str, Any], predicted: Collection[int]) -> float:
    """The share of the classes that somebody looked for which a prediction (class codes) gets wrong."""
    looked = range(len(task.classes)) if known["looked"] is None else known["looked"]
    return sum((code in known["codes"]) != (code in predicted) for code in looked) / max(len(looked), 1)


def _class(task: Task, code: int) -> dict[str, Any]:
    return {"_cls": "Classification", "tags": [], "label": task.classes[code]}


def _box(task: Task, box: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    return {
        "_cls": "Detection", "attributes": {}, "tags": [], "label": task.classes[box["code"]],
        "bounding_box": [box["x"] / width, box["y"] / height, box["w"] / width, box["h"] / height],
        **({"confidence": box["score"]} if "score" in box else {}),
        **{f"attr_{name}": value for name, value in box.get("attributes") or []},
    }  # fmt: skip
