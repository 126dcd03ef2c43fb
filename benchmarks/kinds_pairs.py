"""Two frames beside one on `street_signs`, with the same labels, draws and seeds.

`ROWS=pairs make bench-kinds` measures the error of `speed`, `ROWS=moving` what is found to move. With SCALE=small on
fewer images, steps and seeds. KEPT=FOLDER keeps what finished seeds of `moving` gave.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from scipy import stats

from benchmarks.kinds_signs import on_test, scenes, trained, workspace
from benchmarks.seeds import by_seed
from benchmarks.table import Row, small
from curation import Catalog
from curation.arrays import Floats
from samplers import Policy, make_pack, make_plan
from training import Recipe, evaluate, train
from training.evaluation.features import embed

__all__ = ["moving_rows", "pair_rows"]

IMAGES = 1_000 if small() else 4_000
STEPS = 60 if small() else 400
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("SEEDS", "2" if small() else "5")))
MOVING_STEPS = int(os.environ.get("STEPS", "4" if small() else "300"))
SIZE = (40, 64)
TASK = "speed"
ONE_FRAME: Final = {"inputs": 1, "gap": 0.0}


def pair_rows() -> list[Row]:
    """The mean absolute error with two frames beside that with one: small trunk from pixels, and exact heads."""
    with tempfile.TemporaryDirectory(prefix="amber-pairs-") as folder:
        homes = {inputs: _workspace(Path(folder) / f"frames{inputs}", inputs) for inputs in (1, 2)}
        drawn = {inputs: _errors(catalog, "small", SEEDS) for inputs, catalog in homes.items()}
        exact = {inputs: _errors(catalog, "efficientnet_lite0", SEEDS[:1]) for inputs, catalog in homes.items()}
        constant = _constant(homes[1])
    return [
        _row(f"speed MAE, two frames - one, small trunk, {len(SEEDS)} seeds", drawn[2] - drawn[1], drawn, constant),
        Row(
            what="speed MAE, two frames - one, exact heads on frozen features", value=float(exact[2][0] - exact[1][0]),
            unit=" km/h", asked="(printed)", peers={"one": float(exact[1][0]), "two": float(exact[2][0])},
        ),
    ]  # fmt: skip


def moving_rows() -> list[Row]:
    """AP50 of what moves with two frames beside that with one, each seed on images, plans and networks of its own."""
    found = by_seed("moving", SEEDS, _moving)
    precision = {inputs: np.array([seed[f"{inputs} moving ap50"] for seed in found]) for inputs in (1, 2)}
    means = {
        f"{name}, {word}": float(np.mean([seed[f"{inputs} {metric}"] for seed in found]))
        for name, metric in (("AP50 of road users", "ap50"), ("moving or standing, boxes given", "moving:accuracy"))
        for inputs, word in ((1, "one"), (2, "two"))
    }
    mean, low, high = _bounds(precision[2] - precision[1])
    ends = {word: float(precision[inputs].mean()) for inputs, word in ((1, "one"), (2, "two"))}
    return [
        Row(
            what=f"AP50 of what moves, two frames - one, {len(found)} seeds", value=mean, low=low, high=high,
            limit="one-sided 95% bound", asked="bound above 0", met=low > 0, peers=ends | means,
        )
    ]  # fmt: skip


def _moving(seed: int) -> dict[str, float]:
    """The figures of road users on test with one frame and with two, of one seed."""
    found = {}
    with scenes() as folder:
        for inputs in (1, 2):
            home = workspace(folder / f"{inputs}", IMAGES, seed=seed, road_users=ONE_FRAME if inputs == 1 else {})
            recipe = Recipe.parse(
                {"trunk": "small", "size": SIZE, "boxes": {"stride": 4, "width": 32}, "seed": seed, "threads": 1,
                 "global_batch": 64}
            )  # fmt: skip
            run, seconds = trained(home, ["road_users"], recipe, draws=64 * MOVING_STEPS)
            figures = on_test(home, run)
            for metric in ("ap50", "moving:accuracy"):
                found[f"{inputs} {metric}"] = figures[f"road_users {metric}"]
            found |= {f"{inputs} moving ap50": figures["moving ap50"], f"{inputs} seconds": seconds}
    return found


def _workspace(home: Path, inputs: int) -> Catalog:
    return workspace(home, IMAGES, speed=ONE_FRAME if inputs == 1 else {})


def _errors(catalog: Catalog, trunk: str, seeds: Sequence[int]) -> Floats:
    """The error on test of each seed, by plans and networks of that seed."""
    pack, found = make_pack(catalog), []
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    own = policy.task[TASK].model_copy(update={"share": 1.0, "importance": 1.0})
    for seed in seeds:
        begun = time.perf_counter()
        plan = make_plan(catalog, policy.model_copy(update={"task": {TASK: own}}), pack, draws=64 * STEPS, seed=seed)
        recipe = Recipe.parse({"trunk": trunk, "size": SIZE, "seed": seed, "threads": 1, "global_batch": 64})
        embed(catalog.home, pack, recipe)
        figures = evaluate(train(recipe, plan, catalog), catalog, author="bench").to_pylist()
        found += [row["value"] for row in figures if (row["slice"], row["split"], row["task"]) == ("", "test", TASK)]
        line = f"{catalog.home.name} {trunk} seed {seed}: {found[-1]:.2f} in {time.perf_counter() - begun:.0f} s"
        sys.stderr.write(f"{line}\n")
    return np.array(found)


def _constant(catalog: Catalog) -> float:
    """The error of the median of the training labels."""
    with catalog.read() as now:
        labels = now.labels(TASK)
        splits = {part: np.isin(labels["sample_id"], now.split_ids(part)) for part in ("train", "test")}
    values = labels["number"].to_numpy()
    return float(np.abs(values[splits["test"]] - np.median(values[splits["train"]])).mean())


def _row(what: str, differences: Floats, errors: dict[int, Floats], constant: float) -> Row:
    mean, low, high = _bounds(differences)
    return Row(
        what=what, value=mean, unit=" km/h", low=low, high=high, limit="one-sided 95% bound",
        asked="bound below 0", met=high < 0,
        peers={"one": float(errors[1].mean()), "two": float(errors[2].mean()), "median of train": constant},
    )  # fmt: skip


def _bounds(differences: Floats) -> tuple[float, float, float]:
    """The mean difference over seeds with its one-sided 95% bounds (Student's t)."""
    spread = float(differences.std(ddof=1)) / len(differences) ** 0.5
    reach = float(stats.t.ppf(0.95, len(differences) - 1)) * spread
    mean = float(differences.mean())
    return mean, mean - reach, mean + reach
