"""Exported networks beside PyTorch and beside what their runs recorded, and what another task changes in them."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.table import Row
from benchmarks.train_data import size_of, streets
from curation.catalog.catalog import Catalog
from samplers import Plan, Policy, make_pack, make_plan
from training import Recipe, Run, evaluate, train
from training.deployment.export import export_model

__all__ = ["export_rows"]

IMAGES = 400
DRAWS = 4096
ALONE = "light_color"
ADDED = "stop_sign"
LIMIT = 1e-4

LAMPS = {"parent": "trunk:stage3", "width": 64, "tasks": [ALONE]}
OWN = {"width": 32, "tasks": [ADDED]}


def export_rows(folder: Path) -> list[Row]:
    """The rows of exact heads on the pretrained trunk, and of a tree on a trunk that learned."""
    return [*_exact_rows(folder), *_tree_rows(folder)]


def _exact_rows(folder: Path) -> list[Row]:
    catalog = streets(folder, 0, IMAGES, features=True)
    run = _trained(catalog, _plan(catalog, ""), Recipe.of("efficientnet_lite0", size=size_of(catalog), threads=1))
    heads = ", ".join(sorted({head.kind for head in run.heads}))
    return _beside(catalog, run, folder, f"EfficientNet-Lite0 with {heads} heads")


def _tree_rows(folder: Path) -> list[Row]:
    catalog = streets(folder, 0, IMAGES, features=False)
    plan = _plan(catalog, "")
    whole = _trained(catalog, plan, _tree(lamps=LAMPS, own=OWN))
    rows = _beside(catalog, whole, folder, "a tree on the small trunk")
    parent = _trained(catalog, _plan(catalog, ADDED), _tree(lamps=LAMPS))
    still = {task.name: {"rate": 0.0} for task in plan.tasks if task.name != ADDED}
    added = _trained(catalog, plan, _tree(still, lamps=LAMPS, own=OWN), parent=parent.id)
    before, after = (_answers(catalog, run, folder / f"onnx-{run.id}") for run in (parent, added))
    apart = max(float(np.abs(after[name] - before[name]).max()) for name in before)
    what = f"ONNX answers of {len(before)} tasks after {ADDED} was added, and alone learned: largest difference"
    return [*rows, Row(what=what, value=apart * 1e6, unit="e-6", asked="0", met=apart == 0.0)]


def _tree(still: dict[str, dict[str, float]] | None = None, **branches: object) -> Recipe:
    """A tree on the small trunk; what the tasks of `still` read does not learn."""
    words = {"trunk": "small", "global_batch": 32, "threads": 1, "tree": {"tasks": ["*"], "branch": branches}}
    return Recipe.parse({**words, "task": still, "trunk_rate": 0.0} if still else words)


def _beside(catalog: Catalog, run: Run, folder: Path, what: str) -> list[Row]:
    rows = []
    for name, tasks in (("the whole", []), (f"the path of {ALONE}", [ALONE])):
        found = export_model(run, catalog, folder / f"{run.id}-{len(tasks)}", tasks=tasks).differences
        peers = {
            "beside the recorded predictions e-6": found.onnx_recorded * 1e6,
            "torch.export e-6": found.export * 1e6,
        }
        rows.append(
            Row(
                what=f"ONNX of {name} beside PyTorch, {what}, {found.images} images", value=found.onnx * 1e6,
                unit="e-6", asked="<= 100e-6", met=found.onnx <= LIMIT, peers=peers,
            )
        )  # fmt: skip
    return rows


def _plan(catalog: Catalog, without: str) -> Plan:
    with catalog.read() as now:
        tasks = [now.task(name) for name in Policy.for_labelled(now).task if name != without]
    return make_plan(catalog, Policy.even(tasks), make_pack(catalog), draws=DRAWS)


def _trained(catalog: Catalog, plan: Plan, recipe: Recipe, *, parent: str = "") -> Run:
    run = train(recipe, plan, catalog, parent=parent)
    evaluate(run, catalog, author="bench")
    return run


def _answers(catalog: Catalog, run: Run, folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The answers of a run's ONNX file on fixed random images, by task."""
    export_model(run, catalog, folder)
    words = json.loads((folder / "model.json").read_text())
    images = np.random.default_rng(0).integers(0, 256, (64, *words["input"]["shape"][1:]), np.uint8)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [task["name"] for task in words["tasks"]]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))
