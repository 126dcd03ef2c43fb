"""Boxes from two frames: what has moved since the frame before, from labels to figures, an export and a later run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.drawn_boxes import boxes_plan
from support.homes import label, labels, sample_rows

from curation import Catalog, Task
from samplers import Plan
from training import Recipe, Run, evaluate, train
from training.deployment.export import export_model
from training.loop.smoke import smoke
from training.network.model import load_any
from training.network.tree_network import TreeNetwork
from training.recipe import BoxRecipe

MOVERS = Task.model_validate(
    {"name": "movers", "kind": "detection", "classes": ["block"], "owner": "ada", "inputs": 2, "gap": 0.15,
     "attributes": {"moving": ["false", "true"]}}
)  # fmt: skip
RECIPE = Recipe.of("small", size=(32, 48), global_batch=16, threads=1, boxes=BoxRecipe(width=16, stride=4, most=10))
GROUPS = 160


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Two frames a group with two blocks in each, of which every one moves by 6 pixels or stands; a quarter is test."""
    folder, generator = tmp_path_factory.mktemp("movers"), np.random.default_rng(0)
    made, keys, paths, rows = Catalog.create(folder / "home"), list[str](), list[Path](), list[dict[str, object]]()
    attributes: dict[str, list[object]] = {"key": [], "group": [], "captured_at": [], "split": []}
    for group in range(GROUPS):
        lefts, moves = generator.integers(8, 12, 2) + np.array([0, 20]), generator.integers(0, 2, 2)
        ways, top = generator.choice((-6, 6), 2), int(generator.integers(4, 18))
        for frame in range(2):
            keys.append(f"{group:03d}-{frame}")
            paths.append(folder / f"{keys[-1]}.png")
            pixels, boxes = generator.integers(0, 30, (32, 48, 3)), []
            for left, moved, way in zip(lefts, moves, ways, strict=True):
                x = int(left + (frame * way if moved else 0))
                pixels[top : top + 10, x : x + 10] = (200, 200, 60)
                box = {"class": "block", "x": float(x), "y": float(top), "w": 10.0, "h": 10.0}
                boxes.append({**box, "attributes": [("moving", "true" if moved else "false")]})
            Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
            if frame:
                rows.append(label(keys[-1], "movers", boxes))
            split = ("train", "train", "train", "test")[group % 4]
            for name, value in zip(attributes, (keys[-1], f"g{group}", frame * 100_000, split), strict=True):
                attributes[name].append(value)
    table = {name: pa.array(values) for name, values in attributes.items()}
    table["captured_at"] = table["captured_at"].cast(pa.timestamp("us"))
    with made.commit(author="ada", message="blocks") as change:
        change.add_tasks([MOVERS])
        change.add_samples(sample_rows(keys, paths), dataset="blocks")
        change.add_attributes(pa.table(table))
        change.add_labels(labels(rows), source="import")
    return made


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return boxes_plan(catalog, draws=2400, movers=1.0)[0]


@pytest.fixture(scope="module")
def learned(catalog: Catalog, plan: Plan) -> Run:
    return train(RECIPE, plan, catalog)


def test_what_moves_is_learned_from_the_frame_before(catalog: Catalog, learned: Run) -> None:
    rows = {(row["metric"], row["split"]): row for row in evaluate(learned, catalog, author="ada").to_pylist()}
    assert rows["ap50", "test"]["low"] > 0.6
    assert rows["moving:accuracy", "test"]["low"] > 0.75  # one frame says nothing: half of the blocks move


def test_an_exported_network_reads_both_frames(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    made = export_model(learned, catalog, tmp_path / "out")
    assert made.differences.onnx_recorded <= 1e-4


def test_a_later_run_takes_the_head_over_only_for_as_many_frames(catalog: Catalog, plan: Plan, learned: Run) -> None:
    again = train(replace(RECIPE, learning_rate=1e-9), boxes_plan(catalog, draws=16, movers=1.0)[0], catalog,
                  parent=learned.id)  # fmt: skip
    first, second = (load_any(run, plan.tasks, catalog.home) for run in (learned, again))
    assert isinstance(first, TreeNetwork)
    assert isinstance(second, TreeNetwork)
    for name, weights in first.state_dict().items():
        assert np.allclose(weights, second.state_dict()[name], atol=1e-6), name
    one = MOVERS.model_copy(update={"inputs": 1, "gap": 0.0})
    with catalog.commit(author="ada", message="one frame") as change:
        change.redefine_task(one, {})
    try:
        single = train(RECIPE, boxes_plan(catalog, draws=16, movers=1.0)[0], catalog, parent=learned.id)
    finally:
        with catalog.commit(author="ada", message="two again") as change:
            change.redefine_task(MOVERS, {})
    assert any("movers: its head reads or predicts something else" in line for line in single.alarms)


def test_the_check_before_a_training_reads_both_frames(catalog: Catalog, plan: Plan) -> None:
    found = smoke(RECIPE, plan, catalog)
    assert all(part.fits for part in found)
