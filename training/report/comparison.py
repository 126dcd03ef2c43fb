"""A run beside the run before it: each figure on test, over the images and labels that both are judged by."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from training.evaluation.figures import figure_of
from training.evaluation.intervals import Figure
from training.report.formatting import entry_view
from training.report.other_runs import RunBefore
from training.report.run_results import RunResults

__all__ = ["comparison_view"]

View = dict[str, Any]


def comparison_view(results: RunResults, before: RunBefore | None) -> View:
    """A row for each (task, slice) on test, and the run before; no rows where there is none."""
    cells = [(row["task"], row["slice"]) for row in results.figures if row["split"] == "test" and row["n"]]
    shown = [cell for cell in cells if before is not None and cell[0] in before.predictions]
    return {"before": before, "rows": [_row(results, before, *cell) for cell in shown if before is not None]}


def _row(results: RunResults, before: RunBefore, task: str, slice_: str) -> View:
    """Both figures, how many images were fixed and broken, and whether the value is better, worse or equal."""
    mask = np.zeros(len(results.test), np.bool_)
    mask[np.intersect1d(results.predictions[task].rows, before.predictions[task].rows)] = True
    mask &= results.test & results.inside[slice_]
    old, new = (part[task].at(mask) for part in (before.predictions, results.predictions))
    figures = [figure_of(results.tasks[task], part, results.samples) for part in (old, new)]
    was, is_ = old.errors, new.errors
    return {
        "task": task, "slice": slice_, "metric": results.metric(task, slice_), "n": len(new.rows),
        "before": _entry(results, task, figures[0]), "now": _entry(results, task, figures[1]),
        "fixed": int((is_ < was).sum()), "broken": int((is_ > was).sum()),
        "change": _change(results.tasks[task].metric, *figures),
    }  # fmt: skip


def _entry(results: RunResults, task: str, figure: Figure) -> View | None:
    row: Mapping[str, Any] = {**vars(figure), "metric": results.tasks[task].metric}
    return entry_view(row)


def _change(metric: str, old: Figure, new: Figure) -> str:
    """ "better", "worse" or "equal", by the values alone."""
    if old.value is None or new.value is None or old.value == new.value:
        return "equal"
    lower = new.value < old.value
    return "better" if lower == (metric == "mae") else "worse"
