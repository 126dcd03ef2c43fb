"""Figures of attributes of boxes: equal to a plain loop over boxes, and from sums that merge."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.described_boxes import PLATES

from curation.arrays import Floats
from training.evaluation.attribute_sums import AttributeSums, attribute_sums
from training.evaluation.box_matching import Boxes
from training.evaluation.intervals import mean_of, proportion
from training.evaluation.predictions import BOXES, box_table, filled, schema_of

KIND = pa.struct([("attributes", pa.map_(pa.string(), pa.string()))])
MARKS = ("none", "dot", "bar")
IMAGES = 12
GROUPS = np.arange(IMAGES) // 2


def scene(seed: int, first: int = 0, last: int = IMAGES) -> list[list[dict[str, Any]]]:
    """Known, predicted and given boxes: far from each other, found or not, with attributes known or not."""
    generator = np.random.default_rng(seed)
    known, predicted, given = [], [], []
    for image in range(IMAGES):
        for place in range(int(generator.integers(0, 4))):
            box = {"image": image, "corners": np.r_[100.0 * place, generator.uniform(0, 9), 20.0, 20.0]}
            truth = described(generator, 0.7)
            draws = generator.random(3)
            known.append({**box, "said": truth, "crowd": draws[0] < 0.1})
            if draws[1] < 0.7:
                predicted.append({**box, "corners": box["corners"] + 1.0, "said": described(generator, 1.0)})
            if draws[2] < 0.8:
                given.append({**box, "said": described(generator, 1.0)})
    return [[box for box in part if first <= box["image"] < last] for part in (known, predicted, given)]


def described(generator: np.random.Generator, known: float) -> dict[str, str]:
    both = {"mark": str(generator.choice([*MARKS, "ring"])), "shade": f"{generator.uniform(0, 100):.2f}"}
    return {name: value for name, value in both.items() if generator.random() < known and value != "ring"}


def held(rows: list[dict[str, Any]]) -> tuple[Boxes, pa.Array]:
    count = len(rows)
    boxes = Boxes(
        images=np.array([row["image"] for row in rows], np.int64), codes=np.zeros(count, np.int64),
        corners=np.array([row["corners"] for row in rows]).reshape(count, 4), scores=np.ones(count),
        crowd=np.array([row.get("crowd", False) for row in rows], np.bool_),
    )  # fmt: skip
    return boxes, pa.array([(list(row["said"].items()),) for row in rows], KIND)


def sums_of(parts: list[list[dict[str, Any]]], weights: Floats) -> dict[str, AttributeSums]:
    known, predicted, given = map(held, parts)
    return attribute_sums(PLATES, known, predicted, given, weights, GROUPS)


def plain(parts: list[list[dict[str, Any]]], name: str) -> list[tuple[int, float, float, bool]]:
    """(image, error given, error found, found) of every known box; errors NaN where nothing is predicted."""
    known, predicted, given = parts
    rows = []
    for box in known:
        if box["crowd"] or name not in box["said"]:
            continue
        same = [each for each in given if each["image"] == box["image"] and (each["corners"] == box["corners"]).all()]
        near = [each for each in predicted if each["image"] == box["image"]
                and abs(each["corners"] - box["corners"]).max() < 2]  # fmt: skip
        said = [next((each["said"].get(name) for each in part), None) for part in (same, near)]
        rows.append((box["image"], *(error(name, box["said"][name], value) for value in said), bool(near)))
    return rows


def error(name: str, truth: str, value: str | None) -> float:
    if value is None:
        return math.nan
    return abs(float(truth) - float(value)) if name == "shade" else float(truth != value)


@pytest.mark.parametrize("seed", range(8))
def test_figures_equal_a_plain_loop_over_boxes(seed: int) -> None:
    parts, weights = scene(seed), np.random.default_rng(seed).uniform(0.5, 2, IMAGES)
    found = sums_of(parts, weights)
    for name, metric in (("mark", "accuracy"), ("shade", "mae")):
        rows = plain(parts, name)
        figures = found[name].figures()
        for column, key in ((1, metric), (2, f"{metric}_found")):
            mine = [row for row in rows if not math.isnan(row[column])]
            images = np.array([row[0] for row in mine], np.int64)
            errors = np.array([row[column] for row in mine])
            if name == "mark":
                wanted = proportion(1 - errors, weights[images], GROUPS[images])
            else:
                wanted = mean_of(errors, weights[images], GROUPS[images])
            assert vars(figures[key]) == pytest.approx(vars(wanted), nan_ok=True), key
        images = np.array([row[0] for row in rows], np.int64)
        hits = np.array([row[3] for row in rows], np.float64)
        assert vars(figures["recall"]) == pytest.approx(vars(proportion(hits, weights[images], GROUPS[images])))


def test_sums_of_parts_merge_to_the_whole() -> None:
    weights = np.linspace(0.5, 2, IMAGES)
    whole = sums_of(scene(3), weights)
    halves = [sums_of(scene(3, first, first + IMAGES // 2), weights) for first in (0, IMAGES // 2)]
    for name, part in whole.items():
        for order in ((0, 1), (1, 0)):
            merged = halves[order[0]][name] + halves[order[1]][name]
            for metric, figure in part.figures().items():
                assert vars(merged.figures()[metric]) == pytest.approx(vars(figure)), metric


def test_images_of_weight_zero_are_left_out_and_the_confusion_counts_boxes() -> None:
    sums = sums_of(scene(4), np.ones(IMAGES))["mark"]
    weights = (np.arange(IMAGES) < 6).astype(np.float64)
    part = sums_of(scene(4, 0, 6), weights)["mark"]
    assert vars(sums.weighted(weights).figures()["accuracy"]) == vars(part.figures()["accuracy"])
    here = np.isfinite(sums.given)
    assert sums.confusion().sum() == here.sum()
    assert np.trace(sums.confusion()) == (sums.given == sums.truth).sum()


def test_a_class_that_is_declared_no_more_is_wrong_and_without_predictions_there_is_no_figure() -> None:
    known, predicted, given = scene(5)
    for box in given:
        box["said"]["mark"] = "ring"
    figures = sums_of([known, predicted, given], np.ones(IMAGES))["mark"].figures()
    assert figures["accuracy"].value == 0.0
    assert sums_of([known, [], []], np.ones(IMAGES)) == {}


def test_predictions_without_attributes_fill_the_columns_and_give_no_figure() -> None:
    boxes = pa.array([[(0, 0.0, 1.0, 20.0, 20.0, 0.9)], []], BOXES.type)
    schema = schema_of([PLATES])
    table = filled(box_table("plates", pa.array(["a", "b"]), boxes), schema)
    assert table.schema.equals(schema)
    (first, second) = table["boxes"].to_pylist()
    assert (first[0]["score"], first[0]["attributes"], second) == (0.9, None, [])
    assert table["given"].null_count == 2
    assert "given" not in schema_of([PLATES.model_copy(update={"attributes": ()})]).names
    known = held([{"image": 0, "corners": np.r_[0.0, 1.0, 20.0, 20.0], "said": {"mark": "dot"}}])
    flat = table["boxes"].combine_chunks().flatten()
    none = held([])
    assert attribute_sums(PLATES, known, (known[0], flat), none, np.ones(IMAGES), GROUPS) == {}
