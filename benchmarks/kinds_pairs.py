"""Two frames beside one: the error of `speed` on `street_signs`, the same labels, draws and seeds.

Run by `ROWS=pairs make bench-kinds`; with SCALE=small on fewer images, steps and seeds.
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

from benchmarks.table import Row, small
from curation import Catalog, Dataset, ingest
from curation.arrays import Floats
from samplers import Policy, make_pack, make_plan
from training import Recipe, evaluate, train
from training.evaluation.features import embed

__all__ = ["pair_rows"]

DATA: Final = Path(__file__).parents[1] / "datasets" / "street_signs"
IMAGES = 1_000 if small() else 4_000
STEPS = 60 if small() else 400
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("SEEDS", "2" if small() else "5")))
SIZE = (40, 64)
TASK = "speed"


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


def _workspace(home: Path, inputs: int) -> Catalog:
    declared = Dataset.load(DATA).with_reader({"images": IMAGES})
    speed = next(task for task in declared.task if task.name == TASK)
    alone = speed.model_copy(update={"inputs": inputs, "gap": speed.gap if inputs == 2 else 0.0})
    tasks = tuple(alone if task.name == TASK else task for task in declared.task)
    catalog = Catalog.create(home)
    ingest(catalog, declared.model_copy(update={"task": tasks}), author="bench")
    return catalog


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
    """The mean difference over seeds with its one-sided 95% bound (Student's t)."""
    spread = float(differences.std(ddof=1)) / len(differences) ** 0.5
    reach = float(stats.t.ppf(0.95, len(differences) - 1)) * spread
    mean = float(differences.mean())
    return Row(
        what=what, value=mean, unit=" km/h", low=mean - reach, high=mean + reach, limit="one-sided 95% bound",
        asked="bound below 0", met=mean + reach < 0,
        peers={"one": float(errors[1].mean()), "two": float(errors[2].mean()), "median of train": constant},
    )  # fmt: skip
