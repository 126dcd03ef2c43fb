"""The data of `benchmarks.plan`: a fleet's samples, sparsely labelled for many tasks, and a pack's index over them.

Each task knows the same number of samples, chosen at random, in drives of 40. A task's classes have frequencies
1, 1/2, 1/3 ... A tenth of the drives is for test. The pack has no images: planning opens none. Everything is a
function of hashes, so it is the same with every version of numpy.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from curation.files.digest import digest
from samplers.pack.pack import Pack
from samplers.plan.interleave import hash64

__all__ = ["fleet", "plant_pack", "policy_of"]

FILLING = 1_000_000
"""Rows of one commit."""
DRIVE = 40


def fleet(folder: Path, samples: int, *, tasks: int, labels: int, classes: int = 20, shard: int = 1_000) -> Pack:
    """Fill a new catalog in `folder` and write a pack's index beside it; `shard` is the number of images a shard."""
    catalog = Catalog.create(folder)
    named = [Task(name=f"t{i:04d}", kind="categorical", classes=_classes(classes), owner=f"o{i}") for i in range(tasks)]
    with catalog.commit(author="bench", message="tasks", batch="tasks") as change:
        change.add_tasks(named)
    for first in range(0, samples, FILLING):
        numbers = np.arange(first, min(first + FILLING, samples))
        with catalog.commit(author="bench", message="samples", batch=f"samples:{first}") as change:
            change.add_samples(_samples(numbers), dataset="fleet")
            change.add_attributes(_attributes(numbers))
    each = labels // tasks
    several = max(1, FILLING // each)
    for first in range(0, tasks, several):
        codes = range(first, min(first + several, tasks))
        with catalog.commit(author="bench", message="labels", batch=f"labels:{first}") as change:
            parts = [_labels(named[code].name, code, samples, each, classes) for code in codes]
            change.add_labels(pa.concat_tables(parts), source="import")
    with catalog.commit(author="bench", message="slice", batch="slice") as change:
        change.add_slice("night", "attr.night")
    catalog.compact()
    return plant_pack(catalog.home, _keys(np.arange(samples)), shard)


def plant_pack(home: Path, keys: pa.Array, shard: int) -> Pack:
    """The index of a pack of the images with these keys, without the images; `shard` images a shard."""
    samples = len(keys)
    places = np.arange(samples)
    index = pa.table(
        {
            "key": keys,
            "shard": pa.array((places // shard).astype(np.int32)),
            "offset": pa.array(places % shard * 200_704),
            "size": pa.array(np.full(samples, 200_000, np.int32)),
            "width": pa.array(np.full(samples, 1920, np.int32)),
            "height": pa.array(np.full(samples, 1080, np.int32)),
            "sha256": keys,
            "format": pa.repeat("JPEG", samples),
        }
    )
    names = [f"{number:05d}.tar" for number in range(-(-samples // shard))]
    folder = home / "packs" / digest(index, names)
    folder.mkdir(parents=True)
    pq.write_table(index, folder / "index.parquet", compression="zstd")
    shards = ", ".join(f'{{"name": "{name}", "size": {shard * 200_704}, "images": {shard}}}' for name in names)
    (folder / "manifest.json").write_text(
        f'{{"hash": "{folder.name}", "images": {samples}, "bytes": {samples * 200_000}, "shards": [{shards}]}}'
    )
    return Pack.open(home, folder.name)


def policy_of(tasks: int) -> dict[str, object]:
    """A policy that uses each rule in turn; every second owner boosts night."""
    rules = ("natural", "balanced", "power", "effective_number", "repeat_factor")
    share = np.round(1 / np.arange(1, tasks + 1) ** 0.5, 3)
    share /= share.sum()
    return {
        "task": {
            f"t{i:04d}": {
                "owner": f"o{i}", "share": float(share[i]), "importance": 1 / tasks, "rule": rules[i % len(rules)],
                "boost": {"night": 2.0} if i % 2 else {},
            }
            for i in range(tasks)
        }
    }  # fmt: skip


def _classes(count: int) -> tuple[str, ...]:
    return tuple(f"c{k:02d}" for k in range(count))


def _keys(numbers: np.ndarray) -> pa.Array:
    drive, frame = (pc.utf8_lpad(pc.cast(part, pa.string()), 7, "0") for part in map(pa.array, divmod(numbers, DRIVE)))
    return pc.binary_join_element_wise("fleet", drive, frame, "/")


def _samples(numbers: np.ndarray) -> pa.Table:
    keys = _keys(numbers)
    return pa.table(
        {
            "key": keys, "location": keys, "sha256": keys, "phash": pa.array(numbers, pa.uint64()),
            "format": pa.repeat("JPEG", len(numbers)), "width": pa.array(np.full(len(numbers), 1920, np.int32)),
            "height": pa.array(np.full(len(numbers), 1080, np.int32)), "bytes": pa.array(numbers * 0 + 200_000),
        }
    )  # fmt: skip


def _attributes(numbers: np.ndarray) -> pa.Table:
    drive = numbers // DRIVE
    return pa.table(
        {
            "key": _keys(numbers),
            "split": pa.array(["train", "test"]).take(pa.array((drive % 10 == 0).astype(np.int8))),
            "group": pc.cast(pa.array(drive), pa.string()),
            "night": pa.array(_uniform(numbers, 0) < 0.3),
        }
    )


def _labels(task: str, code: int, samples: int, each: int, classes: int) -> pa.Table:
    ids = np.flatnonzero(_uniform(np.arange(samples), 1, code) < each / samples)
    weights = 1 / np.arange(1, classes + 1)
    chosen = np.searchsorted(np.cumsum(weights[:-1]) / weights.sum(), _uniform(ids, 2, code), side="right")
    return pa.table(
        {
            "sample_id": ids, "task": pa.repeat(task, len(ids)), "state": pa.repeat("known", len(ids)),
            "text": pa.array(_classes(classes)).take(pa.array(chosen)), "annotator": pa.repeat("vendor", len(ids)),
        }
    )  # fmt: skip


def _uniform(numbers: np.ndarray, *which: int) -> np.ndarray:
    """A hash in [0, 1) of each number."""
    return (hash64(0, *which, numbers) >> np.uint64(11)) * 2.0**-53
