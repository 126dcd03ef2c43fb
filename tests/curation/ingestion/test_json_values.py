"""Values in JSON, in every format that holds them: groups of numbers, flags in other words, ids with every digit."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.pictures import picture
from support.sources import Json, content, draw, ingested, label_rows

from curation.catalog.catalog import Catalog


def webdataset(folder: Path, fields: Json) -> Json:
    image = io.BytesIO()
    picture(1).save(image, "JPEG")
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in (("0.jpg", image.getvalue()), ("0.json", json.dumps(fields).encode())):
            head = tarfile.TarInfo(name)
            head.size = len(data)
            tar.addfile(head, io.BytesIO(data))
    return {"kind": "webdataset", "shards": "*.tar", "fields": {"wet": "wet"}}


def scalabel(folder: Path, fields: Json) -> Json:
    draw(folder, ["0.jpg"])
    (folder / "s.json").write_text(json.dumps([{"name": "0.jpg", "attributes": fields}]))
    return {"kind": "scalabel", "file": "s.json", "images": "images", "task": "objects", "tasks": {"wet": "wet"}}


def fiftyone(folder: Path, fields: Json) -> Json:
    draw(folder, ["0.jpg"])
    (folder / "samples.json").write_text(json.dumps({"samples": [{"filepath": "images/0.jpg", "tags": [], **fields}]}))
    return {"kind": "fiftyone", "fields": {"wet": "wet"}}


def label_studio(folder: Path, fields: Json) -> Json:
    draw(folder, ["0.jpg"])
    (folder / "e.json").write_text(json.dumps([{"id": 1, "data": {"image": "0.jpg", **fields}, "annotations": []}]))
    return {"kind": "label_studio", "file": "e.json", "images": "images", "tags": {"wet": "wet"}}


Write = Callable[[Path, Json], Json]
FORMATS: list[Write] = [webdataset, scalabel, fiftyone, label_studio]


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize(
    ("group", "text"), [(12, "12"), (12.0, "12"), (1.5, "1.5"), ("007", "007"), (2**60, str(2**60))]
)
def test_a_group_is_text(write: Write, group: Any, text: str, tmp_path: Path) -> None:
    reader = write(tmp_path, {"group": group})
    assert content(tmp_path, reader).samples["group"].to_pylist() == [text]
    ingested(tmp_path, reader)
    with Catalog.open(tmp_path / "home").read() as now:
        assert now.samples()["group"].to_pylist() == [text]


@pytest.mark.parametrize("write", FORMATS[:3])
@pytest.mark.parametrize(
    ("value", "flag"),
    [(1.0, "true"), (0, "false"), ("Yes", "true"), ("FALSE", "false"), ("1.0", "true"), (False, "false")],
)
def test_flags(write: Write, value: Any, flag: str, tmp_path: Path) -> None:
    assert label_rows(content(tmp_path, write(tmp_path, {"wet": value})), "text") == [(flag,)]


@pytest.mark.parametrize("form", ["$numberLong", "$numberDecimal"])
def test_ids_of_fiftyone_keep_every_digit(form: str, tmp_path: Path) -> None:
    reader = fiftyone(tmp_path, {"track_id": {form: "1234567890123456789"}})
    assert content(tmp_path, reader).samples["track_id"].to_pylist() == [1234567890123456789]


@pytest.mark.parametrize("write", FORMATS[:3])
def test_a_field_that_no_entry_has_is_named(write: Write, tmp_path: Path) -> None:
    found = ingested(tmp_path, write(tmp_path, {"Wet": True}))
    assert any(note.startswith("no ") and "'wet'; " in note and "Wet" in note for note in found.notes)


def test_a_bad_attribute_of_a_frame_goes_aside_and_its_boxes_go_in(tmp_path: Path) -> None:
    reader = scalabel(tmp_path, {"wet": {"nested": 1}})
    found = ingested(tmp_path, reader | {"missing": "none"}, quarantine=True)
    assert (found.samples, found.labels, len(found.aside)) == (1, 1, 1)
