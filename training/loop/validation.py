"""The validation losses of every task during a training, label by label, so that gains are compared in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from curation.arrays import Bools, Floats, Int8s, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from samplers.pack.pack import Pack
from samplers.plan.boxes import DrawBoxes, has_boxes, learned_of
from samplers.plan.plan import Plan
from training.evaluation.labelled_classes import known_presence
from training.evaluation.predictions import Samples, rows_of
from training.loop.inputs import Inputs
from training.loop.learner import Learner
from training.network.objects import Objects
from training.network.ridge import weighted_mean
from training.network.tree_network import TreeNetwork

__all__ = ["Validation", "soft_targets"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """The labels of T tasks on n validation images: values, known and weights [n, T], and the images' groups [n].

    `presence` [n, M] int8 are the classes of multilabel tasks, as in `Batch`.

    Values are class codes or numbers. A label of a class weighs as the plan draws that class, so losses are of the
    mixture that the task learns; a task without labels here is never stopped.
    """

    keys: list[str]
    values: Floats
    known: Bools
    weights: Floats
    groups: Ints
    presence: Int8s
    objects: Objects | None = None

    @classmethod
    def of(cls, catalog: Catalog, plan: Plan, split: str = "validation") -> Self:
        """The labels at the plan's commit of the images in a split that the plan's pack holds."""
        packed = Pack.open(catalog.home, plan.pack_hash).keys
        with catalog.read(plan.commit) as then:
            samples = Samples.at(then)
            there = (samples.splits == split) & pc.is_in(samples.keys, value_set=packed).to_numpy(False)
            states = [known_presence(then, task.task, samples) for task in plan.tasks if task.task.kind == "multilabel"]
            labels = [then.labels(task.name) for task in plan.tasks]
            columns = [_column(part, samples, task.task.kind) for part, task in zip(labels, plan.tasks, strict=True)]
            sizes = _sizes(then, samples) if has_boxes(plan) else None
        values = np.stack(columns, axis=1)
        there &= np.isfinite(values).any(axis=1)
        known = np.isfinite(values[there])
        values = np.where(known, values[there], 0.0)
        weights = samples.weights[there][:, None] * known
        for code, task in enumerate(plan.tasks):
            if task.class_factor is not None and task.task.classes:
                weights[:, code] *= np.asarray(task.class_factor)[values[:, code].astype(np.int64)]
        objects = None
        if sizes is not None:
            objects = Objects.of(_boxes(plan, labels, samples, np.flatnonzero(there)), sizes[there])
        return cls(
            keys=samples.keys.filter(pa.array(there)).to_pylist(), values=values, known=known, weights=weights,
            groups=samples.groups[there], objects=objects,
            presence=np.concatenate([np.zeros((len(there), 0), np.int8), *states], axis=1)[there],
        )  # fmt: skip

    @torch.no_grad()
    def losses(self, learner: Learner, inputs: Inputs) -> Floats:
        """Losses [n, T] over the best constants', NaN where unknown. Ranks share the batches."""
        network, ranks = learner.network, learner.ranks
        network.eval()
        found, at = torch.zeros(self.values.shape, device=ranks.device), 0
        for number, part in enumerate(inputs.of(self.keys)):
            rows = slice(at, at + len(part))
            at += len(part)
            if number % ranks.world == ranks.rank:
                values = torch.from_numpy(self.values[rows].astype(np.float32)).to(ranks.device)
                presence = torch.from_numpy(self.presence[rows]).to(ranks.device)
                objects = self.objects and self.objects.part(rows).to(ranks.device)
                each = network.losses.each(network(part), values, presence=presence, objects=objects)
                found[rows] = each[:, torch.argsort(network.losses.group_order)] / network.losses.constants
        learner.train()
        ranks.sum_([found])
        return np.where(self.known, found.double().cpu().numpy(), np.nan)

    def mean(self, losses: Floats, task: int) -> tuple[float, float]:
        """The mean of a task's losses [n] or of differences between two, and its standard error over groups."""
        mine = self.known[:, task]
        return weighted_mean(losses[mine], self.weights[mine, task], self.groups[mine])

    def tasks(self) -> list[int]:
        """The codes of the tasks that have labels in at least two groups here."""
        return [
            code for code in range(self.known.shape[1])
            if (self.weights[:, code] > 0).any() and len(np.unique(self.groups[self.known[:, code]])) > 1
        ]  # fmt: skip


def _column(labels: pa.Table, samples: Samples, kind: str) -> Floats:
    """The value of each sample's label (0 for a list of classes or boxes); NaN where it is not known."""
    known = labels.filter(pc.equal(labels["state"], 1))
    values = np.full(len(samples.ids), np.nan)
    if kind in ("multilabel", "detection"):
        values[rows_of(samples.ids, known)] = 0.0
        return values
    column = known["number" if kind == "regression" else "code"]
    values[rows_of(samples.ids, known)] = pc.cast(column, pa.float64()).to_numpy()
    return values


def _boxes(plan: Plan, labels: Sequence[pa.Table], samples: Samples, rows: Ints) -> DrawBoxes:
    """The boxes on the samples `rows` [n], which are the draws, of every task of boxes."""
    place = np.full(len(samples.ids), -1, np.int64)
    place[rows] = np.arange(len(rows))
    draws, tasks, parts = [], [], []
    for code, (task, table) in enumerate(zip(plan.tasks, labels, strict=True)):
        if task.task.kind == "detection":
            known = table.filter(pc.equal(table["state"], 1))
            own = place[rows_of(samples.ids, known)]
            lists = known["boxes"].filter(pa.array(own >= 0)).combine_chunks()
            draws.append(np.repeat(own[own >= 0], pc.fill_null(pc.list_value_length(lists), 0).to_numpy()))
            tasks.append(np.full(len(draws[-1]), code))
            parts.append(pc.list_flatten(lists))
    return DrawBoxes.of_struct(np.concatenate(draws), np.concatenate(tasks), pa.concat_arrays(parts), learned_of(plan))


def _sizes(then: Snapshot, samples: Samples) -> Ints:
    """Width and height [N, 2] of all samples."""
    table = then.samples()
    found = np.zeros((len(samples.ids), 2), np.int64)
    columns = [table[name].to_numpy() for name in ("width", "height")]
    found[samples.places(table["sample_id"].to_numpy())] = np.stack(columns, axis=1)
    return found


@torch.no_grad()
def soft_targets(network: TreeNetwork, inputs: Inputs, task: int, keys: list[str]) -> Tensor:
    """What `task` predicts for these images [n, K]: class probabilities, chances, or standardised numbers."""
    network.eval()
    kind = network.losses.layout.kinds[task]
    parts = [network.outputs_of(part, task).float() for part in inputs.of(keys)]
    found = torch.cat(parts)
    return {"categorical": lambda: found.softmax(1), "binary": found.sigmoid, "multilabel": found.sigmoid}.get(
        kind, lambda: found
    )()
