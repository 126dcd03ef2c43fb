"""Images that one run gets right and the other wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curation.arrays import Bools, Ints
from curation.catalog.tasks import Task
from curation.rows import tabled
from training.evaluation.group_order import groups_first
from training.evaluation.predictions import LabelledPredictions
from training.judging.paired_runs import PairedPredictions, PairedRuns

__all__ = ["Flip", "flips"]


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One label that only one of two runs predicts right: "fixed" by the second run, or "broken".

    Values are class names, or numbers. `confidence` is the probability of each run's own prediction, None for numbers.
    """

    task: str
    key: str
    what: Literal["fixed", "broken"]
    truth: Any
    first: Any
    second: Any
    confidence: tuple[float | None, float | None]


@tabled(Flip)
def flips(runs: PairedRuns, tasks: Sequence[str] = ()) -> list[Flip]:
    """The flipped labels of these tasks (default: all): broken ones first, of each the surest of the wrong answers.

    A number is right within the task's tolerance; a regression task without one has no flips, and boxes have none. One
    label of each group comes before the second of any.
    """
    pairs = [runs.tasks[name] for name in tasks or runs.tasks]
    return [flip for pair in pairs if isinstance(pair, PairedPredictions) for flip in _flips(runs, pair)]


def _flips(runs: PairedRuns, pair: PairedPredictions) -> list[Flip]:
    right = [_right(pair.task, part) for part in (pair.first, pair.second)]
    broken, fixed = np.flatnonzero(right[0] & ~right[1]), np.flatnonzero(right[1] & ~right[0])
    groups = runs.samples.groups[pair.first.rows]
    broken = groups_first(broken[np.argsort(-_surety(pair.second, broken), kind="stable")], groups)
    fixed = groups_first(fixed[np.argsort(-_surety(pair.first, fixed), kind="stable")], groups)
    return [
        *(_flip(runs, pair, place, "broken") for place in broken.tolist()),
        *(_flip(runs, pair, place, "fixed") for place in fixed.tolist()),
    ]


def _right(task: Task, part: LabelledPredictions) -> Bools:
    if task.kind == "regression":
        return np.asarray((part.errors <= task.tolerance) | (task.tolerance == 0), np.bool_)
    return np.asarray(part.errors == 0, np.bool_)


def _surety(part: LabelledPredictions, places: Ints) -> Any:
    """How sure a run is of its wrong predictions at `places`; for numbers, how wrong it is."""
    confidence = part.confidence[places]
    return np.where(np.isfinite(confidence), confidence, part.errors[places])


def _flip(runs: PairedRuns, pair: PairedPredictions, place: int, what: Literal["fixed", "broken"]) -> Flip:
    values = [
        float(value) if pair.task.kind == "regression" else pair.task.classes[int(value)]
        for value in (pair.first.truth[place], pair.first.predicted[place], pair.second.predicted[place])
    ]
    confidence = [
        float(part.confidence[place]) if np.isfinite(part.confidence[place]) else None
        for part in (pair.first, pair.second)
    ]
    return Flip(
        task=pair.task.name, key=str(runs.samples.keys[int(pair.first.rows[place])]), what=what, truth=values[0],
        first=values[1], second=values[2], confidence=(confidence[0], confidence[1]),
    )  # fmt: skip
