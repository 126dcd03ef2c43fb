"""Files that appear as a whole, and the cleanup after killed writers."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.killed import leave_half

from curation.files.atomic import remove_leftovers, whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    left = leave_half(tmp_path / "file")
    assert left.read_bytes() == b"half"
    remove_leftovers(tmp_path.glob("*.part"))
    assert names(tmp_path) == []


def test_files_of_a_running_process_are_kept(tmp_path: Path) -> None:
    with whole(tmp_path / "file") as part:
        part.write_bytes(b"new")
        remove_leftovers(tmp_path.glob("*.part"))
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_of_another_machine_is_kept_for_a_week(tmp_path: Path, folder: bool) -> None:
    left = leave_half(tmp_path / "file")
    machine = re.search(r"file\.([0-9a-f]{12})\.", left.name)[1]
    foreign = left.rename(tmp_path / left.name.replace(machine, "0" * 12))
    if folder:
        foreign.rename(tmp_path / "inside")
        foreign.mkdir()
        (tmp_path / "inside").rename(foreign / "inside")
    days = [path for path in (foreign / "inside", foreign) if path.exists()]
    for age, stays in ((0, True), (6, True), (8, False)):
        for path in days:
            os.utime(path, (0, time.time() - age * 86_400))
        remove_leftovers(tmp_path.glob("*.part"))
        assert foreign.exists() == stays


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    for name in ("a.part", "b.7.part", "file"):
        (tmp_path / name).write_bytes(b"mine")
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path.iterdir())
    assert names(tmp_path) == ["a.part", "b.7.part", "file"]


def test_two_writers_use_different_temporary_files(tmp_path: Path) -> None:
    def write(text: str) -> str:
        with whole(tmp_path / "file") as part:
            part.write_text(text)
            time.sleep(0.05)
            return part.read_text()

    texts = list("abcdefgh")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, texts)) == texts
    assert names(tmp_path) == ["file"]
