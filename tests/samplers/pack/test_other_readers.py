"""Shards of a pack, read by what others use: webdataset, wids, GNU tar."""

import gc
import io
import json
import subprocess
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from support.pictures import AWKWARD, packed_images, picture, pictures, table

from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack

KEYS = [*AWKWARD, "a/b", "a%2Fb", "./a/b", "/top", "a b", "a\\b", "*", "é", "e\N{COMBINING ACUTE ACCENT}", "日本/" * 9]


@pytest.fixture(scope="module", params=[1, 4096, 64 << 20], ids=["a shard an image", "some shards", "one shard"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """JPEGs of all awkward keys, and a PNG."""
    folder = tmp_path_factory.mktemp("others")
    picture(len(KEYS)).save(folder / "last.png")
    images = pa.concat_tables([pictures(folder / "images", KEYS), table([folder / "last.png"], ["last.png"])])
    return write_pack(images, folder / "home", shard_bytes=request.param)


def paths(pack: Pack) -> list[str]:
    return [str(pack.home / "shards" / shard.name) for shard in pack.shards]


def with_webdataset(pack: Pack, folder: Path) -> list[tuple[bytes, bytes]]:
    import webdataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the shards to the garbage collector
        found = list(webdataset.WebDataset(paths(pack), shardshuffle=False))
        gc.collect()
    return [(sample["json"], sample.get("jpg") or sample["png"]) for sample in found]


def with_wids(pack: Pack, folder: Path) -> list[tuple[bytes, bytes]]:
    import wids

    shards = [{"url": str(folder / shard.name), "nsamples": shard.images} for shard in pack.shards]
    for path in paths(pack):
        (folder / Path(path).name).symlink_to(path)
    found = wids.ShardListDataset(shards, transformations=[], cache_dir=str(folder), keep=True)
    backwards = [found[number] for number in range(len(found) - 1, -1, -1)]
    found.close()
    return [(sample[".json"].read(), (sample.get(".jpg") or sample[".png"]).read()) for sample in backwards]


def with_gnu_tar(pack: Pack, folder: Path) -> list[tuple[bytes, bytes]]:
    for path in paths(pack):
        done = subprocess.run(["tar", "-xf", path, "-C", folder], capture_output=True, text=True, check=True)
        assert done.stderr == ""
    assert {path.suffix for path in folder.rglob("*")} == {".json", ".jpg", ".png"}
    return [
        (path.read_bytes(), next(path.parent.glob(f"{path.stem}.[jp][pn]g")).read_bytes())
        for path in folder.glob("*.json")
    ]


def with_tarfile(pack: Pack, folder: Path) -> list[tuple[bytes, bytes]]:
    found = []
    for path in paths(pack):
        with tarfile.open(path) as archive:
            files = [archive.extractfile(member) or io.BytesIO() for member in archive]
            found += [(note.read(), image.read()) for image, note in zip(files[::2], files[1::2], strict=True)]
    return found


@pytest.mark.parametrize("read", [with_webdataset, with_wids, with_gnu_tar, with_tarfile])
def test_others_read_every_image_under_its_key(
    pack: Pack, tmp_path: Path, read: Callable[[Pack, Path], list[tuple[bytes, bytes]]]
) -> None:
    found = read(pack, tmp_path)
    told = {json.loads(note)["key"]: bytes(image) for note, image in found}
    assert told == packed_images(pack)
    assert (len(found), set(told)) == (len(KEYS) + 1, {*KEYS, "last.png"})
