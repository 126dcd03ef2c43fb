"""Names of images: dots in tars, skipped extensions, and one key for one file."""

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.pictures import picture
from support.sources import Json, content, draw, ingested, label_rows, refused

from curation import Catalog
from curation.errors import BadInput
from curation.images.decoding import inspect
from curation.ingestion.readers.image_paths import key_of

# Names in tars


def shards(folder: Path, *members: str, **more: Any) -> Json:
    """A tar of these members: a red image, or the class "red"."""
    image = io.BytesIO()
    picture(1).save(image, "JPEG")
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name in members:
            data = b"red" if name.endswith(".cls") else image.getvalue()
            head = tarfile.TarInfo(name)
            head.size = len(data)
            tar.addfile(head, io.BytesIO(data))
    return {"kind": "webdataset", "shards": "*.tar", "members": {"cls": "color"}} | more


@pytest.mark.parametrize(
    ("members", "keys"),
    [
        (["0.jpg", "0.cls", "22.05.jpg", "22.05.cls"], ["d/0", "d/22-2E05"]),
        (["22.05.jpg", "22.05.cls", "22.06.jpg", "22.06.cls"], ["d/22-2E05", "d/22-2E06"]),
        (["22.jpg", "22.cls", "22.05.jpg", "22.05.cls"], ["d/22", "d/22-2E05"]),
        (["x/v1.2.png", "x/v1.2.cls"], ["d/x/v1-2E2"]),
        (["a.b.c.jpg", "a.b.c.cls"], ["d/a-2Eb-2Ec"]),
        (["v1.2/0.jpg", "v1.2/0.cls"], ["d/v1-2E2/0"]),
    ],
)
def test_names_with_dots_are_samples_of_their_own(members: list[str], keys: list[str], tmp_path: Path) -> None:
    found = content(tmp_path, shards(tmp_path, *members))
    assert sorted(found.samples["key"].to_pylist()) == keys
    assert sorted(label_rows(found, "key", "text")) == [(key, "red") for key in keys]


def test_several_images_of_one_sample_need_a_name(tmp_path: Path) -> None:
    reader = shards(tmp_path, "0.left.jpg", "0.right.jpg", "0.cls")
    refused(tmp_path, reader, "a.tar 0: could be one sample with images of several kinds")
    found = ingested(tmp_path, reader | {"image": "left.jpg"})
    assert (found.samples, found.labels) == (1, 1)
    assert "*.tar: passed over 1 file: 1 further image of its sample" in found.notes


@pytest.mark.parametrize("name", ["1.heic", "1.mp4", "._0.jpg", "README"])
def test_members_that_are_passed_over_are_counted(name: str, tmp_path: Path) -> None:
    found = ingested(tmp_path, shards(tmp_path, "0.jpg", "0.cls", name))
    assert any(note.startswith("*.tar: passed over 1 file: 1 ") for note in found.notes)


# Formats

FORMATS = {
    "gif": "GIF", "jfif": "JPEG", "jpe": "JPEG", "ppm": "PPM", "pgm": "PPM", "pbm": "PPM", "avif": "AVIF",
    "jp2": "JPEG2000", "pcx": "PCX", "qoi": "QOI", "sgi": "SGI", "dib": "DIB", "PPM": "PPM",
}  # fmt: skip


@pytest.mark.parametrize("extension", FORMATS)
def test_formats_that_pillow_reads_are_read(extension: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    mode = {"pgm": "L", "pbm": "1"}.get(extension, "RGB")
    path = tmp_path / "images" / f"a.{extension}"
    picture(1).convert(mode).save(path, FORMATS[extension])
    found = content(tmp_path, {"kind": "image_folder", "folder": "images"})
    assert found.samples["key"].to_pylist() == [f"d/a-2E{extension}"]
    assert inspect(path).format == FORMATS[extension]


def test_an_image_in_two_formats_is_two_samples(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "a.gif", "a.ppm"])
    for reader in (
        {"kind": "image_folder", "folder": "images"},
        {"kind": "class_folders", "pattern": "{label}/{name}", "task": "color"},
    ):
        assert len(content(tmp_path, reader).samples) == 3


def test_files_that_are_passed_over_are_counted_with_the_reason(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "sub/b.png"])
    for name in ("a.heic", "b.HEIC", "notes.txt", ".DS_Store", "sub/x"):
        (tmp_path / "images" / name).write_text("x")
    found = ingested(tmp_path, {"kind": "image_folder", "folder": "images"})
    (note,) = [note for note in found.notes if "passed over" in note]
    assert note.startswith("images: passed over 5 files: 2 .heic (not read; convert to JPEG or PNG), ")
    assert all(part in note for part in ("1 hidden", "1 .txt (no image)", "1 without extension"))


def test_images_that_a_pattern_does_not_match_are_counted(tmp_path: Path) -> None:
    draw(tmp_path, ["red/a.jpg", "red/deep/b.jpg", "c.jpg"])
    for reader in (
        {"kind": "class_folders", "folder": "images", "pattern": "{label}/{name}", "task": "color"},
        {"kind": "image_folder", "folder": "images", "pattern": "{attr:lamp}/{name}"},
    ):
        found = ingested(tmp_path, reader)
        assert "images: passed over 2 files: 2 that the pattern does not match" in found.notes


def test_a_binary_ppm_without_zero_bytes_is_no_text(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (65, 66, 67)).save(tmp_path / "a.ppm")
    assert b"\0" not in (tmp_path / "a.ppm").read_bytes()
    assert (inspect(tmp_path / "a.ppm").width, inspect(tmp_path / "a.ppm").format) == (8, "PPM")


@pytest.mark.parametrize(
    ("data", "reason"), [(b"\xfe\xed" * 500, "is not JPEG"), ("grün".encode() * 400, "is text"), (b"", "is empty")]
)
def test_a_file_that_is_no_image_has_the_right_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(BadInput, match=reason):
        inspect(tmp_path / "a.jpg")


def test_a_data_set_of_unreadable_images_names_reasons_and_the_first_path(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, data in (("a.jpg", b"text"), ("b.jpg", b"text"), ("c.jpg", b"")):
        (tmp_path / "images" / name).write_bytes(data)
    with pytest.raises(BadInput, match=rf"3 images .*2 is text.*1 is empty.* first is {tmp_path}/images/a.jpg"):
        ingested(tmp_path, {"kind": "image_folder", "folder": "images"})


def test_a_wrong_folder_names_the_first_path(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    (tmp_path / "t.csv").write_text("path,wet\na.jpg,1\n")
    with pytest.raises(BadInput, match=rf"first is {tmp_path}/imgs/a.jpg; check the images and their folder"):
        ingested(tmp_path, table("t.csv", images="imgs"))


def test_a_name_without_extension_finds_its_file(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.png", "b.jpg"])
    (tmp_path / "t.csv").write_text("path,wet\na,1\n")
    assert content(tmp_path, table("t.csv")).samples["location"].to_pylist() == [f"{tmp_path}/images/a.jpg"]
    (tmp_path / "t.csv").write_text("path,wet\na,1\nb,1\n")
    refused(tmp_path, table("t.csv"), "line 3: .* has no extension, and b.jpg and b.png exist")


# One key for one file


def table(*files: str, images: str = "images") -> Json:
    return {"kind": "tables", "images": images, "table": [{"file": file, "rows": "samples"} for file in files]}


@pytest.mark.parametrize("name", ["./a.jpg", "x//../a.jpg", "x/.././a.jpg", ".\\a.jpg", "{}/images/a.jpg"])
def test_another_name_of_a_file_has_the_same_key(name: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    (tmp_path / "one.csv").write_text("path,wet\na.jpg,1\n")
    (tmp_path / "two.csv").write_text(f"path,lux\n{name.format(tmp_path)},3\n")
    found = content(tmp_path, table("one.csv", "two.csv"))
    (row,) = found.samples.to_pylist()
    assert (row["key"], row["lux"]) == ("d/a", 3.0)


def test_two_names_of_a_file_in_one_table_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    (tmp_path / "t.csv").write_text("path,wet\n./a.jpg,1\na.jpg,0\n")
    refused(tmp_path, table("t.csv"), "t.csv line 3: 'd/a' is in t.csv line 2 too")


@pytest.mark.parametrize("link", ["link.jpg", "a-link.jpg"])
def test_a_link_and_its_file_are_one_sample(link: str, tmp_path: Path) -> None:
    draw(tmp_path, ["b.jpg"])
    (tmp_path / "images" / link).symlink_to(tmp_path / "images" / "b.jpg")
    found = ingested(tmp_path, {"kind": "image_folder", "folder": "images"})
    assert found.samples == 1
    with Catalog.open(tmp_path / "home").read() as now:
        assert now.samples()["key"].to_pylist() == ["d/b"]
    assert any("is the same file as d/b" in note for note in found.notes)


def test_a_linked_folder_adds_no_samples(tmp_path: Path) -> None:
    draw(tmp_path, ["day1/a.jpg", "day1/b.jpg"])
    (tmp_path / "images" / "latest").symlink_to(tmp_path / "images" / "day1")
    assert ingested(tmp_path, {"kind": "image_folder", "folder": "images"}).samples == 2


def test_links_with_other_labels_are_refused_and_equal_ones_joined(tmp_path: Path) -> None:
    draw(tmp_path, ["red/a.jpg"])
    (tmp_path / "images" / "green").mkdir()
    os.symlink(tmp_path / "images/red/a.jpg", tmp_path / "images/green/a.jpg")
    reader = {"kind": "class_folders", "folder": "images", "pattern": "{label}/{name}", "task": "color"}
    with pytest.raises(BadInput, match="in this batch twice"):
        ingested(tmp_path, reader)
    shutil.rmtree(tmp_path / "images" / "green")
    os.symlink(tmp_path / "images/red/a.jpg", tmp_path / "images/red/b.jpg")
    found = ingested(tmp_path, reader)
    assert (found.samples, found.labels) == (1, 1)


def test_copies_and_hard_links_stay_two_samples(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    os.link(tmp_path / "images/a.jpg", tmp_path / "images/b.jpg")
    assert ingested(tmp_path, {"kind": "image_folder", "folder": "images"}).samples == 2


def test_a_file_keeps_the_key_that_the_catalog_has(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    (tmp_path / "t.csv").write_text("key,path,wet\nd/old,a.jpg,1\n")
    ingested(tmp_path, table("t.csv"))
    found = ingested(tmp_path, {"kind": "image_folder", "folder": "images"})
    assert (found.samples, found.new) == (1, 0)


def linked(folder: Path, way: str) -> tuple[str, str]:
    """The folder of a first and of a second data set of the same two files."""
    draw(folder, ["a.jpg", "b.jpg"])
    if way == "a linked file":
        (folder / "links").mkdir()
        for name in ("a.jpg", "b.jpg"):
            (folder / "links" / f"of-{name}").symlink_to(folder / "images" / name)
    else:
        (folder / "links").symlink_to(folder / "images")
    return {"the same path": ("images", "images"), "behind a linked folder": ("links", "images")}.get(
        way, ("images", "links")
    )


@pytest.mark.parametrize("way", ["the same path", "a linked folder", "behind a linked folder", "a linked file"])
def test_a_file_has_one_key_in_several_data_sets(way: str, tmp_path: Path) -> None:
    """Each with groups and splits of its own: as two samples, a file could be trained on and evaluated."""
    first, second = linked(tmp_path, way)
    ingested(tmp_path, {"kind": "image_folder", "folder": first}, split={"by": "group", "test": 0.5})
    with Catalog.open(tmp_path / "home").read() as now:
        before = now.samples().to_pylist()
    reader = {"kind": "image_folder", "folder": second}
    found = ingested(tmp_path, reader, name="e", split={"by": "group", "test": 0.5})
    with Catalog.open(tmp_path / "home").read() as now:
        assert now.samples().to_pylist() == before
    assert (found.samples, found.new) == (2, 0)
    assert any("is the file that the catalog has as d/a and 1 more: read under the key 'd/a'" in n for n in found.notes)


SIGNED = [
    "https://h/a.jpg?X-Amz-Signature=1&X-Amz-Expires=3", "https://h/a.jpg?Expires=1&Signature=2&Key-Pair-Id=3",
    "https://h/a.jpg?sv=1&se=2&sr=b&sp=r&sig=3", "https://h/a.jpg?GoogleAccessId=1&Expires=2&Signature=3",
    "https://h/a.jpg?sv=1&ss=bf&srt=sco&sp=r&se=2&sip=1.2.3.4&sig=3",
    "https://h/a.jpg?OSSAccessKeyId=1&Expires=2&Signature=3&security-token=4",
    "https://h/a.jpg?q-sign-algorithm=sha1&q-ak=1&q-sign-time=2&q-key-time=3&q-header-list=&q-signature=4",
]  # fmt: skip


@pytest.mark.parametrize("url", SIGNED)
def test_the_signature_of_a_url_is_not_in_the_key(url: str) -> None:
    assert key_of("d", url) == "d/h/a"
    assert key_of("d", "https://h/a.jpg?id=5") != key_of("d", "https://h/a.jpg?id=6")


@pytest.mark.parametrize(
    "url",
    ["http://h/a.jpg", "HTTPS://H/a.jpg", "https://h:443/a.jpg", "https://h/a.jpg#top", "https://ann:secret@h/a.jpg",
     "https://h/x/../a.jpg", "https://h/./a.jpg"],
)  # fmt: skip
def test_another_address_of_an_image_of_the_web_has_the_same_key(url: str) -> None:
    assert key_of("d", url) == "d/h/a"
    assert key_of("d", "https://h:8080/a.jpg") != key_of("d", "https://h/a.jpg?ss=5") != "d/h/a"
