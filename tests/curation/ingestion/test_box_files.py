"""COCO, Scalabel and YOLO: the facts they hold beyond boxes, and the faults that are refused."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from support.pictures import picture
from support.sources import CLASSES, HEIGHT, WIDTH, Json, content, draw, label_rows, refused

# COCO

COCO = {
    "images": [
        {"id": 1, "file_name": "sub\\a.jpg", "date_captured": "2013-11-14 17:02:52"},
        {"id": "x", "file_name": "b.jpg", "date_captured": 0},
    ],
    "annotations": [
        {
            "id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1,
            "attributes": {"occluded": True},
        },
        {"id": 8, "image_id": 1, "category_id": 4, "bbox": [5, 2, -3, 4]},
    ],
    "categories": [{"id": 3, "name": "vehicle", "supercategory": "things"}, {"id": 4, "name": "dog"}],
}  # fmt: skip


def coco(folder: Path, **changes: Any) -> Json:
    (folder / "c.json").write_text(json.dumps({**COCO, **changes}))
    return {"kind": "coco", "file": "c.json", "images": "images", "task": "objects", "rename": {"vehicle": "car"}}


def test_coco_facts_beyond_boxes(tmp_path: Path) -> None:
    found = content(tmp_path, coco(tmp_path) | {"annotator": "vendor"})
    assert found.samples.to_pylist() == [
        {
            "key": "d/sub/a",
            "location": f"{tmp_path}/images/sub/a.jpg",
            "captured_at": datetime(2013, 11, 14, 17, 2, 52),
        },
        {"key": "d/b", "location": f"{tmp_path}/images/b.jpg", "captured_at": None},
    ]
    ((_, boxes, origin), other) = label_rows(found, "annotator", "boxes", "origin")
    assert [tuple(box.values())[:5] for box in boxes] == [("car", 1.0, 2.0, 3.0, 4.0), ("dog", 5.0, 2.0, -3.0, 4.0)]
    assert sorted(boxes[0]["attributes"]) == [("iscrowd", "true"), ("occluded", "true"), ("supercategory", "things")]
    assert origin == "c.json image 1"
    assert other == ("vendor", [], "c.json image x")


def test_coco_of_several_splits(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "v.json").write_text(json.dumps({**COCO, "images": [{"id": 1, "file_name": "v.jpg"}]}))
    files = {"train": "c.json", "validation": "v.json"}
    reader = coco(tmp_path) | {"file": files, "images": {"train": "t", "validation": "https://host/v/"}}
    found = content(tmp_path, reader | {"missing": "unknown", "leave_out": ["dog"]})
    assert found.samples.select(["location", "split"]).to_pylist()[1:] == [
        {"location": f"{tmp_path}/t/b.jpg", "split": "train"},
        {"location": "https://host/v/v.jpg", "split": "validation"},
    ]
    assert [(key, len(boxes)) for key, boxes in label_rows(found, "key", "boxes")] == [
        ("d/t/sub/a", 1),
        ("d/host/v/v", 1),
    ]
    refused(tmp_path, coco(tmp_path) | {"file": files, "images": {"train": "t"}}, "for each split")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"annotations": [{"id": 7, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]}]},
            "annotation 7: .* image 9",
        ),
        (
            {"annotations": [{"image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]}]},
            "annotation number 0: .* category 9",
        ),
        ({"annotations": [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2]}]}, r"annotations\.0\.bbox"),
        ({"annotations": None}, "annotations = None"),
        ({"images": []}, "images = "),
        ({"images": [COCO["images"][0], COCO["images"][0]]}, "image 1: is in the file twice"),
        ({"categories": [COCO["categories"][0]] * 2}, "category 3: is in the file twice"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.png"}]}, "both would have the key"),
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}]},
            "is in c.json image 1 too",
        ),
        ({"images": [{"id": 1, "file_name": "../a.jpg"}]}, "image 1: .* lies outside"),
        ({"images": [{"id": 1, "file_name": ""}]}, "image 1: .* lies outside"),
        ({"images": [{"id": 1, "file_name": "D:\\a.jpg"}]}, "image 1: .*Windows"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "date_captured": "July"}]}, "image 1: 'July' is not a time"),
    ],
)
def test_refused_coco(changes: Json, why: str, tmp_path: Path) -> None:
    reader = coco(tmp_path, **({"annotations": []} | changes))
    refused(tmp_path, reader, why)


def test_an_absolute_path_is_unchanged(tmp_path: Path) -> None:
    reader = coco(tmp_path, images=[{"id": 1, "file_name": "/data/a.jpg"}])
    assert content(tmp_path, reader).samples["location"].to_pylist() == ["/data/a.jpg"]


@pytest.mark.parametrize(
    ("task", "why"), [("nothing", "'nothing', and the tasks are objects"), ("color", "a categorical task")]
)
def test_a_task_that_does_not_fit(task: str, why: str, tmp_path: Path) -> None:
    refused(tmp_path, coco(tmp_path) | {"task": task}, why)


# Scalabel


def scalabel(folder: Path, *frames: Json) -> Json:
    (folder / "s.json").write_text(json.dumps(frames))
    return {"kind": "scalabel", "file": "s.json", "images": "images", "task": "objects"}


def test_scalabel_facts_beyond_boxes(tmp_path: Path) -> None:
    box = {"x1": 1, "y1": 2, "x2": 3, "y2": 4}
    frame = {
        "name": "v-01.jpg", "videoName": "v", "timestamp": 1_500_000_000_000, "frameIndex": 1,
        "attributes": {"weather": "rainy", "timeofday": "night", "scene": None, "light": "red"},
        "labels": [
            {"id": "1", "category": "car", "attributes": {"occluded": True, "trafficLightColor": "NA"}, "box2d": box},
            {"id": "2", "category": "lane", "poly2d": []},
        ],
    }  # fmt: skip
    reader = scalabel(tmp_path, frame, {"name": "b.jpg", "url": "https://host/b.jpg", "timestamp": 1000})
    found = content(tmp_path, reader | {"tasks": {"light": "color"}})
    assert found.samples.to_pylist() == [
        {
            "key": "d/v/v-01", "location": f"{tmp_path}/images/v/v-01.jpg", "weather": "rainy", "timeofday": "night",
            "group": "d/v", "captured_at": datetime(2017, 7, 14, 2, 40),
        },
        {
            "key": "d/b", "location": "https://host/b.jpg", "weather": None, "timeofday": None, "group": None,
            "captured_at": None,
        },
    ]  # fmt: skip
    assert label_rows(found, "task", "text", "origin") == [
        ("color", "red", "s.json frame v-01.jpg"), ("objects", None, "s.json frame v-01.jpg"),
    ]  # fmt: skip
    (box,) = found.labels["boxes"].to_pylist()[1]
    assert (box["w"], box["h"]) == (3.0, 3.0)
    assert dict(box["attributes"]) == {"occluded": "true", "trafficLightColor": "NA"}
    (box,) = content(tmp_path, reader | {"inclusive": False}).labels["boxes"].to_pylist()[0]
    assert (box["w"], box["h"]) == (2.0, 2.0)
    missing = content(tmp_path, reader | {"missing": "none"})
    assert [len(boxes) for boxes in missing.labels["boxes"].to_pylist()] == [1, 0]


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([], "list of Scalabel"),
        ([{"labels": []}], "name"),
        ([{"name": "a.jpg"}, {"name": "a.jpg"}], "is in s.json frame a.jpg too"),
        ([{"name": "a.jpg", "labels": [{"category": "car", "box2d": {"x1": 1}}]}], "labels.0.box2d"),
        ([{"name": "a.jpg", "attributes": {"wet": 1}}, {"name": "b.jpg", "attributes": {"wet": "x"}}], "another type"),
    ],
)
def test_refused_scalabel(frames: list[Json], why: str, tmp_path: Path) -> None:
    refused(tmp_path, scalabel(tmp_path, *frames), why)


# YOLO


def yolo(folder: Path, text: str | bytes | None, **changes: Any) -> Json:
    draw(folder, ["train/a.jpg", "val/b.jpg"])
    path = folder / "labels" / "train" / "a.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    data = {"path": "/somebody/else", "train": "images/train", "val": ["../images/val"], "nc": 2, "names": CLASSES}
    (folder / "data.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(data | changes))))
    return {"kind": "yolo", "task": "objects"}


def test_yolo_of_several_splits(tmp_path: Path) -> None:
    text = "0 0.5 0.5 0.25 0.5\n\n1 0.1 0.1 0.2 0.2 0.9\r\n1 0 0 0.5 0 0.5 0.25\n"
    found = content(tmp_path, yolo(tmp_path, text))
    assert found.samples.select(["key", "split"]).to_pylist() == [
        {"key": "d/images/train/a", "split": "train"}, {"key": "d/images/val/b", "split": "validation"},
    ]  # fmt: skip
    ((boxes, origin),) = label_rows(found, "boxes", "origin")
    assert origin == "labels/train/a.txt"
    corners = [(12, 6, 8, 12), (0, 0, 0.2 * WIDTH, 0.2 * HEIGHT), (0, 0, 16, 6)]
    for box, corner in zip(boxes, corners, strict=True):
        assert [box[side] for side in "xywh"] == pytest.approx(corner, abs=1e-6)
    assert boxes[1]["attributes"] == [("confidence", "0.9")]
    missing = content(tmp_path, yolo(tmp_path, "") | {"missing": "none"})
    assert label_rows(missing, "key", "boxes") == [("d/images/train/a", []), ("d/images/val/b", [])]


def test_yolo_boxes_refer_to_the_upright_image(tmp_path: Path) -> None:
    reader = yolo(tmp_path, "0 0.5 0.5 1 1\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).save(tmp_path / "images/train/a.jpg", exif=exif)
    (((box,),),) = label_rows(content(tmp_path, reader), "boxes")
    assert [box[side] for side in "xywh"] == [0, 0, HEIGHT, WIDTH]


def test_yolo_boxes_of_an_unreadable_image(tmp_path: Path) -> None:
    reader = yolo(tmp_path, "0 0.5 0.5 1 1\n")
    (tmp_path / "images/train/a.jpg").write_text("none")
    found = content(tmp_path, reader)
    assert (found.samples.num_rows, found.labels.num_rows) == (2, 0)


@pytest.mark.parametrize(
    ("text", "changes", "why"),
    [
        ("0 0.5 0.5 1 1\n2 0.5 0.5 1 1\n", {}, "labels/train/a.txt line 2: class 2"),
        ("0 0.5 0.5 1\n", {}, "line 1: 3 numbers"),
        ("car 0.5 0.5 1 1\n", {}, "line 1: 'car"),
        ("0.5 0.5 0.5 1 1\n", {}, "line 1: '0.5"),
        (b"0 0.5 0.5 1 1\n\xff", {}, "a.txt line 2: is not UTF-8"),
        ("", {"names": []}, "names"),
        ("", {"train": "images/tarin"}, "train = 'images/tarin'"),
        ("", {"train": None, "val": None}, "name no image"),
    ],
)
def test_refused_yolo(text: str | bytes, changes: Json, why: str, tmp_path: Path) -> None:
    refused(tmp_path, yolo(tmp_path, text, **changes), why)


@pytest.mark.parametrize("text", ["[1, 2", "just words", "a: b: c"])
def test_an_invalid_data_yaml(text: str, tmp_path: Path) -> None:
    reader = yolo(tmp_path, "")
    (tmp_path / "data.yaml").write_text(text)
    refused(tmp_path, reader, "data.yaml")


def test_a_list_of_images_with_backslashes(tmp_path: Path) -> None:
    reader = yolo(tmp_path, "", train="list.txt", val=None)
    (tmp_path / "list.txt").write_text("images\\train\\a.jpg\n")
    assert content(tmp_path, reader).samples["key"].to_pylist() == ["d/images/train/a"]
    (tmp_path / "list.txt").write_text("a.jpg\n../../a.jpg\n")
    refused(tmp_path, reader, "list.txt line 2: .* lies outside")
