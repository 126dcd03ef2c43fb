"""Runs that are killed, run on several ranks, or are for one task only: whether they end as they must.

As a module (`python -m benchmarks.train_lasting HOME PLAN WORDS EVERY`) it is one process of such a training.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.table import Row, small
from benchmarks.train_steps import Features, learner, many_tasks, random_draws
from benchmarks.train_stopping import make_catalog, planned, words
from curation import Catalog
from samplers import Plan
from training import train
from training.loop.drawing import Drawing
from training.loop.ranks import joined
from training.recipe import Recipe
from training.run import run_id

__all__ = ["lasting_rows"]

KILLS = 2 if small() else 5
STEPS = 120 if small() else 400
MANY = [100] * 24
"""Labels of the tasks beside which one is trained alone."""


def main() -> None:
    """Train as one process, alone or by torchrun; a line for each step."""
    home, plan, text, every = sys.argv[1:]
    place = {name: int(os.environ.get(key, "0")) for name, key in (("rank", "RANK"), ("local_rank", "LOCAL_RANK"))}
    catalog = Catalog.open(Path(home))
    with joined(**place, world=int(os.environ.get("WORLD_SIZE", "1")), device="cpu") as ranks:
        train(
            Recipe.parse(json.loads(text)), Plan.open(catalog.home, plan), catalog, every=int(every), ranks=ranks,
            progress=lambda done, total, loss: sys.stdout.write(f"{done}\n") and sys.stdout.flush(),  # type: ignore
        )  # fmt: skip


def lasting_rows(folder: Path) -> list[Row]:
    """The rows of kills, ranks, the fence, and labels that nobody knows."""
    catalog = make_catalog(folder, 0)
    plan = planned(catalog, STEPS)
    rules = {"every": STEPS // 12, "patience": 1}
    recipe = Recipe.parse(words(3, stopping=rules, dropout=0.1, learning_rate=0.02))
    whole = train(recipe, plan, catalog)
    wanted = _weights(catalog, whole.id)
    kills = _killed(catalog, plan, recipe)
    ended = _weights(catalog, train(recipe, plan, catalog).id)
    moved = sum(int((wanted[name] != part).sum()) for name, part in ended.items())
    states = len({row["state"] for row in whole.states})
    steps = ", ".join(map(str, kills))
    what = f"numbers that differ after SIGKILL at steps {steps} ({max(1, len(whole.course))} plans, {states} states)"
    _remove(catalog, whole.id)
    _on_ranks(catalog, plan, recipe, 2)
    apart = max(
        float((part - wanted[name]).abs().max() / wanted[name].abs().max().clamp(min=1e-12))
        for name, part in _weights(catalog, whole.id).items()
    )
    (folder / "many").mkdir()
    return [
        Row(what=what, value=moved, asked="0", met=moved == 0),
        Row(what=f"2 ranks (gloo) beside 1, {STEPS} steps: largest relative difference of the weights", value=apart,
            asked="printed"),
        *_fence_rows(folder / "many"),
        *_unknown_rows(),
    ]  # fmt: skip


def _killed(catalog: Catalog, plan: Plan, recipe: Recipe) -> list[int]:
    """Kill the same training at random points of its curve, one after the other; the steps at which."""
    _remove(catalog, run_id(plan, recipe))
    points = np.sort(np.random.default_rng(0).choice(np.arange(2, 58), KILLS, replace=False))
    found = []
    for point in points.tolist():
        running = subprocess.Popen(_words(catalog, plan, recipe, 1), stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        for line in running.stdout:
            if int(line) >= point * STEPS * 64 // 60:
                running.kill()
                found.append(int(line) // 64)
                break
        running.wait()
    return found


def _on_ranks(catalog: Catalog, plan: Plan, recipe: Recipe, ranks: int) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    done = subprocess.run([*start, *_words(catalog, plan, recipe, 0)[2:]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def _words(catalog: Catalog, plan: Plan, recipe: Recipe, every: int) -> list[str]:
    module = [sys.executable, "-m", "benchmarks.train_lasting"]
    return [*module, str(catalog.home), plan.hash, json.dumps(recipe.words), str(every)]


def _weights(catalog: Catalog, run: str) -> dict[str, torch.Tensor]:
    path = catalog.home / "runs" / run / "checkpoints" / "last.pt"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return found


def _remove(catalog: Catalog, run: str) -> None:
    for path in sorted((catalog.home / "runs" / run).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


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
    before, moved = _weights(catalog, parent.id), 0
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


if __name__ == "__main__":
    main()
