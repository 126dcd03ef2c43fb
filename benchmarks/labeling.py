"""`make bench-labeling`: what it costs to ask people and to read back, on a real Label Studio, and to serve images.

Pull is measured twice, on a project of a tenth of the items and on all of them, with the same number of changes: its
cost should follow the changes. Images are asked for by 32 connections of one process on the same cores as the service.
"""

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
from PIL import Image

from amber.service.signing import Signer
from benchmarks.table import Row, finish, small
from curation.labeling.answers import suggest
from curation.labeling.local import Local, start, stop
from curation.labeling.pull import pull
from curation.labeling.push import Asking, push
from curation.labeling.server import Server
from curation.ledger.catalog import Catalog
from curation.requests import REQUESTS
from curation.tasks import Task

ITEMS, CHANGES, SECONDS = (1_000, 100, 5.0) if small() else (10_000, 1_000, 60.0)
CLIENTS = 32
TASK = Task(name="color", kind="categorical", classes=("red", "yellow", "green"), owner="bench")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        local = start(home / "studio")
        try:
            rows = [*_labels(home, local), *_images(home)]
        finally:
            stop(home / "studio")
    finish("labeling", rows)


def _labels(home: Path, local: Local) -> list[Row]:
    pushed, small_pull, large_pull, idle = 0.0, 0.0, 0.0, 0.0
    with Server(local.url, local.token) as server:
        for count in (ITEMS // 10, ITEMS):
            catalog = _catalog(home / f"home-{count}", count)
            pushed = _timed(push, catalog, server, Asking(), url_for=lambda sample: sample["location"])
            pull(catalog, server)
            _answer(local, server, min(CHANGES, count))
            taken = _timed(pull, catalog, server)
            idle = _timed(pull, catalog, server)
            small_pull, large_pull = large_pull or taken, taken
    return [
        Row(what=f"push {ITEMS:,} items", value=pushed, unit=" s", asked="at most 60 s", met=pushed <= 60),
        Row(what=f"pull {CHANGES:,} changed of {ITEMS:,}", value=large_pull, unit=" s", asked="at most 10 s",
            met=large_pull <= 10, peers={f"of {ITEMS // 10:,}": small_pull, "nothing new": idle}),
    ]  # fmt: skip


def _catalog(home: Path, count: int) -> Catalog:
    """Samples without a label, each asked for."""
    catalog = Catalog.create(home)
    keys = [f"s{number:06d}" for number in range(count)]
    samples = pa.table(
        {
            "key": keys, "location": [f"http://127.0.0.1:1/{key}.jpg" for key in keys], "sha256": keys,
            "phash": pa.array(range(count), pa.uint64()), "format": ["JPEG"] * count,
            "width": pa.array([128] * count, pa.int32()), "height": pa.array([80] * count, pa.int32()),
            "bytes": pa.array([1] * count, pa.int64()),
        }
    )  # fmt: skip
    with catalog.commit(author="bench", message="samples") as change:
        change.add_tasks([TASK])
        change.add_samples(samples, dataset="bench")
        change.add_attributes(pa.table({"key": keys, "split": ["train"] * count}))
    with catalog.commit(author="bench", message="requests") as change:
        rows = [
            {"sample_id": number, "task_id": 0, "arm": "random", "slice": "", "reason": "", "run": "",
             "priority": number, "propensity": 1.0, "cost": 1.0} for number in range(count)
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    return catalog


def _answer(local: Local, server: Server, count: int) -> None:
    """Answer the first items of the newest project."""
    project = server.projects()[-1]["id"]
    results = suggest(TASK, "red", (128, 80))
    with httpx.Client(base_url=local.url, headers={"Authorization": f"Token {local.token}"}, timeout=60) as http:
        for item in sorted(server.keys(project, "amber"))[:count]:
            body = {"result": results, "lead_time": 2.0}
            http.post(f"/api/tasks/{item}/annotations/", json=body).raise_for_status()


def _images(home: Path) -> list[Row]:
    """Thumbnails from the cache, for `SECONDS`, by `CLIENTS` connections."""
    catalog = Catalog.create(home / "images")
    signer, pixels = Signer.of(catalog.home), np.random.default_rng(0).integers(0, 255, (100, 240, 320, 3))
    for number, picture in enumerate(pixels):
        Image.fromarray(picture.astype(np.uint8)).save(home / f"{number}.jpg")
    paths = [f"/images/{signer.sign(str(home / f'{n}.jpg'), seconds=3_600)}?size=128" for n in range(len(pixels))]
    words = [sys.executable, "-m", "amber", "serve", "--port", "8461", "--home", str(catalog.home)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            _await("http://127.0.0.1:8461/health")
            for path in paths:
                httpx.get(f"http://127.0.0.1:8461{path}").raise_for_status()
            before = _memory(process.pid)
            times, errors = asyncio.run(_load(paths))
            grown = _memory(process.pid) - before
        finally:
            process.terminate()
    rate, late = len(times) / SECONDS, 1_000 * float(np.quantile(times, 0.99))
    return [
        Row(what=f"thumbnails a second, {CLIENTS} clients", value=rate, asked="at least 500", met=rate >= 500),
        Row(what="99th percentile", value=late, unit=" ms", asked="stated"),
        Row(what="errors", value=errors, asked="0", met=errors == 0),
        Row(what="memory grown", value=grown, unit=" MB", asked="flat: at most 20 MB", met=grown <= 20),
    ]


async def _load(paths: Sequence[str]) -> tuple[list[float], int]:
    """Seconds of each request, and how many failed; bare HTTP/1.1, so that clients leave the cores to the service."""
    times: list[float] = []
    errors = 0
    end = time.perf_counter() + SECONDS

    async def client(first: int) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", 8461)
        number = first
        while (began := time.perf_counter()) < end:
            writer.write(f"GET {paths[number % len(paths)]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            errors += not head.startswith(b"HTTP/1.1 200")
            times.append(time.perf_counter() - began)
            number += 1
        writer.close()

    await asyncio.gather(*(client(first) for first in range(CLIENTS)))
    return times, errors


def _await(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(url).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"{url}: did not come up")


def _memory(pid: int) -> float:
    """Resident megabytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _timed(call: Callable[..., object], *given: object, **named: object) -> float:
    began = time.perf_counter()
    call(*given, **named)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
