"""Packs of smaller copies: their pixels, images that are not copied, and copies made only once."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.homes import make_home
from support.killed import leave_half
from support.pictures import picture, table
from support.processes import ending

from amber.cli import run
from curation.errors import BadInput, Damaged, NotFound
from curation.images.decoding import load_rgb
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import finish_pack, make_pack, write_pack, write_part
from samplers.pack.smaller_copies import SmallerCopies, forget_copies
from samplers.plan.plan import Plan
from samplers.streaming.forget import forget_image

SIZES = {"large": (90, 120), "tall": (100, 20), "same": (60, 60), "small": (24, 32), "png": (80, 64)}


@pytest.fixture
def images(tmp_path: Path) -> pa.Table:
    paths = [tmp_path / f"{key}.{'png' if key == 'png' else 'jpg'}" for key in SIZES]
    for number, (path, (height, width)) in enumerate(zip(paths, SIZES.values(), strict=True)):
        picture(number, height, width).save(path)
    return table(paths, SIZES)


def content(pack: Pack) -> dict[str, bytes]:
    shards = pack.reader()
    return {
        key.as_py(): bytes(shards.read(int(shard), int(at), int(size)))
        for key, shard, at, size in zip(pack.keys, pack.shard, pack.offset, pack.size, strict=True)
    }


def test_only_larger_images_are_copied(images: pa.Table, tmp_path: Path) -> None:
    home = tmp_path / "home"
    pack = write_pack(SmallerCopies(max_side=60).apply(images, home), home)
    sides = dict(zip(*(pack.index[name].to_pylist() for name in ("key", "height")), strict=True))
    assert sides == {"large": 45, "tall": 60, "same": 60, "small": 24, "png": 60}
    assert dict(zip(pack.keys.to_pylist(), pack.index["format"].to_pylist(), strict=True))["png"] == "JPEG"
    found, originals = content(pack), dict(zip(images["key"].to_pylist(), images["location"].to_pylist(), strict=True))
    for key in ("same", "small"):
        assert found[key] == Path(originals[key]).read_bytes()
    with Image.open(originals["large"]) as image:
        wanted = np.asarray(image.resize((60, 45), Image.Resampling.LANCZOS), np.int16)
    assert np.abs(load_rgb(found["large"]) - wanted).mean() < 3
    pack.verify()


def test_a_quality_encodes_all_images(images: pa.Table, tmp_path: Path) -> None:
    home = tmp_path / "home"
    rough, fine = (
        write_pack(SmallerCopies(quality=quality).apply(images, home), home, shard_bytes=1 << 20)
        for quality in (20, 95)
    )
    assert rough.bytes < fine.bytes
    assert set(rough.index["format"].to_pylist()) == {"JPEG"}
    assert rough.index["width"].to_pylist() == fine.index["width"].to_pylist()
    assert [load_rgb(data).shape[:2] for _, data in sorted(content(fine).items())] == [
        SIZES[key] for key in sorted(SIZES)
    ]


def test_a_copy_is_made_once(images: pa.Table, tmp_path: Path) -> None:
    home, copies = tmp_path / "home", SmallerCopies(max_side=60)
    first = copies.apply(images, home)
    seen: list[tuple[int, int]] = []
    for path in images["location"].to_pylist():
        Path(path).unlink()
    assert copies.apply(images, home, lambda *done: seen.append(done)).equals(first)
    assert seen == []


def test_copies_of_a_killed_run_are_reused(images: pa.Table, tmp_path: Path) -> None:
    home, copies = tmp_path / "home", SmallerCopies(max_side=60)
    first = copies.apply(images, home)
    (folder,) = (home / "reduced").iterdir()
    (folder / "copies.parquet").unlink()
    for path in images["location"].to_pylist():
        Path(path).unlink()
    assert copies.apply(images, home).equals(first)


def test_parts_give_the_pack_of_one_machine(images: pa.Table, tmp_path: Path) -> None:
    homes, copies = [tmp_path / "one", tmp_path / "many"], SmallerCopies(max_side=60)
    whole = write_pack(copies.apply(images, homes[0]), homes[0], shard_bytes=4096)
    for part in (1, 2):
        write_part(copies.apply(images, homes[1], first=(part - 1) / 2), homes[1], part, 2, shard_bytes=4096)
    assert finish_pack(copies.apply(images, homes[1]), homes[1], shard_bytes=4096).hash == whole.hash


SLOW = """
import os, sys
from pathlib import Path
import pyarrow.parquet as pq
from curation.files import atomic
from samplers.pack.smaller_copies import SmallerCopies
if sys.argv[3] == "far":
    atomic.machine, os.getpid = lambda: "0" * 12, lambda: 3_999_999  # a number that no process has here
write = Path.write_bytes
def write_bytes(path, data):
    write(path, data)
    sys.stdout.write(path.name + "\\n")
    sys.stdout.flush()
    sys.stdin.readline()
Path.write_bytes = write_bytes
SmallerCopies(max_side=60).apply(pq.read_table(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("machine", ["here", "far"])
def test_another_process_makes_copies_at_the_same_time(images: pa.Table, tmp_path: Path, machine: str) -> None:
    home, pipe = tmp_path / "home", subprocess.PIPE
    pq.write_table(images, tmp_path / "images.parquet")
    words = [sys.executable, "-c", SLOW, tmp_path / "images.parquet", home, machine]
    with ending(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)) as other:
        begun = other.stdout.readline().strip()
        assert begun.endswith(".part")
        left = leave_half(home / "reduced" / "60-90" / "x.jpg")
        SmallerCopies(max_side=60).apply(images, home)
        assert not left.exists()
        assert (home / "reduced" / "60-90" / begun).exists()
        errors = other.communicate("\n" * 9)[1]
    assert (other.returncode, errors) == (0, "")
    assert not list(home.rglob("*.part"))


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (lambda path: path.unlink(), NotFound, "large: .* cannot be read"),
        (lambda path: path.write_bytes(b"other"), Damaged, "large: .* is not the file that was ingested"),
    ],
)
def test_a_missing_or_changed_image_is_refused(
    images: pa.Table, tmp_path: Path, harm: object, error: type[Exception], message: str
) -> None:
    harm(Path(images["location"][0].as_py()))  # type: ignore[operator]
    with pytest.raises(error, match=message):
        SmallerCopies(max_side=60).apply(images, tmp_path / "home")


def test_copies_that_a_killed_run_left_are_forgotten_too(images: pa.Table, tmp_path: Path) -> None:
    home = tmp_path / "home"
    SmallerCopies(max_side=60).apply(images, home)
    (folder,) = (home / "reduced").iterdir()
    (folder / "copies.parquet").unlink()
    forget_copies(home, "large")
    assert sorted(path.name.split(".")[0] for path in folder.glob("*.jpg")) == ["png", "tall"]


def test_a_new_image_leaves_the_copies_of_the_others(images: pa.Table, tmp_path: Path) -> None:
    home, copies = tmp_path / "home", SmallerCopies(max_side=60)
    before = copies.apply(images.slice(0, 2), home)
    seen: list[tuple[int, int]] = []
    after = copies.apply(images, home, lambda *done: seen.append(done))
    assert after.slice(0, 2).equals(before)
    assert seen == [(1, 1)]


@pytest.mark.parametrize("text", ['{"max_side": 60, "colour": 1}', "[" * 100_000])
def test_a_damaged_setting_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "reduced.json").write_text(text)
    with pytest.raises(Damaged, match=r"reduced\.json: must hold max_side and quality"):
        SmallerCopies.load(tmp_path)


@pytest.mark.parametrize("numbers", [{"max_side": -1}, {"quality": 101}, {"quality": -5}])
def test_invalid_numbers_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="quality from 1 to 100"):
        SmallerCopies(**numbers)


def test_the_workspace_keeps_its_setting(tmp_path: Path) -> None:
    catalog = make_home(tmp_path / "work", samples=24)
    assert run(["pack", "--max-side", "16", "--home", str(catalog.home)]) == 0
    pack = make_pack(catalog)
    assert max(pack.index["width"].to_pylist() + pack.index["height"].to_pylist()) == 16
    assert run(["plan", "--draws", "64", "--home", str(catalog.home)]) == 0
    assert Plan.newest(catalog.home).pack_hash == pack.hash
    forgotten = pack.keys[0].as_py()
    folder = catalog.home / "reduced" / "16-90"
    assert len(list(folder.glob("*.jpg"))) == 24
    forget_image(catalog.home, forgotten)
    assert len(list(folder.glob("*.jpg"))) == 23
    assert run(["pack", "--max-side", "0", "--home", str(catalog.home)]) == 0
    assert max(make_pack(catalog).index["width"].to_pylist()) > 16
