"""Trainings on several ranks, as functions that a process of its own can import."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from support.learned import recipe
from torch import multiprocessing

from curation import Catalog
from samplers import Plan
from training.loop.drawing import Drawing
from training.loop.ranks import Ranks, joined
from training.run import run_id

TREE = {"tasks": ["speed"], "branch": {"marks": {"width": 8, "tasks": ["*"]}, "own": {"width": 4, "tasks": ["car"]}}}
MADE = recipe(
    tree=TREE, stopping={"every": 4, "patience": 1}, dropout=0.1, clip=0.5, balance="gradient_norm", learning_rate=0.01
)


class Stopped(BaseException):
    """Ends a training where it is."""


def train_until(ranks: Ranks, home: Path, plan: str, last: int) -> None:
    """Train until step `last`, with a checkpoint at each step."""
    catalog = Catalog.open(home)
    opened = Plan.open(home, plan)
    drawing = Drawing(MADE, opened, catalog, home / "runs" / run_id(opened, MADE), ranks=ranks)
    save = drawing._save

    def saved() -> None:
        save()
        if drawing.step >= last:
            raise Stopped

    drawing._save = saved  # type: ignore[method-assign]
    with suppress(Stopped):
        drawing.run(every=1)


def gradients(ranks: Ranks, home: Path, plan: str, out: str) -> None:
    """Write the gradients of the first step, and those of the naive mean over ranks, from this rank's draws."""
    catalog = Catalog.open(home)
    drawing = Drawing(replace(MADE, clip=0.0), Plan.open(home, plan), catalog, home / "none", ranks=ranks)
    (inputs, batch), *_ = drawing.inputs.draws(drawing.course.now, 0)
    for head in drawing.network.heads.values():
        torch.nn.init.constant_(head.weight, 0.1)
    known = torch.from_numpy(batch.known)
    own = drawing.network.losses(
        drawing.network(inputs), *map(torch.from_numpy, (batch.values, batch.known, batch.weights))
    )
    naive = torch.where(known.any(dim=0), own * len(batch.rows) / known.sum(dim=0).clamp(min=1), 0.0).sum()
    parameters = drawing.learner.optimiser.parameters
    mean = torch.cat([g.flatten() for g in torch.autograd.grad(naive, parameters, allow_unused=True) if g is not None])
    ranks.sum_([mean])
    drawing._learn(inputs, batch, None, False)
    summed = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    if ranks.first:
        torch.save({"sum": summed, "naive": mean / ranks.world}, f"{out}-{ranks.world}.pt")


def work(ranks: Ranks, home: Path, plan: str, out: str, last: int) -> None:
    """First `gradients`, then `train_until`."""
    gradients(ranks, home, plan, out)
    train_until(ranks, home, plan, last)


def on_ranks(world: int, work: Callable[..., None], *rest: Any) -> None:
    """Run `work` on so many ranks: processes of their own where there are several."""
    if world == 1:
        work(Ranks(), *rest)
        return
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    multiprocessing.start_processes(_member, (world, port, work, rest), nprocs=world, start_method="spawn")


def _member(rank: int, world: int, port: int, work: Callable[..., None], rest: tuple[Any, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with joined(rank=rank, world=world, device="cpu") as ranks:
        work(ranks, *rest)
