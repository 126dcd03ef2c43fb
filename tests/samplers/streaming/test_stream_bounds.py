"""Limits on the memory and open files of a stream for any number of shards, and plans without a batch."""

import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from support.pictures import Draws, picture, table

from curation.errors import BadInput, Failed
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.shards.open_shards import MAX_OPEN
from samplers.streaming.batches import batches
from samplers.streaming.stream import stream
from training.loop.feed import Feed

SIZE = (90, 120)
IMAGES, EPOCHS, THREADS = 320, 8, 3
SHARDS = {"many": 1, "few": 1 << 20}
"""Bytes of a shard: one image per shard, or all images in one."""


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pack]:
    folder = tmp_path_factory.mktemp("bounds")
    paths = [folder / f"{number:03d}.jpg" for number in range(IMAGES)]
    for number, path in enumerate(paths):
        picture(number, *SIZE).save(path)
    images = table(paths, [path.stem for path in paths])
    return {name: write_pack(images, folder / name, shard_bytes=size) for name, size in SHARDS.items()}


def measured(home: Path, hash: str) -> dict[str, Any]:
    """Megabytes of private memory that a stream adds to a process, at the end of each epoch, and its open files."""
    pack, process = Pack.open(home, hash), psutil.Process()
    plan = Draws(pack, np.random.default_rng(0).permutation(IMAGES))
    before, files, own = process.num_fds(), [0], []
    first = process.memory_info()
    with stream(plan, pack, 32, size=SIZE, threads=THREADS, epochs=EPOCHS) as found:
        for batch in found:
            files.append(process.num_fds() - before)
            if (batch.index + 1) % (IMAGES // 32) == 0:
                now = process.memory_info()
                own.append((now.rss - now.shared - first.rss + first.shared) / 1e6)  # without pages of files
    return {"shards": len(pack.shards), "own": own, "files": max(files), "left": process.num_fds() - before}


@pytest.fixture(scope="module")
def taken(packs: dict[str, Pack]) -> dict[str, dict[str, Any]]:
    """The measurements of each pack, in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        return {name: pool.submit(measured, pack.home, pack.hash).result() for name, pack in packs.items()}


def test_a_limit_of_open_files_is_reported(packs: dict[str, Pack]) -> None:
    pack, limits = packs["many"], resource.getrlimit(resource.RLIMIT_NOFILE)
    with stream(Draws(pack, np.arange(IMAGES)), pack, 32, size=SIZE) as found:
        next(found)
        resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds(), limits[1]))
        try:
            with pytest.raises(Failed, match=r"\.tar: not opened \(Too many open files\); .* \(ulimit -n\)"):
                list(found)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("name", SHARDS)
def test_memory_stays_flat_over_epochs(taken: dict[str, dict[str, Any]], name: str) -> None:
    """Keeping one batch per epoch would add 6 MB."""
    own = taken[name]["own"]
    assert len(own) == EPOCHS
    assert own[-1] - own[1] < 3


def test_memory_does_not_depend_on_the_number_of_shards(taken: dict[str, dict[str, Any]]) -> None:
    assert (taken["many"]["shards"], taken["few"]["shards"]) == (IMAGES, 1)
    assert taken["many"]["own"][-1] - taken["few"]["own"][-1] < 5


def test_open_files_are_bounded_and_none_is_left(taken: dict[str, dict[str, Any]]) -> None:
    assert MAX_OPEN < IMAGES
    assert MAX_OPEN / 2 < taken["many"]["files"] <= MAX_OPEN + THREADS
    assert 0 < taken["few"]["files"] <= 1 + THREADS
    assert [part["left"] for part in taken.values()] == [0, 0]


# Plans without a batch


def in_stream(plan: Draws, pack: Pack, global_batch: int, **choice: Any) -> object:
    return stream(plan, pack, global_batch, size=SIZE, **choice)


def without_pixels(plan: Draws, pack: Pack, global_batch: int, **choice: Any) -> object:
    return batches(plan, global_batch, **choice)


def as_tensors(plan: Draws, pack: Pack, global_batch: int, **choice: Any) -> object:
    return Feed(plan, pack, global_batch=global_batch, size=SIZE, **choice)


FACES = [in_stream, without_pixels, as_tensors]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_an_empty_plan_is_refused(packs: dict[str, Pack], face: Callable[..., object], tail: str) -> None:
    plan = Draws(packs["few"], [0])
    plan.draws = plan.draws[:0]
    with pytest.raises(BadInput, match=r"0 draws|no draw"):
        face(plan, packs["few"], 8, tail=tail)


@pytest.mark.parametrize("face", FACES)
def test_more_ranks_than_draws_in_a_batch_are_refused(packs: dict[str, Pack], face: Callable[..., object]) -> None:
    with pytest.raises(BadInput, match=r"global_batch 2: .*4"):
        face(Draws(packs["few"], range(8)), packs["few"], 2, rank=3, world_size=4)
