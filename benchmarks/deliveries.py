"""The data of `benchmarks.catalog`: a fleet's samples, labelled sparsely by a vendor and corrected by people.

50 tasks of 2 to 8 classes with frequencies 1, 1/2, 1/3 ...; each task knows a tenth of the samples. The vendor
delivers in the order of the drives, task by task, at most 10,000 labels of one task a commit. Then people correct
a fifth of all labels, spread evenly, in commits of the same size. Everything is a function of a seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task

__all__ = ["BATCH", "TASKS", "Delivery", "build", "deliveries", "labels_of", "make_peers_data"]

Ints = npt.NDArray[np.int64]

DENSITY = 0.1
CORRECTED = 5
"""One label of so many is corrected."""
BATCH = 10_000
FILLING = 500_000
"""Samples in one commit."""

TASKS = [
    Task(name=f"t{i:02d}", kind="categorical", classes=tuple(f"c{k}" for k in range(2 + i % 7)), owner="fleet")
    for i in range(50)
]

WEATHER = pa.array(["clear", "rain", "fog"])


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Labels of one task from one source: sample ids, sorted, and class codes."""

    task: int
    source: str
    annotator: str
    ids: Ints
    codes: Ints


def build(catalog: Catalog, samples: int, *, tasks: int = len(TASKS), batch: int = BATCH) -> int:
    """Fill an empty catalog with `samples` samples and all deliveries of the first `tasks` tasks, at most `batch`
    labels a commit; returns a commit from the middle of them."""
    with catalog.commit(author="bench", message="tasks") as change:
        change.add_tasks(TASKS[:tasks])
    for first in range(0, samples, FILLING):
        table = _samples(first, min(FILLING, samples - first))
        with catalog.commit(author="bench", message="samples") as change:
            change.add_samples(table.drop_columns(["weather", "night", "split"]), dataset="fleet")
            change.add_attributes(table.select(["key", "weather", "night", "split"]))
    with catalog.commit(author="bench", message="slice") as change:
        change.add_slice("rain_at_night", "label.t03 = 'c1' AND attr.weather = 'rain' AND attr.night")
    commits = []
    for delivery in deliveries(samples, tasks, batch):
        with catalog.commit(author="bench", message="delivery") as change:
            change.add_labels(labels_of(delivery), source=delivery.source)
            commits.append(change.id)
    catalog.compact()
    return commits[len(commits) // 2]


def deliveries(samples: int, tasks: int = len(TASKS), batch: int = BATCH) -> Iterator[Delivery]:
    """All deliveries in their order: the vendor's, then people's corrections."""
    ids = [_labelled(samples, task) for task in range(tasks)]
    for source, annotator, step in (("import", "vendor", 1), ("human", "reviewer", CORRECTED)):
        parts = [np.split(mine[::step], range(batch, len(mine[::step]), batch)) for mine in ids]
        for turn in range(max(map(len, parts))):
            for task, mine in enumerate(parts):
                if turn < len(mine):
                    codes = _codes(task, len(mine[turn]), seed=(turn, step))
                    yield Delivery(task=task, source=source, annotator=annotator, ids=mine[turn], codes=codes)


def labels_of(delivery: Delivery) -> pa.Table:
    """A delivery as the table that `add_labels` takes."""
    task, rows = TASKS[delivery.task], len(delivery.ids)
    return pa.table(
        {
            "sample_id": delivery.ids,
            "task": pa.repeat(task.name, rows),
            "state": pa.repeat("known", rows),
            "text": pa.array(task.classes).take(pa.array(delivery.codes)),
            "annotator": pa.repeat(delivery.annotator, rows),
        }
    )


def make_peers_data(folder: Path, samples: int) -> None:
    """The same samples and labels as `events.parquet` and `samples.parquet`, for the peers, and a pack's index."""
    parts = [_samples(first, min(FILLING, samples - first)) for first in range(0, samples, FILLING)]
    table = pa.concat_tables(parts)
    shown = table.select(["key", "weather", "night", "split"])
    pq.write_table(shown.append_column("sample", pa.array(np.arange(samples))), folder / "samples.parquet")
    pq.write_table(_index(table), folder / "index.parquet", compression="zstd")
    events = [
        pa.table(
            {
                "commit": pa.array(np.full(len(part.ids), commit, np.int32)),
                "task": pa.array(np.full(len(part.ids), part.task, np.int16)),
                "sample": part.ids,
                "code": pa.array(part.codes.astype(np.int16)),
            }
        )
        for commit, part in enumerate(deliveries(samples))
    ]
    pq.write_table(pa.concat_tables(events), folder / "events.parquet")


def _labelled(samples: int, task: int) -> Ints:
    return np.flatnonzero(np.random.default_rng((1, task)).random(samples) < DENSITY)


def _codes(task: int, count: int, *, seed: tuple[int, int]) -> Ints:
    weights = 1 / np.arange(1, len(TASKS[task].classes) + 1)
    generator = np.random.default_rng((2, task, *seed))
    return generator.choice(len(weights), size=count, p=weights / weights.sum())


def _samples(first: int, count: int) -> pa.Table:
    generator = np.random.default_rng((0, first))
    numbers = np.arange(first, first + count)
    drive, frame = (pc.utf8_lpad(pc.cast(part, pa.string()), 7, "0") for part in map(pa.array, divmod(numbers, 40)))
    return pa.table(
        {
            "key": pc.binary_join_element_wise("fleet", drive, frame, "/"),
            "location": pc.binary_join_element_wise(
                "/data/fleet", drive, pc.binary_join_element_wise(frame, "jpg", "."), "/"
            ),
            "sha256": _hex(generator.bytes(32 * count), count),
            "phash": pa.array(generator.integers(0, 1 << 63, count, np.uint64)),
            "format": pa.repeat("JPEG", count),
            "width": pa.array(np.full(count, 1920, np.int32)),
            "height": pa.array(np.full(count, 1080, np.int32)),
            "bytes": pa.array(generator.integers(100_000, 400_000, count)),
            "weather": WEATHER.take(pa.array(generator.choice(3, count, p=[0.7, 0.2, 0.1]))),
            "night": pa.array(generator.random(count) < 0.3),
            "split": pa.array(["train", "test"]).take(pa.array((numbers // 40 % 10 == 0).astype(np.int8))),
        }
    )


def _hex(data: bytes, count: int) -> pa.StringArray:
    bounds = pa.py_buffer(np.arange(0, 64 * count + 1, 64, np.int32))
    return pa.StringArray.from_buffers(count, bounds, pa.py_buffer(data.hex().encode()))


def _index(table: pa.Table) -> pa.Table:
    """Columns and order of a pack's `index.parquet`; 400 images a shard."""
    rows = len(table)
    places = np.arange(rows)
    return pa.table(
        {
            "key": table["key"],
            "shard": pa.array((places // 400).astype(np.int32)),
            "offset": pa.array(places % 400 * 250_000),
            "size": table["bytes"].cast(pa.int32()),
            "width": table["width"],
            "height": table["height"],
            "sha256": table["sha256"],
            "format": table["format"],
        }
    )
