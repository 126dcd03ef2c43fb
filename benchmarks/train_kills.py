"""Trainings that are killed at random steps, in DISTILL and at a replan: whether they end at the same bits."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.table import Row, small
from benchmarks.train_data import THREADS, evenly_planned, streets
from benchmarks.train_process import remove_run, training_words
from benchmarks.train_stopping import make_catalog, planned, words
from curation import Catalog
from samplers import Plan
from training import Run, train
from training.recipe import Recipe

__all__ = ["kill_rows"]

KILLS = 2 if small() else 5
STEPS = 120 if small() else 400
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
EVERY = 7
"""Steps between checkpoints: most kills fall between two."""


def kill_rows(folder: Path) -> list[Row]:
    """A row for planted tasks on cached features, and one for `streets` from pixels."""
    catalog = make_catalog(folder, FIRST_SEED)
    rules = {"every": STEPS // 12, "patience": 1}
    recipe = Recipe.parse(words(3, stopping=rules, dropout=0.1, learning_rate=0.02))
    rows = [_row("12 planted tasks, cached features", catalog, planned(catalog, STEPS), recipe)]
    if not small():
        catalog = streets(folder, FIRST_SEED, 400, features=False)
        rules = {"every": 6, "patience": 1}
        recipe = Recipe.parse({"trunk": "small", "size": (48, 80), "threads": THREADS, "stopping": rules})
        rows.append(_row("streets from pixels, augmented", catalog, evenly_planned(catalog, 72), recipe))
    return rows


def _row(name: str, catalog: Catalog, plan: Plan, recipe: Recipe) -> Row:
    """Train undisturbed, then again with kills one after the other, and compare what both wrote."""
    whole = train(recipe, plan, catalog)
    wanted = _hashes(catalog, whole)
    moments = _moments(whole, recipe)
    remove_run(catalog, whole.id)
    for moment in moments:
        done = subprocess.run([sys.executable, *training_words(catalog, plan, recipe, EVERY, moment)], check=False)
        if done.returncode != -9:
            raise SystemExit(f"{name}: was to be killed at {moment}, ended with {done.returncode}")
        sys.stderr.write(f"kills, {name}: killed at {moment}\n")
    found = _hashes(catalog, train(recipe, plan, catalog))
    other = [file for file, digest in wanted.items() if found[file] != digest]
    states = len({row["state"] for row in whole.states})
    what = (
        f"{name}: files that differ after SIGKILL at {', '.join(moments)} ({len(whole.course)} plans, {states} states)"
    )
    return Row(what=what, value=len(other), asked="0", met=not other)


def _moments(whole: Run, recipe: Recipe) -> list[str]:
    """Random steps, one in DISTILL, the first recording of soft labels, and the first replan; in their order."""
    steps = int(whole.curve[-1]["Draws"]) // recipe.global_batch
    begun = min(int(row["Draws"]) for row in whole.states if row["state"] == "DISTILL") // recipe.global_batch
    replanned = whole.course[1][0] // recipe.global_batch
    chosen = np.random.default_rng(0).choice(np.arange(1, steps), KILLS, replace=False).tolist()
    # a judgement after n steps comes before step number n, which is the first one in DISTILL
    moments = [(step, 2, str(step)) for step in {*chosen, begun + 2}]
    return [moment for *_, moment in sorted([*moments, (begun, 0, "record"), (replanned, 1, "replan")])]


def _hashes(catalog: Catalog, run: Run) -> dict[str, str]:
    """SHA-256 of the weights, of the draws' exposure, and of the record of a run, without its seconds."""
    folder = catalog.home / "runs" / run.id
    files = {name: (folder / name).read_bytes() for name in ("checkpoints/last.pt", "exposure.json", "replaced.json")}
    files["run.json"] = repr(replace(run, seconds=0.0)).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
