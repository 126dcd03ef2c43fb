"""The stream as tensors."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.pictures import SIZE, Draws, pictures
from torch.utils.data import DataLoader

from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.streaming.stream import stream
from training.loop.feed import Feed, Tensors

KEYS = [f"drive/{number:03d}" for number in range(20)]
CHOICE: dict[str, Any] = {"global_batch": 8, "size": SIZE}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("feed")
    return write_pack(pictures(folder / "images", KEYS), folder / "home", shard_bytes=8192)


@pytest.fixture(scope="module")
def plan(pack: Pack) -> Draws:
    return Draws(pack, np.random.default_rng(0).integers(0, 20, 50))


def content(tensors: Tensors) -> tuple[Any, ...]:
    return tensors.batch.index, tensors.images.numpy().tobytes(), tensors.weights.tolist(), tensors.known.tolist()


def test_tensors_are_the_stream(pack: Pack, plan: Draws) -> None:
    for tensors, batch in zip(Feed(plan, pack, **CHOICE), stream(plan, pack, 8, size=SIZE), strict=True):
        assert content(tensors) == (batch.index, batch.images.tobytes(), batch.weights.tolist(), batch.known.tolist())
        assert tensors.images.is_contiguous(memory_format=torch.channels_last)
        assert (tensors.images.dtype, tensors.values.dtype, tensors.known.dtype) == (
            torch.uint8, torch.float32, torch.bool,
        )  # fmt: skip


def test_a_feed_resumes(pack: Pack, plan: Draws) -> None:
    whole = [content(tensors) for tensors in Feed(plan, pack, **CHOICE)]
    for taken in range(7):
        feed = Feed(plan, pack, **CHOICE)
        first = [content(tensors) for _, tensors in zip(range(taken), feed, strict=False)]
        again = Feed(plan, pack, **CHOICE)
        again.load_state_dict(feed.state_dict())
        assert first + [content(tensors) for tensors in again] == whole
        assert list(again) == []


def test_a_data_loader_takes_it(pack: Pack, plan: Draws) -> None:
    loader = DataLoader(Feed(plan, pack, **CHOICE), batch_size=None)
    assert [content(tensors) for tensors in loader] == [content(tensors) for tensors in Feed(plan, pack, **CHOICE)]


def test_workers_are_refused(pack: Pack, plan: Draws) -> None:
    loader = DataLoader(Feed(plan, pack, **CHOICE), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(BadInput, match="num_workers: 0 for a stream"):
        list(loader)


def test_bad_arguments_are_refused_at_once(pack: Pack, plan: Draws) -> None:
    with pytest.raises(BadInput, match="3 ranks must divide it"):
        Feed(plan, pack, **CHOICE, world_size=3)


def test_buffers_are_its_own(pack: Pack, plan: Draws) -> None:
    with pytest.raises(BadInput, match=r"^buffers: .*; leave them out"):
        Feed(plan, pack, **CHOICE, buffers=[np.zeros((8, *SIZE, 3), np.uint8)] * 5)


def test_replaced_draws_are_recorded_once(pack: Pack, plan: Draws, tmp_path: Path) -> None:
    shutil.copytree(pack.home, tmp_path / "home")
    row = np.bincount(plan.draws[:48]).argmax()
    with (tmp_path / "home" / "shards" / pack.shards[pack.shard[row]].name).open("r+b") as file:
        file.seek(int(pack.offset[row]))
        file.write(bytes(int(pack.size[row])))
    choice: dict[str, Any] = {**CHOICE, "on_error": "quarantine"}
    bad = np.flatnonzero(plan.draws[:48] == row).tolist()
    assert bad[0] < 24 <= bad[-1]
    with stream(plan, tmp_path / "home", 8, size=SIZE, on_error="quarantine") as whole:
        list(whole)
    feed = Feed(plan, tmp_path / "home", **choice)
    for tensors in feed:
        positions = [note.position for note in feed.replaced]
        assert positions == [position for position in bad if position < 8 * (tensors.batch.index + 1)]
        if tensors.batch.index == 2:
            break
    list(feed)
    assert feed.replaced == whole.replaced
    assert [note.position for note in feed.replaced] == bad


def test_a_copy_on_a_device_stays(pack: Pack, plan: Draws) -> None:
    kept = [tensors.to("meta") for tensors in Feed(plan, pack, **CHOICE)]
    assert {tensors.images.device.type for tensors in kept} == {"meta"}
    assert [tensors.batch.index for tensors in kept] == list(range(6))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_is_pinned_where_there_is_a_gpu(pack: Pack, plan: Draws) -> None:
    for tensors, batch in zip(Feed(plan, pack, **CHOICE), stream(plan, pack, 8, size=SIZE), strict=True):
        assert tensors.images.is_pinned()
        assert tensors.weights.is_pinned()
        assert np.array_equal(tensors.to("cuda").images.cpu().numpy(), batch.images)
