import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.pictures import SIZE, Draws, picture, pictures, table

from curation.errors import BadInput, Damaged, NotFound
from curation.images.decoding import load_rgb
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.shards.open_shards import LocalShards
from samplers.streaming.batches import Batch, batches
from samplers.streaming.decode import decode_into
from samplers.streaming.stream import AHEAD, Stream, stream, sweep

G = 8
KEYS = [f"drive/{number:03d}" for number in range(40)]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("stream")
    return write_pack(pictures(folder / "images", KEYS), folder / "home", shard_bytes=8192)


@pytest.fixture(scope="module")
def plan(pack: Pack) -> Draws:
    return Draws(pack, np.random.default_rng(0).integers(0, 40, 100))


@pytest.fixture
def no_thread_stays() -> Iterator[None]:
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while left := [thread.name for thread in threading.enumerate() if "amber" in thread.name]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def content(batch: Batch) -> tuple[Any, ...]:
    arrays = (batch.positions, batch.rows, batch.images, batch.values, batch.known, batch.weights)
    return (batch.index, batch.keys, *(array.tobytes() for array in arrays))


def contents(found: Stream) -> list[tuple[Any, ...]]:
    return [content(batch) for batch in found]


def rgb(data: bytes) -> np.ndarray:
    return load_rgb(data).transpose(2, 0, 1)


def test_batches_hold_the_draws_in_order(pack: Pack, plan: Draws) -> None:
    found = [(b.rows, b.values, b.weights, b.keys) for b in stream(plan, pack, G, size=SIZE)]
    assert len(found) == 100 // G
    assert np.concatenate([rows for rows, *_ in found]).tolist() == plan.draws[:96].tolist()
    for rows, values, weights, keys in found:
        assert values[:, 0].tolist() == rows.tolist()
        assert (weights == 0.5).all()
        assert keys == [KEYS[row] for row in rows]


def test_images_equal_the_files(pack: Pack, plan: Draws) -> None:
    shards = pack.reader()
    for batch in stream(plan, pack, G, size=SIZE):
        for row, image in zip(batch.rows, batch.images, strict=True):
            data = bytes(shards.read(int(pack.shard[row]), int(pack.offset[row]), int(pack.size[row])))
            assert np.array_equal(image, rgb(data))
        assert batch.images.shape == (G, 3, *SIZE)
        assert batch.images.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_change_nothing(pack: Pack, plan: Draws, threads: int) -> None:
    one, many = (contents(stream(plan, pack, 32, size=(17, 19), threads=n)) for n in (1, threads))
    assert one == many


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_ranks_share_the_global_batches(pack: Pack, plan: Draws, world_size: int, tail: Any) -> None:
    def ranks(number: int) -> list[list[Batch]]:
        parts = [
            stream(plan, pack, G, size=SIZE, rank=r, world_size=number, tail=tail, copy=True) for r in range(number)
        ]
        return [list(batches) for batches in zip(*parts, strict=True)]

    for (whole,), parts in zip(ranks(1), ranks(world_size), strict=True):
        assert {part.index for part in parts} == {whole.index}
        for name in ("positions", "rows", "images", "values", "known", "weights"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(joined, getattr(whole, name))


def test_resumes_at_every_batch(pack: Pack, plan: Draws) -> None:
    found = stream(plan, pack, G, size=SIZE)
    whole, positions = [], [found.position]
    for batch in found:
        whole.append(content(batch))
        positions.append(found.position)
    for taken, position in enumerate(positions):
        assert contents(stream(plan, pack, G, size=SIZE, start=position)) == whole[taken:]


def test_padding_weighs_nothing(pack: Pack, plan: Draws) -> None:
    *_, last = stream(plan, pack, G, size=SIZE, tail="pad", copy=True)
    assert last.rows.tolist() == [*plan.draws[96:], -1, -1, -1, -1]
    assert last.keys[4:] == [""] * 4
    assert last.positions[-1] == 103
    assert not any(part[4:].any() for part in (last.images, last.weights, last.known))


def test_batches_are_the_stream_without_pixels(pack: Pack, plan: Draws) -> None:
    choice: dict[str, Any] = {"rank": 1, "world_size": 2, "start": 2 * G, "tail": "pad"}
    for bare, full in zip(batches(plan, G, **choice), stream(plan, pack, G, size=SIZE, **choice), strict=True):
        assert bare.images.shape == (G // 2, 3, 0, 0)
        assert (bare.keys, bare.index) == (full.keys, full.index)
        assert np.array_equal(bare.positions, full.positions)


def test_sweep_keeps_the_order_given(pack: Pack, plan: Draws) -> None:
    rows = np.arange(39, -1, -3)
    found = list(sweep(pack, rows, 5, size=SIZE, copy=True))
    assert [len(batch.rows) for batch in found] == [5, 5, 4]
    assert [key for batch in found for key in batch.keys] == [KEYS[row] for row in rows]
    drawn = list(stream(Draws(pack, rows), pack, 5, size=SIZE, tail="pad", copy=True))
    assert np.array_equal(found[1].images, drawn[1].images)
    assert found[0].weights.shape == (5, 0)


def test_a_batch_outlives_the_next(pack: Pack, plan: Draws) -> None:
    before: list[tuple[Batch, bytes]] = []
    for batch in stream(plan, pack, G, size=SIZE):
        time.sleep(0.002)
        assert all(old.images.tobytes() == pixels for old, pixels in before[-1:])
        before.append((batch, batch.images.tobytes()))
    assert len({old.images.__array_interface__["data"] for old, _ in before}) == AHEAD + 2


def test_copies_stay(pack: Pack, plan: Draws) -> None:
    kept = list(stream(plan, pack, G, size=SIZE, copy=True))
    assert [content(batch) for batch in kept] == contents(stream(plan, pack, G, size=SIZE))


def save(folder: Path, name: str, image: Image.Image, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def turned(orientation: int, endian: str = "<") -> Image.Exif:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x0112] = orientation
    return exif


def odd_images(folder: Path) -> list[Path]:
    grey = picture(3, 20, 30).convert("L")
    return [
        save(folder, "odd.jpg", picture(1, 37, 53)),
        save(folder, "wide.jpg", picture(2, 9, 400), subsampling=0),
        save(folder, "one.jpg", picture(2, 1, 1)),
        save(folder, "grey.jpg", grey),
        save(folder, "grey.png", grey),
        save(folder, "alpha.png", picture(4).convert("RGBA")),
        save(folder, "progressive.jpg", picture(5), progressive=True),
        save(folder, "cmyk.jpg", picture(6).convert("CMYK")),
        save(folder, "camera.jpg", picture(6), exif=turned(1)),
        *(save(folder, f"turned{n}.jpg", picture(n, 30, 20), exif=turned(n)) for n in range(2, 9)),
        save(folder, "big-endian.jpg", picture(7, 30, 20), exif=turned(6, ">")),
        save(folder, "picture.webp", picture(8)),
    ]


def test_the_fast_decoder_equals_the_fallback(tmp_path: Path) -> None:
    """At the image's own size, the fast path decodes the same upright pixels as `load_rgb`."""
    for path in odd_images(tmp_path):
        expected = load_rgb(path.read_bytes())
        out = np.zeros_like(expected)
        decode_into(memoryview(path.read_bytes()), out)
        assert np.array_equal(out, expected), path.name


def test_images_of_many_sizes_are_stretched(tmp_path: Path) -> None:
    paths = odd_images(tmp_path)
    pack = write_pack(table(paths, [path.name for path in paths]), tmp_path / "home")
    for batch in sweep(pack, np.arange(pack.images), 4, size=(33, 47)):
        for key, image in zip(batch.keys, batch.images, strict=True):
            whole = Image.fromarray(load_rgb((tmp_path / key).read_bytes()))
            expected = np.asarray(whole.resize((47, 33), Image.Resampling.BILINEAR), np.int16)
            assert np.abs(image.transpose(1, 2, 0) - expected).mean() < 2, key


def test_shrinking_in_the_decoder_changes_little(tmp_path: Path) -> None:
    path = save(tmp_path, "large.jpg", picture(5, 720, 1280), quality=90)
    out = np.zeros((100, 90, 3), np.uint8)
    decode_into(memoryview(path.read_bytes()), out)
    expected = np.asarray(Image.open(path).resize((90, 100), Image.Resampling.BILINEAR), np.int16)
    assert np.abs(out - expected).max() < 6


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\x08", b"\x89PNG\r\n\x1a\n"]))
def test_any_bytes_are_refused_in_one_line(data: bytes, magic: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        decode_into(memoryview(magic + data), np.zeros((4, 4, 3), np.uint8))
    assert "\n" not in str(caught.value)


@pytest.fixture
def own(tmp_path: Path) -> Pack:
    """A pack that a test may damage."""
    return write_pack(pictures(tmp_path / "images", KEYS), tmp_path / "home", shard_bytes=8192)


def damage_image(shard: Path, pack: Pack) -> None:
    with shard.open("r+b") as file:
        file.seek(int(pack.offset[9]) + 2)
        file.write(bytes(int(pack.size[9]) - 2))


def truncate(shard: Path, pack: Pack) -> None:
    os.truncate(shard, 700)


def remove(shard: Path, pack: Pack) -> None:
    shard.unlink()


@pytest.mark.parametrize(("harm", "error"), [(damage_image, Damaged), (truncate, Damaged), (remove, NotFound)])
@pytest.mark.usefixtures("no_thread_stays")
def test_errors_name_shard_and_key(own: Pack, harm: Callable[[Path, Pack], None], error: type[Exception]) -> None:
    rows = np.r_[np.flatnonzero(own.shard != own.shard[9]), 9]
    shard = own.shards[own.shard[9]].name
    harm(own.home / "shards" / shard, own)
    found = sweep(own, rows, 4, size=SIZE)
    with pytest.raises(error, match=r"drive/009") as caught:
        list(found)
    assert shard in str(caught.value)
    assert found.position == (len(rows) - 1) // 4 * 4


def test_check_finds_a_flipped_byte(own: Pack) -> None:
    plan = Draws(own, np.arange(own.images))
    with (own.home / "shards" / own.shards[own.shard[0]].name).open("r+b") as file:
        file.seek(int(own.offset[0] + own.size[0] // 2))
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(Damaged, match=rf"{own.keys[0]}: .*\.tar: the image's bytes at {own.offset[0]} have changed"):
        contents(stream(plan, own, 1, size=SIZE, check=True))
    with stream(plan, own, 1, size=SIZE, check=True, on_error="quarantine") as found:
        assert len(list(found)) == own.images
    assert [note.position for note in found.replaced] == [0]


def test_intact_images_pass_the_check(pack: Pack, plan: Draws) -> None:
    assert contents(stream(plan, pack, G, size=SIZE, check=True)) == contents(stream(plan, pack, G, size=SIZE))


@pytest.mark.parametrize("position", [None, "8", 1.0])
def test_a_state_without_its_position_is_refused(pack: Pack, plan: Draws, position: Any) -> None:
    with stream(plan, pack, G, size=SIZE) as found, pytest.raises(BadInput, match="must be an integer"):
        found.load_state_dict({**found.state_dict(), "position": position})


def test_a_wrong_offset_is_damage(own: Pack) -> None:
    plan = Draws(own, [3] * G)
    plan.offset = plan.offset + 10**6
    with pytest.raises(Damaged, match=r"drive/003: .*has no bytes"):
        next(stream(plan, own, G, size=SIZE))


@pytest.mark.usefixtures("no_thread_stays")
def test_early_break_ends_the_threads(pack: Pack, plan: Draws) -> None:
    for _ in stream(plan, pack, G, size=SIZE):
        break


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.usefixtures("no_thread_stays")
def test_callers_error_ends_the_threads(pack: Pack, plan: Draws, error: type[BaseException]) -> None:
    def work() -> None:
        with stream(plan, pack, G, size=SIZE) as found:
            next(found)
            raise error

    with pytest.raises(error):
        work()
    assert not [thread for thread in threading.enumerate() if "amber" in thread.name]


def test_the_end_closes_files_and_threads(pack: Pack, plan: Draws) -> None:
    process = psutil.Process()
    before = process.num_fds()
    found = stream(plan, pack, G, size=SIZE)
    first = next(found)
    assert process.num_fds() > before
    for _ in found:
        pass
    assert process.num_fds() == before
    assert not [thread for thread in threading.enumerate() if "amber" in thread.name]
    found.close()
    assert list(found) == []
    assert first.keys == [KEYS[row] for row in plan.draws[:G]]


def test_open_shards_are_bounded(pack: Pack) -> None:
    process = psutil.Process()
    before = process.num_fds()
    shards = LocalShards(pack.home / "shards", pack.shards, max_open=2)
    for number in list(range(len(pack.shards))) * 2:
        assert len(shards.read_shard(number)) == pack.shards[number].size
        assert process.num_fds() <= before + 2
    assert len(pack.shards) > 3


def test_a_workspace_finds_its_pack(pack: Pack, plan: Draws) -> None:
    assert contents(stream(plan, pack.home, G, size=SIZE)) == contents(stream(plan, pack, G, size=SIZE))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"global_batch": 8, "world_size": 3}, "3 ranks must divide it"),
        ({"global_batch": 2, "world_size": 4}, "4 ranks must divide it"),
        ({"global_batch": 0}, "global_batch 0"),
        ({"global_batch": 101}, "has only 100 draws"),
        ({"rank": 1}, "rank 1: from 0 to 0"),
        ({"start": 3}, "start 3: a multiple of 64"),
        ({"start": 128}, "start 128: a multiple of 64 from 0 to 64"),
        ({"tail": "keep"}, "tail 'keep'"),
        ({"threads": 0}, "threads 0"),
        ({"size": (0, 4)}, r"size \(0, 4\)"),
        ({"size": 224}, "size 224: must be a height and a width"),
    ],
)
def test_bad_arguments_are_refused(pack: Pack, plan: Draws, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        stream(plan, pack, **({"size": SIZE} | choice))


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_a_plan_without_draws_is_refused(pack: Pack, tail: Any) -> None:
    empty = Draws(pack, [0])
    empty.draws = empty.draws[:0]
    with pytest.raises(BadInput, match="it has no draws"):
        stream(empty, pack, 8, size=SIZE, tail=tail)


def test_pack_of_another_plan_is_refused(pack: Pack, own: Pack, plan: Draws) -> None:
    fewer = write_pack(pictures(own.home / "fewer", KEYS[:3]), own.home)
    with pytest.raises(BadInput, match=f"the plan is over pack {pack.hash[:12]}"):
        stream(plan, fewer, G, size=SIZE)


def test_rows_outside_the_pack_are_refused(pack: Pack) -> None:
    with pytest.raises(BadInput, match="rows -1 to 40: the pack has rows 0 to 39"):
        sweep(pack, np.array([-1, 40]), size=SIZE)


def test_pack_of_one_image(tmp_path: Path) -> None:
    pack = write_pack(pictures(tmp_path / "images", ["only"]), tmp_path / "home")
    assert [batch.keys for batch in stream(Draws(pack, [0] * 4), pack, 2, size=SIZE)] == [["only"] * 2] * 2


def test_empty_sweep(pack: Pack) -> None:
    assert list(sweep(pack, np.array([], np.int64), size=SIZE)) == []


def test_keys_may_be_an_arrow_array(pack: Pack) -> None:
    assert pack.rows(pa.array(KEYS)).tolist() == list(range(40))
