"""A run with boxes onward: smoke, export, predictions of other images, and the report with pictures."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image
from support.drawn_boxes import boxes_catalog, boxes_plan, drawn_picture

from amber.cli import run as amber
from curation import Catalog
from samplers import Plan
from training import Recipe, Run, evaluate, train
from training.deployment.box_answers import apart
from training.deployment.deployed import deployed
from training.deployment.export import export_model
from training.deployment.prediction import images_of, predict_images
from training.loop.smoke import smoke
from training.recipe import BoxRecipe
from training.report import write_report

RECIPE = Recipe.of("small", size=(64, 96), global_batch=32, hidden=16, threads=1, boxes=BoxRecipe(width=32, most=20))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return boxes_catalog(tmp_path_factory.mktemp("onward"), images=80)


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return boxes_plan(catalog, draws=640, signs=0.8, dark=0.2)[0]


@pytest.fixture(scope="module")
def learned(catalog: Catalog, plan: Plan) -> Run:
    run = train(RECIPE, plan, catalog)
    evaluate(run, catalog, author="ada")
    return run


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, generator = tmp_path_factory.mktemp("others"), np.random.default_rng(5)
    for number in range(4):
        drawn_picture(generator)[0].resize((192, 128)).save(folder / f"{number}.png")
    return folder


def test_an_exported_network_finds_the_recorded_boxes(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    made = export_model(learned, catalog, tmp_path / "out")
    assert made.differences.onnx_recorded <= 1e-4
    words = json.loads((made.folder / "model.json").read_text())["tasks"]
    (signs,) = [task for task in words if task["name"] == "signs"]
    assert (signs["shape"], signs["classes"]) == (["batch", 20, 6], ["stop", "give_way"])
    session = onnxruntime.InferenceSession(str(made.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(["signs"], {"images": np.zeros((3, 3, 64, 96), np.uint8)})[0]
    assert found.shape == (3, 20, 6)
    assert (np.diff(found[:, :, 5], axis=1) <= 0).all()


def test_the_path_of_boxes_alone_gives_the_same(catalog: Catalog, learned: Run) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    whole, alone = (deployed(learned, catalog, names) for names in ((), ("signs",)))
    assert torch.equal(whole(images)["signs"], alone(images)["signs"])
    assert not alone.paths.heads


def test_boxes_of_other_images_are_in_their_pixels(
    catalog: Catalog, learned: Run, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, _ = images_of(others, lambda *_: None)
    table = predict_images(learned, catalog, images).table
    mine = table.filter(pc.equal(table["task"], "signs"))
    boxes = [box for boxes in mine["boxes"].to_pylist() for box in boxes]
    assert max(box["x"] + box["w"] for box in boxes) > 96  # the images are twice as large as the network's input
    assert all(0 <= box["x"] <= box["x"] + box["w"] <= 192.01 for box in boxes)
    assert table.filter(pc.equal(table["task"], "dark"))["boxes"].null_count == len(images)
    words = ["--out", str(tmp_path / "found.parquet"), "--pictures", str(tmp_path / "page.html")]
    assert amber(["predict", learned.id, str(others), *words, "--home", str(catalog.home)]) == 0
    assert "boxes with a score of at least 0.5" in " ".join(capsys.readouterr().out.split())
    assert "The most boxes with a score of at least 0.5 first." in (tmp_path / "page.html").read_text()


def test_the_report_draws_known_and_predicted_boxes(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    page = write_report(catalog, learned.id, tmp_path / "report.html").read_text()
    section = page[page.index('id="boxes"') :].split("</section>")[0]
    assert "Known boxes have a whole outline, predicted ones a dashed one." in section
    assert section.count("data:image/jpeg") >= 1


def test_heads_of_boxes_fit_two_batches_of_their_own(catalog: Catalog, plan: Plan) -> None:
    heads = {head.task: head for head in smoke(RECIPE, plan, catalog)}
    assert heads["signs"].fits
    assert heads["dark"].fits


def test_answers_are_compared_box_by_box_in_any_order() -> None:
    one = np.zeros((1, 4, 6))
    one[0, :, 5] = [0.9, 0.8, 0.8, 0.05]
    one[0, :, 1:5] = np.arange(16).reshape(4, 4) / 20
    other = one[:, [0, 2, 1, 3]].copy()
    assert apart(one, other, 1e-4) == 0
    other[0, 0, 1] += 0.01
    assert apart(one, other, 1e-4) == pytest.approx(0.01)
    other[0, 3, 1:5] = 0.9  # the last ones may be others
    assert apart(one, other, 1e-4) == pytest.approx(0.01)
    other[0, 1, 0] = 1.0  # but not a box of a high score
    assert apart(one, other, 1e-4) == np.inf
    thin = one.copy()
    thin[0, 0, 3] = 0.0  # no run records a box without an area
    assert apart(thin, one[:, 1:], 1e-4) == 0
    assert np.isnan(apart(one, one * np.nan, 1e-4))
    assert apart(np.zeros((1, 0, 6)), np.zeros((1, 2, 6)), 1e-4) == 0


def test_a_thumbnail_shows_known_and_predicted_apart(tmp_path: Path) -> None:
    from training.report.drawn_boxes import thumbnail_with

    Image.new("RGB", (100, 100), "#808080").save(tmp_path / "grey.png")
    picture = (tmp_path / "grey.png").read_bytes()
    box = {"x": 10.0, "y": 10.0, "w": 60.0, "h": 40.0}
    plain, known, predicted = (
        thumbnail_with(picture, first, {"stop": "#ff0000"}, second)
        for first, second in (([], []), ([("stop", box)], []), ([], [("stop", box)]))
    )
    assert len({plain, known, predicted}) == 3
    assert thumbnail_with(None, [], {}) == ""
