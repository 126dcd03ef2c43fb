"""`make bench-pack`: what it costs to write packs, to materialize plans and to read raw bytes, beside the limits of the
machine (`cat`, reads of 1 MB) and other writers and readers of shards.

Every figure is the median over rounds in which all take turns, the page cache being warm. SCALE=small has 3,000 images,
the default 40,000.
"""

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.loose import loose, planned
from benchmarks.peers import Rounds, Took, peers
from benchmarks.table import Row, finish, small
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.plan.plan import Plan
from samplers.streaming.materialize import materialize

IMAGES: Final = 3_000 if small() else 40_000
ROUNDS: Final = int(os.environ.get("ROUNDS", "3" if small() else "7"))
PYTHON: Final = Path(".venv-stream-peers/bin/python")
WRITERS: Final = ("webdataset", "ArrayRecord")
READERS: Final = ("webdataset", "grain", "litdata")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench-pack-") as name, peers(PYTHON, Path(name)) as ask:
        folder = Path(name)
        images = loose(folder / "images", IMAGES)
        paths = images["location"].to_pylist()
        (folder / "files.txt").write_text("\n".join(paths))
        pack = write_pack(images, folder / "home")
        (folder / "tars").symlink_to(pack.home / "shards")
        tars = [pack.home / "shards" / shard.name for shard in pack.shards]
        plan, rounds = Plan(planned(images, pack, pack.images)[0]), Rounds()

        def again() -> None:
            shutil.rmtree(folder / "again", ignore_errors=True)
            (folder / "copy").unlink(missing_ok=True)

        arms: dict[str, Callable[[], object]] = {
            "cat": lambda: _cat(folder / "files.txt", folder / "copy"),
            "pack": lambda: write_pack(images, folder / "again"),
            "cat of shards": lambda: _cat_shards(tars, folder / "copy"),
            "materialize": lambda: materialize(plan, pack, folder / "again"),
            "blocks": lambda: _blocks(tars),
            "read": lambda: _read(pack),
        }
        for _ in range(ROUNDS):
            for arm, work in arms.items():
                again()
                rounds.add(arm, _timed(work))
            for peer in WRITERS:
                rounds.add(f"{peer} writes", ask(peer, "write"))
            for peer in READERS:
                rounds.add(f"{peer} reads", ask(peer, "read"))
    finish("pack", _rows(rounds), rounds=ROUNDS, images=IMAGES)


def _rows(rounds: Rounds) -> list[Row]:
    def row(what: str, arm: str, limit: str, bound: float) -> Row:
        """How many times as fast as `limit`, with milliseconds an image beside it."""
        value = rounds.ratio(arm, limit)
        peers = {"ms wall": rounds.wall(arm), "ms CPU": rounds.cpu(arm)}
        peers |= {f"{limit}: ms wall": rounds.wall(limit), "ms CPU of it": rounds.cpu(limit)}
        low, high = rounds.spread(arm, limit)
        return Row(what=what, value=value, unit="x", low=low, high=high, limit="lowest and highest",
                   asked=f">= {bound}x", met=value >= bound, peers=peers)  # fmt: skip

    rows = [row("pack beside cat of the same files", "pack", "cat", 1.0)]
    if "webdataset writes" in rounds.arms():
        rows.append(row("pack beside webdataset's ShardWriter", "pack", "webdataset writes", 5.0))
    if "ArrayRecord writes" in rounds.arms():
        rows.append(row("pack beside uncompressed ArrayRecord (stretch)", "pack", "ArrayRecord writes", 1.0))
    rows.append(row("materialize beside cat of the shards", "materialize", "cat of shards", 0.45))
    raw = row("raw read beside blocks of 1 MB", "read", "blocks", 0.75)
    others = {peer: rounds.ratio(f"{peer} reads", "blocks") for peer in READERS if f"{peer} reads" in rounds.arms()}
    return [*rows, replace(raw, peers=raw.peers | others)]


def _cat(files: Path, copy: Path) -> None:
    subprocess.run(f"tr '\\n' '\\0' < {files} | xargs -0 cat > {copy}", shell=True, check=True)


def _cat_shards(tars: list[Path], copy: Path) -> None:
    subprocess.run(f"cat {' '.join(map(str, tars))} > {copy}", shell=True, check=True)


def _blocks(tars: list[Path]) -> None:
    for tar in tars:
        with tar.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def _read(pack: Pack) -> None:
    """Every image, with a byte of every page looked at: what is mapped and not looked at was not read."""
    order = np.lexsort((pack.offset, pack.shard))
    with closing(pack.reader()) as shards:
        for number, rows in enumerate(
            np.split(order, np.cumsum(np.bincount(pack.shard, minlength=len(pack.shards)))[:-1])
        ):
            view = shards.read_shard(number)
            for start, stop in zip(pack.offset[rows].tolist(), (pack.offset + pack.size)[rows].tolist(), strict=True):
                view[start:stop:4096].tobytes()


def _timed(work: Callable[[], object]) -> Took:
    wall, cpu = time.perf_counter(), _spent()
    work()
    return Took(wall=time.perf_counter() - wall, cpu=_spent() - cpu, images=IMAGES)


def _spent() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


if __name__ == "__main__":
    main()
