"""The cached features that the exact heads of a run read, or that heads would read on other embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan, PlanTask
from samplers.streaming.frame_pairs import FramePairs, pairs_of
from training.evaluation.pair_inputs import vectors_of
from training.network.model import Network, build
from training.run import Run

__all__ = ["KINDS", "CachedFeatures"]

KINDS = ("binary", "categorical", "regression")
"""Kinds of tasks whose exact heads are solved again."""


@dataclass(frozen=True, kw_only=True)
class CachedFeatures:
    """The features of images that were embedded once; `alone` of their columns are those of one frame."""

    embeddings: Embeddings
    alone: int
    _network: Network
    _pairs: FramePairs | None

    @classmethod
    def open(cls, catalog: Catalog, run: Run, plan: Plan, embeddings: str = "", *, instead: str) -> Self:
        """The features that `run` reads, or `embeddings`; BadInput where it has none, naming what to do `instead`."""
        name = embeddings or run.recipe.embeddings
        if not name:
            raise BadInput(f"run {run.id}: learned from pixels, so it has no features; {instead}")
        vectors = Embeddings.open(catalog.home, name)
        tasks = [part for part in plan.tasks if part.task.kind in KINDS]
        pairs = pairs_of(plan, catalog.home, Pack.open(catalog.home, plan.pack_hash))
        network = build(run.recipe, tasks, vectors)
        return cls(embeddings=vectors, alone=len(vectors.mean), _network=network, _pairs=pairs)

    @torch.no_grad()
    def of(self, keys: Sequence[str]) -> Tensor:
        """Features float32 [n, D] of these images, standardised as heads read them."""
        return self._network.features(vectors_of(self.embeddings, keys, self._pairs))

    def width(self, task: PlanTask) -> int | None:
        """How many of the columns a task reads; None for all."""
        return None if task.task.inputs == 2 else self.alone
