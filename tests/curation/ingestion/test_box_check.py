"""Boxes against their images: fractions, edges, empty boxes, and messages that name the line and the value."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.sources import HEIGHT, WIDTH, Json, boxes_in, draw, ingested

from curation.errors import BadInput


def boxes(folder: Path, *rows: str, **options: Any) -> Json:
    """A table of boxes, and its reader; options of the reader itself are recognised by their names."""
    draw(folder, ["a.jpg", "b.jpg"])
    (folder / "b.csv").write_text("path,x,y,w,h,class\n" + "".join(f"{row}\n" for row in rows))
    own = {name: options.pop(name) for name in ("fractions", "outside") if name in options}
    table = {"file": "b.csv", "rows": "boxes", "task": "objects", **options}
    return {"kind": "tables", "images": "images", "table": [table], **own}


def coco(folder: Path, *corners: Any, **options: Any) -> Json:
    draw(folder, ["a.jpg"])
    document = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "bbox": corner} for number, corner in enumerate(corners, 1)
        ],
        "categories": [{"id": 1, "name": "car"}],
    }
    (folder / "c.json").write_text(json.dumps(document))
    return {"kind": "coco", "file": "c.json", "images": "images", "task": "objects"} | options


# Fractions


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({"form": "corners"}, "a.jpg,0.25,0.5,0.75,1,car"),
        ({"form": "size"}, "a.jpg,0.25,0.5,0.5,0.5,car"),
        ({"form": "center"}, "a.jpg,0.5,0.75,0.5,0.5,car"),
    ],
)
def test_fractions_become_pixels(options: Json, row: str, tmp_path: Path) -> None:
    ingested(tmp_path, boxes(tmp_path, row, fractions=True, **options))
    assert boxes_in(tmp_path) == {"d/a": [("car", WIDTH / 4, HEIGHT / 2, WIDTH / 2, HEIGHT / 2)]}


def test_fractions_of_an_image_in_the_catalog(tmp_path: Path) -> None:
    reader = boxes(tmp_path, "d/a,0.25,0.5,0.5,0.5,car", fractions=True)
    ingested(tmp_path, {"kind": "image_folder", "folder": "images"})
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text().replace("path", "key"))
    ingested(tmp_path, reader)
    assert boxes_in(tmp_path) == {"d/a": [("car", WIDTH / 4, HEIGHT / 2, WIDTH / 2, HEIGHT / 2)]}


def test_fractions_of_coco(tmp_path: Path) -> None:
    ingested(tmp_path, coco(tmp_path, [0.25, 0.5, 0.5, 0.5], fractions=True))
    assert boxes_in(tmp_path) == {"d/a": [("car", WIDTH / 4, HEIGHT / 2, WIDTH / 2, HEIGHT / 2)]}


def suspected(folder: Path) -> dict[str, Json]:
    corners = {"x1": 0.1, "y1": 0, "x2": 0.4, "y2": 0.4}
    (folder / "s.json").write_text(json.dumps([{"name": "a.jpg", "labels": [{"category": "car", "box2d": corners}]}]))
    (folder / "t.csv").write_text(
        'path,objects\na.jpg,"[{""class"": ""car"", ""x"": 0.1, ""y"": 0.1, ""w"": 0.5, ""h"": 0.5}]"\n'
    )
    return {
        "table of boxes": boxes(folder, "a.jpg,0.1,0.2,0.5,0.6,car", "b.jpg,0.1,0.2,0.5,1.2,car"),
        "coco": coco(folder, [0.1, 0.1, 0.4, 0.4]),
        "scalabel": {
            "kind": "scalabel", "file": "s.json", "images": "images", "task": "objects", "inclusive": False,
        },
        "cells": {"kind": "tables", "images": "images", "table": [{"file": "t.csv", "rows": "samples"}]},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["table of boxes", "coco", "scalabel", "cells"])
def test_boxes_that_look_like_fractions_are_refused(name: str, tmp_path: Path) -> None:
    reader = suspected(tmp_path)[name]
    with pytest.raises(BadInput, match=r"^\S+ (line|frame|annotation) \S+.*: x = 0.1, .* look like fractions; set"):
        ingested(tmp_path, reader)
    assert ingested(tmp_path, reader | {"fractions": False}).labels >= 1


def test_one_larger_box_is_no_suspicion(tmp_path: Path) -> None:
    ingested(tmp_path, boxes(tmp_path, "a.jpg,0.1,0.2,0.5,0.6,car", "b.jpg,1,1,5,5,car"))
    assert len(boxes_in(tmp_path)) == 2


# Edges


@pytest.mark.parametrize("over", [0.02, 0.05, 0.09])
def test_rounding_is_moved_onto_the_edge(over: float, tmp_path: Path) -> None:
    found = ingested(tmp_path, coco(tmp_path, [WIDTH - 4, 2, 4 + over, 12], [-over, -over, 5, 5]))
    assert boxes_in(tmp_path)["d/a"][0] == ("car", WIDTH - 4, 2, 4, 12)
    assert boxes_in(tmp_path)["d/a"][1][1:3] == (0, 0)
    assert not any("clipped" in note for note in found.notes)


@pytest.mark.parametrize("last", [WIDTH - 1, WIDTH - 0.9, WIDTH - 0.1])
def test_the_last_pixel_of_an_inclusive_box_may_be_a_fraction(last: float, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    frame = {
        "name": "a.jpg",
        "labels": [{"category": "car", "box2d": {"x1": 8, "y1": 2, "x2": last, "y2": HEIGHT - 0.5}}],
    }
    (tmp_path / "s.json").write_text(json.dumps([frame]))
    ingested(tmp_path, {"kind": "scalabel", "file": "s.json", "images": "images", "task": "objects"})
    assert boxes_in(tmp_path) == {"d/a": [("car", 8, 2, min(WIDTH, last + 1) - 8, HEIGHT - 2)]}


@pytest.mark.parametrize(
    ("corner", "expected"),
    [
        ([WIDTH - 4, 2, 5, 12], ("car", WIDTH - 4, 2, 4, 12)),
        ([-2, 2, 6, 12], ("car", 0, 2, 4, 12)),
        ([4, HEIGHT - 3, 6, 4.5], ("car", 4, HEIGHT - 3, 6, 3)),
    ],
)
def test_boxes_up_to_two_pixels_outside_are_clipped_on_request(
    corner: list[float], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r'c.json annotation 1: box .* pixels outside .* outside = "clip"'):
        ingested(tmp_path, coco(tmp_path, corner))
    found = ingested(tmp_path, coco(tmp_path, corner, outside="clip"))
    assert boxes_in(tmp_path) == {"d/a": [expected]}
    (note,) = [note for note in found.notes if "clipped" in note]
    assert note.startswith("c.json annotation 1: box ")


@pytest.mark.parametrize("corner", [[WIDTH - 4, 2, 7, 12], [WIDTH + 1, 2, 1, 1], [2, -3, 5, 5]])
def test_boxes_farther_outside_are_refused(corner: list[float], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"c.json annotation 1: box .* outside the image of 32 x 24 pixels; correct it"):
        ingested(tmp_path, coco(tmp_path, corner, outside="clip"))


@pytest.mark.parametrize("corner", [[1, 2, 0, 12], [1, 2, 5, 0], [1, 2, 0, 0]])
def test_boxes_without_area_are_dropped_with_a_note(corner: list[float], tmp_path: Path) -> None:
    found = ingested(tmp_path, coco(tmp_path, corner, [1, 2, 3, 4]))
    assert boxes_in(tmp_path) == {"d/a": [("car", 1, 2, 3, 4)]}
    assert any(note.startswith("c.json annotation 1: box 1, 2, ") and "without area" in note for note in found.notes)


def test_an_image_with_only_a_box_without_area_is_unknown(tmp_path: Path) -> None:
    ingested(tmp_path, coco(tmp_path, [1, 2, 0, 12]))
    assert boxes_in(tmp_path) == {}


# Messages

BAD = {
    "outside": ("a.jpg,28,2,10,12,car", r"box 28, 2, 10, 12 lies 6 pixels outside the image of 32 x 24 pixels"),
    "inverted": ("a.jpg,9,2,-5,12,car", r"box 9, 2, -5, 12 is inverted"),
    "no number": ("a.jpg,nan,2,5,12,car", r"box nan, 2, 5, 12 has a number that is missing"),
    "missing": ("a.jpg,,2,5,12,car", r"box nan, 2, 5, 12 has a number that is missing"),
    "class": ("a.jpg,1,2,5,12,dog", r"'dog' is no class of objects \(car, light\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_box_is_named_by_its_own_line_and_value(name: str, tmp_path: Path) -> None:
    row, why = BAD[name]
    with pytest.raises(BadInput, match=rf"^b.csv line 3: {why}[^\n]*; [^\n]*$"):
        ingested(tmp_path, boxes(tmp_path, "a.jpg,1,2,3,4,car", row))


def test_quarantine_takes_the_label_of_a_bad_box(tmp_path: Path) -> None:
    reader = boxes(tmp_path, "a.jpg,1,2,3,4,car", "a.jpg,28,2,10,12,car", "b.jpg,1,2,3,4,light")
    found = ingested(tmp_path, reader, quarantine=True)
    assert boxes_in(tmp_path) == {"d/b": [("light", 1, 2, 3, 4)]}
    (aside,) = found.aside
    assert (aside.file, aside.entry, aside.value) == ("b.csv", "line 3", "box 28, 2, 10, 12")
    assert aside.rule.startswith("lies 6 pixels outside")
