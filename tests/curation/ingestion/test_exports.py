"""The readers of the exports of FiftyOne and Label Studio."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.sources import HEIGHT, WIDTH, Json, content, draw, label_rows, refused

# FiftyOne

SAMPLE = {
    "_id": {"$oid": "abc"}, "_media_type": "image", "_rand": 0.5, "filepath": "data/a.jpg", "tags": ["val", "blurry"],
    "metadata": {"_cls": "ImageMetadata", "width": 100, "height": 50}, "created_at": {"$date": "2026-01-01T00:00:00Z"},
    "weather": "rain", "uniqueness": {"$numberDouble": "0.5"}, "nothing": None, "group": {"_cls": "Group"},
    "captured_at": {"$date": 1500000000000}, "vector": [1, 2],
    "lamp": {"_cls": "Classification", "label": "red", "confidence": 0.25, "logits": [1]},
    "kinds": {"_cls": "Classifications", "classifications": [{"label": "tree"}, {"label": "house"}]},
    "pace": {"_cls": "Regression", "value": 12.5}, "wet": True,
    "truth": {"_cls": "Detections", "detections": [
        {"_id": {"$oid": "q"}, "_cls": "Detection", "label": "car", "bounding_box": [0.5, 0.5, 0.5, 0.25], "index": 1,
         "confidence": 0.5, "attributes": {"color": {"_cls": "CategoricalAttribute", "value": "blue"}}, "tags": []},
    ]},
}  # fmt: skip
FIELDS = {"lamp": "color", "kinds": "things", "pace": "speed", "wet": "wet", "truth": "objects"}


def fiftyone(folder: Path, *changes: Json) -> Json:
    draw(folder, ["a.jpg", "b.jpg"])
    if not (folder / "data").exists():
        (folder / "data").symlink_to(folder / "images")
    (folder / "samples.json").write_text(json.dumps({"samples": [SAMPLE | change for change in changes or [{}]]}))
    return {"kind": "fiftyone", "fields": FIELDS}


def test_fiftyone_facts_beyond_boxes(tmp_path: Path) -> None:
    empty = dict.fromkeys(FIELDS) | {"filepath": "data/b.jpg", "tags": []}
    found = content(tmp_path, fiftyone(tmp_path, {}, empty))
    assert found.samples.to_pylist()[0] == {
        "key": "d/a", "location": f"{tmp_path}/data/a.jpg", "split": "validation", "tag_blurry": True,
        "weather": "rain", "uniqueness": 0.5, "captured_at": datetime(2017, 7, 14, 2, 40),
    }  # fmt: skip
    assert found.samples["tag_blurry"].to_pylist() == [True, False]
    assert label_rows(found, "task", "text", "number", "names", "confidence", "origin") == [
        ("color", "red", None, None, 0.25, "samples.json sample abc lamp"),
        ("things", None, None, ["tree", "house"], None, "samples.json sample abc kinds"),
        ("speed", None, 12.5, None, None, "samples.json sample abc pace"),
        ("wet", "true", None, None, None, "samples.json sample abc wet"),
        ("objects", None, None, None, None, "samples.json sample abc truth"),
    ]
    (box,) = found.labels["boxes"].to_pylist()[-1]
    assert tuple(box.values())[:5] == ("car", WIDTH / 2, HEIGHT / 2, WIDTH / 2, HEIGHT / 4)
    assert dict(box["attributes"]) == {"color": "blue", "index": "1", "confidence": "0.5"}


def test_fiftyone_in_folders_and_by_url(tmp_path: Path) -> None:
    reader = fiftyone(tmp_path) | {"images": "https://host/x"}
    (tmp_path / "samples.json").unlink()
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "000001-a.json").write_text(json.dumps(SAMPLE))
    found = content(tmp_path, reader)
    assert found.samples["location"].to_pylist() == ["https://host/x/data/a.jpg"]
    assert found.labels["boxes"].to_pylist()[-1][0]["x"] == 50.0
    assert found.labels["origin"].to_pylist()[0] == "samples/000001-a.json lamp"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"filepath": None}, "abc: filepath = None"),
        ({"filepath": "../a.jpg"}, "abc: .* lies outside"),
        (
            {"truth": {"_cls": "Detections", "detections": [{"label": "car"}]}},
            "abc truth detection 1: .* is no detection",
        ),
        ({"truth": {"_cls": "Polylines"}}, "abc truth: a Polylines is no label of objects"),
        ({"lamp": {"_cls": "Detections", "detections": []}}, "abc lamp: a Detections is no label of color"),
        ({"lamp": SAMPLE["kinds"]}, "abc lamp: .* is no label of color"),
        ({"lamp": [1]}, "abc lamp: .* is no label of color"),
        ({"key": "mine"}, "abc: the attribute 'key' has a reserved name"),
    ],
)
def test_refused_fiftyone(change: Json, why: str, tmp_path: Path) -> None:
    refused(tmp_path, fiftyone(tmp_path, change), why)


# Label Studio


def result(tag: str, type_: str, value: Json, **more: Any) -> Json:
    return {"from_name": tag, "to_name": "image", "type": type_, "value": value} | more


def rectangle(**more: Any) -> Json:
    value = {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["car"]}
    value |= more.pop("value", {})
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "id": "r1"}
    return result("box", "rectanglelabels", value, **(size | more))


def annotation(number: int, *results: Json, **more: Any) -> Json:
    return {"id": number, "completed_by": 3, "result": list(results), "was_cancelled": False} | more


def label_studio(folder: Path, *annotations: Json, data: Json | None = None, **reader: Any) -> Json:
    items = [{"id": 5, "data": data or {"image": "/data/upload/1/a.jpg", "drive": "x"}, "annotations": annotations}]
    (folder / "e.json").write_text(json.dumps(items))
    tags = {"box": "objects", "lamp": "color", "kinds": "things", "pace": "speed"}
    return {"kind": "label_studio", "file": "e.json", "tags": tags} | reader


def test_label_studio_names_the_annotators(tmp_path: Path) -> None:
    early, late = "2026-07-01T10:00:00.000000Z", "2026-07-01T11:00:00.000000Z"
    region = result("lamp_state", "choices", {"choices": ["red"]}, id="r1")
    found = content(
        tmp_path,
        label_studio(
            tmp_path,
            annotation(1, rectangle(), region, updated_at=early),
            annotation(2, result("lamp", "choices", {"choices": ["green"]}), updated_at=late),
            annotation(3, result("lamp", "choices", {"choices": ["red"]}), updated_at=early),
            annotation(4, result("kinds", "choices", {"choices": ["tree", "house"]}), completed_by={"email": "a@b.c"}),
            annotation(5, result("pace", "number", {"number": 7}), completed_by=None),
            annotation(6, completed_by="eve"),
        ),
    )
    assert found.samples.to_pylist() == [{"key": "d/1/a", "location": f"{tmp_path}/1/a.jpg", "drive": "x"}]
    assert label_rows(found, "task", "text", "number", "names", "annotator", "labelled_at", "origin") == [
        ("objects", None, None, None, "label_studio:3", datetime(2026, 7, 1, 10), "e.json item 5 annotation 1 box"),
        ("color", "green", None, None, "label_studio:3", datetime(2026, 7, 1, 11), "e.json item 5 annotation 2 lamp"),
        ("things", None, None, ["tree", "house"], "a@b.c", None, "e.json item 5 annotation 4 kinds"),
        ("speed", None, 7.0, None, "import", None, "e.json item 5 annotation 5 pace"),
    ]
    (box,) = found.labels["boxes"].to_pylist()[0]
    assert tuple(box.values()) == ("car", WIDTH / 4, HEIGHT / 2, WIDTH / 2, HEIGHT / 4, [("lamp_state", "red")])


def test_a_skipped_item_is_unsure(tmp_path: Path) -> None:
    reader = label_studio(tmp_path, annotation(1, was_cancelled=True))
    assert label_rows(content(tmp_path, reader), "task", "state") == [
        (task, "unsure") for task in ("objects", "color", "things", "speed")
    ]
    assert content(tmp_path, reader | {"skipped": "unknown"}).labels.num_rows == 0


def test_an_empty_answer_is_unknown_unless_declared(tmp_path: Path) -> None:
    reader = label_studio(tmp_path, annotation(1))
    assert content(tmp_path, reader).labels.num_rows == 0
    assert label_rows(content(tmp_path, reader | {"missing": "none"}), "task", "boxes") == [("objects", [])]


def test_a_rotated_box_becomes_the_box_around_it(tmp_path: Path) -> None:
    found = content(tmp_path, label_studio(tmp_path, annotation(1, rectangle(value={"rotation": 90}))))
    (box,) = found.labels["boxes"].to_pylist()[0]
    assert [box[side] for side in "xywh"] == pytest.approx([WIDTH / 4 - HEIGHT / 4, HEIGHT / 2, HEIGHT / 4, WIDTH / 2])
    assert box["attributes"] == [("rotation", "90.0")]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("/data/local-files/?d=x/a.jpg", "{}/x/a.jpg"),
        ("/data/upload/4/a%20b.jpg", "{}/4/a b.jpg"),
        ("http://host:8080/data/local-files/?d=x/a.jpg", "{}/x/a.jpg"),
        ("https://host/a.jpg?signature=1", "https://host/a.jpg?signature=1"),
        ("s3://bucket/a.jpg", "s3://bucket/a.jpg"),
    ],
)
def test_location_of_the_image_of_an_item(value: str, place: str, tmp_path: Path) -> None:
    found = content(tmp_path, label_studio(tmp_path, data={"image": value}))
    assert found.samples["location"].to_pylist() == [place.format(tmp_path)]


def test_an_item_may_name_the_key_of_a_sample(tmp_path: Path) -> None:
    answer = annotation(1, result("pace", "number", {"number": 7}))
    found = content(tmp_path, label_studio(tmp_path, answer, data={"amber": "d/a", "image": "x"}, key="amber"))
    assert found.samples.to_pylist() == [{"key": "d/a", "location": None}]
    assert label_rows(found, "key", "number") == [("d/a", 7.0)]


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ([result("lamp", "choices", {"choices": ["red", "green"]})], "annotation 1 lamp: .* is not one choice"),
        ([result("lamp", "textarea", {"text": ["red"]})], "annotation 1 lamp: a textarea is no label of color"),
        ([result("pace", "number", {})], "annotation 1 pace: 'None' is no label of speed"),
        ([result("box", "polygonlabels", {"points": []})], "annotation 1 box region None: .* not a rectangle"),
        ([rectangle(original_width=None)], "annotation 1 box region r1: lacks its coordinates"),
        ([rectangle(value={"x": None})], "annotation 1 box region r1: lacks its coordinates"),
        ([rectangle(image_rotation=90)], "annotation 1 box region r1: image_rotation = 90"),
    ],
)
def test_refused_answers(results: list[Json], why: str, tmp_path: Path) -> None:
    refused(tmp_path, label_studio(tmp_path, annotation(1, *results)), f"e.json item 5 {why}")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([{"id": 1, "image": "a.jpg", "lamp": "red"}], "not JSON_MIN"),
        ([], "Label Studio"),
        ([{"id": 1, "data": {"picture": "a.jpg"}, "annotations": []}], "no text 'image' .picture."),
        ([{"data": {"image": "a.jpg"}, "annotations": [{"result": 1}]}], r"0\.annotations\.0\.result"),
    ],
)
def test_refused_exports(document: Any, why: str, tmp_path: Path) -> None:
    reader = label_studio(tmp_path)
    (tmp_path / "e.json").write_text(json.dumps(document))
    refused(tmp_path, reader, why)
