"""A full disk: one line, nothing half-written, and the same command succeeds once there is space."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.refusals import FULL, LOOP, amber, digest, ended, one_line, refused

from amber.cli import run
from curation.catalog.catalog import Catalog

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A disk of 9 MB."""
    (folder / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", folder / "disk"], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a disk")
    yield folder / "disk"
    subprocess.run(["umount", folder / "disk"], check=True)


def left_half_written(home: Path) -> list[Path]:
    return [path for path in home.rglob("*.part") if ".work" not in path.parts]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("limit", [0, 5_000, 100_000, 300_000])
def test_a_full_disk_in_ingest(limit: int) -> None:
    code, err = ended(amber("ingest", "data", "--home", "new", limit=limit))
    assert code == 1
    assert re.search(FULL, one_line(err)), err
    assert not left_half_written(Path("new"))
    assert run(["ingest", "data", "--home", "new"]) == 0
    with Catalog.open("new").read() as now:
        assert now.digest == digest()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("limit", [10, 5_000, 20_000, 60_000, 150_000, 300_000])
def test_a_full_disk_in_the_loop(limit: int) -> None:
    code, err = ended(amber(*LOOP, limit=limit))
    assert code == 1
    assert re.search(FULL, one_line(err)), err
    assert not left_half_written(Path("home"))
    assert run(LOOP) == 0


def test_a_disk_that_fills_up(disk: Path) -> None:
    """Whichever stage fills the disk, commits are kept, and the loop continues once there is space."""
    home = disk / "home"
    shutil.copytree("home", home)
    for room in (0, 60_000, 200_000, 400_000):
        filler = disk / "filler"
        filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - room)))
        code, err = ended(amber(*LOOP, "--home", str(home)))
        assert code == 1
        assert re.search(FULL, one_line(err)), err
        with Catalog.open(home).read() as now:
            assert now.counts()
        filler.unlink()
    shutil.rmtree(Path("home"))
    shutil.copytree(home, Path("home"))
    assert run(LOOP) == 0


@pytest.mark.usefixtures("folder")
def test_a_report_that_cannot_be_written(capsys: Capture) -> None:
    assert run(LOOP) == 0
    capsys.readouterr()
    assert "/proc/report.html" in refused(capsys, "report", "--out", "/proc/report.html", code=1)
