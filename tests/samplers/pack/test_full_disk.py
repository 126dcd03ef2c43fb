"""Packing on a full disk, in every way there is: one line, the unfinished parts are taken away, and it works again."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from support.full_disk import full_disk
from support.pictures import pictures

from curation.errors import AmberError
from samplers.pack import shard_jobs
from samplers.pack.pack_writer import finish_pack, write_pack, write_part
from samplers.pack.smaller_copies import SmallerCopies

KEYS = [f"drive/{number:03d}" for number in range(120)]
SHARD = 60_000


def in_threads(images: pa.Table, home: Path) -> None:
    write_pack(images, home, shard_bytes=SHARD).verify()


def in_parts(images: pa.Table, home: Path) -> None:
    for part in (1, 2):
        write_part(images, home, part, 2, shard_bytes=SHARD)
    finish_pack(images, home, shard_bytes=SHARD).verify()


def smaller(images: pa.Table, home: Path) -> None:
    write_pack(SmallerCopies(quality=85).apply(images, home), home, shard_bytes=SHARD).verify()


WAYS = {"threads": in_threads, "processes": in_threads, "parts": in_parts, "smaller copies": smaller}


@pytest.mark.parametrize("limit", [0, 300, 4_096, 50_000])
@pytest.mark.parametrize("way", WAYS)
def test_a_pack_takes_its_parts_away(way: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "processes":
        monkeypatch.setattr(shard_jobs, "_LARGE", 0)
    images, home = pictures(tmp_path / "images", KEYS), tmp_path / "home"
    ended(lambda: WAYS[way](images, home), limit, home)
    assert not list(home.glob("packs/*/manifest.json"))
    WAYS[way](images, home)


def ended(work: Callable[[], object], limit: int, folder: Path) -> None:
    with full_disk(limit), pytest.raises((AmberError, OSError), match=r"too large|[Ss]pace") as error:
        work()
    assert "\n" not in str(error.value)
    assert not list(folder.rglob("*.part"))
