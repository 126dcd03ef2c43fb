"""Plain folders and WebDataset shards: images, and the labels beside them."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from support.pictures import picture
from support.sources import Json, content, draw, label_rows, refused

# Plain folders


def test_a_folder_of_images(tmp_path: Path) -> None:
    draw(tmp_path, ["front/1/a.jpg", "front/2/b.jpg", "c.jpg"])
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "notes.txt").touch()
    found = content(tmp_path, {"kind": "image_folder", "folder": "images", "group": "folder"})
    assert found.samples["key"].to_pylist() == ["d/c", "d/front/1/a", "d/front/2/b"]
    assert found.samples["group"].to_pylist() == ["d/.", "d/front/1", "d/front/2"]
    assert found.labels.num_rows == 0


def test_a_folder_with_a_pattern(tmp_path: Path) -> None:
    draw(tmp_path, ["front/1/a.jpg", "front/2/b.jpg", "c.jpg"])
    found = content(tmp_path, {"kind": "image_folder", "pattern": "images/{attr:camera}/{attr:group}/{name}"})
    assert found.samples.select(["camera", "group"]).to_pylist() == [
        {"camera": "front", "group": "1"}, {"camera": "front", "group": "2"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        ({"folder": "nowhere"}, "no such folder"),
        ({"folder": "empty"}, "holds no image"),
        ({"pattern": "{attr:a}/{attr:b}/{attr:c}/{name}"}, "no image matches"),
        ({"pattern": "{label}/{name}"}, "{label} is unknown"),
        ({}, "both would have the key"),
    ],
)
def test_a_folder_that_is_refused(reader: Json, why: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "a.png"])
    (tmp_path / "empty").mkdir()
    refused(tmp_path, {"kind": "image_folder"} | reader, why)


# WebDataset


def shard(folder: Path, files: dict[str, bytes], name: str = "s-0.tar") -> Json:
    with tarfile.open(folder / name, "w") as tar:
        for path, data in files.items():
            head = tarfile.TarInfo(path)
            head.size = len(data)
            tar.addfile(head, io.BytesIO(data))
    fields = {"tags": "things", "speed": "speed"}
    return {"kind": "webdataset", "shards": "s-*.tar", "members": {"cls": "color", "wet.txt": "wet"}, "fields": fields}


def jpeg() -> bytes:
    file = io.BytesIO()
    picture(0).save(file, "JPEG")
    return file.getvalue()


def test_webdataset_has_more_than_images(tmp_path: Path) -> None:
    said_ = {"tags": ["tree"], "speed": 3, "weather": "rain", "nested": {"a": 1}, "key": "ours", "__url__": "x"}
    files = {
        "sub/a.jpg": jpeg(), "sub/a.cls": b"2\n", "sub/a.wet.txt": b"True", "sub/a.JSON": json.dumps(said_).encode(),
        "b.left.jpg": b"", "b.jpg": jpeg(), "c.txt": b"", "d.png": b"", "d.cls": b"red",
    }  # fmt: skip
    found = content(tmp_path, shard(tmp_path, files))
    assert found.samples.to_pylist() == [
        {"key": "d/sub/a", "location": f"tar://sub/a.jpg::{tmp_path}/s-0.tar", "weather": "rain"},
        {"key": "d/b", "location": f"tar://b.jpg::{tmp_path}/s-0.tar", "weather": None},
        {"key": "d/d", "location": f"tar://d.png::{tmp_path}/s-0.tar", "weather": None},
    ]
    assert label_rows(found, "key", "task", "text", "number", "names", "origin") == [
        ("d/sub/a", "color", "green", None, None, "s-0.tar sub/a.cls"),
        ("d/sub/a", "wet", "true", None, None, "s-0.tar sub/a.wet.txt"),
        ("d/sub/a", "things", None, None, ["tree"], "s-0.tar sub/a.JSON tags"),
        ("d/sub/a", "speed", None, 3.0, None, "s-0.tar sub/a.JSON speed"),
        ("d/d", "color", "red", None, None, "s-0.tar d.cls"),
    ]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"a.jpg": b"", "a.json": b"{"}, "s-0.tar a.json: not valid JSON"),
        ({"a.jpg": b"", "a.json": b"[1]"}, "s-0.tar a.json: is not an object"),
        ({"a.jpg": b"", "a.json": b'{"speed": "fast"}'}, "s-0.tar a.json speed: 'fast' is no label of speed"),
        ({"a.jpg": b"", "a.json": b'{"tags": "tree"}'}, "s-0.tar a.json tags: 'tree' is no label of things"),
        ({"a.jpg": b"", "a.cls": b"\xff"}, "s-0.tar a.cls: is not UTF-8"),
        ({"a.jpg": b"", "a.JPG": b""}, "s-0.tar a.JPG: a.jpg is the same"),
        ({"a.txt": b""}, "hold no image"),
    ],
)
def test_a_shard_that_is_refused(files: dict[str, bytes], why: str, tmp_path: Path) -> None:
    refused(tmp_path, shard(tmp_path, files), why)


def test_two_shards_with_one_name(tmp_path: Path) -> None:
    shard(tmp_path, {"a.jpg": b""}, "s-1.tar")
    refused(tmp_path, shard(tmp_path, {"a.jpg": b""}), "s-1.tar a.jpg and s-0.tar a.jpg: both would have the key")
