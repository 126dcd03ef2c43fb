"""Images that one run gets right and the other wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curation.arrays import Bools, Ints
from curation.catalog.tasks import Task
from curation.rows import tabled
from training.evaluation.group_order import groups_first
from training.evaluation.predictions import LabelledPredictions
from training.judging.paired_runs import PairedPredictions, PairedRuns

__all__ = ["Flip", "flip_counts", "flips"]

What = Literal["fixed", "broken"]


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One label that only one of two runs predicts right: "fixed" by the second run, or "broken".

    Values are class names, or numbers. `confidence` is the probability of each run's own prediction, None for numbers.
    """

    task: str
    key: str
    what: What
    truth: Any
    first: Any
    second: Any
    confidence: tuple[float | None, float | None]


@tabled(Flip)
def flips(runs: PairedRuns, tasks: Sequence[str] = (), *, most: int | None = None) -> list[Flip]:
    """The flipped labels of these tasks (default: all): broken ones first, of each the surest of the wrong answers.

    A number is right within the task's tolerance; a regression task without one has no flips, and boxes have none. One
    label of each group comes before the second of any. With `most`, the first so many broken and fixed ones of a task.
    """
    return [
        _flip(runs, pair, place, what)
        for pair in _with_flips(runs, tasks)
        for what, places, wrong in _places(pair)
        for place in _first(runs, pair, places, wrong)[:most].tolist()
    ]


def flip_counts(runs: PairedRuns, tasks: Sequence[str] = ()) -> dict[tuple[str, str], int]:
    """How many labels of each task are flipped, by task and what ("broken", "fixed"), where any are."""
    found = {(pair.task.name, what): len(at) for pair in _with_flips(runs, tasks) for what, at, _ in _places(pair)}
    return {key: count for key, count in found.items() if count}


def _with_flips(runs: PairedRuns, tasks: Sequence[str]) -> list[PairedPredictions]:
    pairs = [runs.tasks[name] for name in tasks or runs.tasks]
    return [pair for pair in pairs if isinstance(pair, PairedPredictions)]


def _places(pair: PairedPredictions) -> Iterator[tuple[What, Ints, LabelledPredictions]]:
    """The labels that are broken, and those that are fixed, each with the predictions that are wrong there."""
    right = [_right(pair.task, part) for part in (pair.first, pair.second)]
    yield "broken", np.flatnonzero(right[0] & ~right[1]), pair.second
    yield "fixed", np.flatnonzero(right[1] & ~right[0]), pair.first


def _first(runs: PairedRuns, pair: PairedPredictions, places: Ints, wrong: LabelledPredictions) -> Ints:
    """Flipped labels in the order in which they are shown."""
    groups = runs.samples.groups[pair.first.rows]
    return groups_first(places[np.argsort(-_surety(wrong, places), kind="stable")], groups)


def _right(task: Task, part: LabelledPredictions) -> Bools:
    if task.kind == "regression":
        return np.asarray((part.errors <= task.tolerance) | (task.tolerance == 0), np.bool_)
    return np.asarray(part.errors == 0, np.bool_)


def _surety(part: LabelledPredictions, places: Ints) -> Any:
    """How sure a run is of its wrong predictions at `places`; for numbers, how wrong it is."""
    confidence = part.confidence[places]
    return np.where(np.isfinite(confidence), confidence, part.errors[places])


def _flip(runs: PairedRuns, pair: PairedPredictions, place: int, what: What) -> Flip:
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
