"""Trees of tasks with the same seeds: shared, separate and drawn by hand, on the cards and on `streets`."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy import stats

from amber.compare_trees import TreeComparison, compare_trees
from benchmarks.table import Row, small
from benchmarks.train_data import CARDS, THREADS, cards, evenly_planned, on_features, streets
from curation.arrays import Floats
from curation.catalog.catalog import Catalog
from samplers import Plan
from training.recipe import Recipe

__all__ = ["trees_rows"]

SEEDS = int(os.environ.get("SEEDS", "2" if small() else "5"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
STEPS = int(os.environ.get("STEPS", "100" if small() else "1500"))
STREETS_STEPS = int(os.environ.get("STEPS", "20" if small() else "400"))
IMAGES = int(os.environ.get("IMAGES", "400" if small() else "4000"))
TURNS = 50

ON_CARDS = {
    "branch": {
        "marks": {"width": 512, "tasks": ["suit", "colour"]},
        "figures": {"width": 512, "tasks": ["*"]},
    }
}
"""Drawn by hand: what is printed in which colour, and which figure it is (rank, face, value; the card itself)."""

ON_STREETS = {
    "branch": {
        "signals": {"parent": "trunk:stage2", "tasks": ["light_present", "light_color", "stop_sign"]},
        "users": {"tasks": ["pedestrian", "car", "bicycle"]},
        "motion": {"parent": "trunk:stage2", "width": 32, "tasks": ["speed"]},
    }
}
"""Drawn by hand: small signals and motion blur leave the trunk where its maps are still fine."""

Made = tuple[Catalog, Plan, dict[str, object]]


def trees_rows(folder: Path) -> list[Row]:
    """The rows of the data set of DATA, where there is one, and of `streets`; PART names one of them."""
    parts: dict[str, Callable[[], list[Row]]] = {"streets": lambda: _rows("streets", _streets(folder), ON_STREETS)}
    if CARDS:
        name = Path(CARDS).name
        parts = {name: lambda: _rows(name, _cards(folder), ON_CARDS, asked="card")} | parts
    chosen = os.environ.get("PART", ",".join(parts)).split(",")
    return [row for name, rows in parts.items() if name in chosen for row in rows()]


def _cards(folder: Path) -> Callable[[int], Made]:
    def make(seed: int) -> Made:
        catalog = cards(folder, seed)
        return catalog, evenly_planned(catalog, STEPS), on_features(catalog, seed, schedule="cosine")

    return make


def _streets(folder: Path) -> Callable[[int], Made]:
    def make(seed: int) -> Made:
        catalog = streets(folder, seed, IMAGES, features=False)
        words = {"trunk": "small", "threads": THREADS, "seed": seed}
        return catalog, evenly_planned(catalog, STREETS_STEPS), words

    return make


def _rows(name: str, make: Callable[[int], Made], by_hand: Mapping[str, object], asked: str = "") -> list[Row]:
    """Per task what sharing brings beside separate networks and beside the tree by hand, and what each tree costs."""
    found = [_compared(name, seed, make, by_hand) for seed in range(FIRST_SEED, FIRST_SEED + SEEDS)]
    values = {
        task: {tree: np.array([_value(each, tree, task) for each in found]) for tree in TREES}
        for task in dict.fromkeys(figure.task for figure in found[0].figures)
    }
    rows = []
    for task, by_tree in values.items():
        peers = {tree: float(each.mean()) for tree, each in by_tree.items()}
        for other in TREES[1:]:
            rows.append(_row(f"{name}, {task}: shared minus {other}", by_tree["shared"] - by_tree[other], peers))
            if (task, other) == (asked, "separate"):
                met = rows[-1].value >= 0.04
                rows[-1] = Row(**{**vars(rows[-1]), "asked": ">= 0.04", "met": met})
    for place, tree in enumerate(found[0].trees):
        score = np.array([each.trees[place].score for each in found])
        spent = {"parameters": float(tree.parameters), "MACs": float(tree.macs)}
        spent["ms an image"] = float(np.median([each.trees[place].milliseconds for each in found]))
        rows.append(_row(f"{name}, {tree.tree}: score, mean of tasks", score, spent))
    return rows


TREES = ("shared", "separate", "by_hand")


def _compared(name: str, seed: int, make: Callable[[int], Made], by_hand: Mapping[str, object]) -> TreeComparison:
    catalog, plan, words = make(seed)
    recipes = {tree: Recipe.parse({**words, "tree": by_hand if tree == "by_hand" else tree}) for tree in TREES}
    found = compare_trees(catalog, plan, recipes, seeds=[seed], turns=TURNS)
    apart = [
        f"{figure.task} {figure.value:.3f} {figure.tree}" for figure in found.figures if not figure.slice
    ]  # fmt: skip
    sys.stderr.write(f"trees, {name}, seed {seed}: {', '.join(apart)}\n")
    sys.stderr.flush()
    return found


def _value(comparison: TreeComparison, tree: str, task: str) -> float:
    (figure,) = [each for each in comparison.figures if (each.tree, each.task, each.slice) == (tree, task, "")]
    return figure.value


def _row(what: str, values: Floats, peers: dict[str, float]) -> Row:
    """The mean over seeds, with Student's 95% interval."""
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    mean = float(values.mean())
    return Row(what=what, value=mean, low=mean - half, high=mean + half, asked="printed", peers=peers)
