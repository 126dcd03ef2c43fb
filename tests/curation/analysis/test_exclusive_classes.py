"""Classes that are never labelled together: a planted pair is found, and independent labels give none."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.bare_samples import bare_samples
from support.homes import label, labels

from curation.analysis.exclusive_classes import exclusive_classes
from curation.arrays import Bools
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task

DRIVES, FRAMES, TASKS = 240, 3, 9


def made(folder: Path, flags: Bools) -> Catalog:
    """A catalog with a binary task for each row of `flags` [T, drives], alike in all frames of a drive."""
    catalog, count = Catalog.create(folder / "home"), DRIVES * FRAMES
    keys = [f"fleet/{number:04d}" for number in range(count)]
    with catalog.commit(author="ada", message="fleet") as change:
        change.add_tasks([Task(name=f"task_{number}", kind="binary", owner="ada") for number in range(len(flags))])
        change.add_samples(bare_samples(keys), dataset="fleet")
        groups = [f"drive-{number // FRAMES}" for number in range(count)]
        change.add_attributes(pa.table({"key": keys, "group": groups, "split": ["train"] * count}))
        change.add_labels(
            labels([
                label(key, f"task_{task}", bool(row[at // FRAMES]))
                for task, row in enumerate(flags) for at, key in enumerate(keys)
            ]), source="import",
        )  # fmt: skip
    return catalog


@pytest.mark.parametrize("seed", range(3))
def test_independent_labels_give_none_and_a_planted_pair_is_found(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    flags = generator.random((TASKS, DRIVES)) < generator.uniform(0.1, 0.5, (TASKS, 1))
    flags[0], flags[1] = generator.random(DRIVES) < 0.3, generator.random(DRIVES) < 0.4
    flags[1] &= ~flags[0]
    with made(tmp_path, flags).read() as now:
        (pair,) = exclusive_classes(now)
    assert (pair.first, pair.first_code, pair.second, pair.second_code) == ("task_0", 1, "task_1", 1)
    assert pair.images == DRIVES * FRAMES
    assert pair.expected == pytest.approx(flags[0].sum() * flags[1].sum() / DRIVES)
