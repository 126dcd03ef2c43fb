"""A run beside the run before it: each figure on test, over the images and labels that both are judged by."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from training.evaluation.figures import Labelled, figures_of, within
from training.evaluation.intervals import Figure
from training.evaluation.predictions import LabelledPredictions
from training.report.formatting import entry_view
from training.report.other_runs import RunBefore
from training.report.run_results import RunResults

__all__ = ["comparison_view"]

View = dict[str, Any]


def comparison_view(results: RunResults, before: RunBefore | None) -> View:
    """A row for each (task, slice) on test, and the run before; no rows where there is none."""
    cells: dict[str, dict[str, None]] = {}
    for row in results.figures:
        if before is not None and row["split"] == "test" and row["n"] and row["task"] in before.predictions:
            cells.setdefault(row["task"], {})[row["slice"]] = None
    rows = [row for task, own in cells.items() if before is not None for row in _of_task(results, before, task, own)]
    return {"before": before, "rows": rows}


def _of_task(results: RunResults, before: RunBefore, task: str, slices: Iterable[str]) -> Iterator[View]:
    """The rows of one task, over the images that both runs predict."""
    now: Labelled = results.predictions.get(task) or results.detections.get(task) or results.listed[task]
    both = np.zeros(len(results.test), np.bool_)
    both[np.intersect1d(now.rows, before.predictions[task].rows)] = True
    old, new = (within(part, both & results.test) for part in (before.predictions[task], now))
    for slice_ in slices:
        yield from _rows(results, task, slice_, old(results.inside[slice_]), new(results.inside[slice_]))


def _rows(
    results: RunResults, task: str, slice_: str, old: Labelled, new: Labelled
) -> list[View]:  # fmt: skip
    """Both figures of each metric, how many images were fixed and broken, and whether the value is better or worse."""
    counts: View = {"fixed": None, "broken": None}
    if isinstance(old, LabelledPredictions) and isinstance(new, LabelledPredictions):
        counts = {"fixed": int((new.errors < old.errors).sum()), "broken": int((new.errors > old.errors).sum())}
    was, is_ = (figures_of(results.tasks[task], part) for part in (old, new))
    return [
        {
            "task": task, "slice": slice_, "metric": results.metric(task, slice_, metric), "n": len(new.rows),
            "before": _entry(metric, was[metric]), "now": _entry(metric, is_[metric]), **counts,
            "change": _change(metric, was[metric], is_[metric]),
        }
        for metric in was
    ]  # fmt: skip


def _entry(metric: str, figure: Figure) -> View | None:
    row: Mapping[str, Any] = {**vars(figure), "metric": metric}
    return entry_view(row)


def _change(metric: str, old: Figure, new: Figure) -> str:
    """ "better", "worse" or "equal", by the values alone."""
    if old.value is None or new.value is None or old.value == new.value:
        return "equal"
    lower = new.value < old.value
    return "better" if lower == (metric == "mae") else "worse"
