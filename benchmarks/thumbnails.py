"""Thumbnails from the service's cache for 32 connections: rate, latency and cost.

The clients are `wrk` where it is installed, else connections of this process: either way on the same cores as the
service. The table also shows the CPU time of a thousand answers, which other work on the machine hardly affects.
"""

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from amber.service.images.signed_urls import Signer
from benchmarks.table import Row, finish, small
from curation.catalog.catalog import Catalog

__all__ = ["await_service", "processor", "thumbnails"]

SECONDS = 5 if small() else 60
CLIENTS, PICTURES, PORT = 32, 100, 8461
SCRIPT = """
local paths, n = {}, 0
function init()
  for line in io.lines("PATHS") do paths[#paths + 1] = wrk.format("GET", line, {Host = "127.0.0.1"}) end
end
function request()
  n = n % #paths + 1
  return paths[n]
end
function done(all, latency)
  local e = all.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("\\n%d %f %f %d", all.requests, all.duration / 1e6, latency:percentile(99) / 1e3, failed))
end
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Figures of the clients: answers, seconds, the 99th percentile of latency in milliseconds, and errors."""

    answers: int
    seconds: float
    late: float
    errors: int


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        finish("thumbnails", thumbnails(Path(folder)))


def thumbnails(home: Path) -> list[Row]:
    """The figures, measured in the folder `home`."""
    catalog = Catalog.create(home / "images")
    paths = _pictures(home, Signer.of(catalog.home))
    words = [sys.executable, "-m", "amber", "serve", "--port", str(PORT), "--home", str(catalog.home)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            await_service(f"http://127.0.0.1:{PORT}/health")
            for path in paths:
                httpx.get(f"http://127.0.0.1:{PORT}{path}").raise_for_status()
            memory, spent = _memory(process.pid), processor(process.pid)
            client, found = _wrk(home, paths) if shutil.which("wrk") else ("asyncio", asyncio.run(_load(paths)))
            grown, spent = _memory(process.pid) - memory, processor(process.pid) - spent
        finally:
            process.terminate()
    rate, busy = found.answers / found.seconds, os.getloadavg()[0]
    what = f"thumbnails a second, {CLIENTS} clients ({client}), {SECONDS} s"
    return [
        Row(what=what, value=rate, asked="at least 500", met=rate >= 500, peers={"load of the machine": busy}),
        Row(what="the service's processor time for 1,000", value=1_000 * spent / found.answers, unit=" s"),
        Row(what="99th percentile", value=found.late, unit=" ms", asked="stated"),
        Row(what="errors", value=found.errors, asked="0", met=found.errors == 0),
        Row(what="memory grown", value=grown, unit=" MB", asked="flat: at most 20 MB", met=grown <= 20),
    ]


def _pictures(home: Path, signer: Signer) -> list[str]:
    """Paths of thumbnails of noise images, which compress worst."""
    pixels, paths = np.random.default_rng(0).integers(0, 255, (PICTURES, 240, 320, 3)), []
    for number, picture in enumerate(pixels):
        Image.fromarray(picture.astype(np.uint8)).save(home / f"{number}.jpg")
        paths.append(f"/images/{signer.sign(str(home / f'{number}.jpg'), seconds=3_600)}?size=128")
    return paths


def _wrk(home: Path, paths: Sequence[str]) -> tuple[str, Load]:
    (home / "paths").write_text("\n".join(paths))
    (home / "load.lua").write_text(SCRIPT.replace("PATHS", str(home / "paths")))
    words = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}", "-s", str(home / "load.lua"), f"http://127.0.0.1:{PORT}"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    answers, seconds, late, errors = told.splitlines()[-1].split()
    return "wrk", Load(answers=int(answers), seconds=float(seconds), late=float(late), errors=int(errors))


async def _load(paths: Sequence[str]) -> Load:
    """Bare HTTP/1.1, so that the clients leave the cores to the service."""
    times: list[float] = []
    errors = 0
    began = time.perf_counter()

    async def client(first: int) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        number = first
        while (asked := time.perf_counter()) < began + SECONDS:
            writer.write(f"GET {paths[number % len(paths)]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            errors += not head.startswith(b"HTTP/1.1 200")
            times.append(time.perf_counter() - asked)
            number += 1
        writer.close()

    await asyncio.gather(*(client(first) for first in range(CLIENTS)))
    late = 1_000 * float(np.quantile(times, 0.99))
    return Load(answers=len(times), seconds=time.perf_counter() - began, late=late, errors=errors)


def await_service(url: str) -> None:
    """Wait until a service answers at `url`; it has a minute."""
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


def processor(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
