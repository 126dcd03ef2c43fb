"""SQL of the columns that a slice can name: each is a query of (sample_id, value) as of one commit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from curation.catalog.arrow_query import quoted
from curation.catalog.predicate_tree import PREDICTED
from curation.catalog.sample_rows import samples_sql
from curation.catalog.schema import STATES
from curation.catalog.slice_vetting import Frame
from curation.catalog.tasks import Task
from curation.catalog.view import View
from curation.errors import NotFound

__all__ = [
    "NEIGHBOUR", "SQL_TYPES", "Assumed", "assumed", "frame_of", "labelled", "predicted", "predicted_beside",
    "predicted_instead",
]  # fmt: skip

Assumed = Mapping[str, str | bool | float]
"""Values that replace the labels of some tasks on every sample, known or not."""

SQL_TYPES: Final = {
    "text": "VARCHAR", "number": "DOUBLE", "flag": "BOOLEAN", "time": "TIMESTAMP", "integer": "BIGINT",
}  # fmt: skip
"""The DuckDB type of each attribute type."""

LABEL_TYPES: Final = {
    "binary": "BOOLEAN", "categorical": "VARCHAR", "multilabel": "VARCHAR[]", "regression": "DOUBLE",
}  # fmt: skip
BOXES_TYPE: Final = "STRUCT(class VARCHAR, x DOUBLE, y DOUBLE, w DOUBLE, h DOUBLE, attributes MAP(VARCHAR, VARCHAR))[]"

NEIGHBOUR: Final = {"pred_before": "lag", "pred_after": "lead"}
"""The window function of each family that reads the predictions of a frame beside the image."""


def frame_of(tasks: Mapping[str, Task], attributes: Mapping[str, str], *, other: bool = False) -> Frame:
    """The columns that a slice may name, from the tasks and the types of the attributes; with `other`, also those of a
    second run."""
    labels = {task.name: LABEL_TYPES[task.kind] for task in tasks.values() if task.kind != "detection"}
    predicted = {
        name: f"STRUCT(value {type_}, confidence DOUBLE)" for name, type_ in labels.items() if tasks[name].outputs
    }
    return Frame(
        families={
            "attr": {"key": "VARCHAR", **{name: SQL_TYPES[type_] for name, type_ in attributes.items()}},
            "label": labels,
            "looked": {task.name: "VARCHAR[]" for task in tasks.values() if task.kind == "multilabel"},
            "state": dict.fromkeys(tasks, "VARCHAR"),
            "instructions": dict.fromkeys(tasks, "BIGINT"),
            **{family: predicted for family in PREDICTED if other or family != "pred_other"},
            "boxes": {task.name: BOXES_TYPE for task in tasks.values() if task.kind == "detection"},
        },
        classes={
            task.name: tuple(task.classes) for task in tasks.values() if task.kind in ("categorical", "multilabel")
        },
    )


def assumed(family: str, task: Task, value: str | bool | float, commit: int) -> str:
    """SQL of the label or state of a task if every sample had `value`; of several classes just one, or "" for none."""
    constant = "'known'" if family == "state" else f"CAST({quoted(str(value))} AS {LABEL_TYPES[task.kind]})"
    if family != "state" and task.kind == "multilabel":
        constant = f"CAST([{quoted(str(value)) if value else ''}] AS VARCHAR[])"
    return f"SELECT sample_id, {constant} AS value FROM sample WHERE commit_id <= {commit}"


def labelled(family: str, task: Task, current: str) -> str:
    """SQL of the label, state, boxes or looked-for classes of a task, from the SQL of its `current` labels.

    Unsure and inapplicable labels have a state but no value; unknown labels have neither.
    """
    classes = "[" + ", ".join(map(quoted, task.classes)) + "]"
    if family == "state":
        names = " ".join(f"WHEN {code} THEN '{name}'" for name, code in STATES.items())
        return f"SELECT sample_id, CASE state {names} END AS value FROM ({current})"
    if family == "looked":
        named = f"coalesce(list_transform(looked, lambda c: {classes}[c + 1]), {classes})"
        return f"SELECT sample_id, {named} AS value FROM ({current}) WHERE state = 1"
    value = {
        "binary": "code = 1",
        "categorical": f"{classes}[code + 1]",
        "multilabel": f"list_transform(codes, lambda c: {classes}[c + 1])",
        "regression": "number",
        "detection": f"list_transform(boxes, lambda b: {{'class': {classes}[b.code + 1], "
        "'x': b.x, 'y': b.y, 'w': b.w, 'h': b.h, 'attributes': b.attributes})",
    }[task.kind]
    return f"SELECT sample_id, {value} AS value FROM ({current}) WHERE state = 1"


def predicted_instead(task: Task, predictions: str | None, commit: int, known: str) -> str:
    """SQL of a run's values of a task for the samples that the query `known` lacks."""
    given = predicted(task, predictions, commit)
    return f"SELECT sample_id, value.value AS value FROM ({given}) ANTI JOIN ({known}) USING (sample_id)"


def predicted(
    task: Task, predictions: str | None, commit: int, within: str = "true", span: tuple[str, str] | None = None
) -> str:
    """SQL of the predictions of a run for a task, with confidence, from its Parquet file.

    `within` is a condition on `sample_id`; `span` are the first and last key of its samples: only that part of the file
    is read.
    """
    if predictions is None:
        raise NotFound(f"pred.{task.name}: a slice over predictions needs a run; train one, or name it with --run")
    if not Path(predictions).is_file():
        raise NotFound(f"{predictions}: the predictions of this run are missing; evaluate it again")
    classes = "[" + ", ".join(map(quoted, task.classes)) + "]"
    value = {
        "binary": "code = 1", "categorical": f"{classes}[code + 1]",
        "multilabel": f"list_transform(codes, lambda c: {classes}[c + 1])",
    }.get(task.kind, "number")  # fmt: skip
    part = f" AND key BETWEEN {quoted(span[0])} AND {quoted(span[1])}" if span else ""
    return (
        f"SELECT sample_id, {{'value': {value}, 'confidence': confidence}} AS value "
        f"FROM read_parquet({quoted(predictions)}) JOIN (SELECT sample_id, key FROM sample WHERE commit_id <= {commit} "
        f"AND {within}) USING (key) WHERE task = {quoted(task.name)}{part}"
    )


def predicted_beside(family: str, task: Task, predictions: str | None, view: View) -> str:
    """SQL of what a run predicts for the frame before, or after, each sample in its group, in order of `captured_at`.

    Excluded samples and those without a time are no frames; of two at one time, the key decides. A sample has at most
    one row, and none where there is no such frame.
    """
    given = predicted(task, predictions, view.commit)
    beside = f'{NEIGHBOUR[family]}(value) OVER (PARTITION BY "group" ORDER BY captured_at, key)'
    frames = f"({given}) JOIN ({samples_sql(view)}) USING (sample_id) WHERE captured_at IS NOT NULL AND NOT excluded"
    return f"FROM (SELECT sample_id, {beside} AS value FROM {frames}) WHERE value IS NOT NULL"
