"""Each task's figure beside those of simple baselines: the best constant, and whatever else was trained for it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from curation.catalog.snapshot import Snapshot
from samplers.plan.plan import Plan
from training.evaluation.figures import figure_of
from training.evaluation.paired import SeedValues, estimate
from training.evaluation.predictions import LabelledPredictions, labelled_predictions
from training.report.formatting import entry_view, number_text
from training.report.run_results import RunResults

__all__ = ["baselines_view", "constant_of", "labelled_by_name"]

View = dict[str, Any]

CONSTANT = "best constant"


def constant_of(plan: Plan, task: str) -> float:
    """What predicts best without an image, by the training labels of the plan: the code of the most common class, or
    the median number."""
    code = next(code for code, part in enumerate(plan.tasks) if part.name == task)
    values = plan.label_value[plan.label_task == code]
    if not plan.tasks[code].task.classes:
        return float(np.median(values))
    return float(np.bincount(values.astype(np.int64)).argmax())


def labelled_by_name(
    then: Snapshot, results: RunResults, tables: Mapping[str, pa.Table]
) -> dict[str, dict[str, LabelledPredictions]]:
    """The predictions of each table (key, task, code or number, ...) beside the labels known at `then`, by task."""
    return {
        name: {
            task: labelled_predictions(then, results.tasks[task], results.samples, table)
            for task in results.predictions
        }
        for name, table in tables.items()
    }  # fmt: skip


def baselines_view(results: RunResults, plan: Plan, others: Mapping[str, Mapping[str, LabelledPredictions]]) -> View:
    """A row for each task with labels on test: the run's figure, that of the best constant, and those of `others`.

    `others` are predictions by task of what was trained beside the run, by name. Each has the run's figure minus its
    own, with a 95% interval over groups of images, paired on the labels that both predict.
    """
    rows = []
    for name, mine in results.predictions.items():
        mine = mine.at(results.test)
        if not len(mine.rows):
            continue
        beside = [replace(mine, predicted=np.full(len(mine.rows), constant_of(plan, name)))]
        beside += [other[name].at(results.test) for other in others.values()]
        task = results.tasks[name]
        rows.append(
            {"task": name, "metric": results.metric(name, ""), "n": len(mine.rows), "unit": task.unit,
             "now": _entry(results, name, mine), "others": [_cell(results, name, mine, other) for other in beside]}
        )  # fmt: skip
    return {"names": [CONSTANT, *others], "rows": rows}


def _cell(results: RunResults, name: str, mine: LabelledPredictions, other: LabelledPredictions) -> View:
    """A baseline's figure, the run's minus it as text, and whether the run is "better", "worse" or "" (not known)."""
    both = np.zeros(len(results.test), np.bool_)
    both[np.intersect1d(mine.rows, other.rows)] = True
    pair = [SeedValues.of(results.tasks[name], [part.at(both)], results.samples) for part in (mine, other)]
    if pair[0] is None or pair[1] is None:
        return {"entry": None, "gap": "", "change": ""}
    gap = estimate([pair[0].minus(pair[1])])
    low, high = (gap.value, gap.value) if gap.low is None or gap.high is None else (gap.low, gap.high)
    lower = results.tasks[name].metric == "mae"
    change = "" if gap.low is None or low <= 0 <= high else "better" if (gap.value < 0) == lower else "worse"
    text = _signed(gap.value, lower) + ("" if gap.low is None else f" [{_signed(low, lower)}, {_signed(high, lower)}]")
    return {"entry": _entry(results, name, other.at(both)), "gap": text, "change": change}


def _signed(value: float, number: bool) -> str:
    text = number_text(abs(value)) if number else f"{abs(value):.3f}"
    return ("-" if value < 0 else "+") + text


def _entry(results: RunResults, name: str, predicted: LabelledPredictions) -> View | None:
    task = results.tasks[name]
    return entry_view({**vars(figure_of(task, predicted, results.samples)), "metric": task.metric})
