"""How many of the boxes nearest to a box are of the same object, beside searches of whole images.

A box is searched among those of other groups: test and validation images of `street_signs` (IMAGES scenes, with 32
kinds of signs and 3 of road users), and with CINTA photographs of traffic lights in that folder (3 colours). A whole
image is a hit where it holds a box of the same class. Nothing was tuned.
"""

import csv
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

import numpy as np
from PIL import Image
from scipy import stats

from benchmarks.heads_data import DATASETS
from benchmarks.kinds_detection import CINTA_FILES, declared_boxes
from benchmarks.table import Row, small
from curation.analysis.box_attributes import stated_values
from curation.arrays import Bools, Floats, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.labelled_crops import LabelledCrop, LabelledCrops
from curation.images.crops import crop_of
from curation.images.embeddings import Embeddings, writing_in
from curation.images.similar import SimilarImages
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers.pack.pack_writer import make_pack
from training.evaluation.crop_features import embed_crops, pixels_of
from training.evaluation.features import embed
from training.evaluation.intervals import proportion
from training.recipe import Recipe

__all__ = ["crop_rows"]

IMAGES = int(os.environ.get("IMAGES", "400" if small() else "3000"))
COUNT, SIDE, QUERIES = 10, 8, 400
AUTHOR = "bench"
SIGNS: Final = Recipe(size=(80, 128), threads=1)
LIGHTS: Final = Recipe(size=(128, 128), threads=1)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """The n boxes of a data set that are searched, with their classes and the groups of their images [n]; `files` and
    `of_group` have file and group of every image that may be found."""

    crops: list[LabelledCrop]
    classes: Ints
    groups: Ints
    files: dict[str, tuple[str, str]]
    of_group: dict[str, int]


def crop_rows() -> list[Row]:
    """The share of the 10 nearest boxes that are of the same class as the wanted one, beside whole images."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-ask-") as name,
        patch.dict(os.environ, AMBER_CACHE=f"{name}/images"),
    ):
        catalog = Catalog.create(Path(name) / "home")
        ingest(catalog, Dataset.load(DATASETS / "street_signs").with_reader({"images": IMAGES}), author=AUTHOR)
        judged = ("test", "validation")
        rows = _rows("signs of 32 kinds", catalog, "signs", SIGNS, attribute="sign_kind", splits=judged)
        rows += _rows("road users of 3 classes", catalog, "road_users", SIGNS, splits=judged)
    if data := os.environ.get("CINTA", ""):
        with tempfile.TemporaryDirectory(prefix="bench-ask-") as name:
            files = list(csv.DictReader(CINTA_FILES.open(encoding="utf-8")))
            catalog = declared_boxes("cinta_lights", Path(data), Path(name), files)
            rows += _rows("lights of 3 colours", catalog, "lights", LIGHTS)
    return rows


def _rows(
    what: str, catalog: Catalog, task: str, recipe: Recipe, *, attribute: str = "", splits: tuple[str, ...] = ()
) -> list[Row]:
    images = embed(catalog.home, make_pack(catalog), recipe)
    assert images
    boxes = _boxes(catalog, task, attribute, splits)
    crops = embed_crops(catalog.home, recipe, task, boxes.crops, boxes.files)
    ours, whole = _precision(boxes, crops, crops), _precision(boxes, images, images)
    pixels = _pixels(catalog.home, boxes)
    beside = {
        "whole image": whole, "crop among whole images": _precision(boxes, crops, images),
        f"crop of {SIDE} x {SIDE} pixels": _precision(boxes, pixels, pixels), "chance": _chance(boxes),
    }  # fmt: skip
    groups = boxes.groups[_wanted(boxes)]
    figure, (low, high) = proportion(ours, np.ones(len(ours)), groups), _mean_interval(ours - whole, groups)
    return [
        Row(
            what=f"{what}, {len(boxes.crops):,} boxes: of the {COUNT} nearest of other groups, of the same class",
            value=100 * (figure.value or 0), unit="%", low=100 * (figure.low or 0), high=100 * (figure.high or 0),
            asked="above whole images", met=low > 0,
            peers={f"{name} %": 100 * float(part.mean()) for name, part in beside.items()}
            | {"minus whole image, from": 100 * low, "to": 100 * high},
        )
    ]  # fmt: skip


def _boxes(catalog: Catalog, task: str, attribute: str, splits: tuple[str, ...]) -> Boxes:
    """One box of each place whose class is known, on images of these splits ("": of any)."""
    with catalog.read() as now:
        known, samples = LabelledCrops.at(now, task), now.samples().to_pylist()
        codes = known.codes.astype(np.float64)
        if attribute:
            declared = dict(known.task.attributes)[attribute]
            assert not isinstance(declared, str)
            codes = stated_values(known.flat, attribute, declared)
    inside = {row["key"] for row in samples if not splits or row["split"] in splits}
    names = sorted({row["group"] for row in samples})
    of_group = {row["key"]: names.index(row["group"]) for row in samples if row["key"] in inside}
    rows = [row for row in np.flatnonzero(known.usable & np.isfinite(codes)).tolist() if known.keys[row] in inside]
    places = {known.crop(row).id: row for row in reversed(rows)}
    rows = sorted(places.values())
    crops = [known.crop(row) for row in rows]
    return Boxes(
        crops=crops, classes=codes[rows].astype(np.int64), groups=np.array([of_group[crop.key] for crop in crops]),
        files={row["key"]: (row["location"], row["sha256"]) for row in samples}, of_group=of_group,
    )  # fmt: skip


def _wanted(boxes: Boxes) -> Ints:
    count = len(boxes.crops)
    return np.sort(np.random.default_rng(0).permutation(count)[:QUERIES])


def _names(boxes: Boxes, crops: bool) -> tuple[dict[str, set[int]], dict[str, int]]:
    """The classes and the group of everything that can be found, by its name in the embeddings."""
    classes, groups = dict[str, set[int]](), {} if crops else dict(boxes.of_group)
    for crop, code, group in zip(boxes.crops, boxes.classes.tolist(), boxes.groups.tolist(), strict=True):
        name = crop.id if crops else crop.key
        classes.setdefault(name, set()).add(code)
        groups[name] = group
    return classes, groups


def _precision(boxes: Boxes, of: Embeddings, among: Embeddings) -> Floats:
    """The share [wanted] of the nearest in `among` that hold the class, by the vectors of the wanted ones in `of`."""
    search, crops = SimilarImages(among), among.keys[0] not in boxes.files
    classes, groups = _names(boxes, crops)
    group: Ints = np.array([groups.get(name, -1) for name in among.keys])
    shares = list[float]()
    for row in _wanted(boxes).tolist():
        crop, code = boxes.crops[row], int(boxes.classes[row])
        vector = of.of([crop.key if of.keys[0] in boxes.files else crop.id])[0].astype(np.float32)
        without: Bools = np.asarray((group == boxes.groups[row]) | (group < 0), np.bool_)
        nearest = search.nearest(search.of_vector(vector), COUNT, without=without)
        shares.append(float(np.mean([code in classes.get(part.key, ()) for part in nearest])))
    return np.array(shares)


def _mean_interval(values: Floats, groups: Ints) -> tuple[float, float]:
    """The 95% interval of the mean of `values` [n], by Student's t over groups."""
    names, place = np.unique(groups, return_inverse=True)
    sums = np.bincount(place, values - values.mean())
    error = float(np.sqrt((sums**2).sum() * len(names) / max(1, len(names) - 1))) / len(values)
    half = float(stats.t.ppf(0.975, max(1, len(names) - 1))) * error
    return float(values.mean()) - half, float(values.mean()) + half


def _chance(boxes: Boxes) -> Floats:
    """The share [wanted] of all boxes of other groups that are of the class."""
    others = [boxes.classes[boxes.groups != boxes.groups[row]] == boxes.classes[row] for row in _wanted(boxes).tolist()]
    return np.array([float(part.mean()) for part in others])


def _pixels(home: Path, boxes: Boxes) -> Embeddings:
    """Few pixels of each crop, in place of the features of a trunk."""
    folder = home / "embeddings" / "pixels"
    with writing_in(folder, "pixels", [crop.id for crop in boxes.crops], [("pixels", SIDE * SIDE * 3)]) as vectors:
        for row, crop in enumerate(boxes.crops):
            part = Image.fromarray(crop_of(pixels_of(crop.key, boxes.files[crop.key]), crop.corners))
            vectors[row] = np.asarray(part.resize((SIDE, SIDE)), np.float32).ravel() / 255
    return Embeddings(folder)
