import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pictures import pictures

from curation import Catalog
from curation.errors import AmberError, BadInput, Busy, Damaged, NotFound
from curation.files.digest import digest
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack, write_pack
from samplers.shards import tar
from samplers.shards.shard_members import sidecar_texts

KEYS = [f"drive/{number:03d}" for number in range(30)]
SHARD = 8192  # holds a few of the pictures


@pytest.fixture
def images(tmp_path: Path) -> pa.Table:
    return pictures(tmp_path / "images", KEYS)


@pytest.fixture
def pack(images: pa.Table, tmp_path: Path) -> Pack:
    return write_pack(images, tmp_path / "home", shard_bytes=SHARD)


def shards_of(home: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (home / "shards").iterdir()}


def members(pack: Pack) -> dict[str, bytes]:
    found = {}
    for shard in pack.shards:
        with tarfile.open(pack.home / "shards" / shard.name) as archive:
            found |= {member.name: archive.extractfile(member).read() for member in archive}
    return found


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_index_points_at_the_files_bytes(pack: Pack, images: pa.Table) -> None:
    shards = pack.reader()
    for row, path in enumerate(images["location"].to_pylist()):
        data = shards.read(int(pack.shard[row]), int(pack.offset[row]), int(pack.size[row]))
        assert data == Path(path).read_bytes()
    assert len(pack.shards) > 3
    pack.verify()


def test_images_from_urls_and_tars_are_packed(pack: Pack, images: pa.Table, tmp_path: Path) -> None:
    paths = images["location"].to_pylist()
    with tarfile.open(tmp_path / "all.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for number, path in enumerate(paths):
            archive.add(path, f"{number}.jpg")
    elsewhere = [
        f"tar://{number}.jpg::{tmp_path}/all.tar" if number % 2 else Path(path).as_uri()
        for number, path in enumerate(paths)
    ]
    same = write_pack(images.set_column(1, "location", pa.array(elsewhere)), tmp_path / "elsewhere", shard_bytes=SHARD)
    assert same.hash == pack.hash
    gone = images.set_column(1, "location", pa.array([f"{url}x" for url in elsewhere]))
    with pytest.raises(NotFound, match=r"drive/000: .*, or exclude the sample"):
        write_pack(gone, tmp_path / "gone", shard_bytes=SHARD)


def test_gnu_tar_unpacks_a_shard(pack: Pack, tmp_path: Path) -> None:
    shard = pack.home / "shards" / pack.shards[0].name
    done = subprocess.run(["tar", "-xvf", shard, "-C", tmp_path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.split()) == 2 * pack.shards[0].images


@given(st.text(min_size=1))
def test_member_names_are_plain(key: str) -> None:
    name = tar.member_name(key.encode("utf8", "replace").decode())
    assert name.isascii()
    assert not set("/.") & set(name)
    assert len(name) <= 90


FILES = st.lists(st.tuples(st.from_regex(r"[a-z%-]{1,100}", fullmatch=True), st.integers(0, 2**33 - 1)), min_size=1)


@given(FILES)
def test_headers_are_those_of_tarfile(files: list[tuple[str, int]]) -> None:
    names, sizes = zip(*files, strict=True)
    for name, size, block in zip(names, sizes, tar.headers(names, np.array(sizes)), strict=True):
        found = tarfile.TarInfo.frombuf(block.tobytes(), "ascii", "strict")
        assert (found.name, found.size, found.mode, found.mtime, found.uid) == (name, size, 0o644, 0, 0)
        assert found.isreg()


@given(st.lists(st.text(), min_size=1))
def test_sidecars_equal_json_dumps(keys: list[str]) -> None:
    images = pa.table({"key": [key.encode("utf8", "replace").decode() for key in keys], "sha256": ["0f"] * len(keys)})
    for name in ("width", "height"):
        images = images.append_column(name, pa.array(range(len(keys))))
    images = images.select(["key", "width", "height", "sha256"])
    assert sidecar_texts(images) == [json.dumps(line).encode() for line in images.to_pylist()]


def test_grown_file_is_named(images: pa.Table, tmp_path: Path) -> None:
    with (tmp_path / "images" / "7.jpg").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Damaged, match=r"drive/007: .*7\.jpg is not the file that was ingested"):
        write_pack(images, tmp_path / "home")


def test_a_pipe_is_not_waited_for(images: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "images" / "7.jpg").unlink()
    os.mkfifo(tmp_path / "images" / "7.jpg")
    with pytest.raises(Damaged, match="drive/007"):
        write_pack(images, tmp_path / "home")


def test_one_input_gives_one_pack(images: pa.Table, tmp_path: Path) -> None:
    packs = [write_pack(images, tmp_path / f"home{n}", shard_bytes=SHARD, workers=n) for n in (1, 3)]
    backwards = write_pack(images.take(list(range(29, -1, -1))), tmp_path / "home", shard_bytes=SHARD)
    assert len({pack.hash for pack in [*packs, backwards]}) == 1
    assert members(packs[0]) == members(packs[1])


def test_packing_again_writes_nothing(pack: Pack, images: pa.Table) -> None:
    before = shards_of(pack.home)
    index = pack.home / "packs" / pack.hash / "index.parquet"
    written = index.stat().st_mtime_ns
    assert write_pack(images, pack.home, shard_bytes=SHARD).hash == pack.hash
    assert (shards_of(pack.home), index.stat().st_mtime_ns) == (before, written)


def test_new_images_make_new_shards(images: pa.Table, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = write_pack(images.slice(0, 17), home, shard_bytes=SHARD)
    before = shards_of(home)
    both = write_pack(images, home, shard_bytes=SHARD)
    assert before.items() < shards_of(home).items()
    assert {shard.name for shard in first.shards} < {shard.name for shard in both.shards}
    both.verify()


def test_fewer_images_write_no_shard(pack: Pack, images: pa.Table) -> None:
    before = shards_of(pack.home)
    fewer = write_pack(images.slice(5, 9), pack.home)
    assert (shards_of(pack.home), fewer.images, fewer.keys.to_pylist()) == (before, 9, KEYS[5:14])
    fewer.verify()


def test_only_a_changed_image_is_written_again(pack: Pack, images: pa.Table, tmp_path: Path) -> None:
    other = pictures(tmp_path / "other", KEYS[:2]).slice(1, 1)
    other = other.set_column(0, "key", pa.array(KEYS[:1]))
    changed = write_pack(pa.concat_tables([other, images.slice(1)]), pack.home)
    assert len(shards_of(pack.home)) == len(pack.shards) + 1
    assert changed.hash != pack.hash
    changed.verify()


def test_lost_shard_is_packed_again(pack: Pack, images: pa.Table) -> None:
    (pack.home / "shards" / pack.shards[0].name).unlink()
    write_pack(images, pack.home, shard_bytes=SHARD).verify()


def test_image_larger_than_a_shard_has_its_own(images: pa.Table, tmp_path: Path) -> None:
    pack = write_pack(images, tmp_path / "home", shard_bytes=1)
    assert [shard.images for shard in pack.shards] == [1] * 30
    pack.verify()


def test_make_pack_leaves_out_the_excluded(images: pa.Table, tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "home")
    with catalog.commit(author="ada", message="images") as change:
        change.add_samples(images.append_column("phash", pa.array([0] * 30, pa.uint64())), dataset="pictures")
        change.add_attributes(pa.table({"key": KEYS, "excluded": [key == KEYS[3] for key in KEYS]}))
    assert make_pack(catalog).keys.to_pylist() == KEYS[:3] + KEYS[4:]


def test_progress_ends_with_all_images(images: pa.Table, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_pack(images, tmp_path / "home", progress=lambda *args: seen.append(args))
    assert seen[-1] == (30, 30)


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from samplers.pack.pack_writer import write_pack
real, left = os.replace, int(sys.argv[3])
def replace(*args):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(*args)
os.replace = replace
write_pack(pq.read_table(sys.argv[1]), Path(sys.argv[2]), shard_bytes=8192, workers=1)
"""


def pack_until_killed(images: pa.Table, home: Path, renames: int) -> None:
    pa.parquet.write_table(images, home.parent / "images.parquet")
    command = [sys.executable, "-c", KILLED, home.parent / "images.parquet", home, str(renames)]
    assert subprocess.run(command, check=False).returncode == -9


@pytest.mark.parametrize("renames", [0, 1, 4, 5])
def test_killed_packing_resumes(images: pa.Table, pack: Pack, tmp_path: Path, renames: int) -> None:
    home = tmp_path / "killed"
    pack_until_killed(images, home, renames)
    before = shards_of(home)
    assert write_pack(images, home, shard_bytes=SHARD).hash == pack.hash
    assert set(shards_of(home)) == set(shards_of(pack.home))
    assert len(before.items() & shards_of(home).items()) == renames // 2
    assert not list((home / "packs" / ".work").iterdir())


def test_leftovers_of_another_run_are_removed(images: pa.Table, tmp_path: Path) -> None:
    home = tmp_path / "killed"
    pack_until_killed(images, home, 4)
    fewer = write_pack(images.slice(3), home, shard_bytes=SHARD)
    assert set(shards_of(home)) == {shard.name for shard in fewer.shards}


def test_leftovers_are_not_reused_for_equal_images_elsewhere(images: pa.Table, tmp_path: Path) -> None:
    home = tmp_path / "killed"
    pack_until_killed(images, home, 4)
    shutil.copytree(tmp_path / "images", tmp_path / "moved")
    places = [location.replace("/images/", "/moved/") for location in images["location"].to_pylist()]
    moved = images.set_column(images.column_names.index("location"), "location", pa.array(places))
    write_pack(moved, home, shard_bytes=SHARD).verify()


def test_interrupted_packing_leaves_no_thread(images: pa.Table, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        write_pack(images, tmp_path / "home", progress=interrupt)
    assert set(threading.enumerate()) == before


def test_full_disk_is_one_line(images: pa.Table, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(AmberError, match=r"not fully packed \(File too large\); fix that"):
            write_pack(images, tmp_path / "home")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "home").rglob("*.part"))
    write_pack(images, tmp_path / "home").verify()


def test_second_packer_is_refused(images: pa.Table, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        write_pack(images, tmp_path / "home")

    with pytest.raises(Busy, match=r"process \d+ packs there; wait for it"):
        write_pack(images, tmp_path / "home", progress=second)


def test_changed_file_is_named(images: pa.Table, tmp_path: Path) -> None:
    flip(tmp_path / "images" / "7.jpg", 100)
    with pytest.raises(Damaged, match=r"drive/007: .*7\.jpg is not the file that was ingested"):
        write_pack(images, tmp_path / "home")


def test_missing_file_is_named(images: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "images" / "7.jpg").unlink()
    with pytest.raises(NotFound, match=r"drive/007: .*7\.jpg cannot be read \(No such file"):
        write_pack(images, tmp_path / "home")


def test_verify_names_shard_and_key_of_a_flipped_byte(pack: Pack) -> None:
    shard = pack.shards[pack.shard[9]].name
    flip(pack.home / "shards" / shard, int(pack.offset[9] + pack.size[9]) - 1)
    with pytest.raises(Damaged, match=f"{shard}, drive/009: "):
        pack.verify()


def test_the_fix_that_verify_names_works(pack: Pack, images: pa.Table) -> None:
    flip(pack.home / "shards" / pack.shards[int(pack.shard[0])].name, int(pack.offset[0]) + 100)
    with pytest.raises(Damaged, match=r"delete (\S+), then pack again") as caught:
        pack.verify()
    Path(str(caught.value).partition("delete ")[2].partition(",")[0]).unlink()
    write_pack(images, pack.home, shard_bytes=SHARD).verify()


def test_a_manifest_that_counts_other_images_is_damaged(pack: Pack) -> None:
    manifest = pack.home / "packs" / pack.hash / "manifest.json"
    changed = json.loads(manifest.read_text()) | {"images": 2}
    manifest.write_text(json.dumps(changed))
    with pytest.raises(Damaged, match="its sha256 does not match"):
        Pack.open(pack.home, pack.hash)
    del changed["sha256"]  # as in manifests before they had one
    manifest.write_text(json.dumps(changed))
    with pytest.raises(Damaged, match="the manifest counts other images"):
        _ = Pack.open(pack.home, pack.hash).index


def test_verify_sees_a_byte_between_images(pack: Pack) -> None:
    flip(pack.home / "shards" / pack.shards[1].name, 3)
    with pytest.raises(Damaged, match=f"{pack.shards[1].name}: its bytes have changed between"):
        pack.verify()


def test_verify_names_a_truncated_shard(pack: Pack) -> None:
    os.truncate(pack.home / "shards" / pack.shards[1].name, 600)
    with pytest.raises(Damaged, match=f"{pack.shards[1].name}: 600 bytes"):
        pack.verify()


def test_index_of_another_pack_is_refused(pack: Pack, images: pa.Table) -> None:
    other = write_pack(images.slice(2), pack.home)
    shutil.copy(pack.home / "packs" / other.hash / "index.parquet", pack.home / "packs" / pack.hash / "index.parquet")
    with pytest.raises(Damaged, match="not the index of pack"):
        _ = Pack.open(pack.home, pack.hash).keys


def test_an_index_that_cannot_be_read_is_damaged(pack: Pack) -> None:
    index = pack.home / "packs" / pack.hash / "index.parquet"
    index.unlink()
    index.mkdir()
    with pytest.raises(Damaged, match=r"index\.parquet: cannot be read"):
        _ = Pack.open(pack.home, pack.hash).keys


def test_pack_without_manifest_is_not_found(pack: Pack) -> None:
    (pack.home / "packs" / pack.hash / "manifest.json").unlink()
    with pytest.raises(NotFound, match=f"pack {pack.hash}"):
        Pack.open(pack.home, pack.hash)


@pytest.mark.parametrize("text", ['{"hash": "0', "null", "[]", "3", "{}"])
def test_half_a_manifest_is_damaged(pack: Pack, text: str) -> None:
    (pack.home / "packs" / pack.hash / "manifest.json").write_text(text)
    with pytest.raises(Damaged, match=r"manifest\.json: not the manifest"):
        Pack.open(pack.home, pack.hash)


def test_rows_are_in_the_order_of_the_keys(pack: Pack) -> None:
    assert pack.rows(["drive/004", "drive/001"]).tolist() == [4, 1]
    with pytest.raises(NotFound, match=r"drive/x: not in pack .*; add the image"):
        pack.rows(["drive/004", "drive/x"])


def bytes_of(images: pa.Table, row: int, count: int) -> pa.Table:
    sizes = images["bytes"].to_pylist()
    sizes[row] = count
    return images.set_column(images.column_names.index("bytes"), "bytes", pa.array(sizes))


BAD_TABLES = {
    "0 images": lambda images: images.slice(0, 0),
    "drive/004: two images": lambda images: pa.concat_tables([images, images.slice(4, 1)]),
    "key '': is empty": lambda images: images.set_column(0, "key", pa.array(["", *KEYS[1:]])),
    "drive/007: an image has at most 1073741824 bytes": lambda images: bytes_of(images, 7, 3 << 30),
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_bad_tables_are_refused(images: pa.Table, tmp_path: Path, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        write_pack(BAD_TABLES[message](images), tmp_path / "home")


@pytest.mark.parametrize("numbers", [{"workers": 0}, {"workers": -1}, {"shard_bytes": 0}, {"shard_bytes": -5}])
def test_numbers_below_one_are_refused(images: pa.Table, tmp_path: Path, numbers: dict[str, int]) -> None:
    ((name, number),) = numbers.items()
    with pytest.raises(BadInput, match=f"{name} {number}: at least 1"):
        write_pack(images, tmp_path / "home", **numbers)


@given(st.lists(st.text(), min_size=1), st.integers(0, 9))
def test_digest_depends_on_content_alone(texts: list[str], cut: int) -> None:
    texts = [text.encode("utf8", "replace").decode() for text in texts]
    whole = pa.table({"text": pa.array(texts), "number": pa.array(range(len(texts)), pa.int32())})
    chunked = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    assert digest(whole) == digest(chunked)
    assert digest(whole) != digest(whole.set_column(0, "text", pa.array([*texts[:-1], texts[-1] + "x"])))
