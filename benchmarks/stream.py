"""`make bench-stream`: the cost of a batch, the time to the first batch, and both for a remote pack.

The limit is a loop that decodes bytes from memory on two threads. All arms decode with simplejpeg to the same
batches of 64 and take turns in every round; peers run in a separate environment, each as its first example reads and
as its documentation advises for two cores, of which the better counts. Then the same once more on one core, with one
thread each. The remote arms run in a process
on one core, with one decode thread and a cache of a quarter of the pack; the server has the other core.
SCALE=small has 3,000 images, the default 20,000.
"""

import heapq
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import psutil
import simplejpeg

from benchmarks.loose import SIZE, loose, planned
from benchmarks.peers import Rounds, Took, peers
from benchmarks.table import Row, finish, small
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.plan.plan import Plan
from samplers.shards.prefetcher import next_uses
from samplers.streaming.stream import stream

IMAGES: Final = 3_000 if small() else 20_000
DRAWS: Final = 1_000_000
BATCH: Final = 64
ROUNDS: Final = int(os.environ.get("ROUNDS", "3" if small() else "7"))
FAR_ROUNDS: Final = 2 if small() else 5
PYTHON: Final = Path(".venv-stream-peers/bin/python")
PEERS: Final = ("webdataset", "wids", "litdata", "mosaicml", "grain", "energon", "HF datasets", "torch")
BY_WORKERS: Final = ("energon", "torch")
"""Peers whose first example already reads with two workers."""
WORKERS: Final = ", 2 workers"
SPREAD: Final = "lowest and highest"
LATENCY, BANDWIDTH = 0.05, 200e6


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as name:
        folder = Path(name)
        images = loose(folder / "images", IMAGES)
        (folder / "files.txt").write_text("\n".join(images["location"].to_pylist()))
        pack = write_pack(images, folder / "home", shard_bytes=16 << 20 if small() else 64 << 20)
        (folder / "tars").symlink_to(pack.home / "shards")
        epoch, million, far = map(Plan, planned(images, pack, IMAGES // BATCH * BATCH, DRAWS, 2 * IMAGES))
        cores = os.sched_getaffinity(0)
        rows = [*_decoded_rows(_decoded(epoch, pack, folder, len(cores))), *_soon(million, pack), *_memory(epoch, pack)]
        rows += _far(far, pack)
        os.sched_setaffinity(0, {min(cores)})
        rows += [replace(row, what=f"one core: {row.what}") for row in _decoded_rows(_decoded(epoch, pack, folder, 1))]
    finish("stream", rows, rounds=ROUNDS, images=IMAGES)


def _decoded(plan: Plan, pack: Pack, folder: Path, threads: int) -> Rounds:
    """The time of every arm in every round; the peers run on the cores that this process may use."""
    rounds = Rounds()
    read = pack.reader()
    places = zip(pack.shard[plan.draws].tolist(), pack.offset[plan.draws].tolist(), pack.size[plan.draws].tolist())  # noqa: B905
    data = [bytes(read.read(*place)) for place in places]
    read.close()
    with peers(PYTHON, folder) as ask:
        for peer in PEERS:
            ask(peer, "start")
        arms: list[tuple[str, Callable[[], Took]]] = [
            ("limit", lambda: _timed(lambda: _limit(data, threads))),
            ("stream", lambda: _timed(lambda: _drain(plan, pack, threads))),
            ("into batches", lambda: _timed(lambda: _limit(data, threads, BATCH))),
            *((peer, partial(ask, peer, "stream")) for peer in PEERS),
            *((f"{peer}{WORKERS}", partial(ask, peer, "workers")) for peer in PEERS if peer not in BY_WORKERS),
        ]
        for number in range(ROUNDS):
            turn = number * 3 % len(arms)  # on a shared machine the order of the arms matters
            for name, took in arms[turn:] + arms[:turn]:
                rounds.add(name, took())
    return rounds


def _limit(data: list[bytes], threads: int, images: int = 1) -> int:
    """Threads that only decode, each into its own ring buffer of so many images."""

    def decode(part: list[bytes]) -> None:
        out = np.empty((images, *SIZE, 3), np.uint8)
        for number, image in enumerate(part):
            simplejpeg.decode_jpeg(image, "RGB", buffer=out[number % images])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, [data[part::threads] for part in range(threads)]))
    return len(data)


def _drain(plan: Plan, pack: Pack, threads: int) -> int:
    with stream(plan, pack, BATCH, size=SIZE, threads=threads) as found:
        return sum(len(batch.rows) for batch in found)


def _decoded_rows(rounds: Rounds) -> list[Row]:
    value, more = rounds.ratio("stream", "limit"), rounds.cpu("stream") / rounds.cpu("limit") - 1
    others = [arm for arm in rounds.arms() if arm not in ("limit", "into batches", "stream")]
    beside = {peer: rounds.ratio(peer, "limit") for peer in ("into batches", *others)}
    spent = {peer: rounds.cpu(peer) for peer in ("limit", "into batches", "stream", *others)}
    low, high = rounds.spread("stream", "limit")
    rows = [
        Row(what="decoded, weighted batches beside a decode loop", value=value, unit="x", low=low, high=high,
            limit=SPREAD, asked=">= 0.95x", met=value >= 0.95, peers=beside),
        Row(what="CPU an image above the decode loop", value=100 * more, unit=" %", asked="<= 12 %", met=more <= 0.12,
            peers=spent),
    ]  # fmt: skip
    webdataset = [arm for arm in others if arm.startswith("webdataset")]
    for what, names, bound in (("the best peer", others, 1.5), ("webdataset", webdataset, 2.3)):
        if names:
            fastest = min(names, key=lambda peer: rounds.ratio("stream", peer))
            best, (low, high) = rounds.ratio("stream", fastest), rounds.spread("stream", fastest)
            rows.append(Row(what=f"beside {what}: {fastest}", value=best, unit="x", low=low, high=high, limit=SPREAD,
                            asked=f">= {bound}x", met=best >= bound))  # fmt: skip
    return rows


def _soon(plan: Plan, pack: Pack) -> list[Row]:
    """Time to the first batch of an open plan of a million draws, from its start and from its middle."""
    rows = []
    for what, start, bound in (
        ("first batch", 0, 0.1),
        ("first batch after a resume", DRAWS // 2 // BATCH * BATCH, 0.2),
    ):
        took = []
        for _ in range(5):
            started = time.perf_counter()
            with stream(plan, pack, BATCH, size=SIZE) as found:
                state = found.state_dict() | {"position": start}
                found.load_state_dict(state)
                next(found)
                took.append(time.perf_counter() - started)
        rows.append(Row(what=what, value=median(took), unit=" s", asked=f"<= {bound} s", met=median(took) <= bound))
    size = len(json.dumps(state))
    return [*rows, Row(what="state", value=size, unit=" bytes", asked="< 1,024 bytes", met=size < 1024)]


def _memory(plan: Plan, pack: Pack) -> list[Row]:
    """Private memory of a stream after a tenth of an epoch and at its end, and its open files."""
    process = psutil.Process()
    own, files = [], []
    with stream(plan, pack, BATCH, size=SIZE) as found:
        for batch in found:
            if batch.index % 5 == 0:
                used = process.memory_info()
                own.append(
                    (used.rss - used.shared) / 1e6
                )  # without the pages of shards, which belong to the page cache
                files.append(process.num_fds())
    grown = median(own[-3:]) - median(own[len(own) // 10 : len(own) // 10 + 3])
    return [
        Row(what="memory that an epoch adds after its first tenth", value=grown, unit=" MB", asked="<= 10 MB",
            met=grown <= 10, peers={"MB in all": own[-1], "open files": max(files), "shards": len(pack.shards)}),
    ]  # fmt: skip


def _far(plan: Plan, pack: Pack) -> list[Row]:
    """The stream from a server at 50 ms and 200 MB/s, and the stream from files, on one core each."""
    words = [sys.executable, "-m", "benchmarks.objects", str(pack.home), str(LATENCY), str(BANDWIDTH)]
    cores = sorted(os.sched_getaffinity(0))
    server_core = cores[-1]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        os.sched_setaffinity(server.pid, {server_core})
        port, sent, _ = map(int, server.stdout.readline().split())
        took: dict[str, list[float]] = {"near": [], "far": []}
        fetched = []
        for _ in range(FAR_ROUNDS):
            for arm, home in (("near", str(pack.home)), ("far", f"http://127.0.0.1:{port}")):
                reader = [
                    sys.executable,
                    "-m",
                    "benchmarks.far",
                    plan.folder,
                    home,
                    str(cores[0]),
                    str(pack.bytes // 4),
                ]
                told = subprocess.run(reader, capture_output=True, text=True, check=True)
                took[arm].append(float(told.stdout))
            server.stdin.write("\n")
            server.stdin.flush()
            now = int(server.stdout.readline().split()[1])
            fetched.append(now - sent)
            sent = now
        server.stdin.close()
    ratio = median(near / far for near, far in zip(took["near"], took["far"], strict=True))
    best = _belady(plan.draws, plan.size, pack.bytes // 4)
    more = median(fetched) / best
    return [
        Row(what="remote beside local, one core", value=ratio, unit="x", asked=">= 0.8x", met=ratio >= 0.8,
            peers={"near s": median(took["near"]), "far s": median(took["far"])}),
        Row(what="bytes fetched beside Belady's rule", value=more, unit="x", asked="<= 1.1x", met=more <= 1.1,
            peers={"MB": median(fetched) / 1e6}),
    ]  # fmt: skip


def _belady(order: np.ndarray, sizes: np.ndarray, room: int) -> int:
    """Bytes that Belady's rule fetches through a cache of `room` bytes."""
    held: dict[int, int] = {}
    heap: list[tuple[int, int]] = []
    free, fetched = room, 0
    for row, following in zip(order.tolist(), next_uses(order.astype(np.int64)).tolist(), strict=True):
        size = int(sizes[row])
        if row not in held:
            fetched += size
            while free < size:
                use, last = heapq.heappop(heap)
                if held.get(last) == -use:
                    free += int(sizes[last])
                    del held[last]
            free -= size
        held[row] = following
        heapq.heappush(heap, (-following, row))
    return fetched


def _timed(work: Callable[[], int]) -> Took:
    wall, cpu = time.perf_counter(), _spent()
    images = work()
    return Took(wall=time.perf_counter() - wall, cpu=_spent() - cpu, images=images)


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
