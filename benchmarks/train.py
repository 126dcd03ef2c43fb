"""The trainer: what a step of many tasks costs, whether stopping by task pays, and whether runs end as they must."""

import os
import tempfile
from pathlib import Path

import torch

from benchmarks.table import finish
from benchmarks.train_lasting import lasting_rows
from benchmarks.train_steps import step_rows
from benchmarks.train_stopping import stopping_rows

THREADS = int(os.environ.get("THREADS", "2"))


def main() -> None:
    """Every row, and the table."""
    torch.set_num_threads(THREADS)
    rows = step_rows()
    with tempfile.TemporaryDirectory(prefix="bench-train-") as name:
        for part in ("stopping", "lasting"):
            (Path(name) / part).mkdir()
        rows += stopping_rows(Path(name) / "stopping")
        rows += lasting_rows(Path(name) / "lasting")
    finish("train", rows, threads=THREADS)


if __name__ == "__main__":
    main()
