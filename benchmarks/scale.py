"""The same catalog in one DuckDB file and on DuckLake: milliseconds of appends and reads (docs/scale.md).

make bench-scale URL='postgresql://USER@HOST/DATABASE?data=FOLDER' SAMPLES=100000
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.class_counts import class_counts
from benchmarks.table import Row, finish
from curation import Catalog, Task

TASKS = 50
DENSITY = 0.1
REPEATS = 7


def main() -> None:
    """Fill both backends, measure the same units of work on both, and print them side by side."""
    url, samples = os.environ["URL"], int(os.environ.get("SAMPLES", "100000"))
    with tempfile.TemporaryDirectory() as folder:
        places = {
            "one file": Catalog.create(Path(folder) / "file"),
            "DuckLake": Catalog.create(Path(folder) / "lake", url=url),
        }
        found = {name: measure(catalog, samples) for name, catalog in places.items()}
    finish(
        "scale",
        [
            Row(what=f"{what}, on DuckLake", value=value, unit=" ms", peers={"one file": found["one file"][what]})
            for what, value in found["DuckLake"].items()
        ],
        samples=samples,
    )


def measure(catalog: Catalog, samples: int) -> dict[str, float]:
    """Milliseconds of each unit of work, the median of several; the first commit once."""
    generator = np.random.default_rng(0)
    figures = {f"{round(samples * TASKS * DENSITY):,} labels, first commit": timed(lambda: fill(catalog, samples))}
    figures["compaction"] = timed(catalog.compact)
    figures["open a handle"] = median(lambda: Catalog.open(catalog.home).close())
    figures |= reads(catalog, "")
    for rows in (1_000, 10_000):
        figures[f"append {rows:,} labels"] = median(lambda rows=rows: append(catalog, rows, samples, generator))
    return {**figures, **reads(catalog, ", after appends")}


def reads(catalog: Catalog, when: str) -> dict[str, float]:
    """Reads of the newest commit and of an older one."""

    def counts(task: str | None, commit: int | None) -> Callable[[], None]:
        def count() -> None:
            with catalog.read(commit) as now:
                class_counts(now, None if task is None else [task])

        return count

    return {
        f"counts of all tasks{when}": median(counts(None, None)),
        f"counts of one task{when}": median(counts("task0", None)),
        f"counts as of commit 1{when}": median(counts(None, 1)),
    }


def fill(catalog: Catalog, samples: int) -> None:
    """All samples, tasks and labels, as one commit."""
    generator = np.random.default_rng(1)
    ids = np.arange(samples)
    keys = pa.array(ids).cast(pa.string())
    table = pa.table(
        {
            "key": keys, "location": keys, "sha256": keys, "phash": pa.array(ids, pa.uint64()),
            "format": pa.array(["JPEG"] * samples), "width": pa.array(ids * 0 + 64, pa.int32()),
            "height": pa.array(ids * 0 + 64, pa.int32()), "bytes": pa.array(ids * 0 + 1, pa.int64()),
        }
    )  # fmt: skip
    with catalog.commit(author="bench", message="all") as change:
        change.add_tasks([Task(name=f"task{i}", kind="binary", owner="bench") for i in range(TASKS)])
        change.add_samples(table, dataset="bench")
        cells = np.flatnonzero(generator.random(samples * TASKS) < DENSITY)
        change.add_labels(said(cells // TASKS, cells % TASKS, "vendor", generator), source="import")


def append(catalog: Catalog, rows: int, samples: int, generator: np.random.Generator) -> None:
    """One commit of labels by one person."""
    cells = generator.choice(samples * TASKS, rows, replace=False)
    with catalog.commit(author="bench", message="more") as change:
        change.add_labels(said(cells // TASKS, cells % TASKS, "ada", generator), source="human")


def said(samples: np.ndarray, tasks: np.ndarray, annotator: str, generator: np.random.Generator) -> pa.Table:
    """Random labels of these cells."""
    names, words = pa.array([f"task{i}" for i in range(TASKS)]), pa.array(["false", "true"])
    return pa.table(
        {
            "key": pa.array(samples).cast(pa.string()),
            "task": names.take(pa.array(tasks)),
            "state": pa.array(["known"] * len(samples)),
            "text": words.take(pa.array(generator.integers(0, 2, len(samples)))),
            "annotator": pa.array([annotator] * len(samples)),
        }
    )


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


def median(work: Callable[[], object]) -> float:
    """Milliseconds of a call, the median of several."""
    return statistics.median(timed(work) for _ in range(REPEATS))


if __name__ == "__main__":
    main()
