"""The training loop: a recipe on a plan, over cached features or over pixels, in plan order and with plan weights."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.exposure import Exposure
from samplers.plan.interleave import hash64
from samplers.plan.plan import Plan
from samplers.stream.batches import Batch, batches
from samplers.stream.draws import ReplacedDraw
from samplers.stream.stream import OnError, stream
from training.network.model import Network, as_pixels, build, take_over
from training.run import Recipe, Run, libraries, revision, run_id

__all__ = ["train"]

CURVE_POINTS = 60


def train(
    recipe: Recipe,
    plan: Plan,
    catalog: Catalog,
    *,
    parent: str = "",
    on_error: OnError = "raise",
    progress: Callable[[int, int, float], None] | None = None,
) -> Run:
    """Train `recipe` on `plan`; the same training again opens the finished run.

    With a `parent`, it begins with the weights of that run: trunk, branch, and the heads of the tasks that both have.
    `on_error` is what becomes of an image that cannot be read, where the trunk learns from pixels: Damaged or NotFound
    naming it, or with "quarantine" another one of its stratum, which `Run.replaced` tells. The run is the same one.
    `progress` is called with the draws done, all draws, and the objective of the last batches. Damaged where a table of
    the plan is not what it was hashed with.
    """
    id_ = run_id(plan, recipe, parent)
    if (catalog.home / "runs" / id_ / "run.json").is_file():
        return Run.open(catalog.home, id_)
    plan.verify()
    started = time.monotonic()
    torch.set_num_threads(recipe.threads)
    embeddings = Embeddings.open(catalog.home, recipe.embeddings) if recipe.embeddings else None
    network = build(recipe, plan.tasks, embeddings)
    if parent:
        take_over(network, plan.tasks, Run.open(catalog.home, parent), catalog.home)
    optimizer = _optimizer(recipe, network)
    steps = len(plan.draws) // recipe.global_batch
    if not steps:
        raise BadInput(f"plan of {len(plan.draws)} draws: holds no batch of {recipe.global_batch}; plan more draws")
    curve: list[dict[str, float]] = []
    recent: list[Tensor] = []
    exposure, replaced = Exposure(plan), list[ReplacedDraw]()
    for step, (inputs, batch) in enumerate(_inputs(recipe, plan, catalog.home, embeddings, on_error, replaced)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(recipe, step, steps)
        losses = network.losses(network(inputs), *_labels(batch))
        optimizer.zero_grad()
        network.losses.objective(losses).backward()
        optimizer.step()
        recent.append(losses.detach())
        exposure.add(batch.rows, batch.positions)
        if (step + 1) % max(1, steps // CURVE_POINTS) == 0 or step + 1 == steps:
            mean = torch.stack(recent).mean(dim=0)
            recent.clear()
            position = (step + 1) * recipe.global_batch
            named = zip(plan.tasks, mean.tolist(), strict=True)
            curve.append({"Draws": position, **{task.name: loss for task, loss in named}})
            if progress:
                progress(position, steps * recipe.global_batch, float(network.losses.objective(mean)))
    _save(network, exposure, replaced, catalog.home / "runs" / id_)
    run = Run(
        id=id_, plan=plan.hash, commit=plan.commit, recipe=recipe, parent=parent, revision=revision(),
        libraries=libraries(), machine=f"{os.cpu_count()} cores", seconds=round(time.monotonic() - started, 2),
        curve=curve, alarm=exposure.alarm(),
    )  # fmt: skip
    run.save(catalog.home)
    return run


def _inputs(
    recipe: Recipe,
    plan: Plan,
    home: Path,
    embeddings: Embeddings | None,
    on_error: OnError,
    replaced: list[ReplacedDraw],
) -> Iterator[tuple[Tensor, Batch]]:
    """Batches in plan order with what the network reads: cached vectors, or pixels in [-1, 1]. In the end `replaced`
    gets the draws that another image took over."""
    if embeddings is not None:
        vectors = torch.from_numpy(np.array(embeddings.vectors[embeddings.rows(plan.keys.to_pylist())]))
        for batch in batches(plan, recipe.global_batch):
            yield vectors[torch.from_numpy(batch.rows)], batch
        return
    pack = Pack.open(home, plan.pack_hash)
    with stream(plan, pack, recipe.global_batch, size=recipe.size, threads=recipe.threads, on_error=on_error) as pixels:
        for batch in pixels:
            yield _augmented(as_pixels(torch.from_numpy(batch.images)), batch, recipe), batch
        replaced += pixels.replaced


def _augmented(pixels: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """Half of the images mirrored, as a hash of (seed, position) says; and all of a batch moved by up to 4 pixels."""
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


def _save(network: Network, exposure: Exposure, replaced: list[ReplacedDraw], folder: Path) -> None:
    state = BytesIO()  # torch says of a full disk only that it failed
    torch.save(network.state_dict(), state)
    with whole(folder / "checkpoints" / "last.pt") as part:
        part.write_bytes(state.getbuffer())
    with whole(folder / "exposure.json") as part:
        part.write_text(json.dumps([vars(row) for row in exposure.rows()], indent=1))
    with whole(folder / "replaced.json") as part:
        part.write_text(json.dumps([vars(note) for note in replaced], indent=1))
