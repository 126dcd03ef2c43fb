"""Packs written by several machines: the same bytes as from one machine, even if some are killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.homes import make_home
from support.pictures import pictures

from amber.cli import run
from curation.errors import BadInput, Busy, Failed, NotFound
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import finish_pack, pack_lock, write_pack, write_part
from samplers.pack.ray_cluster import map_on_ray, write_on_ray
from samplers.pack.smaller_copies import SmallerCopies

KEYS = [f"drive/{number:03d}" for number in range(60)]
SHARD = 8192


@pytest.fixture
def images(tmp_path: Path) -> pa.Table:
    return pictures(tmp_path / "images", KEYS)


@pytest.fixture
def pack(images: pa.Table, tmp_path: Path) -> Pack:
    return write_pack(images, tmp_path / "whole", shard_bytes=SHARD)


def files(home: Path) -> dict[str, bytes]:
    paths = [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_parts_make_the_same_files(images: pa.Table, pack: Pack, tmp_path: Path, parts: int) -> None:
    home = tmp_path / "parts"
    for part in range(parts, 0, -1):
        write_part(images, home, part, parts, shard_bytes=SHARD)
    assert finish_pack(images, home, shard_bytes=SHARD).hash == pack.hash
    assert files(home) == files(pack.home)


def test_parts_at_the_same_time(images: pa.Table, pack: Pack, tmp_path: Path) -> None:
    home = tmp_path / "parts"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: write_part(images, home, part, 4, shard_bytes=SHARD), [1, 2, 3, 4, 4, 1]))
    assert finish_pack(images, home, shard_bytes=SHARD).hash == pack.hash
    assert files(home) == files(pack.home)


def test_missing_parts_are_counted(images: pa.Table, tmp_path: Path) -> None:
    write_part(images, tmp_path / "home", 1, 2, shard_bytes=SHARD)
    with pytest.raises(BadInput, match=r"\d of \d+ shards are not written; run the unfinished parts"):
        finish_pack(images, tmp_path / "home", shard_bytes=SHARD)


def test_packers_and_parts_exclude_each_other(images: pa.Table, tmp_path: Path) -> None:
    def work(done: int, total: int) -> None:
        write_pack(images, tmp_path / "home")

    with pytest.raises(Busy, match="another process packs"):
        write_part(images, tmp_path / "home", 1, 2, progress=work)
    with pack_lock(tmp_path / "home"), pytest.raises(Busy, match=r"process \d+ packs there; wait for it"):
        write_part(images, tmp_path / "home", 1, 2)


@pytest.mark.parametrize("part", [0, 4])
def test_an_invalid_part_is_refused(images: pa.Table, tmp_path: Path, part: int) -> None:
    with pytest.raises(BadInput, match=f"part {part}/3: from 1/3 to 3/3"):
        write_part(images, tmp_path / "home", part, 3)


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from samplers.shards import shard_writer
from samplers.pack.pack_writer import write_part
real, left = shard_writer.read_into, int(sys.argv[3])
def read(*args):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
shard_writer.read_into = read
write_part(pq.read_table(sys.argv[1]), Path(sys.argv[2]), 1, 2, shard_bytes=8192)
"""


@pytest.mark.parametrize("reads", [0, 7, 20])
def test_a_killed_part_is_run_again(images: pa.Table, pack: Pack, tmp_path: Path, reads: int) -> None:
    home = tmp_path / "parts"
    pq.write_table(images, tmp_path / "images.parquet")
    command = [sys.executable, "-c", KILLED, tmp_path / "images.parquet", home, str(reads)]
    assert subprocess.run(command, check=False).returncode == -9
    write_part(images, home, 2, 2, shard_bytes=SHARD)
    with pytest.raises(BadInput, match="shards are not written"):
        finish_pack(images, home, shard_bytes=SHARD)
    write_part(images, home, 1, 2, shard_bytes=SHARD)
    finish_pack(images, home, shard_bytes=SHARD)
    assert files(home) == files(pack.home)


def test_the_verb_packs_in_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(make_home(tmp_path, samples=30).home)
    for words in (["--part", "2/2"], ["--part", "1/2"], ["--finish", "--verify"]):
        assert run(["pack", *words, "--home", home]) == 0
    for words in (["--part", "2"], ["--part", "x/2"], ["--part", "3/2"], ["--finish", "--part", "1/2"]):
        assert run(["pack", *words, "--home", home]) == 2
    assert "part 'x/2': must be two numbers as in 2/8" in capsys.readouterr().err


# Ray


@pytest.fixture(scope="module", autouse=True)
def _no_token() -> Iterator[None]:
    """Ray requires a token if `~/.ray` holds one, but does not pass it to drivers that name an address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray cluster of one node on loopback that outlives its drivers."""
    ray = str(Path(sys.executable).with_name("ray"))
    words = ["start", "--head", "--port", "0", "--node-ip-address", "127.0.0.1", "--num-cpus", "2"]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    more = ["--include-dashboard", "false", "--object-store-memory", "100000000", "--disable-usage-stats"]
    before = set(psutil.pids())
    done = subprocess.run([ray, *words, *more], capture_output=True, text=True, check=False, env=os.environ | quiet)
    assert done.returncode == 0, done.stderr
    address = done.stdout.split("--address='")[1].split("'")[0]
    new = [process for process in psutil.process_iter(["cmdline"]) if process.pid not in before]
    started = [process for process in new if "site-packages/ray/" in " ".join(process.info["cmdline"] or [])]
    assert started
    yield address
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(started, timeout=3)[1]:  # its directory of nodes never ends by itself
        process.kill()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_ray_makes_the_same_files(images: pa.Table, pack: Pack, tmp_path: Path, cluster: str) -> None:
    seen: list[tuple[int, int]] = []
    home = tmp_path / "ray"
    write_on_ray(images, home, cluster, shard_bytes=SHARD, progress=lambda *args: seen.append(args))
    assert files(home) == files(pack.home)
    assert seen[-1] == (60, 60)


class Deadly(SimpleHTTPRequestHandler):
    """Serves files; kills the clients of the first two requests while they wait."""

    killed: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        if len(self.killed) < 2:
            (asking,) = [
                link.pid for link in psutil.net_connections("tcp4") if link.pid and link.laddr == self.client_address
            ]
            self.killed.append(asking)
            os.kill(asking, signal.SIGKILL)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_ray_survives_killed_workers(images: pa.Table, pack: Pack, tmp_path: Path, cluster: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Deadly, directory=str(tmp_path / "images")))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    urls = [f"http://127.0.0.1:{server.server_port}/{Path(path).name}" for path in images["location"].to_pylist()]
    mixed = images["location"].to_pylist()[:10] + urls[10:30] + images["location"].to_pylist()[30:]
    try:
        write_on_ray(images.set_column(1, "location", pa.array(mixed)), tmp_path / "ray", cluster, shard_bytes=SHARD)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    assert len(Deadly.killed) == 2
    assert files(tmp_path / "ray") == files(pack.home)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_ray_names_a_missing_image(images: pa.Table, tmp_path: Path, cluster: str) -> None:
    (tmp_path / "images" / "7.jpg").unlink()
    with pytest.raises(NotFound, match=r"drive/007: .*7\.jpg cannot be read"):
        write_on_ray(images, tmp_path / "ray", cluster, shard_bytes=SHARD)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_ray_makes_the_same_copies(images: pa.Table, tmp_path: Path, cluster: str) -> None:
    homes, copies = [tmp_path / "one", tmp_path / "ray"], SmallerCopies(max_side=16)
    here = copies.apply(images, homes[0])
    seen: list[tuple[int, int]] = []
    there = copies.apply(images, homes[1], lambda *args: seen.append(args), parallel_map=map_on_ray(cluster))
    assert there.drop_columns("location").equals(here.drop_columns("location"))
    assert files(homes[1]) == files(homes[0])
    assert seen == [(done, 60) for done in range(1, 61)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_ray_names_an_image_that_cannot_be_copied(images: pa.Table, tmp_path: Path, cluster: str) -> None:
    (tmp_path / "images" / "7.jpg").unlink()
    with pytest.raises(NotFound, match=r"drive/007: .*7\.jpg cannot be read"):
        SmallerCopies(max_side=16).apply(images, tmp_path / "ray", parallel_map=map_on_ray(cluster))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_the_verb_packs_on_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = make_home(tmp_path, samples=30).home
    reports = []
    for words in (["--ray", "local"], []):
        assert run(["pack", "--max-side", "16", *words, "--json", "--home", str(home)]) == 0
        reports.append(json.loads(capsys.readouterr().out))
        written = files(home / "shards")
        shutil.rmtree(home / "packs")
        shutil.rmtree(home / "shards")
        shutil.rmtree(home / "reduced")
    assert reports[0] == reports[1]
    assert len(written) == reports[0]["shards"] == 1


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}", "127.0.0.1:99999"])
def test_a_closed_port_is_reported_at_once(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    home = make_home(tmp_path, samples=12).home
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        at, began = address.format(closed.getsockname()[1]), time.monotonic()
        assert run(["pack", "--ray", at, "--home", str(home)]) == 1
        assert time.monotonic() - began < 10
    line = capsys.readouterr().err
    assert line.startswith(f"amber: ray '{at}': not reached (")
    assert line.count("\n") == 1


def test_a_missing_cluster_is_reported(images: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="not reached"):
        write_on_ray(images, tmp_path / "ray", "ray-nowhere")
