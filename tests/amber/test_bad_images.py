"""Images and files that are damaged, odd, or not what their name says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.lamps import declare
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog

Capture = pytest.CaptureFixture[str]


def truncated(path: Path) -> None:
    picture().save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-200])


def huge(path: Path) -> None:
    """A PNG whose header announces 10^10 pixels."""
    picture().save(path, "PNG")
    data = path.read_bytes()
    side = (100_000).to_bytes(4, "big")
    path.write_bytes(data[:16] + side + side + data[24:])


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(path, exif=exif)


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3))
    return Image.fromarray(pixels.astype(np.uint8))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated.jpg": (truncated, "cut off"),
    "empty.jpg": (Path.touch, "empty"),
    "text.jpg": (lambda path: path.write_text("not an image\n"), "text, not an image"),
    "huge.png": (huge, "100000 x 100000 pixels"),
}
ODD: dict[str, Callable[[Path], object]] = {
    "cmyk.jpg": lambda path: picture().convert("CMYK").save(path),
    "deep.png": lambda path: Image.fromarray(np.full((32, 48), 40_000, np.uint16)).save(path),
    "grey.png": lambda path: picture().convert("L").save(path),
    "alpha.png": lambda path: picture().convert("RGBA").save(path),
    "turned.jpg": turned,
}


@pytest.fixture
def awkward(folder: Path) -> Path:
    """A workspace to be made from a data set that has bad and odd images among sound ones."""
    declare(folder / "awkward", counts=(6, 3, 6))
    for name, (write, _) in BAD.items():
        write(folder / "awkward" / "images" / "red" / name)
    for name, make in ODD.items():
        make(folder / "awkward" / "images" / "green" / name)
    return folder / "new"


def test_bad_images_are_quarantined_and_the_rest_goes_in(awkward: Path, capsys: Capture) -> None:
    assert run(["ingest", "awkward", "--home", str(awkward)]) == 2
    out, err = capsys.readouterr()
    assert "20 samples (20 new)" in out
    with Catalog.open(awkward).read() as now:
        kept = {Path(row["location"]).name: row for row in now.quarantine().to_pylist()}
        sizes = {Path(row["location"]).name: (row["width"], row["height"]) for row in now.samples().to_pylist()}
    for name, (_, reason) in BAD.items():
        assert reason in kept[name]["reason"]
        assert f"{name}: {kept[name]['reason']}" in err
    assert {name: sizes[name] for name in ODD} == dict.fromkeys(ODD, (48, 32)) | {"turned.jpg": (32, 48)}


def test_odd_images_are_trained_on(awkward: Path, capsys: Capture) -> None:
    assert run(["ingest", "awkward", "--home", str(awkward), "--json"]) == 2
    words = ["--rounds", "0", "--start", "8", "--draws", "64", "--trunk", "small"]
    assert run(["loop", *words, "--home", str(awkward)]) == 0, capsys.readouterr().err


def test_bad_images_again_change_nothing(awkward: Path, capsys: Capture) -> None:
    counts = []
    for _ in range(2):
        assert run(["ingest", "awkward", "--home", str(awkward)]) == 2
        with Catalog.open(awkward).read() as now:
            counts.append(now.counts())
    assert counts[0] == counts[1]


def test_only_bad_images(folder: Path, capsys: Capture) -> None:
    declare(folder / "bad", counts=(2, 0, 0))
    for path in (folder / "bad" / "images" / "red").iterdir():
        path.write_bytes(b"")
    assert "none of its 2 images" in refused(capsys, "ingest", "bad")


def test_an_image_that_changed_is_not_packed(folder: Path, capsys: Capture) -> None:
    (folder / "data").unlink()
    declare(folder / "data", seed=1)
    assert run(["ingest", "data", "--home", "other"]) == 0
    (folder / "data" / "images" / "red" / "000.jpg").unlink()
    capsys.readouterr()
    assert "red/000.jpg" in refused(capsys, "pack", "--home", "other")


def test_a_file_that_is_not_a_catalog(folder: Path, capsys: Capture) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "catalog.duckdb").write_bytes(b"nonsense" * 1000)
    assert "broken/catalog.duckdb" in refused(capsys, "log", "--home", "broken", code=4)


def test_a_damaged_shard(folder: Path, capsys: Capture) -> None:
    assert run(["pack"]) == 0
    (shard,) = (folder / "home" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    assert shard.name in refused(capsys, "pack", "--verify", code=4)
