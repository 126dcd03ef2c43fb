"""Pairs of tasks: the cards, where rank and suit help card; `streets`; planted families; and tasks that are unrelated.

`DATA=FOLDER` holds the cards, a declared data set with the tasks card, rank, suit, face and value; without it their
rows are left out. RUNS is how many data sets of unrelated tasks are made, FIRST_SEED the first seed.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.heads_data import AllLabels, balanced_labels, declared, frozen_streets
from benchmarks.table import Row, cases_row, small
from curation import Task
from curation.arrays import Floats, Ints
from curation.catalog.catalog import Catalog
from samplers.pack.pack import Pack
from samplers.plan.build import make_plan
from samplers.policy.policy import Policy
from training.dynamics.effects import Effects
from training.dynamics.pair_labels import pair_labels
from training.dynamics.pairs import JudgedTask, compressed, measure_pairs
from training.loop.task_labels import TaskLabels
from training.recipe import Recipe

__all__ = ["pair_rows"]

CARDS = ("card", "rank", "suit", "face", "value")
HELPED = (("card", "rank"), ("card", "suit"))
"""Of each pair the second task helps the first: a card is a rank and a suit."""
KNOWN = 0.12
"""Part of the cards' labels that are known."""
SEEDS = range(int(os.environ.get("FIRST_SEED", "100")), int(os.environ.get("FIRST_SEED", "100")) + 3)
NULL_RUNS = int(os.environ.get("RUNS", "10" if small() else "100"))
UNRELATED, IMAGES, LABELS, WIDTH = 3, 1_600, 200, 32
IMAGES_OF_STREETS = 1_000 if small() else 5_000


def pair_rows() -> list[Row]:
    """The rows of pairs."""
    recipe = Recipe.of("efficientnet_lite0", heads="shared", threads=1)
    torch.set_num_threads(1)
    folder = os.environ.get("DATA", "")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-dynamics-") as name:
        if folder:
            rows += _card_rows(recipe, declared(Path(folder), Path(name) / "cards"))
        rows += _street_rows(*frozen_streets(Path(name) / "streets", IMAGES_OF_STREETS))
    narrow = replace(recipe, units=32)
    return [*rows, *_planted_rows(narrow), *_null_rows(narrow)]


def _card_rows(recipe: Recipe, cards: AllLabels) -> list[Row]:
    parts = [part for part in cards.known(KNOWN, SEEDS[0]) if part.task.name in CARDS]
    effects = measured(recipe, cards, parts)
    show(effects)
    rows = []
    for task, partner in HELPED:
        found = effects.of(task, partner)
        rows.append(
            Row(
                what=f"cards, {KNOWN:.0%} known, {len(SEEDS)} seeds: {partner} helps {task}", value=found.gain,
                low=found.low, high=found.high, unit=" points", asked="low > 0", met=found.verdict == "synergy",
                peers={f"{task} alone": effects.alone[task]},
            )
        )  # fmt: skip
    return rows


def _street_rows(catalog: Catalog, pack: Pack, recipe: Recipe) -> list[Row]:
    """From a workspace whose features are cached to the picture."""
    from amber.effects_picture import write_effects_picture

    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    plan = make_plan(catalog, policy, pack, draws=64)
    began, used = time.monotonic(), time.process_time()
    found = pair_labels(catalog, plan, recipe)
    effects = measure_pairs(recipe, found.tasks, found.features, seeds=SEEDS, progress=_tell)
    out = Path("bench-out") / "pairs-streets.svg"
    out.parent.mkdir(exist_ok=True)
    write_effects_picture(effects, out)
    minutes, cpu = (time.monotonic() - began) / 60, (time.process_time() - used) / 60
    show(effects)
    said = [each for each in effects.effects if each.verdict != "cannot tell"]
    pairs = len(effects.tasks) * (len(effects.tasks) - 1) // 2
    return [
        Row(
            what=f"streets, {pack.images:,} images, {pairs} pairs, {len(SEEDS)} seeds, to the picture, CPU", value=cpu,
            unit=" minutes", asked="<= 15", met=cpu <= 15,
            peers={"on the clock": minutes, "effects shown": float(len(said))},
        )
    ]  # fmt: skip


def _null_rows(recipe: Recipe) -> list[Row]:
    """How often anything is said of tasks that have nothing in common."""
    said = 0
    for number in range(NULL_RUNS):
        effects = synthetic(recipe, SEEDS[0] + number, families=[[code] for code in range(UNRELATED)])
        said += any(each.verdict != "cannot tell" for each in effects.effects)
        if number % 10 == 9:
            sys.stderr.write(f"null: {said} of {number + 1}\n")
    met = said <= nominal(NULL_RUNS)
    return [
        cases_row(
            f"{UNRELATED} unrelated tasks, {NULL_RUNS} data sets: synergy or conflict is said", said, NULL_RUNS,
            asked="5%", met=met,
        )
    ]  # fmt: skip


def nominal(runs: int) -> int:
    """The most of `runs` cases at which a rate of 5% is not refuted, one-sided at 5%."""
    from scipy import stats

    return int(stats.binom.ppf(0.95, runs, 0.05))


def _planted_rows(recipe: Recipe) -> list[Row]:
    """Two families of two tasks that say the same: how many of their pairs are found, and how many others are said."""
    runs = max(2, NULL_RUNS // 5)
    hits = wrong = 0
    for number in range(runs):
        effects = synthetic(recipe, SEEDS[0] + number, families=[[0, 1], [2, 3]])
        for each in effects.effects:
            kin = int(each.task[1:]) // 2 == int(each.partner[1:]) // 2
            hits += kin and each.verdict == "synergy"
            wrong += not kin and each.verdict == "synergy"
    return [
        cases_row(
            f"two families of two tasks, {runs} data sets: synergy within a family", hits, 4 * runs, asked="printed"
        ),
        cases_row("synergy between families", wrong, 8 * runs, asked="printed"),
    ]


def synthetic(recipe: Recipe, seed: int, families: Sequence[Sequence[int]]) -> Effects:
    """The effects of binary tasks on random features: those of a family have the same rule, each its own images."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(IMAGES, WIDTH)).astype(np.float32)
    groups = np.array([f"g{row // 2}" for row in range(IMAGES)])
    test = np.arange(IMAGES) >= IMAGES // 2
    tasks, seen = [], torch.from_numpy(features)
    for family in families:
        hidden = np.maximum(features @ generator.normal(size=(WIDTH, 4)), 0) @ generator.normal(size=4)
        for code in family:
            chances = 1 / (1 + np.exp(-2 * (hidden - np.median(hidden)) / hidden.std()))
            values = (generator.random(IMAGES) < chances).astype(np.float64)
            task = Task(name=f"t{code}", kind="binary", metric="accuracy", owner="o")
            rows = np.sort(generator.choice(np.flatnonzero(~test), LABELS, replace=False))
            labels = balanced_labels(task, rows, values[rows], groups[rows], importance=0.25)
            tasks.append(judged(labels, seen, np.flatnonzero(test), values[test], groups))
    return measure_pairs(recipe, tasks, seen, seeds=SEEDS)


def measured(recipe: Recipe, data: AllLabels, parts: Sequence[TaskLabels]) -> Effects:
    """The effects on the test labels of a data set."""
    train = torch.from_numpy(np.unique(np.concatenate([part.rows for part in parts])))
    _, (every,) = compressed(data.features[train], [data.features])
    tasks = []
    for part in parts:
        rows, truth = data.test(part.task.name)
        tasks.append(judged(part, every, rows, truth, data.groups))
    return measure_pairs(recipe, tasks, every, seeds=SEEDS, progress=_tell)


def judged(part: TaskLabels, features: Tensor, rows: Ints, truth: Floats, groups: npt.NDArray[np.str_]) -> JudgedTask:
    """A task judged by its labels `truth` [n] on `rows` [n]."""
    strata = truth if part.task.task.metric == "balanced_accuracy" else np.zeros(len(truth))
    return JudgedTask(
        labels=part, features=features[torch.from_numpy(rows)], points=_points(part, truth), weights=np.ones(len(rows)),
        groups=np.unique(groups[rows], return_inverse=True)[1].astype(np.int64), strata=strata.astype(np.int64),
    )  # fmt: skip


def _points(part: TaskLabels, truth: Floats) -> Callable[[Tensor], Floats]:
    constant = float(np.abs(truth - np.median(truth)).mean()) or 1.0

    def points(outputs: Tensor) -> Floats:
        found = outputs.double().numpy()
        if part.numeric:
            errors = np.abs(found[:, 0] * part.task.deviation + part.task.mean - truth)
            return np.asarray(-100 * errors / constant, np.float64)
        answers = (found[:, 0] > 0).astype(np.int64) if part.outputs == 1 else found.argmax(axis=1)
        return np.asarray(100.0 * (answers == truth), np.float64)

    return points


def show(effects: Effects) -> None:
    """Every effect, on stderr."""
    for each in effects.effects:
        low, high = each.low or float("nan"), each.high or float("nan")
        sys.stderr.write(f"{each.partner} on {each.task}: {each.gain:+.2f} [{low:+.2f}, {high:+.2f}] {each.verdict}\n")


def _tell(done: int, total: int) -> None:
    sys.stderr.write(f"{done} of {total} trainings\n")
