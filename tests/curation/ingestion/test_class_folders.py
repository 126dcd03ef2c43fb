"""The reader of folders that are named after classes; its test files need no pixels."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.event_tables import LABELS
from curation.errors import BadInput, NotFound
from curation.ingestion.readers.class_folders import read_class_folders
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.image_paths import plain

PATTERN = "dataset_{attr:published_split}/{label}/{name}"


def read(folder: Path, pattern: str = PATTERN, held_back: bool = False) -> Content:
    return read_class_folders(folder, pattern=pattern, task="light", dataset="lights", held_back=held_back)


def fill(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_paths_become_samples_and_labels(tmp_path: Path) -> None:
    content = read(fill(tmp_path, "dataset_train/red/b.jpg", "dataset_test/green/a.PNG"))
    assert content.samples.to_pylist() == [
        {
            "key": "lights/dataset_test/green/a",
            "location": f"{tmp_path}/dataset_test/green/a.PNG",
            "published_split": "test",
        },
        {
            "key": "lights/dataset_train/red/b",
            "location": f"{tmp_path}/dataset_train/red/b.jpg",
            "published_split": "train",
        },
    ]
    assert content.labels.select(["key", "task", "state", "text", "annotator"]).to_pylist() == [
        {"key": f"lights/{place}", "task": "light", "state": "known", "text": text, "annotator": "import"}
        for place, text in [("dataset_test/green/a", "green"), ("dataset_train/red/b", "red")]
    ]
    assert content.labels.schema == content.held_back.schema == LABELS


def test_labels_are_held_back_on_request(tmp_path: Path) -> None:
    fill(tmp_path, "dataset_train/red/b.jpg")
    known, held = read(tmp_path), read(tmp_path, held_back=True)
    assert known.labels == held.held_back
    assert known.held_back.num_rows == held.labels.num_rows == 0


@pytest.mark.parametrize("extension", ["jpg", "JPG", "jpeg", "png", "webp", "bmp", "tif", "TIFF"])
def test_extensions_of_images(extension: str, tmp_path: Path) -> None:
    fill(
        tmp_path,
        f"red/1.{extension}",
        "red/notes.txt",
        "red/._1.jpg",
        ".trash/1.jpg",
        "red",
        "red/more/1.jpg",
    )
    assert read(tmp_path, "{label}/{name}").samples["key"].to_pylist() == ["lights/red/1"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "1.jpg")
    fill(tmp_path / "here", "red/2.jpg")
    (tmp_path / "here/green").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here/red/again").symlink_to(tmp_path / "here")
    content = read(tmp_path / "here", "{label}/{name}")
    assert content.labels["text"].to_pylist() == ["green", "red"]


def test_placeholders_within_a_name(tmp_path: Path) -> None:
    content = read(fill(tmp_path, "red_front_1_2.jpg"), "{label}_{attr:name}_{name}")
    assert content.samples["name"].to_pylist() == ["front"]
    assert content.labels["text"].to_pylist() == ["red"]


def test_odd_names_get_plain_keys(tmp_path: Path) -> None:
    content = read(fill(tmp_path, "Grün/my photo (1).v2.jpg"), "{label}/{name}")
    assert content.samples["key"].to_pylist() == ["lights/Gr-C3-BCn/my-20photo-20-281-29-2Ev2"]
    assert content.labels["text"].to_pylist() == ["Grün"]


@given(st.text(min_size=1))
def test_keys_hold_plain_characters_only(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_/-]+", plain(name))


@given(st.text("ab .%é/_"), st.text("ab .%é/_"))
def test_keys_of_names_without_hyphens_differ(one: str, other: str) -> None:
    assert (plain(one) == plain(other)) == (one == other)


@pytest.mark.parametrize("twin", ["red/1.png", "red/1.JPG"])
def test_shared_key_is_refused(twin: str, tmp_path: Path) -> None:
    fill(tmp_path, "red/1.jpg", twin)
    with pytest.raises(BadInput, match=rf"red/1\.jpg.*{twin}|{twin}.*red/1\.jpg") as refusal:
        read(tmp_path, "{label}/{name}")
    assert "lights/red/1" in str(refusal.value)


def test_encoded_twin_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "red/a b.jpg", "red/a-20b.jpg")
    with pytest.raises(BadInput, match="rename one of them"):
        read(tmp_path, "{label}/{name}")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        read(tmp_path / "nowhere")


def test_no_match_names_pattern_and_example(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\{label\}/\{name\}.*train/deep/red/1"):
        read(fill(tmp_path, "train/deep/red/1.jpg"), "{label}/{name}")


def test_no_image_at_all(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no image"):
        read(fill(tmp_path, "red/notes.txt"))


@pytest.mark.parametrize(
    "pattern",
    [
        "{name}",
        "{label}",
        "{label}/{label}/{name}",
        "{label}/{name",
        "{label}/{name}/{}",
        "{label}/{color}/{name}",
        "{attr:key}/{label}/{name}",
        "{attr:Drive}/{label}/{name}",
        "{attr:a}/{attr:a}/{label}/{name}",
    ],
)
def test_bad_pattern_is_refused_in_one_line(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^pattern .*; [^\n]*$"):
        read(fill(tmp_path, "red/1.jpg"), pattern)


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    try:
        open(os.fsencode(tmp_path / "red") + b"/\xff.jpg", "w").close()
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    with pytest.raises(BadInput, match="UTF-8"):
        read(tmp_path, "{label}/{name}")
