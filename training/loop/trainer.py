"""Training: a recipe on a plan. Heads on a frozen trunk are solved; others learn in plan order, with plan weights."""

import json
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.locks import in_use
from curation.files.progress import LossProgress, StatesProgress
from samplers.plan.plan import Plan
from samplers.streaming.stream import OnError
from training.live_run import LiveRun
from training.loop.checkpoint import listening, write_tensors
from training.loop.drawing import Drawing, Drawn
from training.loop.inputs import Source
from training.loop.memory import keep_freed_memory
from training.loop.ranks import Ranks
from training.loop.shard_feed import Shards
from training.loop.solving import solve_plan
from training.network.model import Network
from training.network.tree_network import TreeNetwork
from training.recipe import Recipe
from training.run import Head, Run, libraries, revision, run_id, weights_digest

__all__ = ["train"]


def train(
    recipe: Recipe,
    plan: Plan,
    catalog: Catalog,
    *,
    parent: str = "",
    on_error: OnError = "raise",
    shards: Shards | None = None,
    progress: LossProgress | None = None,
    states: StatesProgress | None = None,
    every: int = 0,
    ranks: Ranks | None = None,
) -> Run:
    """Train `recipe` on `plan`; the same training again opens the finished run, or goes on at its last checkpoint.

    `parent` is the id of a run, or its beginning.
    A drawn training with a `parent` begins with the weights of that run: trunk, branch, and the heads of the tasks that
    both have. Exact heads with a `parent` begin at its exact heads and compare ridges near theirs.
    `on_error` says what happens at an image that cannot be read, where the trunk learns from pixels: Damaged or
    NotFound naming it, or with "quarantine" another image of its stratum, which `Run.replaced` records. The run's id
    is the same. With `shards` images, labels and weights come from a materialized plan, by webdataset, instead of the
    pack. `progress` is called with the draws (or heads) done, all of them, and the objective of the last batches.
    `states` is called with the draws done and each task's state, where tasks stop by themselves. A drawn one writes
    TensorBoard events into the run's folder, and a checkpoint every `every` steps (0: none) and on SIGTERM, after which
    it raises Failed. How far it is stands in `live.json` there (`training.live_run`).
    With `ranks`, this process is one of several (`training.loop.ranks.joined`), all of which call this; rank 0 writes.
    Damaged where a table of the plan, or a shard, is not what was written.
    """
    recipe = recipe.with_boxes([task.task for task in plan.tasks])
    if shards is not None:
        _check_shards(shards, recipe, plan, on_error, ranks)
    parent = Run.open(catalog.home, parent).id if parent else ""
    source_of = [shards.order if shards else "", weights_digest(recipe)]
    id_ = run_id(plan, recipe, parent, " ".join(part for part in source_of if part))
    if (catalog.home / "runs" / id_ / "run.json").is_file():
        return Run.open(catalog.home, id_)
    with in_use(catalog.home):
        source = Source(on_error=on_error, shards=shards)
        told, ranks = Told(progress=progress, states=states), ranks or Ranks()
        live = LiveRun.begin(catalog.home / "runs" / id_, plan=plan.hash, parent=parent, solved=recipe.solved)
        with live.watched() if ranks.first else nullcontext() as noted:
            return _train(recipe, plan, catalog, id_, parent, source, told, every, ranks, noted)


@dataclass(frozen=True, kw_only=True)
class Told:
    """Who is told how far a training is."""

    progress: LossProgress | None
    states: StatesProgress | None


def _train(
    recipe: Recipe, plan: Plan, catalog: Catalog, id_: str, parent: str, source: Source,
    told: Told, every: int, ranks: Ranks, live: LiveRun | None,
) -> Run:  # fmt: skip
    plan.verify()
    started = time.monotonic()
    torch.set_num_threads(recipe.threads)
    folder, heads, drawn = catalog.home / "runs" / id_, list[Head](), Drawn()
    network: Network | TreeNetwork
    if recipe.solved:
        network, heads, drawn.alarms = solve_plan(recipe, plan, catalog, parent, _noting(told.progress, live))
    else:
        if not recipe.embeddings:
            keep_freed_memory()
        drawing = Drawing(recipe, plan, catalog, folder, parent=parent, source=source, ranks=ranks)
        with listening() as stop:
            drawn = drawing.run(told.progress, every=every, stop=stop, states=told.states, live=live)
        network = drawing.network
    if ranks.first:
        _save(network, drawn, folder)
        Run(
            id=id_, plan=plan.hash, commit=plan.commit, recipe=recipe, parent=parent, revision=revision(),
            libraries=libraries(), machine=_machine(ranks), seconds=round(time.monotonic() - started, 2),
            curve=drawn.curve, alarm=drawn.alarm, heads=heads, alarms=drawn.alarms, course=drawn.course,
            states=drawn.states, ended=drawn.ended, gradients=drawn.gradients,
            affinity=drawn.affinity,
        ).save(catalog.home)  # fmt: skip
        for path in (folder / "checkpoints").glob("*.pt"):
            if path.name != "last.pt":
                path.unlink()
    ranks.gather(None)
    return Run.open(catalog.home, id_)


def _noting(progress: LossProgress | None, live: LiveRun | None) -> LossProgress:
    """`progress`, which also notes how many heads are solved."""

    def tell(done: int, total: int, loss: float) -> None:
        if live:
            live.step(done, total)
        if progress:
            progress(done, total, loss)

    return tell


def _check_shards(shards: Shards, recipe: Recipe, plan: Plan, on_error: OnError, ranks: Ranks | None) -> None:
    if recipe.embeddings:
        raise BadInput(f"shards {shards.folder}: only a trunk that learns from pixels reads them; pass --trunk small")
    if on_error != "raise":
        raise BadInput(f"shards {shards.folder}: a bad image cannot be replaced there; leave --on-error out")
    if recipe.stopping or recipe.only:
        field = "stopping" if recipe.stopping else "only"
        raise BadInput(f"shards {shards.folder}: hold the draws of one plan, but {field} makes others; leave it out")
    if ranks and ranks.world > 1:
        raise BadInput(f"shards {shards.folder}: are read by one rank, not by {ranks.world}; leave --shards out")
    shards.check(plan)


def _machine(ranks: Ranks) -> str:
    """What the last bits of a training depend on: ranks, cores, threads, and the instructions of the kernels."""
    kernels = torch.backends.cpu.get_cpu_capability()
    if ranks.device.type == "cuda":
        kernels = torch.cuda.get_device_name(ranks.device)
    several = f"{ranks.world} ranks, " if ranks.world > 1 else ""
    return f"{several}{os.cpu_count()} cores, {torch.get_num_threads()} threads, {kernels}"


def _save(network: Network | TreeNetwork, drawn: Drawn, folder: Path) -> None:
    write_tensors(folder / "checkpoints" / "last.pt", network.state_dict())
    with whole(folder / "exposure.json") as part:
        part.write_text(json.dumps(drawn.exposure, indent=1))
    with whole(folder / "replaced.json") as part:
        part.write_text(json.dumps([vars(note) for note in drawn.replaced], indent=1))
