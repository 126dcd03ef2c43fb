"""Predictions of labels by heads that did not see them: of a run's training labels, on the features of the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from curation.arrays import Floats, Ints
from curation.catalog.catalog import Catalog
from samplers.plan.plan import Plan
from training.loop.cached_features import KINDS, CachedFeatures
from training.loop.exact_heads import held_out_outputs
from training.loop.task_labels import TaskLabels, groups_of, task_labels
from training.network.folds import folds_of
from training.network.ridge import DEFAULT
from training.run import Run

__all__ = ["Folds", "HeldOut", "chances_of", "held_out"]

Folds = Literal["group", "image"]
"""What is held out together: whole groups, or images. Whole groups find bursts that are labelled wrong as one."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Of the n training labels of a task: `rows` [n] among the plan's samples, what is `given` [n] (class codes, or
    numbers), and what heads predict that did not see them: `probabilities` [n, C], or `numbers` [n]."""

    rows: Ints
    given: Floats
    probabilities: Floats
    numbers: Floats


def held_out(catalog: Catalog, run: str, *, by: Folds = "group", embeddings: str = "") -> Mapping[str, HeldOut]:
    """The held-out predictions of each task of classes or numbers of which a run has labels in several groups.

    Exact heads are solved on the features of the run, or on `embeddings`, in five folds, each with the ridge and
    temperature of the run's own head where it has one. BadInput where neither has features.
    """
    found = Run.open(catalog.home, run)
    plan = Plan.open(catalog.home, found.plan)
    cached = CachedFeatures.open(
        catalog, found, plan, embeddings,
        instead="name those of a frozen trunk with --embeddings MODEL, or doubt labels that it never saw with --split "
        "validation",
    )  # fmt: skip
    with catalog.read(plan.commit) as then:
        labels = task_labels(plan, groups_of(then, plan))
    features = cached.of(plan.keys.to_pylist())
    heads = {head.task: head for head in found.heads if head.kind == "exact"}
    made = dict[str, HeldOut]()
    for part in labels:
        if part.task.task.kind in KINDS and not part.constant and part.count > 1:
            head = heads.get(part.task.name)
            ridge, temperature = (head.ridge, head.temperature) if head and head.ridge else (DEFAULT, 1.0)
            own = features[torch.from_numpy(part.rows), : cached.width(part.task)].double()
            made[part.task.name] = _held_out(part, own, by, ridge, temperature)
    return made


def chances_of(outputs: Tensor) -> Floats:
    """Class probabilities [n, C] of the outputs [n, K] of a head of classes."""
    if outputs.shape[1] == 1:
        true = outputs[:, 0].sigmoid()
        chances = torch.stack([1 - true, true], dim=1)
    else:
        chances = outputs.softmax(dim=1)
    return np.asarray(chances.numpy(), np.float64)


def _held_out(part: TaskLabels, features: torch.Tensor, by: Folds, ridge: float, temperature: float) -> HeldOut:
    groups = part.groups if by == "group" else np.arange(len(part.rows))
    outputs = held_out_outputs(part, features, folds_of(groups, part.strata), ridge=ridge) / temperature
    if part.numeric:
        numbers = outputs[:, 0].numpy() * part.task.deviation + part.task.mean
        given = part.values * part.task.deviation + part.task.mean
        return HeldOut(rows=part.rows, given=given, probabilities=np.empty((len(given), 0)), numbers=numbers)
    return HeldOut(
        rows=part.rows, given=part.values, probabilities=chances_of(outputs),
        numbers=np.full(len(part.rows), np.nan),
    )  # fmt: skip
