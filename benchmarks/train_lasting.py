"""Runs on several ranks, or for one task only, and labels that nobody knows: whether they end as they must."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.table import Row, small
from benchmarks.train_process import remove_run, training_words, weights_of
from benchmarks.train_steps import Features, learner, many_tasks, random_draws
from benchmarks.train_stopping import make_catalog, planned, words
from curation import Catalog
from samplers import Plan
from training import train
from training.loop.drawing import Drawing
from training.recipe import Recipe

__all__ = ["lasting_rows"]

STEPS = 120 if small() else 400
MANY = [100] * 24
"""Labels of the tasks beside which one is trained alone."""


def lasting_rows(folder: Path) -> list[Row]:
    """The rows of ranks, the fence, and labels that nobody knows."""
    catalog = make_catalog(folder, 0)
    plan = planned(catalog, STEPS)
    rules = {"every": STEPS // 12, "patience": 1}
    recipe = Recipe.parse(words(3, stopping=rules, dropout=0.1, learning_rate=0.02))
    whole = train(recipe, plan, catalog)
    wanted = weights_of(catalog, whole.id)
    remove_run(catalog, whole.id)
    _on_ranks(catalog, plan, recipe, 2)
    apart = max(
        float((part - wanted[name]).abs().max() / wanted[name].abs().max().clamp(min=1e-12))
        for name, part in weights_of(catalog, whole.id).items()
    )
    (folder / "many").mkdir()
    return [
        Row(what=f"2 ranks (gloo) beside 1, {STEPS} steps: largest relative difference of the weights", value=apart,
            asked="printed"),
        *_fence_rows(folder / "many"),
        *_unknown_rows(),
    ]  # fmt: skip


def _on_ranks(catalog: Catalog, plan: Plan, recipe: Recipe, ranks: int) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    done = subprocess.run(
        [*start, *training_words(catalog, plan, recipe, 0)[1:]], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def _fence_rows(folder: Path) -> list[Row]:
    """One of 24 tasks alone: what moves, and the time beside the whole run."""
    catalog = make_catalog(folder, 1, MANY)
    plan = planned(catalog, STEPS * 4)
    recipe = Recipe.parse(words(0, tree="separate"))
    times = []
    started = time.process_time()
    parent = train(recipe, plan, catalog)
    times.append(time.process_time() - started)
    fenced = Drawing(replace(recipe, only=("t03",)), plan, catalog, folder / "only", parent=parent.id)
    started = time.process_time()
    fenced.run()
    times.append(time.process_time() - started)
    before, moved = weights_of(catalog, parent.id), 0
    for name, part in fenced.network.state_dict().items():
        if "t03" not in name:
            moved += int((part != before[name]).sum())
    share = times[1] / times[0]
    return [
        Row(what="--only 1 of 24 tasks: numbers of the others' path that moved", value=moved, asked="0", met=not moved),
        Row(what="--only 1 of 24 tasks, cached features: CPU time over that of the whole run", value=share,
            asked="<= 0.05", met=share <= 0.05),
    ]  # fmt: skip


def _unknown_rows() -> list[Row]:
    """A label more, and a batch without one."""
    tasks = many_tasks(10)
    made, draws = learner(Features(), tasks), random_draws(tasks, torch.randn(64, Features.width))
    row, task = torch.nonzero(~draws.known)[0].tolist()
    known = draws.known.clone()
    known[row, task] = True
    outputs = made.network(draws.inputs)
    losses = [made.network.losses(outputs, draws.values, each, each.float()) for each in (draws.known, known)]
    others = int((losses[0] != losses[1]).sum()) - 1
    before = [part.detach().clone() for part in made.network.parameters()]
    none = torch.zeros_like(draws.known)
    found = made.step(replace(draws, known=none, weights=none.float()), 0, 1.0)
    moved = sum(int((a != b).sum()) for a, b in zip(before, made.network.parameters(), strict=True))
    finite = bool(torch.isfinite(found.losses).all())
    return [
        Row(what="filling one unknown label: losses of others that change", value=others, asked="0", met=not others),
        Row(what="a batch without a label: numbers that move", value=moved, asked="0", met=finite and not moved),
    ]  # fmt: skip
