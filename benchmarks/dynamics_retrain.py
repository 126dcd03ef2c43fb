"""Retraining on frozen features of streets: 500 new labels of one task, beside a training of everything.

The workspace is that of the queue (`benchmarks.ask_queue`) with the default recipe, which chooses between exact heads
and a shared layer. Each task in turn gets labels that an oracle held back; FIRST_SEED chooses the images. A gate judges
every task. A whole training is one of the same recipe on the same plan without a parent; both times are those of
training alone, and of training with the predictions and figures of all images.
"""

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from amber.retraining import Ladder, Outcome, retrain
from benchmarks.ask_queue import label_task, make_template
from benchmarks.table import Row, cases_row, small
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import os_user
from samplers.plan.plan import Plan
from training.evaluation.evaluation import evaluate
from training.judging.gate_rules import GateRules
from training.loop.trainer import train
from training.recipe import Recipe
from training.run import Run
from training.run_list import newest_run

__all__ = ["retrain_rows"]

AUTHOR = "bench"
TASKS = ("light_color", "pedestrian", "speed", "car")
MARGINS = {"speed": "2 km/h"}
RUNS = int(os.environ.get("RUNS", "1" if small() else "3"))
FIRST = int(os.environ.get("FIRST_SEED", "2000"))
SHARE = 0.1
"""The part of a whole training's time that a head may take."""


def retrain_rows() -> list[Row]:
    """Whether a head is retrained and accepted, what it takes beside a whole training, and that nothing else moves."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-dynamics-") as name:
        home = Path(name) / "template"
        make_template(home, heads="auto")
        rules = Path(name) / "gate.toml"
        _write_rules(home, rules)
        found = [_one(home, Path(name), rules, task, seed) for seed in range(FIRST, FIRST + RUNS) for task in TASKS]
    heads = [each for each in found if each.outcome.retraining.attempts]
    still = [each for each in found if not each.outcome.retraining.attempts]
    passed = [each for each in heads if each.outcome.retraining.outcome == "pass"]
    return [
        cases_row(f"500 new labels of one task: retrained ({len(found)})", len(heads), len(found), asked="printed",
                  met=True, peers={"the queue says nothing": len(still)}),
        cases_row("- the gate passes a candidate", len(passed), len(heads), asked="all", met=len(passed) == len(heads),
                  peers={said: sum(each.outcome.retraining.outcome == said for each in heads)
                         for said in ("block", "not enough data")}),
        cases_row("- all other tasks equal to the bit", sum(each.alike for each in heads), len(heads), asked="all",
                  met=all(each.alike for each in heads), peers={}),
        _share("- training time of a head over that of everything", [each.head / each.whole for each in heads]),
        _share("- the same with predictions and figures of all images",
               [each.head_in_all / each.whole_in_all for each in heads], asked="printed"),
    ]  # fmt: skip


class _One:
    """One task that got labels: what became of it, and seconds of CPU."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.head = self.whole = self.head_in_all = self.whole_in_all = float("nan")
        trained = {row.task for row in outcome.tasks if row.trained}
        self.alike = all(row.verdict in ("equal to the bit", "-") for row in outcome.tasks if row.task not in trained)


def _one(template: Path, folder: Path, rules: Path, task: str, seed: int) -> _One:
    home = folder / f"{task}-{seed}"
    shutil.copytree(template, home)
    label_task(home, task, seed)
    catalog = Catalog.open(home)
    with catalog.read() as now:
        base = newest_run(home, now)
    ladder = Ladder(
        rules=GateRules.load(rules), where=str(rules), by=os_user(), author=AUTHOR, home=str(home), base=base,
        up_to="head",
    )  # fmt: skip
    found = _One(retrain(catalog, ladder))
    if found.outcome.retraining.attempts:
        run = Run.open(home, found.outcome.retraining.attempts[-1].run)
        found.head, found.head_in_all = _seconds(catalog, run, run.recipe, run.parent)
        found.whole, found.whole_in_all = _seconds(catalog, run, replace(run.recipe, only=()), "")
    shutil.rmtree(home)
    return found


def _seconds(catalog: Catalog, run: Run, recipe: Recipe, parent: str) -> tuple[float, float]:
    """Seconds of CPU of a training on the plan of a run, and with its evaluation."""
    shutil.rmtree(catalog.home / "runs" / run.id, ignore_errors=True)
    began = time.process_time()
    made = train(recipe, Plan.open(catalog.home, run.plan), catalog, parent=parent)
    trained = time.process_time()
    evaluate(made, catalog, author=AUTHOR)
    return trained - began, time.process_time() - began


def _write_rules(home: Path, path: Path) -> None:
    with Catalog.open(home).read() as now:
        parts = [
            f'[[judge]]\ntask = "{task.name}"\nmargin = "{MARGINS.get(task.name, "5 points")}"'
            for task in now.tasks().values()
            if task.kind != "detection"
        ]
    path.write_text("\n".join(parts) + "\n")


def _share(what: str, shares: list[float], asked: str = "at most 0.10") -> Row:
    middle = float(np.median(shares)) if shares else float("nan")
    return Row(
        what=what, value=middle, low=min(shares, default=middle), high=max(shares, default=middle), asked=asked,
        met=asked == "printed" or middle <= SHARE,
    )  # fmt: skip
