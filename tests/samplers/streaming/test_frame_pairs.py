"""The frame before each image: found by group and time, read from the same shards, and never made up."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.frames import GAP, make_frames
from support.pictures import SIZE, Draws, pictures

from curation import Catalog, Task
from curation.catalog.frames_before import frames_before
from curation.errors import BadInput, Damaged
from samplers import make_pack
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.streaming.frame_pairs import FramePairs, gap_of
from samplers.streaming.stream import stream, sweep

G = 8
KEYS = [f"drive/{number:03d}" for number in range(24)]
EVERY = np.arange(len(KEYS), dtype=np.int32)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return write_pack(pictures(tmp_path / "images", KEYS), tmp_path / "home", shard_bytes=8192)


@pytest.fixture
def pairs(pack: Pack) -> FramePairs:
    """Four frames a group: each but the first has the row before it."""
    return FramePairs(pack=pack, before=np.where(EVERY % 4 > 0, EVERY - 1, -1).astype(np.int32))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_frames(tmp_path_factory.mktemp("frames"))


frames = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.booleans()), max_size=30, unique_by=lambda f: f[:2]
)


@given(frames, st.integers(1, 20))
def test_the_frame_before_is_the_last_earlier_one_of_its_group(found: list[tuple[str, int, bool]], gap: int) -> None:
    groups, times, usable = (
        [f[0] for f in found],
        np.array([f[1] for f in found], np.int64),
        np.array([f[2] for f in found], bool),
    )
    before = frames_before(groups, times, usable, gap * 1e-6)
    for row, at in enumerate(before.tolist()):
        earlier = [
            other for other in range(len(found))
            if groups[other] == groups[row] and usable[other] and usable[row] and times[other] < times[row]
        ]  # fmt: skip
        last = max(earlier, key=times.__getitem__, default=-1)
        assert at == (last if last >= 0 and times[row] - times[last] <= gap else -1)


def test_two_frames_at_one_time_are_named() -> None:
    with pytest.raises(BadInput, match=re.escape("k1 and k0 of one group have the same captured_at")) as error:
        frames_before(["a", "a", "b"], np.array([7, 7, 7]), np.ones(3, bool), 1, names=["k1", "k0", "k2"])
    assert "\n" not in str(error.value)


def test_pairs_of_a_catalog_stay_in_their_group_and_gap(catalog: Catalog) -> None:
    pack = make_pack(catalog)
    with catalog.read() as now:
        found, narrow = (FramePairs.at(now, pack, gap) for gap in (GAP, 0.05))
    keys = pack.keys.to_pylist()
    for row, before in enumerate(found.before.tolist()):
        group, _, frame = keys[row].partition("-")
        assert (keys[before] == f"{group}-{int(frame) - 1}") if frame != "0" else before == -1
    assert (narrow.before == -1).all()
    assert found.keys_before(["frames/03-0", "frames/03-2"]) == ["frames/03-1"]


def test_excluded_frames_and_those_without_a_time_are_no_frame_before(tmp_path: Path) -> None:
    catalog = make_frames(tmp_path)
    pack = make_pack(catalog)
    with catalog.commit(author="ada", message="bad") as change:
        change.add_attributes(pa.table({"key": ["frames/00-1"], "excluded": [True]}))
    with catalog.read() as now:
        found = FramePairs.at(now, pack, 0.25)
    rows = pack.rows(["frames/00-1", "frames/00-2", "frames/00-0"])
    assert found.before[rows].tolist() == [-1, rows[2], -1]


def test_images_without_times_are_one_line(catalog: Catalog) -> None:
    pack = make_pack(catalog)
    with catalog.read(0) as nothing, pytest.raises(BadInput, match="no image has captured_at; ingest it"):
        FramePairs.at(nothing, pack, GAP)


def test_tasks_of_a_plan_state_one_gap() -> None:
    number = {"kind": "regression", "unit": "m", "metric": "mae", "owner": "ada"}
    tasks = [Task(name=name, inputs=2, gap=gap, **number) for name, gap in (("a", 0.1), ("b", 0.2))]
    assert gap_of([Task(name="c", **number), tasks[0]]) == 0.1
    with pytest.raises(BadInput, match=re.escape("tasks a and b: read frames at most 0.1 s and 0.2 s apart")):
        gap_of(tasks)


@pytest.mark.parametrize("wrong", [{"inputs": 2}, {"gap": 0.1}, {"inputs": 3, "gap": 0.1}, {"inputs": 2, "gap": -1}])
def test_a_task_states_inputs_and_gap_together(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"inputs|gap"):
        Task(name="a", kind="regression", unit="m", metric="mae", owner="ada", **wrong)


def test_a_task_without_pairs_keeps_its_words() -> None:
    assert not {"inputs", "gap"} & set(Task(name="a", kind="binary", owner="ada").model_dump())


# Streams


def test_batches_hold_the_frame_before_each_draw(pack: Pack, pairs: FramePairs) -> None:
    alone = {
        row: image
        for batch in sweep(pack, EVERY, G, size=SIZE, copy=True)
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True)
    }
    plan = Draws(pack, np.random.default_rng(0).integers(0, len(KEYS), 80))
    for threads in (1, 3):
        for batch in stream(plan, pack, G, size=SIZE, pairs=pairs, threads=threads):
            assert batch.paired is not None
            assert batch.before is not None
            assert batch.paired.tolist() == (batch.rows % 4 > 0).tolist()
            for row, image, before, paired in zip(batch.rows, batch.images, batch.before, batch.paired, strict=True):
                assert np.array_equal(image, alone[int(row)])
                assert np.array_equal(before, alone[int(row) - 1] if paired else np.zeros_like(before))


def test_images_and_draws_are_those_of_a_stream_without_pairs(pack: Pack, pairs: FramePairs) -> None:
    plan = Draws(pack, np.random.default_rng(1).integers(0, len(KEYS), 48))
    plain, paired = (stream(plan, pack, G, size=SIZE, pairs=part, copy=True) for part in (None, pairs))
    for one, two in zip(plain, paired, strict=True):
        assert (one.before, one.paired) == (None, None)
        assert one.images.tobytes() == two.images.tobytes()
        assert one.rows.tolist() == two.rows.tolist()


def test_a_sweep_pads_pairs_and_buffers_hold_both(pack: Pack, pairs: FramePairs) -> None:
    last = list(sweep(pack, EVERY[:20], G, size=SIZE, pairs=pairs))[-1]
    assert last.before is not None
    assert len(last.before) == 4
    plan = Draws(pack, EVERY)
    buffers = [np.empty((2 * G, *SIZE, 3), np.uint8) for _ in range(5)]
    batch = next(stream(plan, pack, G, size=SIZE, pairs=pairs, buffers=buffers))
    assert any(np.shares_memory(batch.before, buffer) for buffer in buffers)
    with pytest.raises(BadInput, match="must be uint8"):
        stream(plan, pack, G, size=SIZE, pairs=pairs, buffers=[buffer[:G] for buffer in buffers])


def test_a_bad_frame_before_stops_or_is_replaced_with_its_image(pack: Pack, pairs: FramePairs) -> None:
    with (pack.home / "shards" / pack.shards[pack.shard[4]].name).open("r+b") as file:
        file.seek(int(pack.offset[4]))
        file.write(bytes(int(pack.size[4])))
    plan = Draws(pack, [5, 6, 7, 9, 10, 11, 13, 14])
    with pytest.raises(Damaged, match="drive/004"):
        list(stream(plan, pack, G, size=SIZE, pairs=pairs))
    with stream(plan, pack, G, size=SIZE, pairs=pairs, on_error="quarantine", copy=True) as found:
        (batch,) = found
        assert [(row.key, row.position) for row in found.replaced] == [("drive/005", 0)]
    by = int(batch.rows[0])
    assert by != 5
    assert batch.paired is not None
    assert bool(batch.paired[0]) == (by % 4 > 0)
    assert batch.before is not None
    alone = next(iter(sweep(pack, np.array([max(by - 1, 0)]), 1, size=SIZE))).images[0]
    assert np.array_equal(batch.before[0], alone if by % 4 else np.zeros_like(alone))
