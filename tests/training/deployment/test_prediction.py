"""Predictions for files are those that the catalog's images have; what is no image is listed."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image as Picture
from support.homes import make_home
from support.lamps import declare
from support.networks import recorded, trained

from curation import BadInput, Catalog, NotFound
from training import Run, evaluate
from training.deployment.pictures import write_pictures
from training.deployment.prediction import Image, Predicted, images_of, predict_images


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("predict"), samples=60)


@pytest.fixture(scope="module")
def learned(catalog: Catalog) -> Run:
    run = trained(catalog, trunk="small", tree="shared", learning_rate=0.01)
    evaluate(run, catalog, author="ada")
    return run


def quiet(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def folder_of(catalog: Catalog) -> Path:
    return catalog.home.parent / "images"


@pytest.fixture(scope="module")
def found(catalog: Catalog, learned: Run) -> Predicted:
    return predict_images(learned, catalog, images_of(folder_of(catalog), quiet)[0])


def keys_of(predicted: Predicted, task: str) -> tuple[list[str], list[dict[str, object]]]:
    """Keys in the catalog of the predicted files, and their rows."""
    rows = predicted.table.filter(pc.equal(predicted.table["task"], task)).to_pylist()
    return [f"pictures/{Path(row['key']).stem}" for row in rows], rows


@pytest.mark.parametrize("task", ["color", "car", "speed"])
def test_files_are_predicted_as_the_catalog_s_images_are(
    catalog: Catalog, learned: Run, found: Predicted, task: str
) -> None:
    keys, rows = keys_of(found, task)
    assert len(keys) == found.images == 60
    mine = np.array([row["probabilities"] or row["number"] for row in rows])
    assert mine == pytest.approx(recorded(catalog, learned, task, keys), abs=1e-4)
    if task == "color":
        assert {row["class"] for row in rows} <= {"red", "yellow", "green"}
        assert all(row["class"] == ("red", "yellow", "green")[row["code"]] for row in rows)  # type: ignore[call-overload]


@pytest.mark.parametrize("words", [{"fit": "letterbox"}, {"mirrored": True}], ids=str)
def test_frozen_trunks_see_files_as_they_saw_the_catalog(catalog: Catalog, words: dict[str, object]) -> None:
    run = trained(catalog, trunk="efficientnet_lite0", heads="exact", size=(40, 40), **words)
    evaluate(run, catalog, author="ada")
    predicted = predict_images(run, catalog, images_of(folder_of(catalog), quiet)[0][:9])
    keys, rows = keys_of(predicted, "color")
    mine = np.array([row["probabilities"] for row in rows])
    assert mine == pytest.approx(recorded(catalog, run, "color", keys), abs=1e-4)


def test_what_is_no_image_is_listed(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    for path in sorted(folder_of(catalog).iterdir())[:3]:
        shutil.copy(path, tmp_path)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "notes.txt").write_text("is not looked at")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "00000.jpg").read_bytes()[:300])
    images, _ = images_of(tmp_path, quiet)
    predicted = predict_images(learned, catalog, [*images, Image(key="gone", location=str(tmp_path / "gone.jpg"))])
    assert predicted.images == 3
    assert {Path(part.path).name for part in predicted.unreadable} == {"empty.jpg", "text.png", "cut.jpg", "gone.jpg"}
    with pytest.raises(BadInput, match="none of 1 images can be read"):
        predict_images(learned, catalog, [Image(key="gone", location=str(tmp_path / "gone.jpg"))])


def test_pictures_of_another_kind_are_unlike_the_training_images(
    catalog: Catalog, learned: Run, found: Predicted, tmp_path: Path
) -> None:
    stripes = np.zeros((32, 48, 3), np.uint8)
    stripes[:, ::3] = (0, 0, 255)
    Picture.fromarray(stripes).save(tmp_path / "stripes.png")
    strange = predict_images(learned, catalog, images_of(tmp_path, quiet)[0])
    assert strange.unlike == 1.0
    assert found.unlike <= 0.1
    assert "100.0%" in strange.unlike_text


def test_a_declared_data_set_keeps_its_keys(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    declare(tmp_path / "lamps", counts=(2, 1, 1))
    images, refused = images_of(tmp_path / "lamps", quiet)
    assert (sorted(image.key for image in images)[0], refused) == ("lamps/green/000", [])
    assert predict_images(learned, catalog, images).images == 4


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        images_of(tmp_path / "nowhere", quiet)
    with pytest.raises(BadInput, match="holds no image"):
        images_of(tmp_path, quiet)


def test_the_page_shows_each_class_and_what_is_strange(found: Predicted, learned: Run, tmp_path: Path) -> None:
    text = write_pictures(found, learned.id, tmp_path / "page.html").read_text()
    assert text.count("<h2") == 1 + 4  # least like the training images, and the tasks
    counts = pc.value_counts(found.table.filter(pc.equal(found.table["task"], "color"))["class"]).to_pylist()
    for part in counts:
        assert f"predicted for {part['counts']} image" in text
    assert text.count("data:image/jpeg;base64,") >= 24
    assert "http" not in text.replace("http-equiv", "")


def test_a_name_is_not_run_as_code(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(sorted(folder_of(catalog).iterdir())[0], tmp_path / "in" / "<b onload=x>.jpg")
    predicted = predict_images(learned, catalog, images_of(tmp_path / "in", quiet)[0])
    text = write_pictures(predicted, learned.id, tmp_path / "page.html").read_text()
    assert "<b onload" not in text
    assert "&lt;b onload" in text
