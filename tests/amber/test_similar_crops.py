"""`amber similar` with boxes: the same object is found on other backgrounds, each place is embedded once, and what
names no part of an image is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.drawn_boxes import boxes_catalog
from support.homes import copy_home, label, labels, sample_rows, work_in
from support.refusals import refused

from amber.cli import run
from amber.forget import forget
from curation.arrays import Pixels
from curation.catalog.catalog import Catalog
from curation.catalog.labelled_crops import LabelledCrop, LabelledCrops
from curation.errors import Damaged
from curation.images.crops import crop_of
from curation.images.embeddings import Embeddings, add_vectors
from samplers import make_pack
from training.evaluation.crop_features import embed_crops
from training.evaluation.features import embed, fitted_crop
from training.recipe import Recipe

Capture = pytest.CaptureFixture[str]
RECIPE = Recipe(size=(32, 32), threads=1)
BOXES = Path("home/embeddings") / RECIPE.embeddings / "boxes/signs"
TINY = [{"class": "stop", "x": 50.0, "y": 3.0, "w": 30.0, "h": 1.5}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with red and green rectangles on light and dark backgrounds, the features of pictures and boxes, and
    vectors of one's own."""
    folder = tmp_path_factory.mktemp("crops")
    catalog = boxes_catalog(folder, images=60)
    with catalog.commit(author="ada", message="a box of less than 2 pixels") as change:
        change.add_labels(labels([label("0000", "signs", TINY, "ann")]), source="human")
    embed(catalog.home, make_pack(catalog), RECIPE)
    with catalog.read() as now:
        keys = now.samples()["key"].to_pylist()
        files = {row["key"]: (row["location"], row["sha256"]) for row in now.samples().to_pylist()}
        boxes = LabelledCrops.at(now, "signs").by_place(files)
    embed_crops(catalog.home, RECIPE, "signs", [crops[0] for crops in boxes.values()], files)
    add_vectors(catalog.home, "mine", vectors_of(keys))
    return folder


def vectors_of(keys: list[str]) -> pa.Table:
    values = np.random.default_rng(0).normal(size=(len(keys), 8)).astype(np.float32).tolist()
    return pa.table({"key": keys, "vector": pa.array(values, pa.list_(pa.float32()))})


@pytest.fixture(autouse=True)
def inside(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_home(Catalog.open(made / "home"), tmp_path)
    work_in(tmp_path, monkeypatch)


def found(capsys: Capture, *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["similar", *words, "--embeddings", RECIPE.embeddings, "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def all_boxes() -> list[LabelledCrop]:
    with Catalog.open("home").read() as now:
        known = LabelledCrops.at(now, "signs")
        return [crop for boxes in known.by_place(set(known.keys)).values() for crop in boxes]


def test_the_same_object_on_other_backgrounds_comes_before_other_objects(capsys: Capture) -> None:
    boxes = all_boxes()
    held = {name: {box.key for box in boxes if box.label == name} for name in ("stop", "give_way")}
    by_crop, by_image = list[float](), list[float]()
    for box in boxes[::16]:
        rows = found(capsys, box.name, "--boxes", "signs", "-n", "20")
        assert box.name not in [row["box"] for row in rows]
        by_crop.append(float(np.mean([row["class"] == box.label for row in rows])))
        only = {key for key in held[box.label] if key not in held["stop" if box.label == "give_way" else "give_way"]}
        images = [row["key"] for row in found(capsys, box.key, "-n", "20")]
        by_image.append(float(np.mean([key in only for key in images])))
    assert len(by_crop) >= 4
    assert min(by_crop) == 1.0
    assert np.mean(by_image) < 0.7


def test_a_part_of_an_image_and_of_a_file_is_the_box_that_lies_there(capsys: Capture) -> None:
    box = all_boxes()[3]
    with Catalog.open("home").read() as now:
        file = now.sample(box.key)["location"]
    place = ",".join(f"{side:g}" for side in box.corners)
    rows = found(capsys, box.name, "--boxes", "signs", "-n", "5")
    assert found(capsys, f"{box.key}#{place}", "--boxes", "signs", "-n", "5") == rows
    of_file = found(capsys, f"{file}#{place}", "--boxes", "signs", "-n", "1000")
    (itself,) = [row for row in of_file if row["box"] == box.name]
    assert itself["similarity"] > 0.999
    assert [itself[side] for side in "xywh"] == list(box.corners)
    assert len(of_file) == len(all_boxes())
    images = found(capsys, box.name, "-n", "100")
    assert box.key not in [row["key"] for row in images]
    assert len(images) == 59
    wider = f"{file}#{','.join(f'{side:g}' for side in (box.corners[0] - 500, *box.corners[1:2], 5000, 5000))}"
    assert found(capsys, wider, "-n", "1")


def test_numbers_are_those_of_a_slice_and_a_crop_is_what_the_box_covers() -> None:
    with Catalog.open("home").read() as now:
        known = LabelledCrops.at(now, "signs")
        for row in range(0, len(known.keys), 17):
            crop = known.crop(row)
            place = ", ".join(
                f"boxes.signs[{crop.number}].{side} = {crop.corners['xywh'.index(side)]}" for side in "xy"
            )
            members = now.members(place.replace(", ", " AND "))
            assert now.sample(crop.key)["sample_id"] in members.tolist()
    pixels = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
    assert crop_of(pixels, (2.5, 1.0, 3.0, 4.0)).tolist() == pixels[1:5, 2:6].tolist()
    assert crop_of(pixels, (-5.0, 8.0, 100.0, 100.0)).tolist() == pixels[8:].tolist()


def test_a_place_is_embedded_once_whatever_the_commit(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    box = all_boxes()[0]
    first = found(capsys, box.name, "--boxes", "signs", "-n", "3")
    keys, written = Embeddings(BOXES).keys, (BOXES / "vectors.npy").stat().st_mtime_ns
    assert found(capsys, box.name, "--boxes", "signs", "-n", "3") == first
    with Catalog.open("home").read() as now:
        test = {row["key"] for row in now.samples().to_pylist() if row["split"] == "test"}
    assert {row["key"] for row in found(capsys, box.name, "--boxes", "signs", "--split", "test")} <= test
    assert (BOXES / "vectors.npy").stat().st_mtime_ns == written
    moved = [{"class": "stop", "x": 1.0, "y": 2.0, "w": 20.0, "h": 21.0}]
    catalog = Catalog.open("home")
    with catalog.commit(author="ada", message="moved") as change:
        change.add_labels(labels([label(box.key, "signs", moved, "ann")]), source="human")
    made = list[int]()

    def fitted(crop: Pixels, recipe: Recipe) -> Pixels:
        made.append(1)
        return fitted_crop(crop, recipe)

    monkeypatch.setattr("training.evaluation.crop_features.fitted_crop", fitted)
    found(capsys, box.name, "--boxes", "signs", "-n", "3")
    assert len(made) == 1
    gone, come = set(keys) - set(Embeddings(BOXES).keys), set(Embeddings(BOXES).keys) - set(keys)
    assert (len(come), next(iter(come))) == (1, f"{box.key}#1.0,2.0,20.0,21.0")
    assert all(place.startswith(f"{box.key}#") for place in gone)
    file = BOXES / "vectors.npy"
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    with pytest.raises(Damaged, match=r"vectors\.npy"):
        Embeddings(BOXES)
    capsys.readouterr()
    assert "boxes/signs" in refused(
        capsys, "similar", box.name, "--boxes", "signs", "--embeddings", RECIPE.embeddings, code=4
    )


def test_images_are_embedded_where_no_training_did_it(capsys: Capture) -> None:
    shutil.rmtree("home/embeddings")
    capsys.readouterr()
    refused(capsys, "similar", "nothing#0,0,9,9")
    assert not Path("home/embeddings").exists()
    assert run(["similar", all_boxes()[0].key, "-n", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert [path.name for path in Path("home/embeddings").iterdir()] == ["efficientnet_lite0-64x96"]
    found(capsys, all_boxes()[0].key, "-n", "2")
    assert Embeddings.open(Path("home"), RECIPE.embeddings).covers(["0001"])


def test_boxes_are_tagged_requested_and_shown(capsys: Capture, tmp_path: Path) -> None:
    box = all_boxes()[0]
    words = ["--boxes", "signs", "-n", "6", "--tag", "alike", "--request", "dark", "--out", "alike.html"]
    keys = {str(row["key"]) for row in found(capsys, box.name, *words)}
    with Catalog.open("home").read() as now:
        tagged = now.attribute("tag_alike").filter(now.attribute("tag_alike")["value"])
        assert len(tagged) == len(keys)
        assert {row["key"] for row in now.requests("open").to_pylist()} == keys
    assert (tmp_path / "alike.html").read_text().count("<img") == 6
    assert run(["similar", box.name, "--boxes", "signs", "--embeddings", RECIPE.embeddings, "-n", "2"]) == 0
    out = capsys.readouterr()
    assert "#signs:" in out.out
    assert "boxes too small to search: 1" in out.err


def test_what_is_forgotten_is_found_no_more(capsys: Capture) -> None:
    box, other = all_boxes()[0], next(part for part in all_boxes() if part.key != all_boxes()[0].key)
    forget(Catalog.open("home"), box.key, author="ada")
    assert not BOXES.exists()
    rows = found(capsys, other.name, "--boxes", "signs", "-n", "1000")
    assert box.key not in [row["key"] for row in rows]
    capsys.readouterr()
    assert "was forgotten" in refused(capsys, "similar", box.name, "--embeddings", RECIPE.embeddings)


@pytest.mark.parametrize(
    ("what", "words", "value", "fix"),
    [
        ("{key}#signs:0", [], "#signs:0", "1 to "),
        ("{key}#signs:99", [], "#signs:99", "1 to "),
        ("{empty}#signs:1", [], "#signs:1", "no box of signs is known"),
        ("{key}#dark:1", [], "task dark", "kind detection"),
        ("{key}#none:1", [], "'none'", "amber tasks"),
        ("{key}#signs", [], "#signs", "KEY#TASK:N"),
        ("{key}#4,8,16", [], "#4,8,16", "KEY#X,Y,W,H"),
        ("{key}#4,8,0,16", [], "4,8,0,16", "above 0"),
        ("{key}#4,8,-5,16", [], "4,8,-5,16", "above 0"),
        ("{key}#95,8,16,16", [], "95,8,16,16", "larger"),
        ("{key}#400,8,16,16", [], "400,8,16,16", "larger"),
        ("0000#signs:1", [], "0000#signs:1", "larger"),
        ("file.png#signs:1", [], "file.png", "FILE#X,Y,W,H"),
        ("file.png#0,0,9,1", [], "0,0,9,1", "larger"),
        ("text.png#0,0,9,9", [], "text.png", "name another"),
        ("nothing#0,0,9,9", [], "'nothing#0,0,9,9'", "correct it"),
        ("{key}", ["--boxes", "dark"], "task dark", "kind detection"),
        ("{key}", ["--boxes", "none"], "'none'", "amber tasks"),
        ("{key}#signs:1", ["--embeddings", "mine"], "embeddings mine", "name a key"),
        ("{key}", ["--embeddings", "mine", "--boxes", "signs"], "embeddings mine", "name others"),
        ("short.npy", ["--boxes", "signs"], "vector of 3 numbers", "same model"),
    ],
)
def test_is_refused_in_one_line(
    tmp_path: Path, what: str, words: list[str], value: str, fix: str, capsys: Capture
) -> None:
    boxes = {box.key for box in all_boxes()}
    with Catalog.open("home").read() as now:
        empty = next(key for key in now.samples()["key"].to_pylist() if key not in boxes and key != "0000")
    np.save("short.npy", np.ones(3, np.float32))
    Path("text.png").write_text("no image")
    Image.new("RGB", (20, 20)).save("file.png")
    named = what.format(key=all_boxes()[0].key, empty=empty)
    given = words if "--embeddings" in words else [*words, "--embeddings", RECIPE.embeddings]
    line = refused(capsys, "similar", named, *given)
    assert value in line
    assert fix in line


def test_a_key_may_hold_the_sign_of_a_part(capsys: Capture) -> None:
    catalog = Catalog.open("home")
    with catalog.read() as now:
        (row, *_) = now.samples().to_pylist()
    with catalog.commit(author="ada", message="an odd key") as change:
        change.add_samples(sample_rows(["odd#signs:1"], [Path(row["location"])]), dataset="drawn")
    add_vectors(catalog.home, "mine", vectors_of(["odd#signs:1"]))
    assert run(["similar", "odd#signs:1", "--embeddings", "mine", "-n", "2"]) == 0
