"""The worst slices of a run, for pages other than the report; without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.columns import SliceError
from training.evaluation.predictions import PredictionsFile, Samples, labelled_predictions
from training.report.formatting import doubt_of, error_beside, interval_text, value_text
from training.report.run_results import constant_error

__all__ = ["worst_slices"]

Row = Mapping[str, Any]


def worst_slices(now: Snapshot, run_id: str, predictions: Path) -> list[SliceError]:
    """The test error of every (task, slice) of a run: the worst first, slices with too little data last.

    The errors are those of the report. `predictions` is the run's predictions file.
    """
    rows = [row for row in now.runs.slice_errors(run_id).to_pylist() if row["split"] == "test" and row["slice"]]
    slices, tasks = now.slices(), now.tasks()
    rows = [row for row in rows if row["value"] is not None and row["slice"] in slices and tasks[row["task"]].outputs]
    constants = _constants(now, {row["task"] for row in rows if row["metric"] == "mae"}, predictions)
    errors = [(row, error_beside(row, constants.get(row["task"], 0.0)), doubt_of(row)) for row in rows]
    errors.sort(key=lambda each: (each[2] != "", -each[1], each[0]["task"], each[0]["slice"]))
    return [
        SliceError(task=row["task"], slice=row["slice"], error=error, told=_in_words(row, doubt), sure=not doubt)
        for row, error, doubt in errors
    ]


def _constants(now: Snapshot, tasks: set[str], predictions: Path) -> dict[str, float]:
    if not tasks:
        return {}
    samples, file = Samples.at(now), PredictionsFile(predictions)
    test = samples.splits == "test"
    return {
        name: constant_error(labelled_predictions(now, now.task(name), samples, file.of(name)), test) for name in tasks
    }


def _in_words(row: Row, doubt: str) -> str:
    metric = "mean absolute error" if row["metric"] == "mae" else row["metric"].replace("_", " ")
    text = f"{metric} {value_text(row)} {interval_text(row)}".strip() + f" on {row['n']:,} test images"
    return f"{text}; {doubt}" if doubt else text
