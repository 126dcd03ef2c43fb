"""Lines of YOLO with more than 5 numbers: key points, polygons, or neither without a word from the user."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.sources import CLASSES, HEIGHT, WIDTH, Json, boxes_in, content, draw, ingested, label_rows, refused

TWO_POINTS = "0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.55"
SEVENTEEN = "0 0.5 0.5 0.2 0.2 " + " ".join(["0.45 0.55 2"] * 16 + ["0 0 0"])


def yolo(folder: Path, *texts: str, **changes: Any) -> Json:
    names = [f"{number}.jpg" for number in range(len(texts))]
    draw(folder, names)
    (folder / "labels").mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / "labels" / f"{number}.txt").write_text(text)
    data = {"train": "images", "names": list(CLASSES)} | changes
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    return {"kind": "yolo", "task": "objects"}


def corners(folder: Path, reader: Json) -> list[list[float]]:
    return [
        [box[side] for side in "xywh"] for (boxes,) in label_rows(content(folder, reader), "boxes") for box in boxes
    ]


BOX = [0.4 * WIDTH, 0.4 * HEIGHT, 0.2 * WIDTH, 0.2 * HEIGHT]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (TWO_POINTS, [2, 2]),
        (SEVENTEEN, [17, 3]),
        ("0 0.5 0.5 0.2 0.2 0.45 0.45 2", [1, 3]),
        ("0 0.5 0.5 0.2 0.2 0.45 0.45 1 0.5 0.5 0", [2, 3]),
        (f"{TWO_POINTS} 0.75", [2, 2]),
        ("0 0.5 0.5 0.2 0.2", [2, 2]),
    ],
)
def test_kpt_shape_decides(text: str, shape: list[int], tmp_path: Path) -> None:
    assert corners(tmp_path, yolo(tmp_path, text, kpt_shape=shape)) == [pytest.approx(BOX)]


def test_the_case_of_the_issue(tmp_path: Path) -> None:
    """Read as a polygon, the box would be 20, 10, 35, 17.5 in an image of 100 x 50."""
    ingested(tmp_path, yolo(tmp_path, TWO_POINTS, kpt_shape=[2, 2]))
    assert boxes_in(tmp_path) == {"d/images/0": [("car", *(pytest.approx(side) for side in BOX))]}


def test_visibility_flags_decide_without_kpt_shape(tmp_path: Path) -> None:
    assert corners(tmp_path, yolo(tmp_path, SEVENTEEN)) == [pytest.approx(BOX)]


@pytest.mark.parametrize(
    "texts",
    [
        (TWO_POINTS,),
        (TWO_POINTS, TWO_POINTS),
        ("0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.55 0.5 0.5",),
    ],
    ids=["one file", "two files", "three points"],
)
def test_what_fits_both_readings_is_refused(texts: tuple[str, ...], tmp_path: Path) -> None:
    reader = yolo(tmp_path, *texts)
    refused(tmp_path, reader, "labels/0.txt line 1: all .* polygons or a box and its key points")
    assert corners(tmp_path, reader | {"lines": "key_points"}) == [pytest.approx(BOX)] * len(texts)
    assert corners(tmp_path, reader | {"lines": "polygons"})[0][0] == pytest.approx(0.2 * WIDTH)


@pytest.mark.parametrize(
    "texts",
    [
        (TWO_POINTS, "0 0.1 0.1 0.3 0.1 0.3 0.3"),
        (TWO_POINTS, "0 0.8 0.8 0.9 0.8 0.9 0.9 0.8 0.9"),
        ("0 0.8 0.8 0.9 0.8 0.9 0.9 0.8 0.9",),
    ],
    ids=["other columns in another file", "a line of another file", "an oriented box"],
)
def test_lines_that_cannot_be_key_points_are_polygons(texts: tuple[str, ...], tmp_path: Path) -> None:
    found = corners(tmp_path, yolo(tmp_path, *texts))
    assert found[-1] != pytest.approx(BOX)
    assert len(found) == len(texts)


@pytest.mark.parametrize("shape", [[0, 0], [2, -2], "2 x 2", [2]], ids=str)
def test_a_kpt_shape_of_no_points_is_refused(shape: Any, tmp_path: Path) -> None:
    refused(tmp_path, yolo(tmp_path, TWO_POINTS, kpt_shape=shape), "data.yaml: .*kpt_shape")


def test_a_line_that_kpt_shape_does_not_fit_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, yolo(tmp_path, TWO_POINTS, kpt_shape=[17, 3]), "labels/0.txt line 1: 8 numbers .* makes 55")


@pytest.mark.parametrize(
    ("names", "code", "expected"),
    [
        ([2146, 21008], 1, "21008"),
        (["yes", "no"], 1, "no"),
        ({0: "1e3", 1: "off"}, 0, "1e3"),
        ([1.5, True], 1, "true"),
    ],
)
def test_names_stay_text(names: Any, code: int, expected: str, tmp_path: Path) -> None:
    reader = yolo(tmp_path, f"{code} 0.5 0.5 0.2 0.2")
    listed = [str(name).lower() for name in (names if isinstance(names, list) else names.values())]
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: [{', '.join(listed)}]\n")
    ((boxes,),) = label_rows(content(tmp_path, reader), "boxes")
    assert boxes[0]["class"] == expected


def test_classes_without_names_are_counted(tmp_path: Path) -> None:
    reader = yolo(tmp_path, "1 0.5 0.5 0.2 0.2")
    (tmp_path / "data.yaml").write_text("train: images\nnc: 2\n")
    ((boxes,),) = label_rows(content(tmp_path, reader | {"rename": {"class_1": "car"}}), "boxes")
    assert boxes[0]["class"] == "car"
    (tmp_path / "data.yaml").write_text("train: images\nnc: many\n")
    refused(tmp_path, reader, "names")


def test_an_image_of_several_splits_counts_in_the_first(tmp_path: Path) -> None:
    reader = yolo(tmp_path, "0 0.5 0.5 0.2 0.2", val="images", test=["images", "images"])
    (tmp_path / "data.yaml").write_text((tmp_path / "data.yaml").read_text() + "path: ../datasets/coco128\n")
    found = ingested(tmp_path, reader, split={"by": "given"})
    assert (found.samples, found.labels) == (1, 1)
    assert "data.yaml: 1 images are in train and in validation; they count as train" in found.notes


@pytest.mark.parametrize("text", ["a: &a [1]\nb: *a\n", "a: &x {b: c}\nd: {<<: *x}\n", "a: &a [x]\nnames: *a\n"])
def test_yaml_aliases_are_refused(text: str, tmp_path: Path) -> None:
    reader = yolo(tmp_path, "")
    (tmp_path / "data.yaml").write_text(text)
    refused(tmp_path, reader, "data.yaml line 2: holds an alias")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0, 0.5, 0.5, 0.2, 0.2", "separate the numbers by spaces"),
        ("2 0.5 0.5 0.2 0.2", "class 2 is not among the 2 names"),
        ("-1 0.5 0.5 0.2 0.2", "class -1 is not among"),
        ("0 0.5 0.5", "2 numbers after the class"),
    ],
)
def test_messages_name_line_value_rule_and_fix(line: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=rf"^labels/0.txt line 2: [^\n]*{why}[^\n]*$"):
        content(tmp_path, yolo(tmp_path, f"0 0.5 0.5 0.2 0.2\n{line}\n"))
