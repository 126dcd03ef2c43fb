"""Predicted boxes from COCO's results and from tables, from the file to figures."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.foreign import LIGHT, box_home, coco_files
from support.homes import copy_home

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from training.foreign.imports import import_predictions
from training.report import write_report


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return box_home(tmp_path_factory.mktemp("boxes"))


def test_a_detector_is_judged(home: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(home, tmp_path)
    results, annotations = coco_files(tmp_path)
    made = import_predictions(catalog, results, name="detector", author="bo", annotations=annotations)
    assert made.run.tasks == {"things": 48}
    by_cell = {(row["metric"], row["slice"], row["split"]): row for row in made.figures.to_pylist()}
    test = by_cell["ap50", "", "test"]
    assert test["n"] == 16
    # of each four test images, the lights of the first and third are found, that of the second is missed: 8 of 12
    assert test["value"] == pytest.approx(67 / 101, abs=1e-12)
    assert by_cell["map", "", "test"]["value"] == pytest.approx(test["value"], abs=1e-12)
    assert test["low"] < test["value"] < test["high"]
    assert by_cell["map", "night", "test"]["n"] > 0


def test_a_table_of_boxes_states_the_same(home: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(home, tmp_path)
    results, annotations = coco_files(tmp_path)
    first = import_predictions(catalog, results, name="detector", author="bo", annotations=annotations)
    rows = [
        {"key": f"pictures/{n:05d}", **(LIGHT | {"score": 0.9 - n / 1000} if n % 2 == 0 else {})} for n in range(48)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "boxes.parquet")
    second = import_predictions(catalog, tmp_path / "boxes.parquet", name="detector", author="bo", task="things")
    tables = [
        pq.read_table(catalog.home / "runs" / made.run.id / "predictions.parquet") for made in (first, second)
    ]  # fmt: skip
    assert tables[0].equals(tables[1])
    assert first.figures.equals(second.figures)


BROKEN = {
    "NaN": ({"score": float("nan")}, "results.json entry 1: score = nan is no finite number"),
    "infinite": ({"bbox": [0, 0, float("inf"), 4]}, "results.json entry 1: w = inf is no finite number"),
    "inverted": ({"bbox": [8, 8, -4, 4]}, "results.json entry 1: w = -4 must be above 0; write left, top, width"),
    "flat": ({"bbox": [8, 8, 4, 0]}, "results.json entry 1: h = 0 must be above 0"),
    "score": ({"score": 1.5}, "results.json entry 1: score = 1.5 must be in [0, 1]"),
    "outside": ({"bbox": [60, 8, 4, 4]}, "results.json entry 1: box [60.0, 8.0, 4.0, 4.0] lies outside its image"),
    "unknown image": ({"image_id": 7}, "results.json entry 1: image_id 7 is not in annotations.json"),
    "unknown category": ({"category_id": 1}, "results.json entry 1: category_id 1 is not in annotations.json"),
    "no box": (
        {"bbox": None},
        "is not a COCO results file (image_id, category_id, bbox and score of each box) (1.bbox",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_results_that_break_a_rule(name: str, home: Catalog, tmp_path: Path) -> None:
    change, message = BROKEN[name]
    results, annotations = coco_files(tmp_path, **change)
    with pytest.raises(BadInput) as error:
        import_predictions(home, results, name="detector", author="bo", annotations=annotations)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (home.home / "runs").exists()


def test_files_of_boxes_that_cannot_be_judged(home: Catalog, tmp_path: Path) -> None:
    results, annotations = coco_files(tmp_path)
    document = json.loads(annotations.read_text())
    document["images"][2]["file_name"] = "elsewhere.jpg"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    document["categories"][0]["name"] = "lamp"
    (tmp_path / "named.json").write_text(
        json.dumps(document | {"images": json.loads(annotations.read_text())["images"]})
    )
    (tmp_path / "empty.json").write_text("[]")
    half = [{"key": "pictures/00001", **LIGHT, "score": 1.0}, {"key": "pictures/00005", "x": 1.0}]
    pq.write_table(pa.Table.from_pylist(half), tmp_path / "half.parquet")
    table = {"author": "bo", "name": "d"}
    for file, more, message in [
        (results, {}, "pass the file that they refer to by --annotations"),
        (results, {"annotations": other}, "entry 1: image_id 102 is no sample of the catalog"),
        (results, {"annotations": tmp_path / "named.json"}, "entry 0: 'lamp' is no class of things; they are light"),
        (results, {"annotations": annotations, "task": "color"}, "--task color: must be a detection task; the"),
        (tmp_path / "empty.json", {"annotations": annotations}, "has no entry"),
        (tmp_path / "half.parquet", {}, "row 2: the box lacks some of its columns"),
        (tmp_path / "half.parquet", {"annotations": annotations}, "only COCO results (.json) refer to such a file"),
    ]:  # fmt: skip
        with pytest.raises(BadInput) as error:
            import_predictions(home, file, **table, **more)
        assert message in str(error.value)
    assert not (home.home / "runs").exists()


@pytest.mark.parametrize("form", ["table", "results"])
@pytest.mark.parametrize("sides", [[(0.1, 0.2, 0.3, 0.4)], [(0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 0.5, 0.9)]], ids=len)
def test_boxes_that_look_like_fractions_are_refused(
    sides: list[tuple[float, ...]], form: str, home: Catalog, tmp_path: Path
) -> None:
    results, annotations = coco_files(tmp_path)
    if form == "results":
        (first, *_) = json.loads(results.read_text())
        results.write_text(json.dumps([first | {"bbox": box} for box in sides]))
    else:
        annotations, results = None, tmp_path / "boxes.parquet"
        rows = [
            {"key": "pictures/00001", **LIGHT, **dict(zip("xywh", box, strict=True)), "score": 1.0} for box in sides
        ]
        pq.write_table(pa.Table.from_pylist(rows), results)
    with pytest.raises(
        BadInput, match=rf"(entry 0|row 1): x = 0.1, .*: all {len(sides)} boxes .* like fractions; write"
    ):
        import_predictions(home, results, name="d", author="bo", annotations=annotations)
    assert not (home.home / "runs").exists()


def test_the_report_of_a_detector(home: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(home, tmp_path)
    results, annotations = coco_files(tmp_path)
    for name in ("first", "second"):
        made = import_predictions(catalog, results, name=name, author="bo", annotations=annotations)
    page = write_report(catalog, made.run.id, tmp_path / "report.html").read_text()
    part = page[page.index('<section id="boxes"') :].split("</section>")[0]
    assert "light" in part
    assert "0.663" in part
    assert "trained on: unknown" in part
    assert "AP50" in page[page.index('<section id="before"') :].split("</section>")[0]
    assert "AP50" in page[page.index('<section id="runs"') :].split("</section>")[0]
