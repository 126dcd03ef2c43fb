"""What the pairs of a plan are measured on: training labels, cached features, and labels of an evaluation split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from curation.analysis.priors import natural_prior
from curation.arrays import Bools, Floats, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.dynamics.pairs import JudgedTask, compressed
from training.evaluation.decisions import decided
from training.evaluation.evaluation import current_task, natural_probabilities
from training.evaluation.pair_inputs import vectors_of
from training.evaluation.predictions import LabelledPredictions, Samples, judging_batches, known_labels
from training.loop.cached_features import KINDS
from training.loop.held_out import chances_of
from training.loop.task_labels import TaskLabels, groups_of, task_labels
from training.network.model import Standardise
from training.recipe import Recipe

__all__ = ["PairLabels", "pair_labels"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairLabels:
    """The tasks whose pairs can be measured, the features [S, D] of the plan's samples, and why others are left out."""

    tasks: list[JudgedTask]
    features: Tensor
    left_out: dict[str, str]


def pair_labels(
    catalog: Catalog, plan: Plan, recipe: Recipe, *, split: str = "test", only: Sequence[str] = ()
) -> PairLabels:
    """The labels of `plan` that tasks learn from and those of `split` known now, on the embeddings of `recipe`.

    `only` names tasks of the plan (default: all). Left out are tasks of boxes, of several classes or of two frames,
    which read no shared layer, and those without labels of two classes, or with none to judge by. BadInput for an
    `only` that the plan does not train.
    """
    names = [task.name for task in plan.tasks]
    if unknown := [name for name in only if name not in names]:
        raise BadInput(f"task {unknown[0]}: the plan trains {', '.join(names)}; name some of these")
    with catalog.read(plan.commit) as then:
        found = [part for part in task_labels(plan, groups_of(then, plan)) if not only or part.task.name in only]
        priors = {
            part.task.name: natural_prior(then, part.task.task)
            for part in found if part.task.task.kind in KINDS and part.task.task.classes
        }  # fmt: skip
    embeddings = Embeddings.open(catalog.home, recipe.embeddings)
    pack = Pack.open(catalog.home, plan.pack_hash)
    usable, left_out = _usable(found)
    judged: list[tuple[TaskLabels, Task, LabelledPredictions, Tensor]] = []
    standardise = Standardise(embeddings.mean, embeddings.scale, embeddings.widths)
    with torch.no_grad():

        def vectors(keys: list[str]) -> Tensor:
            inputs: Tensor = standardise(vectors_of(embeddings, keys, None))
            return inputs

        with catalog.read() as now:
            samples = Samples.at(now)
            held = np.asarray(pc.is_in(samples.keys, value_set=pack.keys).to_numpy(zero_copy_only=False), np.bool_)
            for part in usable:
                task = current_task(now, part.task.task)
                truth = _judging(now, task, samples, held & (samples.splits == split))
                if truth is None:
                    left_out[part.task.name] = f"no label of {split} that a network of the run's pack can predict"
                    continue
                judged.append((part, task, truth, vectors(samples.keys.take(truth.rows).to_pylist())))
        features, others = compressed(vectors(plan.keys.to_pylist()), [inputs for *_, inputs in judged])
    tasks = [
        _judged(part, truth, inputs, priors.get(part.task.name, np.empty(0)), task)
        for (part, task, truth, _), inputs in zip(judged, others, strict=True)
    ]
    return PairLabels(tasks=tasks, features=features, left_out=left_out)


def _usable(found: Sequence[TaskLabels]) -> tuple[list[TaskLabels], dict[str, str]]:
    """The tasks that a shared layer can learn, and why the others cannot be."""
    usable, left_out = [], dict[str, str]()
    for part in found:
        task = part.task.task
        if task.kind not in KINDS:
            left_out[task.name] = f"heads of a {task.kind} task are not measured in pairs"
        elif task.inputs == 2:
            left_out[task.name] = "a task of two frames reads no shared layer"
        elif not len(part.rows) or part.constant:
            left_out[task.name] = "its training labels all say the same" if len(part.rows) else "no training label"
        else:
            usable.append(part)
    return usable, left_out


def _judging(now: Snapshot, task: Task, samples: Samples, inside: Bools) -> LabelledPredictions | None:
    """The labels of a task that judge it, with nothing predicted yet; None without any."""
    truth = known_labels(now, task, samples)
    rows: Ints = np.flatnonzero(inside & np.isfinite(truth))
    unknown = np.full(len(rows), np.nan)
    found = LabelledPredictions.of(
        samples, batches=judging_batches(now, task, samples), rows=rows, truth=truth[rows], predicted=unknown,
        confidence=unknown, probabilities=np.empty((len(rows), 0)),
    ).at(inside)  # fmt: skip
    return found if len(found.rows) else None


def _judged(part: TaskLabels, truth: LabelledPredictions, inputs: Tensor, prior: Floats, task: Task) -> JudgedTask:
    """A task with what judges it: predictions are decided as `evaluate` decides them."""
    strata = truth.truth if task.metric == "balanced_accuracy" else np.zeros(len(truth.rows))
    return JudgedTask(
        labels=part, features=inputs, points=_scored(part, truth, prior, task), weights=truth.weights,
        groups=truth.groups, strata=strata.astype(np.int64),
    )  # fmt: skip


def _scored(part: TaskLabels, truth: LabelledPredictions, prior: Floats, task: Task) -> Callable[[Tensor], Floats]:
    if part.numeric:
        constant = float(np.abs(truth.truth - np.median(truth.truth)).mean()) or 1.0

        def number(outputs: Tensor) -> Floats:
            numbers = outputs[:, 0].double().numpy() * part.task.deviation + part.task.mean
            return np.asarray(-100 * np.abs(numbers - truth.truth) / constant, np.float64)

        return number

    def right(outputs: Tensor) -> Floats:
        natural = natural_probabilities(part.task, chances_of(outputs.double()), prior)
        return np.asarray(100.0 * (decided(task, natural, prior) == truth.truth), np.float64)

    return right
