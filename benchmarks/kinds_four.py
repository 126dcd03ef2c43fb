"""Four tasks of a road in one network beside one network each, in equal CPU time, on `street_signs`.

A sign detector (boxes), a sign parser (which of 32 signs is in the box), a detector of what moves (boxes of two
frames) and a speed predictor (two frames). Run by `ROWS=four make bench-kinds`. Each seed has images, plans and initial
weights of its own. DRAWS is how many draws the one network learns from; KEPT=FOLDER keeps what finished seeds gave.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np

from benchmarks.kinds_several import interval
from benchmarks.kinds_signs import on_test, scenes, trained, workspace
from benchmarks.max_t import max_t
from benchmarks.seeds import by_seed
from benchmarks.table import Row, small
from curation import Catalog
from curation.arrays import Floats
from training import Recipe

__all__ = ["four_rows"]

IMAGES = int(os.environ.get("IMAGES", "400" if small() else "4000"))
DRAWS = int(os.environ.get("DRAWS", "256" if small() else "20480"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("SEEDS", "1" if small() else "5")))
WORDS: Final = {
    "trunk": "small",
    "size": (40, 64),
    "boxes": {"width": 32, "stride": 4},
    "threads": 1,
    "global_batch": 64,
}

FIGURES: Final = {
    "sign detector, AP50": ("signs ap50", 1), "sign parser, accuracy of boxes given": ("signs sign_kind:accuracy", 1),
    "moving objects, AP50": ("moving ap50", 1), "speed, MAE in km/h": ("speed mae", -1),
}  # fmt: skip
"""The figure of each of the four, and whether more of it is better (1) or worse (-1)."""

WEIGHTS: Final = {"signs": 2.0, "road_users": 1.0, "speed": 1.0}
"""Shares and importances of the one network: `signs` holds two of the four, the detector and the parser."""

ALONE: Final = {
    "detector": ("plain", "signs", "signs ap50", 1.17), "parser": ("four", "signs", "signs sign_kind:accuracy", 1.0),
    "movers": ("four", "road_users", "moving ap50", 0.37), "speed": ("four", "speed", "speed mae", 0.43),
}  # fmt: skip
"""The networks of one task: workspace, task, figure, and draws over those of the one network for all. By seed 100 each
takes a quarter of its CPU time; what they took is printed."""


def four_rows() -> list[Row]:
    """The paired differences of the four figures over seeds, whether one is worse, and what both arms took."""
    found = by_seed("four", SEEDS, _figures)
    rows, worse = list[Row](), list[Floats]()
    for what, (figure, sign) in FIGURES.items():
        one, each = (np.array([seed[f"{arm} {figure}"] for seed in found]) for arm in ("one", "each"))
        worse.append(sign * (each - one))
        rows.append(_row(f"{what}: one network - one each, {len(found)} seeds", one - each, one, each))
    seconds = {arm: float(np.mean([seed[f"{arm} seconds"] for seed in found])) for arm in ("one", "each")}
    chance = max_t(np.stack(worse, axis=1))
    return [
        *rows,
        Row(
            what="no task worse: p of the largest t (sign flips)", value=chance, asked="> 0.05",
            met=chance > 0.05, peers={"CPU-s, one": seconds["one"], "CPU-s, one each": seconds["each"]},
        ),
    ]  # fmt: skip


def _figures(seed: int) -> Mapping[str, float]:
    """The figures on test of both arms of one seed, and their CPU seconds of training."""
    with scenes() as folder:
        make = partial(workspace, images=IMAGES, seed=seed)
        homes = {"four": make(folder / "four"), "plain": make(folder / "plain", signs={"attributes": ()})}
        found, seconds = _learned(homes["four"], ["signs", "road_users", "speed"], seed, DRAWS)
        one = {f"one {figure}": found[figure] for figure, _ in FIGURES.values()} | {"one seconds": seconds}
        each = {"each seconds": 0.0}
        for name, task, figure, share in ALONE.values():
            found, seconds = _learned(homes[name], [task], seed, round(DRAWS * share))
            each |= {f"each {figure}": found[figure], f"{figure} seconds": seconds}
            each["each seconds"] += seconds
    return one | each


def _learned(catalog: Catalog, names: list[str], seed: int, draws: int) -> tuple[Mapping[str, float], float]:
    """The figures on test of a network of these tasks, and the CPU seconds of its training."""
    run, seconds = trained(catalog, names, Recipe.parse({**WORDS, "seed": seed}), draws=draws, weights=WEIGHTS)
    return on_test(catalog, run), seconds


def _row(what: str, differences: Floats, one: Floats, each: Floats) -> Row:
    mean, low, high = interval(differences.tolist())
    return Row(
        what=what, value=mean, low=low, high=high, asked="printed",
        peers={"one network": float(one.mean()), "one each": float(each.mean())},
    )  # fmt: skip
