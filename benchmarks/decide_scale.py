"""How long an import of foreign predictions and a report of many tasks and slices take, and their memory.

Each is measured in a process of its own, as a verb is: from opening the workspace to the file on disk. The fleet is
that of `deliveries.py`: each of 50 tasks of 2 to 8 classes knows a tenth of the images, in drives of 40; a tenth of the
drives is for test, another for validation. "1M predictions" is read in two ways: 1M in all, and 1M images a task.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.deliveries import TASKS, build
from benchmarks.table import Row, small
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from curation.files.read_back import sha256_of
from training.evaluation.figures import slice_errors
from training.evaluation.predictions import class_table, write_predictions
from training.imported import Imported

__all__ = ["declare_slices", "import_rows", "plant_run", "report_rows", "split_fleet"]

IMPORTED, REPORTED = 11, 50
"""Tasks."""
SLICES = 200
SIZES = (100_000,) if small() else (1_000_000,)
GIGABYTE = 1 << 30


def import_rows() -> list[Row]:
    """An import of 1M predictions of 11 tasks: of 1M images, and 1M in all."""
    rows = []
    for size in SIZES:
        for images in (size, size // IMPORTED):
            with tempfile.TemporaryDirectory(prefix="bench-import-") as name:
                catalog = Catalog.create(Path(name) / "home")
                build(catalog, images, tasks=IMPORTED, batch=1_000_000)
                split_fleet(catalog)
                file = _file(Path(name) / "predictions.parquet", images)
                took = _alone("import", catalog.home, file)
            rows.append(
                Row(
                    what=f"import {images:,} images x {IMPORTED} tasks", value=took["seconds"], unit=" s",
                    asked="at most 20 s", met=took["seconds"] <= 20, peers={"GB": took["bytes"] / GIGABYTE},
                )
            )  # fmt: skip
    return rows


def report_rows() -> list[Row]:
    """A report of 1M predictions x 50 tasks x 200 slices: of 1M images, and 1M in all."""
    rows = []
    for size in SIZES:
        for images in (size, size // REPORTED):
            with tempfile.TemporaryDirectory(prefix="bench-report-") as name:
                catalog = Catalog.create(Path(name) / "home")
                build(catalog, images, tasks=REPORTED, batch=1_000_000)
                split_fleet(catalog)
                declare_slices(catalog)
                for run in ("before", "after"):
                    plant_run(catalog, run)
                took = _alone("report", catalog.home, Path(name) / "report.html")
            rows += [
                Row(
                    what=f"report {images:,} images x {REPORTED} tasks x {SLICES} slices", value=took["seconds"],
                    unit=" s", asked="at most 60 s", met=took["seconds"] <= 60,
                ),
                Row(
                    what=f"its memory, {images:,} images", value=took["bytes"] / GIGABYTE, unit=" GB",
                    asked="at most 4 GB", met=took["bytes"] <= 4 * GIGABYTE,
                ),
            ]  # fmt: skip
    return rows


def split_fleet(catalog: Catalog) -> None:
    """Groups are drives of 40 images; every tenth is for test, the one after it for validation."""
    with catalog.commit(author="bench", message="splits") as change:
        keys = change.now.samples()["key"].combine_chunks()
        drives = np.arange(len(keys)) // 40
        names = pa.array(["test", "validation", *["train"] * 8])
        split = names.take(pa.array(drives % 10))
        groups = pa.array([f"drive-{drive:06d}" for drive in range(int(drives.max()) + 1)]).take(pa.array(drives))
        scene = pa.array(np.random.default_rng(7).random(len(keys)))
        change.add_attributes(pa.table({"key": keys, "group": groups, "split": split, "scene": scene}))


def declare_slices(catalog: Catalog) -> None:
    """150 slices of attributes, in which all tasks are judged, and 50 of one task each."""
    with catalog.commit(author="bench", message="slices") as change:
        for number in range(SLICES - REPORTED):
            low = number / (SLICES - REPORTED) * 0.9
            weather = ("clear", "rain", "fog")[number % 3]
            change.add_slice(
                f"s{number:03d}",
                f"attr.weather = '{weather}' AND attr.scene >= {low:.4f} AND attr.scene < {low + 0.1:.4f}",
            )
        for task in TASKS[:REPORTED]:
            change.add_slice(f"rare_{task.name}", f"label.{task.name} = 'c1' AND attr.night", task=task.name, rare=True)


def _chances(task: Task, images: int, seed: int) -> Any:
    """Probabilities [images, C] that lean to the class that is likely anyway."""
    generator = np.random.default_rng((seed, TASKS.index(task)))
    weights = 1 / np.arange(1, len(task.classes) + 1)
    raised = generator.random((images, len(task.classes)), np.float32) ** 2 * weights
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)


def _file(path: Path, images: int) -> Path:
    """A wide table: a column of float32 for each class of each task."""
    with pq.ParquetWriter(path, pa.schema(_fields())) as writer:
        for first in range(0, images, 100_000):
            count = min(100_000, images - first)
            drives, frames = divmod(np.arange(first, first + count), 40)
            named = zip(drives.tolist(), frames.tolist(), strict=True)
            columns: list[Any] = [pa.array([f"fleet/{drive:07d}/{frame:07d}" for drive, frame in named])]
            for task in TASKS[:IMPORTED]:
                chances = _chances(task, count, first).astype(np.float32)
                columns += [pa.array(chances[:, code]) for code in range(len(task.classes))]
            writer.write_table(pa.table(columns, schema=pa.schema(_fields())))
    return path


def _fields() -> list[pa.Field]:
    classes = [(task.name, name) for task in TASKS[:IMPORTED] for name in task.classes]
    return [pa.field("key", pa.string()), *(pa.field(f"{task}.{name}", pa.float32()) for task, name in classes)]


def plant_run(catalog: Catalog, run: str, *, every: int = 1) -> None:
    """Register a run that predicts every task for every image (or each of `every`), and judge it."""
    path = catalog.home / "runs" / run / "predictions.parquet"
    with catalog.read() as now:
        keys, commit = now.samples()["key"].combine_chunks()[::every], now.commit
    seed = len(run)
    write_predictions(
        path,
        (class_table(task, keys, _chances(task, len(keys), seed), np.full(len(task.classes), 1 / len(task.classes)))
         for task in TASKS[:REPORTED]),
    )  # fmt: skip
    Imported(
        id=run, model=run, file="planted", sha256="0" * 64, commit=commit, tasks={t.name: len(keys) for t in TASKS}
    ).save(catalog.home)
    with catalog.commit(author="bench", message=run) as change:
        errors = slice_errors(change.now, run, TASKS[:REPORTED], path)
        change.add_run(run, plan="", predictions=str(path.relative_to(catalog.home)), sha256=sha256_of(path))
        change.add_slice_errors(errors)


def _alone(what: str, home: Path, path: Path) -> dict[str, float]:
    """Seconds and peak bytes of one verb in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.decide_scale", what, str(home), str(path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _verb(what: str, home: str, path: str) -> None:
    """The measured process."""
    import resource

    from amber.cli import run

    words = {
        "import": ["predictions", "import", path, "--name", "foreign", "--author", "bench", "--home", home, "--json"],
        "report": ["report", "--run", "after", "--out", path, "--home", home, "--json"],
    }  # fmt: skip
    began = time.perf_counter()
    code = run(words[what])
    seconds = time.perf_counter() - began
    if code:
        sys.exit(code)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "bytes": peak}) + "\n")


if __name__ == "__main__":
    _verb(*sys.argv[1:])
