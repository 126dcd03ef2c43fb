"""The validation losses of every task during a training, label by label, so that gains are compared in pairs."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from curation.arrays import Bools, Floats, Int8s, Ints
from curation.catalog.catalog import Catalog
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.evaluation.labelled_classes import known_presence
from training.evaluation.predictions import Samples, rows_of
from training.loop.inputs import Inputs
from training.loop.learner import Learner
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

    @classmethod
    def of(cls, catalog: Catalog, plan: Plan, split: str = "validation") -> Self:
        """The labels at the plan's commit of the images in a split that the plan's pack holds."""
        packed = Pack.open(catalog.home, plan.pack_hash).keys
        with catalog.read(plan.commit) as then:
            samples = Samples.at(then)
            there = (samples.splits == split) & pc.is_in(samples.keys, value_set=packed).to_numpy(False)
            states = [known_presence(then, task.task, samples) for task in plan.tasks if task.task.kind == "multilabel"]
            columns = [_column(then.labels(task.name), samples, task.task.kind) for task in plan.tasks]
        values = np.stack(columns, axis=1)
        there &= np.isfinite(values).any(axis=1)
        known = np.isfinite(values[there])
        values = np.where(known, values[there], 0.0)
        weights = samples.weights[there][:, None] * known
        for code, task in enumerate(plan.tasks):
            if task.class_factor is not None and task.task.classes:
                weights[:, code] *= np.asarray(task.class_factor)[values[:, code].astype(np.int64)]
        return cls(
            keys=samples.keys.filter(pa.array(there)).to_pylist(), values=values, known=known, weights=weights,
            groups=samples.groups[there],
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
                each = network.losses.each(network(part), values, presence=presence)
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
    """The value of each sample's label (0 for a list of classes); NaN where it is not known."""
    known = labels.filter(pc.equal(labels["state"], 1))
    values = np.full(len(samples.ids), np.nan)
    if kind == "multilabel":
        values[rows_of(samples.ids, known)] = 0.0
        return values
    column = known["number" if kind == "regression" else "code"]
    values[rows_of(samples.ids, known)] = pc.cast(column, pa.float64()).to_numpy()
    return values


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
