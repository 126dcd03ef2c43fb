"""`make bench-streets`: what a labelling budget buys on `streets`, mined against random.

Each seed renders its own scenes into a fresh workspace. Both arms begin with the labels that the data set imports, run
the one loop of `amber/loop.py` with the same network, policy and training, and spend the same budget; only their
requests differ. The first run, before any label is bought, is shared by both. An error is one minus
accuracy, or the mean absolute error over that of the best constant; differences are in percentage points, mined minus
random, paired by seed, with 95% intervals. The table shows every task and rare slice, and whether any is worse.
JOBS is how many seeds run at once; KEPT=FOLDER keeps what finished seeds gave.
"""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from amber.loop import Loop, Round, run_loop
from benchmarks.max_t import max_t
from benchmarks.seeds import by_seed
from benchmarks.table import Row, finish, small
from curation.catalog.catalog import Catalog
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers.policy.policy import Policy
from training.recipe import Recipe

DATASET = Path(__file__).resolve().parent.parent / "datasets" / "streets"
SEEDS = int(os.environ.get("SEEDS", "2" if small() else "8"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "16"))
"""Seeds 0 to 3 served while the rules of mining were chosen, and 0 to 15 have been looked at: 16 to 23 judge.
`bench-pays` reports on the scenes of the same seeds."""
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))
IMAGES = int(os.environ.get("IMAGES", "1500" if small() else "20000"))
ROUNDS, BUDGET = (1, 100) if small() else (2, 500)
FIRST_DRAWS, DRAWS = (16_000, 8_000) if small() else (64_000, 24_000)
AUTHOR = "bench"

Errors = dict[str, float]
"""Error in points by "task" or "task: slice", on test."""


def main() -> None:
    """Run all seeds and print the paired differences."""
    with tempfile.TemporaryDirectory(prefix="bench-streets-") as name:
        seeds = range(FIRST_SEED, FIRST_SEED + SEEDS)
        found = by_seed("streets", seeds, partial(one_seed, Path(name)), processes=JOBS)
    finish("streets", _rows(found), images=IMAGES, seeds=SEEDS, labels=ROUNDS * BUDGET, rounds=found)


def one_seed(folder: Path, seed: int) -> dict[str, list[Errors]]:
    """Errors after each round of both arms."""
    errors: dict[str, list[Errors]] = {}
    dataset = Dataset.load(DATASET).with_reader({"images": IMAGES, "seed": seed})
    os.environ["AMBER_CACHE"] = str(folder / f"{seed}-images")
    homes = {arm: folder / f"{seed}-{arm}" for arm in ("mined", "random")}
    for arm, home in homes.items():
        catalog = Catalog.create(home)
        ingest(catalog, dataset, author=AUTHOR, seed=seed)
        if arm == "random":
            for part in ("embeddings", "runs"):
                shutil.copytree(homes["mined"] / part, home / part)
        loop = Loop(
            rounds=ROUNDS, start=0, budget=BUDGET, draws=DRAWS, first_draws=FIRST_DRAWS, seed=seed,
            recipe=Recipe.of("small", seed=seed, threads=1),
            random_share=0.15 if arm == "mined" else 1.0, policy=Policy.load(DATASET / "policy.toml"),
        )  # fmt: skip
        errors[arm] = [_errors(step) for step in run_loop(catalog, loop, author=AUTHOR)]
    for leftover in (*homes.values(), folder / f"{seed}-images"):
        shutil.rmtree(leftover)
    return errors


def _errors(step: Round) -> Errors:
    return {
        f"{row['task']}: {row['slice']}" if row["slice"] else row["task"]: _points(row)
        for row in step.figures
        if row["split"] == "test" and (not row["slice"] or row["slice"] in step.found)
    }


def _points(row: dict[str, object]) -> float:
    value = float(str(row["value"]))
    return 100 * value / SPEED_SPREAD if row["metric"] == "mae" else 100 * (1 - value)


SPEED_SPREAD = 22.0
"""Mean absolute error, in km/h, of the best constant on the natural mixture of speeds."""


def _rows(found: list[dict[str, list[Errors]]]) -> list[Row]:
    names = list(found[0]["mined"][-1])
    mined, drawn = (
        np.array([[seed[arm][-1][name] for name in names] for seed in found]) for arm in ("mined", "random")
    )
    before = np.mean([[seed["mined"][0][name] for name in names] for seed in found], axis=0)
    half = stats.t.ppf(0.975, len(found) - 1) * stats.sem(mined - drawn, axis=0)
    chance = max_t(mined - drawn)
    rows = [
        Row(
            what=f"{name}, mined minus random", value=float(middle), unit=" points", asked="printed",
            low=float(middle - wide), high=float(middle + wide),
            peers={"before": float(start), "mined": float(bought), "random": float(least)},
        )
        for name, middle, wide, start, bought, least in zip(
            names, (mined - drawn).mean(axis=0), half, before, mined.mean(axis=0), drawn.mean(axis=0), strict=True
        )
    ]  # fmt: skip
    what = "no row worse than random: p of the largest t (sign flips)"
    return [*rows, Row(what=what, value=chance, asked="> 0.05", met=chance > 0.05)]


if __name__ == "__main__":
    main()
