"""How a run predicts the classes of a multilabel task, each by itself: tables, precision-recall and reliability."""

from typing import Any, Final

import numpy as np

from training.evaluation.bootstrap import average_precision
from training.evaluation.intervals import Figure
from training.evaluation.labelled_classes import LabelledClasses, thresholds
from training.evaluation.metrics import CalibrationSums, RankingSums
from training.report.charts import Mark, unit_chart
from training.report.formatting import entry_view, share_row, share_text
from training.report.run_results import RunResults

__all__ = ["lists_view"]

View = dict[str, Any]

CURVES: Final = 6
"""Classes of a task with curves: those of the lowest average precision."""
CLASSES: Final = 40
"""Classes in a task's table: those that most images have."""


def lists_view(results: RunResults) -> list[View]:
    """A table of classes and curves for each multilabel task, on test."""
    return [_task_view(results, name) for name in results.listed]


def _task_view(results: RunResults, name: str) -> View:
    test, task = results.listed[name].at(results.test), results.tasks[name]
    there = (test.truth == 1).sum(axis=0)
    order = np.argsort(-there, kind="stable")[:CLASSES].tolist()
    rows = [_row(test, code, task.classes[code], float(thresholds(task)[code])) for code in order]
    worst = sorted((row for row in rows if row["ranked"] is not None), key=lambda row: (row["ranked"], row["name"]))
    figures = {metric: share_text(figure) for metric, figure in test.figures().items()}
    return {
        "task": task, "n": len(test.rows), "rows": rows, "hidden": len(task.classes) - len(rows), "figures": figures,
        "curves": [_panel(test, row) for row in worst[:CURVES]], "weighted": not np.all(test.weights == 1),
        "partial": not test.known.all(),
    }  # fmt: skip


def _row(test: LabelledClasses, code: int, name: str, threshold: float) -> View:
    own, sums = test.of_class(code), test.confusion(code)
    chances = own.probabilities[:, 1]
    ranked = average_precision(own.truth == 1, chances, own.weights, own.groups)
    return {
        "code": code, "name": name, "looked": len(own.rows), "there": int((own.truth == 1).sum()),
        "predicted": int((own.predicted == 1).sum()), "ranked": ranked.value, "average_precision": _entry(ranked),
        "precision": _entry(sums.precision(1)), "recall": _entry(sums.recall(1)), "f1": _entry(sums.f1(1)),
        "calibration_error": CalibrationSums.of(own.truth == 1, chances, own.weights, own.groups).error(),
        "threshold": threshold,
    }  # fmt: skip


def _panel(test: LabelledClasses, row: View) -> View:
    own, sums = test.of_class(row["code"]), test.confusion(row["code"])
    recall, precision = RankingSums.of(own.truth == 1, own.probabilities[:, 1], own.weights).curve()
    recall_at, precision_at = sums.recall(1), sums.precision(1)
    at = recall_at.value, precision_at.value
    marks = [Mark(x=at[0], y=at[1], form=0)] if at[0] is not None and at[1] is not None else []
    alt = (
        f"Precision of {row['name']} against its recall on test; average precision {row['ranked']:.3f}; as predicted: "
        f"recall {share_text(recall_at)}, precision {share_text(precision_at)}."
    )
    return {**row, "chart": unit_chart(alt, recall, precision, across="recall", marks=marks)}


def _entry(figure: Figure) -> View | None:
    return entry_view(share_row(figure))
