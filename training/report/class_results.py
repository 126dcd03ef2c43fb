"""How a run predicts each class: tables, confusion, precision-recall and reliability curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.arrays import Floats
from curation.catalog.slices import columns_of
from curation.catalog.tasks import Task
from training.evaluation.bootstrap import average_precision
from training.evaluation.decisions import SuggestedThreshold, rule_in_words, suggested_threshold
from training.evaluation.figures import within
from training.evaluation.intervals import Figure
from training.evaluation.metrics import CalibrationSums, ConfusionSums, MeanSums, RankingSums
from training.evaluation.predictions import LabelledPredictions
from training.report.charts import Mark, unit_chart
from training.report.formatting import entry_view, interval_text, share_row, share_text, value_text
from training.report.other_runs import RaisedByRate, RunBefore
from training.report.run_results import RunResults, class_name, confusion_of

__all__ = ["class_row", "class_view", "confusion_view"]

View = dict[str, Any]

CURVES = 6
"""Classes of a task with a precision-recall curve: those of the lowest average precision."""
MOST_CURVES = 100
"""Curves of all tasks together; with many tasks each has fewer, and at least one."""
MATRIX = 12
"""Classes of a task up to which the whole confusion matrix is shown; beyond, this many of its largest entries."""
SLICE_ROWS = 60
"""Rows of a task's table by slice from which on further slices are left out."""


def class_view(results: RunResults, before: RunBefore | None, raised: Sequence[RaisedByRate]) -> View:
    """The tasks of classes, and what changed since the run before; `raised` is of `raised_by_rate`."""
    tasks = [_task_view(results, task) for task in results.predictions if results.tasks[task].classes]
    return {"tasks": tasks, "before": before, "raised": [_raised_view(part) for part in raised]}


def class_row(task: Task, code: int, sums: ConfusionSums, test: LabelledPredictions) -> View:
    """One class on test: how often it is true and predicted, and its figures."""
    counts = sums.counts()
    ranked = average_precision(test.truth == code, test.probabilities[:, code], test.weights, test.groups)
    return {
        "code": code, "name": task.classes[code], "ranked": ranked.value,
        "true": int(counts[code].sum()), "predicted": int(counts[:, code].sum()),
        "precision": _entry(sums.precision(code)), "recall": _entry(sums.recall(code)), "f1": _entry(sums.f1(code)),
        "average_precision": _entry(ranked),
    }  # fmt: skip


def _task_view(results: RunResults, name: str) -> View:
    task, test = results.tasks[name], results.predictions[name].at(results.test)
    sums = results.confusion[name]
    rows = [class_row(task, code, sums, test) for code in range(len(task.classes))]
    chances = np.isfinite(test.probabilities).all(axis=1)
    weights, groups = test.weights, test.groups
    calibration = CalibrationSums.of(*_claims(task, test), weights, groups)
    brier = MeanSums.brier(np.where(chances, test.truth, np.nan), test.probabilities, weights, groups).mean()
    return {
        "task": task, "n": len(test.rows), "rule": rule_in_words(task), "rows": rows,
        "accuracy": share_text(sums.accuracy()), "balanced_accuracy": share_text(sums.balanced_accuracy()),
        "brier": _brier_text(brier), "calibration_error": calibration.error(), "weighted": not np.all(weights == 1),
        "confusion": confusion_view(task, sums), "curves": _curve_panels(results, task, test, sums, rows),
        "reliability": _reliability_panel(task, calibration), "slices": _slice_rows(results, task),
    }  # fmt: skip


def _ranking(predicted: LabelledPredictions, code: int) -> RankingSums:
    return RankingSums.of(predicted.truth == code, predicted.probabilities[:, code], predicted.weights)


def _brier_text(figure: Figure) -> str:
    """A mean of squares with its interval; the rule for wide intervals of shares does not apply to it."""
    row = share_row(figure)
    return "not known" if figure.value is None else f"{value_text(row)} {interval_text(row)}".strip()


def _entry(figure: Figure) -> View | None:
    return entry_view(share_row(figure))


def confusion_view(task: Task, sums: ConfusionSums) -> View:
    """The matrix of counts with each row's shares, or the largest confusions of a task with many classes."""
    counts = sums.counts()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(task.classes) <= MATRIX:
        cells = [
            [{"n": int(counts[row, column]), "share": float(shares[row, column])} for column in range(len(counts))]
            for row in range(len(counts))
        ]
        return {"classes": task.classes, "cells": cells, "largest": []}
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MATRIX]
    largest = [
        {"truth": task.classes[row], "predicted": task.classes[column], "n": int(wrong[row, column]),
         "share": float(shares[row, column])}
        for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[row, column]
    ]  # fmt: skip
    return {"classes": (), "cells": [], "largest": largest}


def _curve_panels(
    results: RunResults, task: Task, test: LabelledPredictions, sums: ConfusionSums, rows: Sequence[View]
) -> list[View]:
    """Precision-recall curves on test, the lowest average precision first; of a binary task that of `true`."""
    shown = [row for row in rows if row["ranked"] is not None]
    if task.kind == "binary":
        shown = [row for row in shown if row["name"] == "true"]
    shown = sorted(shown, key=lambda row: (row["ranked"], row["code"]))[: _curves_of(results)]
    return [_curve_panel(results, task, test, sums, row) for row in shown]


def _curves_of(results: RunResults) -> int:
    """How many curves each task has."""
    return max(1, min(CURVES, MOST_CURVES // max(1, len(results.confusion))))


def _curve_panel(results: RunResults, task: Task, test: LabelledPredictions, sums: ConfusionSums, row: View) -> View:
    code, name = row["code"], class_name(task, row["code"])
    suggested, ranking = _suggested(results, task, code), _ranking(test, code)
    recall, precision = ranking.curve()
    now = sums.recall(code).value, sums.precision(code).value
    marks = [Mark(x=now[0], y=now[1], form=0)] if now[0] is not None and now[1] is not None else []
    reached = np.flatnonzero(ranking.scores >= suggested.threshold) if suggested else np.empty(0)
    if len(reached):
        marks.append(Mark(x=float(recall[reached[-1]]), y=float(precision[reached[-1]]), form=1))
    alt = (
        f"Precision of {name} against its recall on test; average precision {row['ranked']:.3f}; "
        f"as predicted: recall {share_text(sums.recall(code))}, precision {share_text(sums.precision(code))}."
    )
    chart = unit_chart(alt, recall, precision, across="recall", marks=marks)
    return {**row, "name": name, "chart": chart, "suggested": _suggested_view(task, code, suggested)}


def _suggested(results: RunResults, task: Task, code: int) -> SuggestedThreshold | None:
    """The threshold that validation suggests for a class."""
    predicted = results.predictions[task.name].at(np.asarray(results.samples.splits == "validation", np.bool_))
    scores = predicted.probabilities[:, code]
    if not np.isfinite(scores).all():
        return None
    weights, groups = predicted.weights, predicted.groups
    return suggested_threshold(predicted.truth == code, scores, weights, groups)


def _suggested_view(task: Task, code: int, suggested: SuggestedThreshold | None) -> View | None:
    if suggested is None:
        return None
    rule = f"{task.classes[code]}={suggested.threshold:g}"
    return {
        "f1": _entry(suggested.f1),
        "threshold": suggested.threshold,
        "command": f"amber tasks redefine {task.name} --decide {rule}",
    }


def _claims(task: Task, test: LabelledPredictions) -> tuple[npt.NDArray[np.bool_], Floats]:
    """What probabilities claim: that a binary label is true, or that the predicted class is right."""
    if task.kind == "binary":
        return test.truth == 1, test.probabilities[:, 1]
    return test.truth == test.predicted, test.confidence


def _reliability_panel(task: Task, sums: CalibrationSums) -> View | None:
    """Observed share against predicted probability, with the 95% interval of each bin."""
    bins = sums.curve()
    if not bins:
        return None
    x = np.array([part.predicted for part in bins])
    edges = [[part.observed.value, part.observed.low, part.observed.high] for part in bins]
    y, low, high = np.asarray(edges, np.float64).T
    claim = f"that it is {task.name}" if task.kind == "binary" else "of the predicted class"
    points = ", ".join(f"{across:.2f}: {up:.2f}" for across, up in zip(x, y, strict=True))
    alt = f"How often {task.name} is right against the predicted probability {claim}. {points}."
    chart = unit_chart(alt, x, y, across="predicted probability", band=(low, high), diagonal=True)
    return {"chart": chart, "claim": claim}


def _slice_rows(results: RunResults, task: Task) -> View:
    """Each class on each slice of test that does not read the task's own label: on those, precision is always 1."""
    rows, own, hidden = list[View](), list[str](), 0
    test = within(results.predictions[task.name], results.test)
    for name, part in results.slices.items():
        if part.task not in ("", task.name):
            continue
        if ("label", task.name) in columns_of(part.predicate):
            own.append(name)
        elif len(rows) < SLICE_ROWS:
            rows += _rows_of_slice(results, task, name, test(results.inside[name]))
        else:
            hidden += 1
    return {"rows": rows, "hidden": hidden, "own": own}


def _rows_of_slice(results: RunResults, task: Task, slice_: str, test: LabelledPredictions) -> list[View]:
    """The classes that occur on a slice, among its labels or among its predictions."""
    sums = confusion_of(task, test, results.samples)
    rows = [class_row(task, code, sums, test) for code in range(len(task.classes))]
    return [{"slice": slice_, **row} for row in rows if row["true"] or row["predicted"]]


def _raised_view(part: RaisedByRate) -> View:
    precision = [("none" if value is None else f"{value:.2f}") for value in part.precision]
    return {
        "task": part.task, "slice": part.slice, "name": part.name, "recall": part.recall, "precision": precision,
        "predicted": part.predicted, "at_new_rate": part.at_new_rate,
    }  # fmt: skip
