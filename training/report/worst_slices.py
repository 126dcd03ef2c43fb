"""The slices of a run that are worst off, for who looks at them elsewhere; without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.columns import SliceError
from training.report.formatting import doubt_of, error_beside, interval_text, value_text
from training.report.run_results import answers_of, constant_error

__all__ = ["worst_slices"]

Row = Mapping[str, Any]


def worst_slices(now: Snapshot, run_id: str, predictions: Path) -> list[SliceError]:
    """Every slice of every task that the run was judged on, on test: the worst first, those with too little data last.

    The errors are those of the report. `predictions` is the run's file.
    """
    rows = [row for row in now.runs.slice_errors(run_id).to_pylist() if row["split"] == "test" and row["slice"]]
    rows = [row for row in rows if row["value"] is not None and row["slice"] in now.slices()]
    constants = _constants(now, {row["task"] for row in rows if row["metric"] == "mae"}, predictions)
    errors = [(row, error_beside(row, constants.get(row["task"], 0.0)), doubt_of(row)) for row in rows]
    errors.sort(key=lambda each: (each[2] != "", -each[1], each[0]["task"], each[0]["slice"]))
    return [
        SliceError(task=row["task"], slice=row["slice"], error=error, told=_told(row, doubt), sure=not doubt)
        for row, error, doubt in errors
    ]


def _constants(now: Snapshot, tasks: set[str], predictions: Path) -> dict[str, float]:
    if not tasks:
        return {}
    samples, table = now.samples(), pq.read_table(predictions)
    ids, keys = np.asarray(samples["sample_id"].to_numpy(), np.int64), samples["key"].combine_chunks()
    test = np.asarray(pc.equal(samples["split"], "test"), np.bool_)
    return {name: constant_error(answers_of(now, now.task(name), ids, keys, table), test) for name in tasks}


def _told(row: Row, doubt: str) -> str:
    metric = "mean absolute error" if row["metric"] == "mae" else row["metric"].replace("_", " ")
    told = f"{metric} {value_text(row)} {interval_text(row)}".strip() + f" on {row['n']:,} test images"
    return f"{told}; {doubt}" if doubt else told
