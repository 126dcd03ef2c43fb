"""Forms of COCO, Scalabel, Label Studio and tables that exporters write, each read or refused in one line."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sources import HEIGHT, WIDTH, Json, boxes_in, content, draw, ingested, label_rows, refused

from curation.errors import BadInput

# COCO


def coco(folder: Path, annotation: Json | None = None, **changes: Any) -> Json:
    draw(folder, ["a.jpg", "b.jpg"])
    document: Json = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    if annotation is not None:
        document["annotations"].append({"id": 2, "image_id": 1, "category_id": 1} | annotation)
    document |= changes
    (folder / "c.json").write_text(json.dumps({name: part for name, part in document.items() if part != "missing"}))
    return {"kind": "coco", "file": "c.json", "images": "images", "task": "objects"}


@pytest.mark.parametrize("box", [{}, {"bbox": []}, {"bbox": None}], ids=["missing", "empty", "null"])
def test_an_annotation_without_bbox_has_the_box_of_its_polygons(box: Json, tmp_path: Path) -> None:
    polygons = [[1, 1, 5, 1, 5, 5], [2, 2, 8, 2, 8, 3]]
    found = content(tmp_path, coco(tmp_path, box | {"segmentation": polygons}))
    boxes = label_rows(found, "boxes")[0][0]
    assert [[part[side] for side in "xywh"] for part in boxes] == [[1, 2, 3, 4], [1, 1, 7, 4]]


@pytest.mark.parametrize("mask", [{}, {"segmentation": []}, {"segmentation": {"counts": [1], "size": [1, 1]}}])
def test_an_image_with_an_annotation_without_bbox_and_polygon_is_unknown(mask: Json, tmp_path: Path) -> None:
    found = ingested(tmp_path, coco(tmp_path, mask))
    assert (found.samples, found.labels) == (2, 1)
    assert "c.json annotation 2: no bbox and no polygon; the boxes of such images are unknown" in found.notes


def test_a_file_without_annotations_is_unknown(tmp_path: Path) -> None:
    found = ingested(tmp_path, coco(tmp_path, annotations="missing"))
    assert (found.samples, found.labels) == (2, 0)
    assert "c.json: has no annotations; its 2 images are unknown" in found.notes


@pytest.mark.parametrize("kind", ["coco", "scalabel"])
@pytest.mark.parametrize("images", [("train", "val"), ("./x/train/", "x/val"), ("https://h/train", "https://h/val")])
def test_the_folder_belongs_to_the_key(kind: str, images: tuple[str, str], tmp_path: Path) -> None:
    if kind == "coco":
        reader = coco(tmp_path, images=[{"id": 1, "file_name": "0001.jpg"}])
    else:
        (tmp_path / "c.json").write_text(json.dumps([{"name": "0001.jpg"}]))
        reader = {"kind": "scalabel", "task": "objects"}
    (tmp_path / "v.json").write_text((tmp_path / "c.json").read_text())
    files = {"train": "c.json", "validation": "v.json"}
    folders = dict(zip(files, images, strict=True))
    keys = content(tmp_path, reader | {"file": files, "images": folders}).samples["key"].to_pylist()
    assert [key.rpartition("/")[0].rpartition("/")[2] for key in keys] == ["train", "val"]


# Scalabel and BDD100K


def scalabel(folder: Path, *frames: Json, **options: Any) -> Json:
    draw(folder, ["a.jpg", "b.jpg"])
    (folder / "s.json").write_text(json.dumps(frames))
    return {"kind": "scalabel", "file": "s.json", "images": "images", "task": "objects"} | options


SHAPES: list[Json] = [
    {"id": 1, "category": "car", "poly2d": [{"vertices": [[1, 2], [9, 2], [5, 8]], "types": "LLL", "closed": True}]},
    {"id": 2, "category": "lane", "poly2d": [{"vertices": [[1, 2], [9, 2]], "types": "LL", "closed": False}]},
    {"id": 3, "category": "light", "box2d": {"x1": 1, "y1": 1, "x2": 3, "y2": 3}},
    {"id": 4, "category": "car", "rle": {"counts": "x", "size": [1, 1]}},
]


@pytest.mark.parametrize(("lines", "cars", "passed"), [("", 0, "label 1 and 2 more"), ("polygons", 1, "label 2 and 1")])
def test_closed_polygons_of_scalabel_become_boxes(tmp_path: Path, lines: str, cars: int, passed: str) -> None:
    draw(tmp_path, ["a.jpg"])
    reader = scalabel(tmp_path, {"name": "a.jpg", "labels": SHAPES}, lines=lines)
    notes = ingested(tmp_path, reader).notes
    assert boxes_in(tmp_path)["d/a"] == [("car", 1, 2, 8, 6)] * cars + [("light", 1, 1, 3, 3)]
    assert any(passed in note and "has no box2d and is passed over" in note for note in notes)
    assert any(("lines" in note) == (not lines) for note in notes if "box2d" in note)


def test_polygons_of_another_form_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    label = {"id": 7, "category": "car", "poly2d": [[1, 2, "L"], [3, 4, "L"]]}
    reader = scalabel(tmp_path, {"name": "a.jpg", "labels": [label]}, lines="polygons")
    refused(tmp_path, reader, "s.json frame a.jpg label 7: poly2d = .* is not a list of polygons")


def test_the_refusal_of_a_word_names_the_option_for_unknown(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    frame = {"name": "a.jpg", "attributes": {"light": "undefined"}}
    with pytest.raises(BadInput, match=r"'undefined' of 'd/a': .*, or list it in unknown of \[reader\]"):
        ingested(tmp_path, scalabel(tmp_path, frame, tasks={"light": "color"}))
    (tmp_path / "t.csv").write_text("path,color\na.jpg,n/a\n")
    reader = {"kind": "tables", "images": "images", "table": [{"file": "t.csv", "rows": "samples"}]}
    with pytest.raises(BadInput, match=r"'n/a' of 'd/a': .*, or list it in unknown of \[\[reader.table\]\]"):
        ingested(tmp_path, reader)


@pytest.mark.parametrize("unknown", [["undefined"], ["undefined", "NA"]])
def test_values_that_mean_unknown(unknown: list[str], tmp_path: Path) -> None:
    box = {"x1": 1, "y1": 2, "x2": 3, "y2": 4}
    attributes = {"light": "undefined", "weather": "undefined", "scene": "city"}
    frame = {
        "name": "a.jpg", "attributes": attributes,
        "labels": [{"category": "car", "box2d": box, "attributes": {"trafficLightColor": "NA"}}],
    }  # fmt: skip
    reader = scalabel(tmp_path, frame, tasks={"light": "color"}, unknown=unknown)
    found = content(tmp_path, reader)
    assert found.samples.drop_columns(["location"]).to_pylist() == [{"key": "d/a", "scene": "city"}]
    ((task, boxes),) = label_rows(found, "task", "boxes")
    assert task == "objects"
    assert (boxes[0]["attributes"] is None) == ("NA" in unknown)


OLD = {"name": "a", "attributes": {"weather": "clear"}, "frames": [{"timestamp": 10000, "objects": [
    {"category": "car", "id": 0, "box2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]}]}  # fmt: skip
NEW = {"name": "a.jpg", "attributes": {"weather": "clear"}, "labels": [
    {"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]}  # fmt: skip


@pytest.mark.parametrize("file", ["det", "det/*.json", "det/a.json"])
@pytest.mark.parametrize("document", [OLD, NEW, [NEW]], ids=["old", "frame", "list"])
def test_one_json_for_each_image(document: Any, file: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    (tmp_path / "det").mkdir()
    (tmp_path / "det" / "a.json").write_text(json.dumps(document))
    found = content(tmp_path, {"kind": "scalabel", "file": file, "images": "images", "task": "objects"})
    assert found.samples.to_pylist() == [{"key": "d/a", "location": f"{tmp_path}/images/a.jpg", "weather": "clear"}]
    assert label_rows(found, "boxes")[0][0][0]["w"] == 3


# Label Studio


def rectangle(**more: Any) -> Json:
    value = {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0} | more.pop("value", {})
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "id": "r1", "from_name": "box"}
    return size | {"type": "rectanglelabels", "value": value} | more


LABELLED = rectangle(value={"rectanglelabels": ["car"]})


def label_studio(folder: Path, results: Any, image: str = "/data/upload/1/a.jpg", **options: Any) -> Json:
    item = {"id": 1, "data": {"image": image}, "annotations": [{"id": 5, "completed_by": 1, "result": results}]}
    (folder / "e.json").write_text(json.dumps([item]))
    return {"kind": "label_studio", "file": "e.json", "images": "up", "tags": {"box": "objects"}} | options


def corner(found: Any) -> tuple[str, list[float]]:
    (((box,),),) = label_rows(found, "boxes")
    return box["class"], [box[side] for side in "xywh"]


BOX = ("car", [WIDTH / 4, HEIGHT / 2, WIDTH / 2, HEIGHT / 4])


@pytest.mark.parametrize("tag", ["rect", "labels"])
def test_the_class_may_be_of_another_tag(tag: str, tmp_path: Path) -> None:
    results = [
        rectangle(from_name="rect", type="rectangle"),
        rectangle(from_name="labels", type="labels", value={"labels": ["car"]}),
    ]
    assert corner(content(tmp_path, label_studio(tmp_path, results, tags={tag: "objects"}))) == BOX


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("polygonlabels", {"points": [[25, 50], [75, 50], [75, 75], [25, 75]], "polygonlabels": ["car"]}),
        ("ellipselabels", {"x": 50, "y": 62.5, "radiusX": 25, "radiusY": 12.5, "ellipselabels": ["car"]}),
    ],
)
def test_other_shapes_become_the_box_around_them(type_: str, value: Json, tmp_path: Path) -> None:
    result = rectangle(type=type_) | {"value": value}
    assert corner(content(tmp_path, label_studio(tmp_path, [result]))) == BOX


@pytest.mark.parametrize(
    "region",
    [rectangle(id="r2", type="rectangle"), rectangle(id="r2", value={"rectanglelabels": []}), rectangle(id="r2")],
    ids=["plain", "empty", "missing"],
)
def test_a_region_without_class_makes_its_annotation_unknown(region: Json, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    (tmp_path / "images").rename(tmp_path / "up")
    reader = label_studio(tmp_path, [LABELLED, region], "/data/upload/a.jpg")
    found = ingested(tmp_path, reader)
    assert (found.samples, found.labels) == (1, 0)
    note = "e.json item 1 annotation 5 box region r2: has no class; the boxes of such annotations are unknown"
    assert note in found.notes


@pytest.mark.parametrize("results", [None, []])
def test_an_annotation_without_results_is_unknown(results: Any, tmp_path: Path) -> None:
    reader = label_studio(tmp_path, results)
    assert content(tmp_path, reader).labels.num_rows == 0
    assert label_rows(content(tmp_path, reader | {"missing": "none"}), "boxes") == [([],)]


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("/label-studio/data/upload/1/a.jpg", "1/a.jpg"),
        ("http://localhost:8080/data/upload/1/a.jpg", "1/a.jpg"),
        ("https://h/prefix/data/upload/1/a.jpg", "1/a.jpg"),
        ("/data/upload/1/a%20b.jpg", "1/a b.jpg"),
        ("/data/upload/1/a+b.jpg", "1/a+b.jpg"),
        ("/data/upload/1/a+b.jpg", "1/a b.jpg"),
        ("/data/upload/1/a%20b.jpg", "1/a%20b.jpg"),
        ("/data/local-files/?d=1/a%20b.jpg", "1/a b.jpg"),
        ("/data/local-files/?d=1/a+b.jpg", "1/a+b.jpg"),
        ("data/local-files/?d=1/a.jpg", "1/a.jpg"),
    ],
)
def test_names_of_uploads_and_local_files(image: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "up" / file).parent.mkdir(parents=True)
    (tmp_path / "up" / file).touch()
    found = content(tmp_path, label_studio(tmp_path, [LABELLED], image))
    assert found.samples["location"].to_pylist() == [f"{tmp_path}/up/{file}"]


def test_a_signed_url_has_one_key(tmp_path: Path) -> None:
    reader = label_studio(tmp_path, [LABELLED], "https://h/a.jpg?X-Amz-Signature=1&X-Amz-Date=2")
    items = json.loads((tmp_path / "e.json").read_text())
    items.append(items[0] | {"id": 2, "data": {"image": "https://h/a.jpg?X-Amz-Signature=9&X-Amz-Date=9"}})
    (tmp_path / "e.json").write_text(json.dumps(items))
    assert content(tmp_path, reader).samples["key"].to_pylist() == ["d/h/a"]


# Tables


def table(folder: Path, text: str, name: str = "t.csv", **options: Any) -> Json:
    (folder / name).write_text(text)
    return {"kind": "tables", "images": "images", "table": [{"file": name, "rows": "samples"} | options]}


@pytest.mark.parametrize("column", ["Wet", " wet", "wet ", "WET"])
def test_a_column_that_is_nearly_a_task_is_its_labels(column: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg"])
    found = ingested(tmp_path, table(tmp_path, f"Filename,{column}\na.jpg,1\nb.jpg,0\n"))
    assert found.labels == 2
    assert f"t.csv: the column {column!r} is read as labels of the task 'wet'" in found.notes


@pytest.mark.parametrize(("column", "task"), [("colour", "color"), ("speeed", "speed"), ("thing", "things")])
def test_a_column_near_a_task_is_named(column: str, task: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    found = ingested(tmp_path, table(tmp_path, f"path,{column}\na.jpg,1\n"))
    assert any(f"no column holds labels of the task {task!r}; the column {column!r} is near" in n for n in found.notes)


@pytest.mark.parametrize("task", ["Wet", " wet", "WET ", "wet."])
def test_a_name_that_is_nearly_a_task_is_that_task(task: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg"])
    found = ingested(tmp_path, table(tmp_path, f"path,task,value\na.jpg,{task},1\nb.jpg,wet,0\n", rows="labels"))
    assert found.labels == 2
    assert f"t.csv: the task {task!r} is read as 'wet'" in found.notes


def test_tasks_without_a_label_are_named(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    found = ingested(tmp_path, table(tmp_path, "path,wet\na.jpg,1\n"))
    assert "data set d: brings no label of the tasks objects, color, things, speed" in found.notes


def test_two_columns_near_one_task_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, table(tmp_path, "path,Wet,WET\na.jpg,1,0\n"), "'Wet' and 'WET' are both near the task 'wet'")


@pytest.mark.parametrize(("cell", "flag"), [("1.0", "true"), ("0.0", "false"), ("Yes", "true"), ("FALSE", "false")])
def test_flags(cell: str, flag: str, tmp_path: Path) -> None:
    assert label_rows(content(tmp_path, table(tmp_path, f"path,wet\na.jpg,{cell}\n")), "text") == [(flag,)]


@pytest.mark.parametrize(
    "cell", ["\"['tree', 'house']\"", '"[""tree"", ""house""]"', "tree;house", "\"['tree','house',]\""]
)
def test_lists_of_classes(cell: str, tmp_path: Path) -> None:
    found = content(tmp_path, table(tmp_path, f"path,things\na.jpg,{cell}\n"))
    assert label_rows(found, "names") == [(["tree", "house"],)]


@pytest.mark.parametrize("groups", [("12", "13"), ("007", "8"), ("1.5", "2")])
def test_a_group_is_text(groups: tuple[str, str], tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg"])
    reader = table(tmp_path, f"path,wet,group\na.jpg,1,{groups[0]}\nb.jpg,0,{groups[1]}\n")
    ingested(tmp_path, reader, split={"by": "group", "test": 0.5})
    assert content(tmp_path, reader).samples["group"].to_pylist() == list(groups)


@pytest.mark.parametrize(
    "group",
    [
        pa.array([12]),
        pa.array([12.0]),
        pa.array([Decimal(12)], pa.decimal128(5, 0)),
        pa.array([np.float16(12)], pa.float16()),
    ],
    ids=str,
)
def test_a_group_of_numbers_in_parquet_is_text(group: pa.Array, tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.jpg"], "group": group}), tmp_path / "t.parquet")
    reader = {"kind": "tables", "table": [{"file": "t.parquet", "rows": "samples"}]}
    assert content(tmp_path, reader).samples["group"].to_pylist() == ["12"]


@pytest.mark.parametrize(("group", "expected"), [("scene", "x"), (["scene", "take"], "x/7"), ("take", "7")])
def test_a_group_may_be_any_columns(group: Any, expected: str, tmp_path: Path) -> None:
    reader = table(tmp_path, "path,scene,take\na.jpg,x,7\n", group=group)
    (row,) = content(tmp_path, reader).samples.to_pylist()
    assert (row["group"], row["scene"], row["take"]) == (expected, "x", 7.0)


@pytest.mark.parametrize("text", ["a.jpg,1,2\nb.jpg,,\n", "1,2,3\n4,5,6\n", "x,a.png\ny,b.png\n"])
def test_a_file_without_header_says_so(text: str, tmp_path: Path) -> None:
    refused(tmp_path, table(tmp_path, text), "t.csv line 1: .* looks like a row")


def parts(folder: Path, form: str) -> str:
    for number, split in enumerate(("train", "validation")):
        path = {
            "folder": folder / "t.parquet" / f"part-{number}.parquet",
            "pattern": folder / "p" / f"f{number}.parquet",
            "partitions": folder / "t.parquet" / f"split={split}" / "0.parquet",
        }[form]
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"path": [f"{number}.jpg"], "color": ["red"]}), path)
    (folder / "t.parquet").mkdir(exist_ok=True)
    (folder / "t.parquet" / "_SUCCESS").touch()
    return "p/*.parquet" if form == "pattern" else "t.parquet"


@pytest.mark.parametrize("form", ["folder", "pattern", "partitions"])
def test_a_table_of_several_files(form: str, tmp_path: Path) -> None:
    reader = {"kind": "tables", "table": [{"file": parts(tmp_path, form), "rows": "samples"}]}
    found = content(tmp_path, reader)
    assert found.samples["key"].to_pylist() == ["d/0", "d/1"]
    origins = [origin for (origin,) in label_rows(found, "origin")]
    assert all(origin.endswith(".parquet row 1") for origin in origins)
    assert len(set(origins)) == 2
    if form == "partitions":
        assert found.samples["split"].to_pylist() == ["train", "validation"]
