"""Packs on object storage and HTTP: the same stream as from files, or a clear error, whatever the network does."""

import errno
import gc
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.buckets import serving_bucket
from support.pictures import SIZE, Draws, packed_images, pictures

from benchmarks.objects import FAULTS, Far, serving
from curation.errors import AmberError, BadInput, Damaged, Failed, NotFound
from curation.files import remote_files
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.plan.interleave import hash64
from samplers.shards.prefetcher import PAGE, Cache
from samplers.streaming.batches import Batch
from samplers.streaming.stream import stream

G = 8
KEYS = [f"drive/{number:03d}" for number in range(60)]
DRAWS = np.random.default_rng(0).integers(0, 60, 240)
SMALL = Cache(bytes=24 * PAGE)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:werkzeug", "ignore::DeprecationWarning:botocore")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry faster than on a real network."""
    monkeypatch.setattr(remote_files, "BACKOFF", replace(remote_files.BACKOFF, first=0.005))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("remote")
    return write_pack(pictures(folder / "images", KEYS), folder / "home", shard_bytes=16384)


@pytest.fixture(scope="module")
def plan(pack: Pack) -> Draws:
    return Draws(pack, DRAWS)


@pytest.fixture(scope="module")
def whole(pack: Pack, plan: Draws) -> list[tuple[Any, ...]]:
    return [content(batch) for batch in stream(plan, pack, G, size=SIZE)]


@pytest.fixture(scope="module")
def bucket(pack: Pack) -> Iterator[str]:
    """The URL of a copy of the pack on S3."""
    with serving_bucket("packs") as url:
        pack.copy_to(f"{url}/team")
        yield f"{url}/team"


def content(batch: Batch) -> tuple[Any, ...]:
    return batch.index, batch.keys, batch.images.tobytes(), batch.weights.tolist()


def contents(plan: Draws, pack: Pack, **choice: Any) -> list[tuple[Any, ...]]:
    return [content(batch) for batch in stream(plan, pack, G, size=SIZE, **choice)]


def at(far: Far, pack: Pack, cache: Cache = SMALL) -> Pack:
    return Pack.open(f"http://127.0.0.1:{far.port}", pack.hash, cache=cache)


# The stream from elsewhere


@pytest.mark.parametrize("threads", [1, 4])
def test_s3_gives_the_stream_of_files(plan: Draws, pack: Pack, bucket: str, whole: Any, threads: int) -> None:
    there = Pack.open(bucket, pack.hash, cache=SMALL)
    assert contents(plan, there, threads=threads) == whole
    there.verify()
    assert packed_images(there) == packed_images(pack)


def test_s3_behind_a_network_with_faults(
    plan: Draws, pack: Pack, bucket: str, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto = int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
    with serving(Far(moto, latency=0.002, bandwidth=2e8, fault=every(7))) as far:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{far.port}")
        assert contents(plan, Pack.open(bucket, pack.hash, cache=SMALL)) == whole
    assert set(FAULTS) <= set(far.faults)


@pytest.mark.parametrize("pages", [8, 24, 200, 4000])
@pytest.mark.parametrize("start", [0, 64])
def test_http_gives_the_stream_of_files(plan: Draws, pack: Pack, whole: Any, pages: int, start: int) -> None:
    with serving(Far(pack.home)) as far:
        assert contents(plan, at(far, pack, Cache(bytes=pages * PAGE)), start=start) == whole[start // G :]


def test_a_remote_stream_loads_a_state(plan: Draws, pack: Pack, whole: Any) -> None:
    with serving(Far(pack.home)) as far, stream(plan, at(far, pack), G, size=SIZE) as found:
        state = found.state_dict()
        assert [content(next(found)) for _ in range(9)] == whole[:9]
        found.load_state_dict(state)
        assert [content(batch) for batch in found] == whole


def test_bad_images_of_a_remote_pack_are_replaced(plan: Draws, pack: Pack, tmp_path: Path) -> None:
    shutil.copytree(pack.home, tmp_path / "home")
    shard = tmp_path / "home" / "shards" / pack.shards[pack.shard[9]].name
    with shard.open("r+b") as file:
        file.seek(int(pack.offset[9]))
        file.write(bytes(int(pack.size[9])))
    with (
        serving(Far(tmp_path / "home")) as far,
        stream(plan, at(far, pack), G, size=SIZE, on_error="quarantine") as found,
    ):
        assert len(list(found)) == 30
    assert {note.key for note in found.replaced} == {"drive/009"}
    assert "the shard has changed" in found.replaced[0].reason


# Faults


def every(step: int) -> Any:
    """Every `step`-th request fails, with the kinds of faults in turn."""
    return lambda number, path: FAULTS[number // step % 4] if number % step == 0 else ""


def at_random(seed: int, share: float) -> Any:
    def fault(number: int, path: str) -> str:
        chance = int(hash64(seed, number))
        return FAULTS[chance % 4] if chance / 2**64 < share else ""

    return fault


@pytest.mark.parametrize("seed", range(3))
def test_faults_change_nothing(plan: Draws, pack: Pack, whole: Any, seed: int) -> None:
    with serving(Far(pack.home, fault=at_random(seed, 0.2))) as far:
        assert contents(plan, at(far, pack)) == whole
    assert far.faults.total() > far.faults[""]


@pytest.mark.soak
def test_a_thousand_faults(plan: Draws, pack: Pack, whole: Any) -> None:
    """Each stream equals that of files, or ends in a clear error after correct batches only."""
    met, errors, seed = 0, 0, 0
    while met < 1000:
        with serving(Far(pack.home, fault=at_random(seed, (0.1, 0.3, 0.6)[seed % 3]))) as far:
            found: list[Any] = []
            try:
                for batch in stream(plan, at(far, pack), G, size=SIZE):
                    found.append(content(batch))
                assert found == whole
            except AmberError:
                assert found == whole[: len(found)]
                errors += 1
        met += far.faults.total() - far.faults[""]
        seed += 1
    assert errors < seed


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("503", Failed, f"not reached in {remote_files.TRIES} tries"),
        ("reset", Failed, f"not reached in {remote_files.TRIES} tries"),
        ("truncated", Failed, f"not reached in {remote_files.TRIES} tries"),
        ("altered", Damaged, "the shard has changed, delete it there"),
    ],
)
def test_permanent_faults_are_reported(
    plan: Draws, pack: Pack, fault: str, error: type[AmberError], message: str
) -> None:
    with serving(Far(pack.home, fault=lambda n, path: fault if "shards/" in path else "")) as far:
        before = set(threading.enumerate())
        with pytest.raises(error, match=message) as caught:
            contents(plan, at(far, pack))
        assert "drive/" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert {thread for thread in set(threading.enumerate()) - before if "amber" in thread.name} == set()


def test_a_changed_shard_is_reported(plan: Draws, pack: Pack, tmp_path: Path) -> None:
    shutil.copytree(pack.home, tmp_path / "home")
    for shard in (tmp_path / "home" / "shards").iterdir():
        shard.write_bytes(shard.read_bytes()[::-1])
    with serving(Far(tmp_path / "home")) as far, pytest.raises(Damaged, match="the shard has changed"):
        contents(plan, at(far, pack))


def test_verify_refuses_a_truncated_shard(pack: Pack, tmp_path: Path) -> None:
    shutil.copytree(pack.home, tmp_path / "home")
    shard = tmp_path / "home" / "shards" / pack.shards[-1].name
    shard.write_bytes(shard.read_bytes()[:2000])
    with serving(Far(tmp_path / "home")) as far:
        there = at(far, pack)
        with pytest.raises(Damaged, match=f"{shard.name}: not the bytes that were packed"):
            there.verify()


@pytest.mark.parametrize("file", ["manifest.json", "index.parquet"])
@pytest.mark.parametrize("fault", ["altered", "truncated"])
def test_a_file_of_the_pack_that_arrives_altered_is_fetched_again(pack: Pack, file: str, fault: str) -> None:
    met: list[str] = []

    def once(number: int, path: str) -> str:
        if not path.endswith(file) or met:
            return ""
        met.append(path)
        return fault

    with serving(Far(pack.home, fault=once)) as far:
        assert at(far, pack).index.equals(pack.index)
    assert met


def test_an_empty_image_of_a_remote_pack_is_bad(tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", KEYS[:8]).to_pylist()
    (tmp_path / "images" / "3.jpg").write_bytes(b"")
    images[3] |= {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    pack = write_pack(pa.Table.from_pylist(images), tmp_path / "home")
    plan = Draws(pack, np.arange(8))
    with serving(Far(pack.home)) as far:
        with pytest.raises(Damaged, match="drive/003"):
            contents(plan, at(far, pack))
        with stream(plan, at(far, pack), G, size=SIZE, on_error="quarantine") as found:
            list(found)
    assert [note.key for note in found.replaced] == ["drive/003"]


def test_a_server_without_ranges_is_reported_at_once(plan: Draws, pack: Pack) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(pack.home))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        there = Pack.open(f"http://127.0.0.1:{server.server_port}", pack.hash)
        with pytest.raises(Failed, match="does not support range requests"):
            contents(plan, there)
        server.shutdown()


def test_a_missing_shard_is_named(plan: Draws, pack: Pack, tmp_path: Path) -> None:
    shutil.copytree(pack.home, tmp_path / "home")
    shutil.rmtree(tmp_path / "home" / "shards")
    with serving(Far(tmp_path / "home")) as far, pytest.raises(NotFound, match=r"drive/\d+: .*\.tar: is missing"):
        contents(plan, at(far, pack))


def test_a_missing_pack_is_named(pack: Pack) -> None:
    with (
        serving(Far(pack.home)) as far,
        pytest.raises(NotFound, match=r"pack 0000: not complete in http://127\.0\.0\.1"),
    ):
        Pack.open(f"http://127.0.0.1:{far.port}", "0000")


def test_an_unreachable_host_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failed, match="not reached in"):
        Pack.open("http://127.0.0.1:1/x", "0000")


@pytest.mark.parametrize("url", ["nowhere://x/y", "s3://"])
def test_an_unknown_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="not a URL that can be opened"):
        Pack.open(url, "0000")


def test_a_remote_pack_is_read_only(pack: Pack) -> None:
    with serving(Far(pack.home)) as far, pytest.raises(BadInput, match="is read-only"):
        _ = at(far, pack).home


def test_copying_again_sends_no_shard(pack: Pack, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    put = remote_files.RemoteFiles.put
    monkeypatch.setattr(
        remote_files.RemoteFiles, "put", lambda self, path, file: (sent.append(path), put(self, path, file))
    )
    pack.copy_to(bucket)
    assert sent == [f"packs/{pack.hash}/index.parquet", f"packs/{pack.hash}/manifest.json"]


# The cache


def test_an_image_larger_than_the_cache_is_refused(plan: Draws, pack: Pack) -> None:
    with serving(Far(pack.home)) as far, pytest.raises(BadInput, match="cache of 512 bytes: an image has"):
        contents(plan, at(far, pack, Cache(bytes=PAGE // 2)))


def test_a_missing_cache_folder_is_reported(plan: Draws, pack: Pack, tmp_path: Path) -> None:
    with serving(Far(pack.home)) as far, pytest.raises(Failed, match="not made"):
        contents(plan, at(far, pack, Cache(bytes=1 << 20, folder=tmp_path / "none")))


def test_disk_space_of_the_cache_is_allocated_first(plan: Draws, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write into a mapped file on a full disk would kill the process."""

    def full(descriptor: int, start: int, size: int) -> None:
        assert size == int((-(-pack.size[np.unique(plan.draws)] // PAGE)).sum()) * PAGE
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with serving(Far(pack.home)) as far, pytest.raises(Failed, match=r"not made \(No space left on device\)"):
        contents(plan, at(far, pack, Cache()))


def test_a_stream_collected_by_its_own_thread_ends(
    plan: Draws, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream in a reference cycle is closed by any thread that runs the garbage collector."""
    dropped, collected, ranges = threading.Event(), threading.Event(), remote_files.RemoteFiles.ranges

    def collecting(self: remote_files.RemoteFiles, *place: Any) -> list[memoryview]:
        if dropped.is_set():
            gc.collect()
            collected.set()
        return ranges(self, *place)

    def drop(far: Far) -> None:
        found = stream(plan, at(far, pack), G, size=SIZE, threads=1)
        found.me = found  # type: ignore[attr-defined]
        next(found)

    monkeypatch.setattr(remote_files.RemoteFiles, "ranges", collecting)
    with serving(Far(pack.home, latency=0.02)) as far:
        gc.disable()
        try:
            drop(far)
            dropped.set()
            assert collected.wait(10)
        finally:
            gc.enable()
        for thread in threading.enumerate():
            if "amber" in thread.name:
                thread.join(10)
                assert not thread.is_alive()


def test_closing_does_not_wait_for_the_rest(plan: Draws, pack: Pack, tmp_path: Path) -> None:
    cache = Cache(bytes=24 * PAGE, folder=tmp_path)
    with serving(Far(pack.home, latency=0.05)) as far:
        with stream(plan, at(far, pack, cache), G, size=SIZE) as found:
            next(found)
        assert far.requests < len(DRAWS) // 3
        assert list(tmp_path.iterdir()) == []
        assert not [thread for thread in threading.enumerate() if "amber" in thread.name]
