"""Searches of trees and of importances: planted families found, bad weights repaired, null data silent, kills healed.

The rules were chosen on seeds below 100; rows are of the seeds from FIRST_SEED (default 100) on.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from amber.search_trees import TreeSearch, search_trees
from benchmarks.dynamics_planted import Planted, planted_plan, planted_words
from benchmarks.table import Row, small
from curation import Catalog
from curation.arrays import Floats
from samplers import Plan
from training.dynamics.recipe_search import RecipeSearch, Trials, run_trials, search_recipe, trial_losses
from training.dynamics.search_space import Knob, Space, weights_space
from training.dynamics.short_runs import ShortRuns, mean_score
from training.dynamics.study import opened_study
from training.recipe import Recipe

__all__ = ["kill_rows", "null_rows", "tree_rows", "weight_rows"]

RUNS = int(os.environ.get("RUNS", "2" if small() else "10"))
NULLS = int(os.environ.get("RUNS", "2" if small() else "30"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "100"))
RATE = 0.03

FAMILIES = Planted(families=(0, 1, 2) * 3, labels=800, held=500)
UNRELATED = Planted(families=(0, 1, 2, 3), labels=300, held=200)
SILENT = Planted(families=(0, 1, 2, 3), labels=300, held=200, signal=0.0)
NEIGHBOURS = Planted(families=tuple(range(6)), labels=400, held=300)
LOUD = {"t00": 30.0}
"""The importance of one task over that of each other."""

TREE_STEPS, NULL_STEPS, WEIGHT_STEPS = 160, 64, 120
WEIGHTS = Trials(part=0.25)
BUDGET = 24
KILLS = 3 if small() else 10
KILL_BUDGET = 24


def tree_rows() -> list[Row]:
    """Planted families: how often the tree that is found has them, and what it closes of the gap to separate ones."""
    found, closed, gaps = [], [], []
    for seed, catalog in _made(FAMILIES, RUNS):
        search = _tree_search(catalog, TREE_STEPS, 24, largest=1.0)
        scores = {tree.tree: tree.score for tree in search.comparison.trees}
        cost = {tree.tree: tree.macs for tree in search.comparison.trees}
        groups = {tree.tree: {frozenset(group) for group in tree.groups} for tree in search.tried}
        found.append(groups[search.recommended] == _families())
        gaps.append(scores["separate"] - scores["shared"])
        closed.append(scores[search.recommended] - scores["shared"])
        _say("trees", seed, recommended=search.recommended, found=found[-1], gap=gaps[-1], closed=closed[-1],
             cost=cost[search.recommended] / cost["shared"])  # fmt: skip
    what = f"three planted families of 9 tasks, {len(found)} seeds"
    part = float(np.sum(closed) / np.sum(gaps))
    return [
        Row(what=f"{what}: the recommended tree has the families", value=sum(found), asked=f">= {_most(0.9, found)}",
            met=sum(found) >= _most(0.9, found)),
        Row(what=f"{what}: part of the gap to separate networks closed at one network's MACs", value=part,
            asked=">= 0.5", met=part >= 0.5, peers={"gap": float(np.mean(gaps)), "closed": float(np.mean(closed))}),
    ]  # fmt: skip


def null_rows() -> list[Row]:
    """Unrelated tasks, and labels without a signal: how often a search recommends anything."""
    rows, total, count = [], 0, 0
    for name, planted in (("unrelated tasks", UNRELATED), ("labels without signal", SILENT)):
        trees, weights, runs = 0, 0, (NULLS + 1) // 2
        for seed, catalog in _made(planted, runs):
            tree = _tree_search(catalog, NULL_STEPS, 24, largest=1.0).recommended
            found, _ = _weight_search(catalog, planted_plan(catalog, NULL_STEPS), BUDGET // 2, "gp")
            trees, weights = trees + (tree != "shared"), weights + (found.recommended is not None)
            _say(f"null, {name}", seed, tree=tree, weights=found.recommended is not None)
        rows.append(
            Row(what=f"{name}: searches of trees that recommend one, of {runs}", value=trees, asked="", met=True)
        )
        rows.append(
            Row(what=f"{name}: searches of weights that recommend some, of {runs}", value=weights, asked="", met=True)
        )
        total, count = total + trees + weights, count + 2 * runs
    most = max(1, round(0.1 * count))
    what = f"null data: recommendations of {count} searches"
    return [*rows, Row(what=what, value=total, asked=f"<= {most}", met=total <= most)]


def weight_rows() -> list[Row]:
    """One task 30 times over: the search beside random search at an equal budget, and the best fixed importances.

    Neither arm begins with even importances here, which would repair much of this plan at once. The verb does, and
    recommends them unless its winner is surely better than they are.
    """
    arms: dict[str, list[float]] = {name: [] for name in ("search", "random", "verb", "stands", "even", "balanced")}
    for seed, catalog in _made(NEIGHBOURS, RUNS):
        plan = planted_plan(catalog, WEIGHT_STEPS, LOUD)
        space = weights_space(plan, [[task.name] for task in plan.tasks])
        blind = Space(kind=space.kind, knobs=tuple(_blind(knob) for knob in space.knobs), groups=space.groups)
        runs, recipe = ShortRuns(catalog, plan), _shared(16)
        points = {}
        for arm, sampler in (("search", "gp"), ("random", "random")):
            how = Trials(part=WEIGHTS.part, sampler=sampler)
            points[arm] = _best_point(runs, recipe, blind, how, BUDGET)
        found, _ = _weight_search(catalog, plan, BUDGET, "gp")
        ships = found.recommended or found.trials[0]
        points |= {"verb": ships.point, "stands": space.starts[0], "even": space.starts[1]}
        for arm, point in points.items():
            arms[arm].append(_judged(runs, recipe, space, point))
        balanced = Recipe.parse({**recipe.words, "balance": "gradient_norm"})
        arms["balanced"].append(_judged(runs, balanced, space, space.starts[0]))
        _say("weights", seed, **{name: scores[-1] for name, scores in arms.items()})
    means = {name: float(np.mean(scores)) for name, scores in arms.items()}
    best = max(("stands", "even", "balanced"), key=lambda name: means[name])
    what = f"one task 30 times over, {len(arms['search'])} seeds"
    short = means[best] - means["verb"]
    return [
        _bounded(f"{what}: score of the search minus that of random search, {BUDGET} trials each",
                 np.array(arms["search"]) - np.array(arms["random"]), means),
        Row(what=f"{what}: the best fixed importances ({best}) minus what the verb ships", value=short, asked="<= 0.02",
            met=short <= 0.02, peers=means),
    ]  # fmt: skip


def kill_rows() -> list[Row]:
    """`amber search weights`, killed at random moments and run again: its trials beside those of an undisturbed one."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = NEIGHBOURS.catalog(Path(folder), FIRST_SEED)
        plan = planted_plan(catalog, WEIGHT_STEPS, LOUD)
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text('tree = "shared"\nhidden = 16\nlearning_rate = 0.03\nthreads = 1\n')
        words = [sys.executable, "-m", "amber", "search", "weights", plan.hash, "--recipe", str(recipe), "--size", "32",
                 "32", "--budget", str(KILL_BUDGET * 0.25), "--home", str(catalog.home), "--json"]  # fmt: skip
        wanted = _trials(
            subprocess.run([*words, "--study", "whole"], capture_output=True, text=True, check=True).stdout
        )
        generator, journal = np.random.default_rng(FIRST_SEED), catalog.home / "studies" / "killed" / "journal.log"
        for moment in np.sort(generator.choice(KILL_BUDGET, KILLS, replace=False)).tolist():
            _kill([*words, "--study", "killed"], journal, moment, float(generator.uniform(0, 0.3)))
            _say("kills", FIRST_SEED, moment=moment, ended=len(_ends(journal)))
        done = subprocess.run([*words, "--study", "killed"], capture_output=True, text=True, check=True)
        found, ends = _trials(done.stdout), _ends(journal)
    twice = len(ends) - len(set(ends)) + len(found) - len({number for number, *_ in found})
    lost = len([row for row in found if row[2] is None]) + len(wanted) - len(found)
    differ = sum(mine != theirs for mine, theirs in zip(found, wanted, strict=False))
    what = f"a search of {KILL_BUDGET} trials after SIGKILL at {KILLS} random moments"
    return [
        Row(what=f"{what}: trials twice", value=twice, asked="0", met=twice == 0),
        Row(what=f"{what}: trials lost", value=lost, asked="0", met=lost == 0),
        Row(what=f"{what}: trials that differ from those undisturbed", value=differ, asked="0", met=differ == 0),
    ]


def _made(planted: Planted, runs: int) -> Iterator[tuple[int, Catalog]]:
    """A workspace for each seed, removed when the next one is asked for."""
    for seed in range(FIRST_SEED, FIRST_SEED + runs):
        with tempfile.TemporaryDirectory() as folder:
            yield seed, planted.catalog(Path(folder), seed)


def _tree_search(catalog: Catalog, steps: int, hidden: int, *, largest: float) -> TreeSearch:
    recipe = Recipe.parse(planted_words(hidden, learning_rate=RATE))
    return search_trees(catalog, planted_plan(catalog, steps), recipe, turns=3, largest=largest)


def _shared(hidden: int) -> Recipe:
    return Recipe.parse(planted_words(hidden, learning_rate=RATE, tree="shared"))


def _weight_search(catalog: Catalog, plan: Plan, budget: int, sampler: str) -> tuple[RecipeSearch, Space]:
    space = weights_space(plan, [[task.name] for task in plan.tasks])
    how = Trials(part=WEIGHTS.part, sampler=sampler)
    return search_recipe(catalog, plan, _shared(16), space, budget=budget, study="verb", how=how), space


def _blind(knob: Knob) -> Knob:
    return replace(knob, plain=knob.own)


def _best_point(runs: ShortRuns, recipe: Recipe, space: Space, how: Trials, budget: int) -> dict[str, float]:
    """The point with the best score of a search."""
    with opened_study(
        runs.catalog.home, how.sampler, {"plan": runs.plan.hash}, space, sampler=how.sampler, seed=how.seed
    ) as study:
        run_trials(study, runs, recipe, space, budget, how)
        return max(study.trials(), key=lambda row: -np.inf if row.score is None else row.score).point


def _judged(runs: ShortRuns, recipe: Recipe, space: Space, point: Mapping[str, float]) -> float:
    """The score of a point on the whole plan, on seeds and groups that chose nothing."""
    first = WEIGHTS.seed + WEIGHTS.seeds
    losses = [trial_losses(runs, recipe, space, point, seed, 1.0) for seed in range(first, first + WEIGHTS.fresh)]
    return mean_score(runs.values(losses, runs.confirming))


def _families() -> set[frozenset[str]]:
    names = [(f"t{number:02d}", family) for number, family in enumerate(FAMILIES.families)]
    return {frozenset(name for name, family in names if family == wanted) for wanted in set(FAMILIES.families)}


def _most(share: float, found: Sequence[object]) -> int:
    return int(np.ceil(share * len(found) - 1e-9))


def _bounded(what: str, differences: Floats, peers: dict[str, float]) -> Row:
    """The mean over seeds, with its one-sided 95% bounds."""
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    half = float(stats.t.ppf(0.95, len(differences) - 1)) * error
    mean = float(differences.mean())
    return Row(what=what, value=mean, low=mean - half, high=mean + half, asked="mean and bound > 0",
               met=mean - half > 0, peers=peers)  # fmt: skip


def _kill(words: Sequence[str], journal: Path, trials: int, delay: float) -> None:
    """Begin a search, and kill it `delay` seconds after `trials` of its trials have ended."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(_ends(journal)) < trials and process.poll() is None:
        time.sleep(0.02)
    time.sleep(delay)
    if process.poll() is not None:
        raise SystemExit(f"kills: the search ended by itself, with {process.returncode}")
    process.send_signal(signal.SIGKILL)
    process.wait()


def _ends(journal: Path) -> list[int]:
    """The trial of each line of a journal that ends one."""
    lines = journal.read_text().splitlines() if journal.is_file() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return [entry["trial_id"] for entry in entries if entry.get("state") == ENDED]


ENDED = 1
"""The state of a trial with a score, in Optuna's journal."""


def _trials(text: str) -> list[tuple[int, str, float | None]]:
    """Number, point and score of each trial that a search prints."""
    rows = json.loads(text)["trials"]
    return [(row["number"], json.dumps(row["point"], sort_keys=True), row["score"]) for row in rows]


def _say(what: str, seed: int, **found: object) -> None:
    shown = ", ".join(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
                      for name, value in found.items())  # fmt: skip
    sys.stderr.write(f"{what}, seed {seed}: {shown}\n")
    sys.stderr.flush()
