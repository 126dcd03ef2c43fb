"""A predictions file read task by task, the next one ahead: the rows of each, and no thread that stays."""

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from training.evaluation.predictions import PredictionsFile, number_table, write_predictions

ROWS = {"speed": ["a", "b", "c"], "gap": ["a", "b", "c"], "angle": ["b"]}


@pytest.fixture
def file(tmp_path: Path) -> PredictionsFile:
    path = tmp_path / "predictions.parquet"
    write_predictions(
        path, [number_table(task, pa.array(keys), np.linspace(0, 1, len(keys))) for task, keys in ROWS.items()]
    )
    return PredictionsFile(path)


def reading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("amber-predictions")]


@pytest.mark.parametrize("tasks", [[], ["gap"], ["gap", "speed"], ["angle", "gap", "speed"]])
def test_each_task_has_its_rows(file: PredictionsFile, tasks: list[str]) -> None:
    found = {task: table["key"].to_pylist() for task, table in file.each(tasks)}
    assert list(found.items()) == [(task, ROWS[task]) for task in tasks]
    assert reading() == []


def test_an_error_of_who_reads_ends_the_thread(file: PredictionsFile) -> None:
    with pytest.raises(ZeroDivisionError):
        [(len(table) + len(reading())) // 0 for _, table in file.each(list(ROWS))]
    assert reading() == []
