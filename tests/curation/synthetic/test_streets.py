"""The rendered streets: the same bytes for everybody, and rare cases exactly where they are planted."""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.killed import leave_half
from support.paths import ROOT
from support.processes import ending

from curation.catalog.event_tables import LABELS
from curation.errors import BadInput, Damaged
from curation.ingestion.dataset import Dataset
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.streets import read_streets
from curation.synthetic.drives import Drives, choose_drives, draw_drives, rare_floor, rare_slices
from curation.synthetic.labels import describe, names_of
from curation.synthetic.placement import HEIGHT, WIDTH
from curation.synthetic.renderer import render

IMAGES = 400
DECLARED = ROOT / "datasets" / "streets"
seeds = st.integers(0, 2**63 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streets")
    read_streets(folder, images=IMAGES, workers=1)
    return folder


@pytest.fixture(scope="module")
def drives() -> Drives:
    return choose_drives(20_000, 0)


@pytest.fixture(scope="module")
def content(drives: Drives) -> Content:
    return describe(drives, Path("streets"), 0)


def images_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("images/*/*"))}


def one_frame(drives: Drives) -> Drives:
    return replace(drives, frames=np.ones_like(drives.frames))


def share(drives: Drives, holds: np.ndarray) -> float:
    """The natural share of images where `holds` is true, weighted by 1/propensity."""
    weight = drives.frames / drives.propensity
    return float(weight[holds].sum() / weight.sum())


def arrow_sql(query: str, **tables: pa.Table) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.execute(query).fetchall()


# Images and files


def test_number_of_processes_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    read_streets(tmp_path, images=IMAGES, workers=2)
    assert images_of(tmp_path) == images_of(folder)


def test_every_sample_has_its_image(folder: Path) -> None:
    samples = read_streets(folder, images=IMAGES).samples
    assert samples.num_rows == IMAGES
    assert sorted(samples["location"].to_pylist()) == sorted(str(path) for path in folder.glob("images/*/*"))
    with Image.open(samples["location"][0].as_py()) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (WIDTH, HEIGHT))


def test_an_interrupted_call_is_continued(folder: Path, tmp_path: Path) -> None:
    whole, told = images_of(folder), []
    for name in list(whole)[::3]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"kept")
    leave_half(tmp_path / next(iter(whole)))
    read_streets(tmp_path, images=IMAGES, workers=1, progress=lambda done, total: told.append((done, total)))
    kept = dict.fromkeys(list(whole)[::3], b"kept")
    assert images_of(tmp_path) == whole | kept
    assert told[-1] == (IMAGES, IMAGES)


def test_a_complete_folder_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "streets.json").write_bytes((folder / "streets.json").read_bytes())
    read_streets(tmp_path, images=IMAGES)
    assert os.listdir(tmp_path) == ["streets.json"]


def test_a_killed_call_leaves_neither_halves_nor_orphans(tmp_path: Path) -> None:
    code = "import sys, pathlib; from curation.ingestion.readers.streets import read_streets as read"
    call = [sys.executable, "-c", f"{code}; read(pathlib.Path(sys.argv[1]), images=4000, workers=2)", str(tmp_path)]
    with ending(subprocess.Popen(call, stderr=subprocess.DEVNULL)) as process:
        while len(list(tmp_path.glob("images/*"))) < 10:
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    for path in tmp_path.glob("images/*/*.jpg"):
        Image.open(path).load()


def test_a_drive_looks_the_same_beside_any_other_drives(folder: Path) -> None:
    drives = choose_drives(IMAGES, 0)
    for row in (0, 40, len(drives) - 1):
        (_, _, image), *_ = render(drives.take(np.array([row])), 0)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90, subsampling=0)
        assert (folder / f"images/0-{drives.number[row]:06d}/00.jpg").read_bytes() == file.getvalue()


@pytest.mark.parametrize(("color", "lamp"), [("red", -1), ("yellow", 0), ("green", 1)])
@pytest.mark.parametrize("hour", ["day", "night"])
def test_the_lit_lamp_shows_in_its_box(color: str, lamp: int, hour: str) -> None:
    drives = draw_drives(5, 0, 20_000)
    wanted = (drives.light_color == color) & (drives.time_of_day == hour) & (drives.split == "test")
    drives = one_frame(drives.take(wanted).take(slice(8)))
    boxes = describe(drives, Path(), 5).labels.filter(pc.field("task") == "objects")["boxes"].to_pylist()
    for (light, *_), (_, _, image) in zip(boxes, render(drives, 5), strict=True):
        x, y = light["x"] + light["w"] / 2, light["y"] + light["h"] * (0.5 + lamp * 1.3 / 4.3)
        r, g, b = np.asarray(image, float)[round(y - 0.5), round(x - 0.5)]
        assert {"red": r > 1.6 * g, "yellow": min(r, g) > 1.6 * b and g > 0.6 * r, "green": g > 1.3 * r}[color]


def test_speed_blurs() -> None:
    drives = draw_drives(6, 0, 200)
    drives = one_frame(drives.take(drives.weather != "fog"))
    pictures = [np.asarray(image, float)[45:56] for _, _, image in render(drives, 6)]
    edges = [np.abs(np.diff(picture, axis=1)).mean() / picture.mean() for picture in pictures]
    assert np.corrcoef(edges, drives.speed)[0, 1] < -0.6


# Facts and splits


@given(seed=seeds, first=st.integers(0, 100_000), cut=st.integers(1, 19))
@settings(max_examples=30, deadline=None)
def test_a_drive_depends_only_on_seed_and_number(seed: int, first: int, cut: int) -> None:
    whole = draw_drives(seed, first, 20)
    part = draw_drives(seed, first + cut, 20 - cut)
    assert np.array_equal(whole.layout[cut:], part.layout)
    assert np.array_equal(whole.speed[cut:], part.speed)


@given(seed=seeds, images=st.sampled_from([400, 700, 1_000, 2_000, 4_000]))
@settings(max_examples=25, deadline=None)
def test_counts_and_rare_floors(seed: int, images: int) -> None:
    drives = choose_drives(images, seed)
    share = {name: drives.frames[drives.split == name].sum() / images for name in ("train", "validation", "test")}
    test = drives.take(drives.split == "test")
    assert drives.frames.sum() == images
    assert share == pytest.approx({"train": 0.70, "validation": 0.08, "test": 0.22}, abs=0.05)
    assert min(test.frames[rare].sum() for rare in rare_slices(test).values()) >= rare_floor(images)
    assert len(set(drives.number)) == len(drives)


def test_floors_of_the_default(drives: Drives) -> None:
    test = drives.take(drives.split == "test")
    assert min(test.frames[rare].sum() for rare in rare_slices(test).values()) >= rare_floor(20_000) == 200


def test_rarities_are_as_planted() -> None:
    natural = draw_drives(1, 0, 150_000)
    planted = {name: 100 * share(natural, rare) for name, rare in rare_slices(natural).items()}
    assert planted.pop("yellow") == pytest.approx(1, rel=0.2)
    assert planted.pop("yellow_at_night") == pytest.approx(0.1, rel=0.3)
    assert planted == pytest.approx(dict.fromkeys(planted, 0.5), rel=0.25)


def test_weights_of_test_give_natural_figures(drives: Drives) -> None:
    test, natural = drives.take(drives.split == "test"), draw_drives(1, 0, 150_000)
    for name, rare in rare_slices(test).items():
        assert share(test, rare) == pytest.approx(share(natural, rare_slices(natural)[name]), rel=0.35)
        assert test.frames[rare].sum() / test.frames.sum() > 5 * share(test, rare)
    for name in ("pedestrian", "car", "stop_sign", "bicycle"):
        assert share(test, getattr(test, name)) == pytest.approx(share(natural, getattr(natural, name)), abs=0.07)


def test_weights_are_right_on_average() -> None:
    tests = [drives.take(drives.split == "test") for drives in (choose_drives(2_000, seed) for seed in range(30))]
    natural = draw_drives(1, 0, 150_000)
    for fact, value in [("time_of_day", "night"), ("weather", "fog"), ("light_color", "red"), ("bicycle", True)]:
        shares = [share(test, getattr(test, fact) == value) for test in tests]
        planted = share(natural, getattr(natural, fact) == value)
        assert abs(np.mean(shares) - planted) < 4 * np.std(shares) / len(shares) ** 0.5


def test_train_and_validation_are_natural(drives: Drives) -> None:
    assert set(drives.propensity[drives.split != "test"]) == {1.0}


def test_planted_correlations() -> None:
    natural = draw_drives(2, 0, 50_000)
    light, fast, day = natural.light_color != "none", natural.speed > 70, natural.time_of_day == "day"
    assert natural.pedestrian[light].mean() > 2 * natural.pedestrian[~light].mean()
    assert natural.car[day].mean() > 1.4 * natural.car[natural.time_of_day == "night"].mean()
    assert natural.bicycle[fast].mean() < 0.1 * natural.bicycle.mean()
    assert natural.speed[light | natural.pedestrian | natural.stop_sign].mean() < 0.5 * natural.speed.mean()


# Samples and labels


def test_frames_of_a_drive_are_a_burst(content: Content) -> None:
    query = """SELECT count(*) AS frames, count(DISTINCT split) AS splits, bool_and("group" = drive) AS same,
        epoch_us(max(captured_at)) - epoch_us(min(captured_at)) AS us FROM samples GROUP BY drive"""
    bursts = arrow_sql(query, samples=content.samples)
    assert all(1 <= frames <= 8 and us == (frames - 1) * 100_000 for frames, _, _, us in bursts)
    assert sum(frames < 3 for frames, *_ in bursts) <= 2  # the last of train and of validation are cut short
    assert {(splits, same) for _, splits, same, _ in bursts} == {(1, True)}
    assert content.samples["captured_at"].type == pa.timestamp("us", "UTC")


def test_keys_are_unique_and_plain(content: Content) -> None:
    keys = content.samples["key"].to_pylist()
    assert len(set(keys)) == 20_000
    assert all(re.fullmatch(r"streets/0-\d{6}-\d\d", key) for key in keys)


def test_every_task_of_every_sample_is_known_or_held_back(content: Content) -> None:
    labels, held_back = content.labels, content.held_back
    assert labels.schema == held_back.schema == LABELS
    both = pa.concat_tables([labels, held_back])
    pairs = set(zip(both["key"].to_pylist(), both["task"].to_pylist(), strict=True))
    tasks = {task.name for task in Dataset.load(DECLARED).task}
    assert len(pairs) == both.num_rows == 20_000 * len(tasks)
    assert {task for _, task in pairs} == tasks


def test_most_bicycles_at_night_are_the_vendors_errors(content: Content, drives: Drives) -> None:
    query = """SELECT drive FROM labels JOIN samples USING (key) WHERE task = 'bicycle' AND text = 'true'
        AND annotator = 'vendor' AND time_of_day = 'night'"""
    said = arrow_sql(query, samples=content.samples, labels=content.labels)
    there = dict(zip(names_of(drives, 0), drives.bicycle, strict=True))
    assert (len(said), sum(not there[name.removeprefix("streets/")] for (name,) in said)) == (42, 33)


def test_only_train_is_held_back(content: Content) -> None:
    samples, both = content.samples, pa.concat_tables([content.labels, content.held_back])
    query = "SELECT DISTINCT annotator, split FROM labels JOIN samples USING (key) ORDER BY ALL"
    assert arrow_sql(query, samples=samples, labels=both) == [
        ("oracle", "train"),
        ("truth", "test"),
        ("truth", "validation"),
        ("vendor", "train"),
    ]


def test_a_label_has_one_value(content: Content) -> None:
    for table in (content.labels, content.held_back):
        filled = [pc.is_valid(table[name]).to_numpy() for name in ("text", "number", "boxes")]
        assert np.all(np.sum(filled, axis=0) == 1)


def test_each_task_has_its_own_labelled_share(content: Content) -> None:
    vendor = content.labels.filter(pc.field("annotator") == "vendor")
    train = pc.sum(pc.equal(content.samples["split"], "train")).as_py()
    parts = {row["values"]: row["counts"] / train for row in vendor["task"].value_counts().to_pylist()}
    assert all(0.05 <= part <= 0.40 for part in parts.values())
    assert len({round(part, 2) for part in parts.values()}) >= 6
    colors = vendor.filter(pc.field("task") == "light_color")["text"]
    assert 5 <= pc.sum(pc.equal(colors, "yellow")).as_py() <= 0.02 * len(colors)


def test_the_vendor_errs_on_bicycles_only(drives: Drives, content: Content) -> None:
    vendor = content.labels.filter(pc.field("annotator") == "vendor")
    number = {int(number): position for position, number in enumerate(drives.number)}
    for task, wrong in [("bicycle", 0.08), ("car", 0), ("pedestrian", 0), ("stop_sign", 0)]:
        said = vendor.filter(pc.field("task") == task)
        truth = getattr(drives, task)[[number[int(key.split("-")[1])] for key in said["key"].to_pylist()]]
        assert np.mean((said["text"].to_numpy() == "true") != truth) == pytest.approx(wrong, abs=0.02 * (wrong > 0))


def test_boxes_are_in_the_image_and_only_for_what_is_there(drives: Drives, content: Content) -> None:
    tables = pa.concat_tables([content.labels, content.held_back])
    tables = tables.filter(pc.field("task") == "objects").sort_by("key")
    row_of = dict(zip(drives.number.tolist(), range(len(drives)), strict=True))
    signs = {"traffic_light": drives.light_color != "none", "stop_sign": drives.stop_sign}
    for key, boxes in zip(tables["key"].to_pylist(), tables["boxes"].to_pylist(), strict=True):
        row = row_of[int(key.split("-")[1])]
        assert {box["class"] for box in boxes} == {name for name, there in signs.items() if there[row]}
        assert all(box["x"] >= 0 and box["x"] + box["w"] <= WIDTH + 0.01 and box["w"] >= 6 for box in boxes)
        assert all(box["y"] >= 0 and box["y"] + box["h"] <= HEIGHT + 0.01 and box["h"] >= 8 for box in boxes)


# Declaration and errors


def test_the_declaration_fits_the_reader(content: Content) -> None:
    declared = Dataset.load(DECLARED)
    assert {part.name for part in declared.slice if part.rare} == set(rare_slices(draw_drives(0, 0, 1)))
    colors = next(task for task in declared.task if task.name == "light_color").classes
    assert set(content.labels.filter(pc.field("task") == "light_color")["text"].to_pylist()) == set(colors)


def test_the_output_in_the_card_is_true() -> None:
    card, said = (DECLARED / "README.md").read_text(), io.StringIO()
    code = card.split("```python\n")[1].split("```")[0]
    with contextlib.redirect_stdout(said):
        exec(code, {})
    assert [line for line in said.getvalue().splitlines() if line not in card] == []


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"images": 399}, "images = 399: must be 400 to 200000"),
        ({"images": 200_001}, "images = 200001: must be 400 to 200000"),
        ({"seed": -1}, "seed = -1: must be 0"),
        ({"seed": 2**63}, "must be 0 to"),
        ({"workers": 0}, "workers = 0: must be at least 1"),
    ],
)
def test_a_bad_parameter_is_one_line(tmp_path: Path, asked: dict[str, int], rule: str) -> None:
    with pytest.raises(BadInput, match=re.escape(rule)) as error:
        read_streets(tmp_path, **asked)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("asked", [{"images": IMAGES + 1}, {"images": IMAGES, "seed": 1}])
def test_a_folder_of_other_streets_is_refused(folder: Path, asked: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="choose another folder"):
        read_streets(folder, **asked)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="this is a file"):
        read_streets(tmp_path / "file")


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "streets.json").write_text("{")
    with pytest.raises(Damaged, match="not valid JSON"):
        read_streets(tmp_path)


def test_the_examples_run() -> None:
    assert doctest.testmod(sys.modules[draw_drives.__module__]).failed == 0
