"""Scenes with signs: boxes with attributes that are where they are drawn, and frames that show the speed."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.paths import ROOT

from curation.errors import BadInput
from curation.ingestion.dataset import Dataset
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.streets import read_streets
from curation.synthetic.drives import Drives, choose_drives, natural_drives
from curation.synthetic.labels import describe
from curation.synthetic.placement import HEIGHT, WIDTH
from curation.synthetic.renderer import render
from curation.synthetic.sign_labels import describe_signs
from curation.synthetic.signs import SIGNS
from curation.synthetic.traffic import PAN, traffic_of

IMAGES = 400
DECLARED = ROOT / "datasets" / "street_signs"


@pytest.fixture(scope="module")
def drives() -> Drives:
    return natural_drives(6_000, 0)


@pytest.fixture(scope="module")
def content(drives: Drives) -> Content:
    return Content(**describe_signs(drives, Path("signs"), 0)._asdict())


def boxes(table: pa.Table, task: str) -> list[dict[str, object]]:
    lists = table.filter(pc.field("task") == task)["boxes"].to_pylist()
    return [{**box, "attributes": dict(box["attributes"] or ())} for found in lists for box in found]


def test_streets_without_signs_keep_their_bytes() -> None:
    """The digests are those of before there were scenes with signs; the column `looked` is younger."""
    drives, pixels = choose_drives(IMAGES, 0), hashlib.sha256()
    for _, _, image in render(drives.take(slice(0, 24)), 0):
        pixels.update(image.tobytes())
    tables = [
        hashlib.sha256(repr({name: values for name, values in table.to_pydict().items() if name != "looked"}).encode())
        for table in describe(drives, Path("/streets"), 0)
    ]
    assert [digest.hexdigest()[:16] for digest in (pixels, *tables)] == [
        "605a104e41444184", "ca8cbce18a8c3c20", "144d93cfc952168b", "cc55d3ccd0b68d82",
    ]  # fmt: skip


def test_a_folder_is_rendered_once_and_only_for_scenes_with_signs(tmp_path: Path) -> None:
    read_streets(tmp_path, images=IMAGES, signs=True, workers=1)
    found = read_streets(tmp_path, images=IMAGES, signs=True)
    assert len(list(tmp_path.glob("images/*/*.jpg"))) == found.samples.num_rows == IMAGES
    with pytest.raises(BadInput, match="choose another folder"):
        read_streets(tmp_path, images=IMAGES)


def test_every_split_is_natural_and_each_group_is_in_one(content: Content) -> None:
    rows = content.samples.group_by(["split"]).aggregate([("key", "count"), ("propensity", "min")])
    assert dict(zip(rows["split"].to_pylist(), rows["key_count"].to_pylist(), strict=True)) == {
        "train": 4_200, "validation": 600, "test": 1_200,
    }  # fmt: skip
    assert set(rows["propensity_min"].to_pylist()) == {1.0}
    groups = content.samples.group_by("group").aggregate([("split", "count_distinct")])
    assert set(groups["split_count_distinct"].to_pylist()) == {1}


def test_frames_of_a_group_are_a_tenth_of_a_second_apart(content: Content) -> None:
    table = content.samples.sort_by([("group", "ascending"), ("captured_at", "ascending")])
    groups, times = table["group"].to_numpy(), table["captured_at"].to_numpy()
    gaps = np.diff(times)[groups[1:] == groups[:-1]]
    assert set(gaps.tolist()) == {np.timedelta64(100_000, "us")}


def test_boxes_are_in_the_image_and_truth_names_every_one(content: Content) -> None:
    truth = content.labels.filter(pc.field("annotator") == "truth")
    signs, users = boxes(truth, "signs"), boxes(truth, "road_users")
    for box in signs + users:
        assert min(box["x"], box["y"]) >= 0
        assert min(box["w"], box["h"]) > 2
        assert box["x"] + box["w"] <= WIDTH + 0.01
        assert box["y"] + box["h"] <= HEIGHT + 0.01
    assert {box["attributes"]["sign_kind"] for box in signs} == set(SIGNS)
    assert len(SIGNS) == 32
    moving = [box["attributes"]["moving"] == "true" for box in users]
    assert np.mean(moving) == pytest.approx(0.5, abs=0.08)
    assert {box["class"] for box in users} == {"car", "bicycle", "pedestrian"}


def test_the_vendor_leaves_attributes_unknown(content: Content) -> None:
    vendor = content.labels.filter(pc.field("annotator") == "vendor")
    for task, name in (("signs", "sign_kind"), ("road_users", "moving")):
        known = [name in box["attributes"] for box in boxes(vendor, task)]
        assert np.mean(known) == pytest.approx(0.6, abs=0.1)
    both = pa.concat_tables([content.labels, content.held_back])
    assert both.num_rows == 3 * content.samples.num_rows


def test_the_street_moves_with_the_speed(drives: Drives) -> None:
    """Between two frames the kerb has moved by as many pixels as the second frame's speed says."""
    clear = np.flatnonzero((drives.weather == "clear") & (drives.time_of_day == "day") & (drives.speed > 10))[:25]
    met = drives.take(clear)
    shots: dict[tuple[int, int], np.ndarray] = {
        (row, frame): np.asarray(image, float)[48:52].mean(axis=(0, 2))
        for row, frame, image in render(met, 0, signs=True)
    }
    shifts = range(14)
    found, said = [], []
    for row in range(len(met)):
        before, after = shots[row, 0], shots[row, 1]
        errors = [np.abs(before[s + 8 : s + 100] - after[8:100]).mean() for s in shifts]
        found.append(int(np.argmin(errors)))
        said.append(PAN * (met.speed[row] + met.gain[row]))
    assert np.median(np.abs(np.array(found) - np.array(said))) < 1


def test_a_sign_has_the_colours_of_its_plate(drives: Drives) -> None:
    clear = drives.take(np.flatnonzero((drives.weather == "clear") & (drives.time_of_day == "day"))[:60])
    seen = set()
    for row, frame, image in render(clear, 0, signs=True):
        for box in traffic_of(clear, row, 0).boxes(frame, signs=True):
            plate = dict(box["attributes"])["sign_kind"].partition("_")[0]
            if frame or box["w"] < 12 or not plate.startswith(("required", "warning")):
                continue
            x, y = box["x"] + 0.5 * box["w"], box["y"] + 0.12 * box["h"]
            red, _, blue = np.asarray(image, float)[round(y), round(x) - 1]
            seen.add((plate, red > blue))
    assert {("required", False), ("warning", True)} <= seen


def test_the_declaration_fits_the_reader(content: Content) -> None:
    declared = Dataset.load(DECLARED)
    assert {task.name for task in declared.task} == set(content.labels["task"].to_pylist())
