"""What there is to show of a run: its registered predictions, judged by the labels of its commit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.analysis.agreement import Agreement, agreement
from curation.analysis.coverage import Coverage, coverage
from curation.analysis.missingness import Difference, missing
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import NotFound
from curation.files.read_back import check_sha256
from samplers.plan.plan import Plan

__all__ = ["Answers", "Judged", "answers_of", "checked", "constant_error", "judge", "registered"]

Row = Mapping[str, Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The n known labels of a task that a run answered: places among the samples, truth, answer, confidence [n]."""

    places: Ints
    truth: Floats
    said: Floats
    confidence: Floats

    @property
    def off(self) -> Floats:
        """How far each answer is from the truth; 0 where it is right."""
        return np.abs(self.said - self.truth)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A run as it was judged at one commit. `groups`, `test` and `inside` are over the samples, which are by key."""

    tasks: Mapping[str, Task]
    slices: Mapping[str, Slice]
    figures: Sequence[Row]
    keys: pa.Array
    groups: Ints
    test: Bools
    inside: Mapping[str, Bools]
    answers: Mapping[str, Answers]
    boxes: Mapping[int, list[tuple[str, Row]]]
    coverage: Coverage
    agreement: Sequence[Agreement]
    missing: Sequence[Difference]
    commit: Row

    def figure(self, task: str, slice_: str, split: str = "test") -> Row | None:
        """The row of one (task, slice, split), if there is one."""
        cell = (task, slice_, split)
        return next((row for row in self.figures if (row["task"], row["slice"], row["split"]) == cell), None)

    def metric(self, task: str, slice_: str) -> str:
        """The metric in words; where a slice holds one class only, the share of right answers is its recall."""
        judged = self.tasks[task]
        if judged.metric == "mae":
            return "mean absolute error"
        answers = self.answers[task]
        classes = np.unique(answers.truth[self._here(answers, slice_)])
        if slice_ and len(classes) == 1:
            name = judged.classes[int(classes[0])]
            return "recall of " + ({"true": task, "false": f"not {task}"}[name] if judged.kind == "binary" else name)
        return judged.metric.replace("_", " ")

    def errors(self, task: str, slice_: str) -> Ints:
        """Positions in the task's answers that are wrong on test, the most confident (or the farthest off) first."""
        answers = self.answers[task]
        wrong = np.flatnonzero(self._here(answers, slice_) & self.test[answers.places] & (answers.off > 0))
        weight = answers.off if self.tasks[task].kind == "regression" else answers.confidence
        return wrong[np.argsort(-weight[wrong], kind="stable")]

    def constant(self, task: str) -> float:
        """Mean absolute error of the best constant on test; 0 where there is none."""
        return constant_error(self.answers[task], self.test)

    def _here(self, answers: Answers, slice_: str) -> Bools:
        members = self.inside.get(slice_, np.zeros(len(self.test), np.bool_))
        return np.asarray(members[answers.places], np.bool_)


def registered(now: Snapshot, run_id: str) -> Row:
    runs = [row for row in now.runs().to_pylist() if row["run"] == run_id]
    if not runs:
        raise NotFound(f"run {run_id!r}: the catalog has no figures of it; evaluate it first")
    newest: Row = runs[-1]
    return newest


def checked(home: Path, entry: Row) -> Path:
    """The predictions of a registered run, unless they have changed since."""
    fix = f"evaluate run {entry['run']!r} again"
    return check_sha256(home / str(entry["predictions"]), str(entry["sha256"]), fix)


def judge(now: Snapshot, run_id: str, plan: Plan, predictions: Path) -> Judged:
    samples, tasks, slices = now.samples(), now.tasks(), now.slices()
    ids = np.asarray(samples["sample_id"].to_numpy(), np.int64)
    members = {name: now.members(part.predicate, predictions=str(predictions)) for name, part in slices.items()}
    keys = samples["key"].combine_chunks()
    table = pq.read_table(predictions)
    asked = [task.name for task in plan.tasks]
    return Judged(
        tasks=tasks, slices=slices, keys=keys,
        inside={"": np.ones(len(ids), np.bool_)} | {name: np.isin(ids, found) for name, found in members.items()},
        figures=[row for row in now.runs.slice_errors(run_id).to_pylist() if row["task"] in asked],
        groups=np.unique(np.asarray(samples["group"].to_pylist(), str), return_inverse=True)[1],
        test=np.asarray(pc.equal(samples["split"], "test"), np.bool_),
        answers={name: answers_of(now, tasks[name], ids, keys, table) for name in asked},
        boxes=_boxes(now, [task for task in tasks.values() if task.kind == "detection"], ids),
        coverage=coverage(now), agreement=[agreement(now, name) for name in tasks], missing=missing(now),
        commit=now.log().slice(0, 1).to_pylist()[0],
    )  # fmt: skip


def constant_error(answers: Answers, test: Bools) -> float:
    """Mean absolute error of the best constant on the samples of `test`; 0 where none is known."""
    truth = answers.truth[test[answers.places]]
    return float(np.abs(truth - np.median(truth)).mean()) if len(truth) else 0.0


def answers_of(now: Snapshot, task: Task, ids: Ints, keys: pa.Array, predictions: pa.Table) -> Answers:
    """Of the samples with these `ids` and `keys`, those whose label is known and that `predictions` answer."""
    column = "number" if task.kind == "regression" else "code"
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], 1))
    truth, said, confidence = (np.full(len(ids), np.nan) for _ in range(3))
    truth[_places(ids, known)] = known[column].to_numpy()
    mine = predictions.filter(pc.equal(predictions["task"], task.name))
    found = pc.index_in(mine["key"], value_set=keys)
    mine, rows = mine.filter(found.is_valid()), found.drop_null().to_numpy()
    said[rows] = mine[column].to_numpy()
    confidence[rows] = pc.cast(mine["confidence"], pa.float64()).to_numpy()
    places = np.flatnonzero(np.isfinite(truth) & np.isfinite(said))
    return Answers(places=places, truth=truth[places], said=said[places], confidence=confidence[places])


def _places(ids: Ints, labels: pa.Table) -> Ints:
    """Where the samples of some labels stand among `ids`."""
    order = np.argsort(ids)
    return np.asarray(order[np.searchsorted(ids[order], labels["sample_id"].to_numpy())], np.int64)


def _boxes(now: Snapshot, tasks: Iterable[Task], ids: Ints) -> dict[int, list[tuple[str, Row]]]:
    """The known boxes of each sample, by its place: class name and the box in pixels."""
    boxes: dict[int, list[tuple[str, Row]]] = {}
    for task in tasks:
        labels = now.labels(task.name)
        known = labels.filter(pc.equal(labels["state"], 1))
        for place, found in zip(_places(ids, known).tolist(), known["boxes"].to_pylist(), strict=True):
            boxes.setdefault(place, []).extend((task.classes[box["code"]], box) for box in found or ())
    return boxes
