"""Training: a recipe on a plan. Heads on a frozen trunk are solved; others learn in plan order, with plan weights."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.locks import in_use
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.exposure import Exposure
from samplers.plan.interleave import hash64
from samplers.plan.plan import Plan
from samplers.streaming.batches import Batch, batches
from samplers.streaming.draws import ReplacedDraw
from samplers.streaming.stream import OnError, stream
from training.loop.alarms import NumberRanges, drawn_alarms
from training.loop.shard_feed import Shards
from training.loop.solving import solve_plan
from training.network.losses import scale_rows
from training.network.model import Network, as_pixels, build, take_over
from training.recipe import Recipe
from training.run import Head, Run, libraries, revision, run_id

__all__ = ["train"]

CURVE_POINTS = 60


def train(
    recipe: Recipe,
    plan: Plan,
    catalog: Catalog,
    *,
    parent: str = "",
    on_error: OnError = "raise",
    shards: Shards | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Run:
    """Train `recipe` on `plan`; the same training again opens the finished run.

    `parent` is the id of a run, or its beginning.
    A drawn training with a `parent` begins with the weights of that run: trunk, branch, and the heads of the tasks that
    both have. Exact heads with a `parent` begin at its exact heads and compare ridges near theirs.
    `on_error` says what happens at an image that cannot be read, where the trunk learns from pixels: Damaged or
    NotFound naming it, or with "quarantine" another image of its stratum, which `Run.replaced` records. The run's id
    is the same. With `shards` images, labels and weights come from a materialized plan, by webdataset, instead of the
    pack. `progress` is called with the draws (or heads) done, all of them, and the objective of the last batches.
    Damaged where a table of the plan, or a shard, is not what was written.
    """
    if shards is not None:
        _check_shards(shards, recipe, plan, on_error)
    parent = Run.open(catalog.home, parent).id if parent else ""
    id_ = run_id(plan, recipe, parent, shards.order if shards else "")
    if (catalog.home / "runs" / id_ / "run.json").is_file():
        return Run.open(catalog.home, id_)
    with in_use(catalog.home):
        return _train(recipe, plan, catalog, id_, parent, Source(on_error=on_error, shards=shards), progress)


def _train(
    recipe: Recipe, plan: Plan, catalog: Catalog, id_: str, parent: str, source: "Source",
    progress: Callable[[int, int, float], None] | None,
) -> Run:  # fmt: skip
    plan.verify()
    started = time.monotonic()
    torch.set_num_threads(recipe.threads)
    heads: list[Head] = []
    drawn = Drawn()
    if recipe.solved:
        network, heads, drawn.alarms = solve_plan(recipe, plan, catalog, parent, progress)
    else:
        network = _draw(recipe, plan, catalog.home, parent, source, progress, drawn)
    _save(network, drawn, catalog.home / "runs" / id_)
    run = Run(
        id=id_, plan=plan.hash, commit=plan.commit, recipe=recipe, parent=parent, revision=revision(),
        libraries=libraries(), machine=_machine(), seconds=round(time.monotonic() - started, 2),
        curve=drawn.curve, alarm=drawn.alarm, heads=heads, alarms=drawn.alarms,
    )  # fmt: skip
    run.save(catalog.home)
    return run


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the images of draws come from: the plan's pack, or `shards`; and what happens at a bad one."""

    on_error: OnError
    shards: Shards | None


def _check_shards(shards: Shards, recipe: Recipe, plan: Plan, on_error: OnError) -> None:
    if recipe.embeddings:
        raise BadInput(f"shards {shards.folder}: only a trunk that learns from pixels reads them; pass --trunk small")
    if on_error != "raise":
        raise BadInput(f"shards {shards.folder}: a bad image cannot be replaced there; leave --on-error out")
    shards.check(plan)


@dataclass(kw_only=True)
class Drawn:
    """What a run keeps of the draws that it was trained on; nothing where heads were solved."""

    curve: list[dict[str, float]] = field(default_factory=list)
    exposure: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[ReplacedDraw] = field(default_factory=list)
    alarm: str = ""
    alarms: list[str] = field(default_factory=list)


def _machine() -> str:
    """What the last bits of a training depend on: its cores, threads, and the vector instructions of the kernels."""
    return f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def _draw(
    recipe: Recipe, plan: Plan, home: Path, parent: str, source: Source,
    progress: Callable[[int, int, float], None] | None, drawn: Drawn,
) -> Network:  # fmt: skip
    """Train a network on the plan's draws, one global batch a step."""
    embeddings = Embeddings.open(home, recipe.embeddings) if recipe.embeddings else None
    network = build(recipe, plan.tasks, embeddings)
    if parent:
        take_over(network, plan.tasks, Run.open(home, parent), home)
    optimizer = _optimizer(recipe, network)
    rates = network.losses.rates() if recipe.optimizer == "sgd" else None
    steps = len(plan.draws) // recipe.global_batch
    if not steps:
        raise BadInput(f"plan of {len(plan.draws)} draws: holds no batch of {recipe.global_batch}; plan more draws")
    recent: list[Tensor] = []
    exposure, numbers = Exposure(plan), NumberRanges(plan, network)
    for step, (inputs, batch) in enumerate(_inputs(recipe, plan, home, embeddings, source, drawn.replaced)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(recipe, step, steps)
        outputs = network(inputs)
        losses = network.losses(outputs, *_labels(batch))
        optimizer.zero_grad()
        network.losses.objective(losses).backward()
        if rates is not None:
            scale_rows(network.heads, rates)
        optimizer.step()
        recent.append(losses.detach())
        exposure.add(batch.rows, batch.positions)
        numbers.add(outputs.detach())
        if (step + 1) % max(1, steps // CURVE_POINTS) == 0 or step + 1 == steps:
            mean = torch.stack(recent).mean(dim=0)
            recent.clear()
            position = (step + 1) * recipe.global_batch
            named = zip(plan.tasks, mean.tolist(), strict=True)
            drawn.curve.append({"Draws": position, **{task.name: loss for task, loss in named}})
            if progress:
                progress(position, steps * recipe.global_batch, float(network.losses.objective(mean)))
    drawn.exposure, drawn.alarm = [vars(row) for row in exposure.rows()], exposure.alarm()
    drawn.alarms = drawn_alarms(plan.tasks, drawn.curve, numbers.outside())
    return network


def _inputs(
    recipe: Recipe,
    plan: Plan,
    home: Path,
    embeddings: Embeddings | None,
    source: Source,
    replaced: list[ReplacedDraw],
) -> Iterator[tuple[Tensor, Batch]]:
    """Batches in plan order with the network's inputs: cached vectors, or pixels in [-1, 1]. At the end, `replaced`
    receives the draws whose image was replaced."""
    if embeddings is not None:
        vectors = torch.from_numpy(np.array(embeddings.vectors[embeddings.rows(plan.keys.to_pylist())]))
        for batch in batches(plan, recipe.global_batch):
            yield vectors[torch.from_numpy(batch.rows)], batch
        return
    if source.shards is not None:
        for batch in source.shards.batches(plan, recipe.global_batch, recipe.size):
            yield _augmented(as_pixels(torch.from_numpy(batch.images)), batch, recipe), batch
        return
    pack = Pack.open(home, plan.pack_hash)
    with stream(
        plan, pack, recipe.global_batch, size=recipe.size, threads=recipe.threads, on_error=source.on_error
    ) as pixels:
        for batch in pixels:
            yield _augmented(as_pixels(torch.from_numpy(batch.images)), batch, recipe), batch
        replaced += pixels.replaced


def _augmented(pixels: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """Mirror half of the images, by a hash of (seed, position), and move all of a batch by up to 4 pixels."""
    if not recipe.augment:
        return pixels
    hashes = hash64(recipe.seed, batch.positions)
    mirrored = torch.from_numpy((hashes & np.uint64(1)).astype(np.bool_))
    pixels[mirrored] = pixels[mirrored].flip(-1)
    down, right = (int(hashes[0] >> np.uint64(shift)) % 9 - 4 for shift in (8, 16))
    return pixels.roll((down, right), dims=(2, 3)).contiguous(memory_format=torch.channels_last)


def _labels(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(batch.values), torch.from_numpy(batch.known), torch.from_numpy(batch.weights)


def _optimizer(recipe: Recipe, network: Network) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        network.parameters(), lr=recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay
    )


def _schedule(recipe: Recipe, step: int, steps: int) -> float:
    """The share of the learning rate at a step."""
    first = round(steps * recipe.warmup)
    if step < first:
        return (step + 1) / first
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def _save(network: Network, drawn: Drawn, folder: Path) -> None:
    state = BytesIO()  # torch reports a full disk only as a failure
    torch.save(network.state_dict(), state)
    with whole(folder / "checkpoints" / "last.pt") as part:
        part.write_bytes(state.getbuffer())
    with whole(folder / "exposure.json") as part:
        part.write_text(json.dumps(drawn.exposure, indent=1))
    with whole(folder / "replaced.json") as part:
        part.write_text(json.dumps([vars(note) for note in drawn.replaced], indent=1))
