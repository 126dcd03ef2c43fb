"""Retraining on frozen features of streets: 500 new labels of one task, beside a training of everything.

The workspace is that of the queue (`benchmarks.ask_queue`) with the default recipe, which chooses between exact heads
and a shared layer. Each task in turn gets labels that an oracle held back; FIRST_SEED chooses the images. A gate judges
every task. A whole training is one of the same recipe on the same plan without a parent; both times are those of
training alone, and of training with the predictions and figures of all images. Then `amber retrain` itself is killed at
random moments, each time in a new copy, and run again.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amber.exit_codes import OUTCOMES
from amber.retraining import Ladder, Outcome, retrain
from benchmarks.ask_queue import label_task, make_template
from benchmarks.table import Row, cases_row, small
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import os_user
from curation.files.read_back import sha256_of
from samplers.plan.plan import Plan
from training.evaluation.evaluation import evaluate
from training.judging.gate_rules import GateRules
from training.loop.trainer import train
from training.recipe import Recipe
from training.run import Run
from training.run_list import newest_run

__all__ = ["kill_rows", "retrain_rows"]

AUTHOR = "bench"
TASKS = ("light_color", "pedestrian", "speed", "car")
MARGINS = {"speed": "2 km/h"}
RUNS = int(os.environ.get("RUNS", "1" if small() else "3"))
FIRST = int(os.environ.get("FIRST_SEED", "2000"))
KILLS = 2 if small() else 10
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


def kill_rows() -> list[Row]:
    """`amber retrain`, killed at random moments and run again: what it comes to beside one that was left alone."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-dynamics-") as name:
        folder, template = Path(name), Path(name) / "template"
        make_template(template, heads="auto")
        _write_rules(template, folder / "gate.toml")
        wanted, seconds, labelled = _undisturbed(folder, template)
        moments = np.sort(np.random.default_rng(FIRST).uniform(0, seconds, KILLS))
        found, killed = [], 0
        for moment in moments.tolist():
            home = folder / "killed"
            shutil.copytree(labelled, home)
            killed += _killed(_words(home, folder), moment)
            found.append(_retrained(home, folder))
            shutil.rmtree(home)
    what = f"a retraining of {seconds:.0f} s, SIGKILL at {KILLS} random moments ({killed} while it ran)"
    names = ("outcome and candidate", "attempts", "commits", "files of runs")
    return [
        Row(what=f"{what}: other {name}", value=differing, asked="0", met=differing == 0)
        for name in names
        for differing in [sum(each[name] != wanted[name] for each in found)]
    ]


def _undisturbed(folder: Path, template: Path) -> tuple[dict[str, Any], float, Path]:
    """What the first task that is retrained comes to, the seconds that it takes, and the workspace before that."""
    for task in TASKS:
        labelled, home = folder / f"labelled-{task}", folder / "whole"
        shutil.copytree(template, labelled)
        label_task(labelled, task, FIRST)
        shutil.copytree(labelled, home)
        began = time.monotonic()
        wanted = _retrained(home, folder)
        seconds = time.monotonic() - began
        shutil.rmtree(home)
        if wanted["attempts"]:
            return wanted, seconds, labelled
        shutil.rmtree(labelled)
    raise SystemExit(f"retrain_kills: the queue retrains no task of seed {FIRST}; name another FIRST_SEED")


def _words(home: Path, folder: Path) -> list[str]:
    words = ["--gate", str(folder / "gate.toml"), "--up-to", "head", "--author", AUTHOR, "--home", str(home), "--json"]
    return [sys.executable, "-m", "amber", "retrain", *words]


def _retrained(home: Path, folder: Path) -> dict[str, Any]:
    """`amber retrain` to its end: what it says, the commits of the ledger, and the digests of every run's weights and
    predictions."""
    done = subprocess.run(_words(home, folder), capture_output=True, text=True, check=False)
    if done.returncode not in OUTCOMES.values():
        raise SystemExit(f"retrain_kills: {done.stderr.strip() or done.returncode}")
    said = json.loads(done.stdout)
    attempts = [{name: value for name, value in each.items() if name != "seconds"} for each in said["attempts"]]
    with Catalog.open(home).read() as now:
        commits = now.log()["message"].to_pylist()
    files = [*(home / "runs").glob("*/checkpoints/last.pt"), *(home / "runs").glob("*/predictions.parquet")]
    digests = {str(path.relative_to(home)): sha256_of(path) for path in files}
    return {
        "outcome and candidate": (said["outcome"], said["candidate"]), "attempts": attempts, "commits": commits,
        "files of runs": digests,
    }  # fmt: skip


def _killed(words: list[str], seconds: float) -> bool:
    """Begin a process and kill it after so many seconds; whether it still ran."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


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
