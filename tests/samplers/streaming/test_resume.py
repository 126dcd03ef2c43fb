"""The position of a stream: one integer, the same for any number of ranks and threads, in any process."""

import json
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pictures import SIZE, Draws, pictures

from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.streaming.batches import Batch, batches
from samplers.streaming.stream import AHEAD, Stream, stream, sweep

G = 24
RANKS = [1, 2, 3, 4, 8]
KEYS = [f"drive/{number:03d}" for number in range(40)]
DRAWS = np.random.default_rng(0).integers(0, 40, 300)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("resume")
    return write_pack(pictures(folder / "images", KEYS), folder / "home", shard_bytes=8192)


@pytest.fixture(scope="module")
def plan(pack: Pack) -> Draws:
    return Draws(pack, DRAWS)


def content(batch: Batch) -> tuple[Any, ...]:
    return batch.index, batch.keys, batch.positions.tolist(), batch.images.tobytes(), batch.weights.tobytes()


def opened(plan: Draws, pack: Pack, rank: int = 0, world_size: int = 1, **choice: Any) -> Stream:
    return stream(plan, pack, G, size=SIZE, rank=rank, world_size=world_size, **choice)


def joined(ranks: list[Stream], count: int) -> list[tuple[Any, ...]]:
    """`count` global batches, joined from the batches of the ranks."""
    found = []
    for _ in range(count):
        parts = [content(next(rank)) for rank in ranks]
        assert len({part[0] for part in parts}) == 1
        found.append((parts[0][0], *(reduce(add, (part[i] for part in parts)) for i in range(1, 5))))
    return found


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_state_goes_from_n_ranks_to_m_at_every_batch(pack: Pack, plan: Draws, tail: Any) -> None:
    choice = {"tail": tail, "epochs": 2}
    whole = [content(batch) for batch in opened(plan, pack, **choice)]
    assert [index for index, *_ in whole] == list(range(2 * (300 // G + (tail == "pad"))))
    for taken in range(len(whole) + 1):
        n, m, threads = RANKS[taken % 5], RANKS[taken // 5 % 5], 1 + taken % 8
        before = [opened(plan, pack, rank, n, threads=threads, **choice) for rank in range(n)]
        assert joined(before, taken) == whole[:taken]
        states = [json.loads(json.dumps(rank.state_dict())) for rank in before]
        assert all(state == states[0] for state in states)
        assert len(json.dumps(states[0])) < 1000
        after = [opened(plan, pack, rank, m, threads=9 - threads, **choice) for rank in range(m)]
        for rank in after:
            rank.load_state_dict(states[0])
            assert len(rank) == len(whole) - taken
        assert joined(after, len(whole) - taken) == whole[taken:]
        for rank in [*before, *after]:
            rank.close()


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 12), st.sampled_from(RANKS), st.integers(1, 3), st.data())
def test_every_draw_once_an_epoch(
    pack: Pack, draws: int, each: int, world_size: int, epochs: int, data: st.DataObject
) -> None:
    """Without pixels: for any sizes and any point of resumption, every draw comes exactly once."""
    plan, size = Draws(pack, DRAWS[:draws]), each * world_size
    count = -(-draws // size) * epochs
    cut = data.draw(st.integers(0, count))
    choice: dict[str, Any] = {"world_size": world_size, "tail": "pad", "epochs": epochs}
    ranks = [list(batches(plan, size, rank=rank, **choice)) for rank in range(world_size)]
    later = [list(batches(plan, size, rank=rank, start=cut * size, **choice)) for rank in range(world_size)]
    seen = [p for part in zip(*ranks, strict=True) for b in part for p in b.positions[b.rows >= 0]]
    assert seen == list(range(draws)) * epochs
    for whole, part in zip(ranks, later, strict=True):
        assert [b.rows.tolist() for b in whole[cut:]] == [b.rows.tolist() for b in part]


def test_a_stream_goes_back_to_a_state(pack: Pack, plan: Draws) -> None:
    with opened(plan, pack) as found:
        state = found.state_dict()
        first = [content(next(found)) for _ in range(4)]
        found.load_state_dict(state)
        assert [content(next(found)) for _ in range(4)] == first


def test_more_epochs_continue_a_finished_stream(pack: Pack, plan: Draws) -> None:
    once = opened(plan, pack)
    first = [content(batch) for batch in once]
    with opened(plan, pack, epochs=2) as twice:
        twice.load_state_dict(once.state_dict())
        assert [content(batch)[1:] for batch in twice] == [part[1:] for part in first]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": "another"}, "this stream is of"),
        ({"global_batch": 12}, "this stream is of"),
        ({"tail": "pad"}, "this stream is of"),
        ({"position": 5}, "position 5: a multiple of 24 up to 288"),
        ({"position": 24 * 13}, "set more epochs"),
    ],
)
def test_the_state_of_another_stream_is_refused(pack: Pack, plan: Draws, change: dict[str, Any], message: str) -> None:
    with opened(plan, pack) as found, pytest.raises(BadInput, match=message):
        found.load_state_dict(found.state_dict() | change)


def test_a_closed_stream_loads_no_state(pack: Pack, plan: Draws) -> None:
    found = opened(plan, pack)
    found.close()
    with pytest.raises(BadInput, match="is closed"):
        found.load_state_dict(found.state_dict())


def test_a_sweep_has_a_state(pack: Pack) -> None:
    found = sweep(pack, np.arange(40), 7, size=SIZE)
    next(found)
    again = sweep(pack, np.arange(40), 7, size=SIZE)
    again.load_state_dict(found.state_dict())
    assert [content(batch) for batch in again] == [content(batch) for batch in found]


def test_zero_epochs_are_refused(pack: Pack, plan: Draws) -> None:
    with pytest.raises(BadInput, match="epochs 0"):
        opened(plan, pack, epochs=0)


# Buffers of the caller


def test_the_stream_decodes_into_the_callers_buffers(pack: Pack, plan: Draws) -> None:
    buffers = [np.zeros((G, *SIZE, 3), np.uint8) for _ in range(AHEAD + 4)]
    owned = {id(buffer) for buffer in buffers}
    expected = [content(batch) for batch in opened(plan, pack)]
    with opened(plan, pack, buffers=buffers) as found:
        for batch, wanted in zip(found, expected, strict=True):
            assert content(batch) == wanted
            base = batch.images
            while base.base is not None:
                base = base.base
            assert id(base) in owned


@pytest.mark.parametrize(
    ("buffers", "message"),
    [
        ([np.zeros((G, *SIZE, 3), np.uint8)], "1 buffers: at least 5"),
        ([np.zeros((G, 3, *SIZE), np.uint8)] * 5, r"uint8 \(24, 24, 32, 3\), in C order"),
        ([np.zeros((G, *SIZE, 3), np.float32)] * 5, "a buffer float32"),
        ([np.zeros((G, SIZE[0], 3, SIZE[1]), np.uint8).transpose(0, 1, 3, 2)] * 5, "in C order"),
    ],
)
def test_buffers_that_do_not_fit_are_refused(pack: Pack, plan: Draws, buffers: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        opened(plan, pack, buffers=buffers)


# Processes


def one_rank(home: Path, hash: str, rank: int, world_size: int, queue: Any) -> None:
    pack = Pack.open(home, hash)
    with opened(Draws(pack, DRAWS), pack, rank, world_size) as found:
        queue.put((rank, [content(batch) for batch in found]))


@pytest.mark.parametrize("world_size", RANKS)
def test_processes_see_what_one_sees(pack: Pack, plan: Draws, world_size: int) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    ranks = [
        context.Process(target=one_rank, args=(pack.home, pack.hash, rank, world_size, queue))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    found = dict(queue.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join()
    whole = [content(batch) for batch in opened(plan, pack)]
    assert {len(part) for part in found.values()} == {len(whole)}
    for number, batch in enumerate(whole):
        parts = [found[rank][number] for rank in range(world_size)]
        assert reduce(add, (part[1] for part in parts)) == batch[1]
        assert b"".join(part[3] for part in parts) == batch[3]


def gloo_rank(meet: Path, home: Path, hash: str, rank: int, world_size: int, state: dict[str, Any], count: int) -> Any:
    """`count` batches from `state` on, gathered from all ranks of torch.distributed, and the state after them."""
    import torch
    import torch.distributed as dist

    from training.loop.feed import Feed

    warnings.filterwarnings("error", category=UserWarning, module="training")
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=world_size)
    pack = Pack.open(home, hash)
    feed = Feed(Draws(pack, DRAWS), pack, global_batch=G, size=SIZE, rank=rank, world_size=world_size)
    feed.load_state_dict(state)
    found = []
    for _, tensors in zip(range(count), feed, strict=False):
        parts = [torch.empty_like(tensors.values) for _ in range(world_size)]
        dist.all_gather(parts, tensors.values)
        found.append(torch.cat(parts)[:, 0].int().tolist())
    dist.barrier()
    dist.destroy_process_group()
    return found, feed.state_dict()


def test_ranks_of_torch_distributed_resume_as_more_and_as_fewer(pack: Pack, plan: Draws, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed"])  # once for all ranks
    state, found = opened(plan, pack).state_dict(), []
    for world_size, count in ((2, 3), (4, 5), (3, 99)):
        with ProcessPoolExecutor(world_size, context) as pool:
            work = partial(gloo_rank, tmp_path / f"meet{world_size}", pack.home, pack.hash)
            ranks = [pool.submit(work, rank, world_size, state, count) for rank in range(world_size)]
            results = [rank.result(timeout=120) for rank in ranks]
        assert all(part == results[0] for part in results)
        found += results[0][0]
        state = results[0][1]
    assert found == DRAWS[:288].reshape(12, G).tolist()
