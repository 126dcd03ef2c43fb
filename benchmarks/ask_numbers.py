"""Requests for a task of numbers: expected gain beside farthest-first and random labels, by the error on test.

`SETS=speeds` (IMAGES scenes of `streets`) or `cards` (the value of the cards in CARDS=FOLDER). 150 labels at random,
then 200 in two batches, of which 15% at random; a solved head on the frozen trunk's features judges. A quarter of the
groups is for test, drawn by the seed; SEEDS seeds from FIRST_SEED (1000) on.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.heads_data import AllLabels, declared
from benchmarks.kinds_several import interval
from benchmarks.streets_data import streets_folder
from benchmarks.table import Row, small
from curation.arrays import Bools, Float32s, Floats, Ints
from curation.images.embeddings import farthest_first, principal_directions
from curation.requests.expected_gain import chosen_ridge, most_expected_gain
from training.loop.exact_heads import exact_head

__all__ = ["number_rows"]

SETS = os.environ.get("SETS", "speeds").split(",")
FIRST_SEED = int(os.environ.get("FIRST_SEED", "1000"))
SEEDS = int(os.environ.get("SEEDS", "2" if small() else "12"))
START, BATCH, BATCHES, RANDOM_SHARE, WIDTH = 150, 100, 2, 0.15, 64
ARMS = ("expected gain", "farthest-first", "random")


def number_rows() -> list[Row]:
    """The error of expected gain and of farthest-first, minus that of random labels, in percent of it."""
    torch.set_num_threads(1)
    rows = []
    for name in SETS:
        with tempfile.TemporaryDirectory(prefix="bench-numbers-") as folder:
            task = {"speeds": "speed", "cards": "value"}[name]
            source = streets_folder(Path(folder)) if name == "speeds" else Path(os.environ["CARDS"])
            data = declared(source, Path(folder) / "home")
        directions = principal_directions(data.features.numpy(), WIDTH, np.random.default_rng(0))
        principal = np.asarray(data.features.numpy() @ directions, np.float32)
        errors: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
            for arm in ARMS:
                errors[arm].append(_error(data, principal, task, arm, seed))
            sys.stderr.write(f"{name} {seed} " + ", ".join(f"{arm} {errors[arm][-1]:.3f}" for arm in ARMS) + "\n")
        rows += _rows(f"{name}, {task}", errors)
    return rows


def _rows(what: str, errors: dict[str, list[float]]) -> list[Row]:
    drawn, rows = np.array(errors["random"]), []
    for arm in ARMS[:2]:
        value, low, high = interval((100 * (np.array(errors[arm]) - drawn) / drawn.mean()).tolist())
        asked = "high < 0" if arm == ARMS[0] else ""
        peers = {f"MAE {name}": float(np.mean(errors[name])) for name in (arm, "random")}
        rows.append(
            Row(what=f"{what}: error of {arm} minus random's", value=value, unit="%", low=low, high=high, asked=asked,
                met=not asked or high < 0, peers=peers)
        )  # fmt: skip
    return rows


def _error(data: AllLabels, principal: Float32s, task: str, arm: str, seed: int) -> float:
    """The mean absolute error on test after all batches."""
    values = data.values[task]
    usable = np.flatnonzero(np.isfinite(values))
    groups = np.unique(data.groups, return_inverse=True)[1]
    generator = np.random.default_rng([seed, 3])
    named = generator.permutation(np.unique(groups[usable]))
    held = np.isin(groups[usable], named[: len(named) // 4])
    pool, test = usable[~held], usable[held]
    known, draws = generator.permutation(pool)[:START], np.random.default_rng([seed, 7])
    for _ in range(BATCHES):
        known = np.r_[known, _batch(data, principal, (pool, known, values, groups), arm, draws)]
    labels = data.labels(data.tasks[task], known, values[known])
    features = data.features[torch.from_numpy(known)].double()
    head = exact_head(labels, features, seed=seed)
    asked = data.features[torch.from_numpy(test)].double()
    outputs = (asked @ head.weights.T + head.biases).numpy()[:, 0]
    predicted = outputs * labels.task.deviation + labels.task.mean
    return float(np.abs(predicted - values[test]).mean())


def _batch(
    data: AllLabels, principal: Float32s, state: tuple[Ints, Ints, Floats, Ints], arm: str, draws: "np.random.Generator"
) -> Ints:
    """The rows of the next batch."""
    pool, known, values, groups = state
    open_: Bools = ~np.isin(pool, known)
    drawn = draws.permutation(np.flatnonzero(open_))[: BATCH if arm == "random" else round(RANDOM_SHARE * BATCH)]
    open_[drawn] = False
    count, taken = BATCH - len(drawn), np.flatnonzero(~open_)
    if not count:
        return pool[drawn]
    if arm == "farthest-first":
        return pool[np.r_[drawn, farthest_first(data.features.numpy()[pool], taken, count)]]
    ridge = chosen_ridge(principal[known], values[known], groups[known])
    found, _ = most_expected_gain(principal[pool], taken, open_, groups[pool], count, ridge=ridge)
    return pool[np.r_[drawn, found]]
