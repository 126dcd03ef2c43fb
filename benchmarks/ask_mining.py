"""What each strategy of requests finds and learns on data sets whose labels are all known: one table of all strategies.

- lights: `traffic_lights` with 10 yellow crops in the pool, 10% of the answers wrong; a split of its own for each seed,
  40 labels at random, then three rounds of 20
- cards, cinta: the data set of FOLDER in CARDS or CINTA, its rarest class at 1% or 10%, 5% of the answers wrong
- streets, speeds: IMAGES scenes, stop signs at 2%, and the speeds, for which the error counts

Seeds from FIRST_SEED (1000) on; nothing was chosen on them. SEEDS of each, on JOBS processes of one thread. SETS names
the data sets, STRATEGIES the strategies. Each point goes to stderr as it comes; KEPT=FOLDER keeps finished seeds.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from amber.loop import Loop
from amber.replayed_data import Simulation, make_template
from amber.simulate import ARMS, Point, simulate_seed
from amber.simulated_picture import draw, paired, simulated_table
from amber.terminal import output
from benchmarks.labels import AUTHOR, DATASET, embed_once
from benchmarks.seeds import by_seed
from benchmarks.streets_data import streets_folder
from benchmarks.table import Row, small
from curation.catalog.catalog import Catalog
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from training.recipe import Recipe

__all__ = ["mining_rows"]

FIRST_SEED = int(os.environ.get("FIRST_SEED", "1000"))
SEEDS = int(os.environ.get("SEEDS", "1" if small() else "24"))
JOBS = int(os.environ.get("JOBS", "1"))
SETS = os.environ.get("SETS", "lights").split(",")
NAMES = tuple(os.environ.get("STRATEGIES", ",".join(ARMS)).split(","))
KEPT = 10
"""Yellow crops in the pool."""
RECIPE = Recipe.of("efficientnet_lite0", threads=1)

Started = Callable[[int], tuple[Catalog, Simulation]]
"""The workspace of a seed, and what is simulated in it."""


def mining_rows() -> list[Row]:
    """For each data set a table and a picture of all strategies; ours beside margin and random, paired by seed."""
    rows = []
    for name in SETS:
        with tempfile.TemporaryDirectory(prefix="bench-mining-") as folder:
            points = _simulated(name, Path(folder))
        output().print(simulated_table(f"{name}, {SEEDS} seeds from {FIRST_SEED}", points))
        draw(name, points, Path("bench-out") / f"strategies-{name}.png")
        rows += _rows(name, points)
    return rows


def _simulated(name: str, home: Path) -> list[Point]:
    prepared = {"lights": _lights, "cards": _declared, "cinta": _declared, "streets": _streets, "speeds": _streets}
    started = prepared[name](name, home)
    found = by_seed(
        f"mining-{name}", range(FIRST_SEED, FIRST_SEED + SEEDS), partial(_of_seed, started, home), processes=JOBS
    )
    return [Point(**point) for points in found for point in points]


def _of_seed(started: Started, home: Path, seed: int) -> list[dict[str, Any]]:
    """The points of all strategies, as JSON holds them."""
    torch.set_num_threads(1)
    catalog, simulation = started(seed)
    found = []
    for point in simulate_seed(catalog, home, simulation, seed, arms=NAMES):
        found.append(asdict(point))
        sys.stderr.write(json.dumps(found[-1]) + "\n")
        sys.stderr.flush()
    return found


def _lights(name: str, home: Path) -> Started:
    embed_once(home)
    return partial(_split_lights, home)


def _split_lights(home: Path, seed: int) -> tuple[Catalog, Simulation]:
    """The lights, split by the seed."""
    catalog = Catalog.create(home / f"split-{seed}")
    ingest(catalog, Dataset.load(DATASET), author=AUTHOR, seed=seed)
    for part in ("embeddings", "shards"):
        (catalog.home / part).symlink_to(home / "features" / part)
    shutil.copytree(home / "features" / "packs", catalog.home / "packs")
    with catalog.read() as now:
        share = KEPT / len(now.training_ids())
    loop = Loop(rounds=3, budget=20, start=40, recipe=RECIPE)
    return catalog, Simulation(task="light_color", labels=("yellow",), share=share, wrong=0.1, loop=loop)


def _declared(name: str, home: Path) -> Started:
    folder = os.environ.get(name.upper(), "")
    if not folder:
        sys.exit(f"SETS={name}: needs {name.upper()}=FOLDER with its dataset.toml")
    cards = name == "cards"
    asked = Simulation(
        task="card" if cards else "colour", labels=("joker" if cards else "yellow",), share=0.01 if cards else 0.1,
        known=0.12, fitted=True, loop=Loop(rounds=3, budget=60, recipe=RECIPE),
    )  # fmt: skip
    return _template(Path(folder), home, asked)


def _streets(name: str, home: Path) -> Started:
    loop = Loop(rounds=3, budget=60, start=400, recipe=RECIPE)
    task, labels = ("speed", ()) if name == "speeds" else ("stop_sign", ("true",))
    return _template(
        streets_folder(home), home, Simulation(task=task, labels=labels, share=0.02, fitted=True, loop=loop)
    )


def _template(folder: Path, home: Path, asked: Simulation) -> Started:
    catalog, simulation = make_template(folder, home / "template", asked, lambda stage, done, total: None)
    return partial(_same, catalog.home, simulation)


def _same(home: Path, simulation: Simulation, seed: int) -> tuple[Catalog, Simulation]:
    return Catalog.open(home), simulation


def _rows(name: str, points: Sequence[Point]) -> list[Row]:
    """Differences after the last round: ours minus margin's and random's, then every other strategy minus random's."""
    figures: dict[str, Callable[[Point], float | None]] = {
        "AP": lambda point: point.ap,
        "recall": lambda point: point.recall,
    }
    if points[0].error is not None:
        figures = {"error, lower is better": lambda point: None if point.error is None else -point.error}
    rows = []
    for what, figure in figures.items():
        for other, asked in (("margin", "high >= 0"), ("random", "low > 0")):
            if found := paired(points, "mined", other, of=figure):
                met = found[2] >= 0 if other == "margin" else found[1] > 0
                rows.append(_row(f"{name}, {what}: mined minus {other}", found, asked, met=met))
        for arm in NAMES:
            if arm not in ("mined", "random") and (found := paired(points, arm, "random", of=figure)):
                rows.append(_row(f"{name}, {what}: {arm} minus random", found, ""))
    return rows


def _row(what: str, found: tuple[float, float, float], asked: str, *, met: bool = True) -> Row:
    value, low, high = found
    return Row(what=what, value=value, low=low, high=high, asked=asked, met=met)
