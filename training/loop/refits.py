"""Heads solved again on cached features: with the labels of a run, with those known now, and with parts of these.

The labels that are known now are weighed by the policy of the run's plan, as a plan made now would weigh them. Heads
are judged on validation, and on request also by the training labels that the run learned from, each by a head that did
not see its group. Where there is enough of these, new labels judge nothing, so that wrong ones do not speak for
themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from torch import Tensor

from curation.analysis.priors import natural_prior
from curation.arrays import Bools, Floats, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from samplers.pack.pack import Pack
from samplers.plan.build import draft_plan
from samplers.plan.interleave import hash64
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.evaluation.decisions import decided
from training.evaluation.evaluation import current_task, natural_probabilities
from training.evaluation.predictions import LabelledPredictions, Samples, judging_batches, known_labels
from training.judging.paired_runs import PairedPredictions
from training.loop.cached_features import KINDS, CachedFeatures
from training.loop.exact_heads import exact_head
from training.loop.held_out import chances_of
from training.loop.task_labels import TaskLabels, groups_of, task_labels
from training.network.folds import folds_of
from training.run import Run

__all__ = ["HELD_OUT", "Known", "Refit", "refits_of", "why_not_refitted"]

HELD_OUT: Final = "held-out training labels"
"""What heads are judged by besides the labels of a split."""
WHOLE: Final = -2
"""The fold of labels to judge by that no head learns from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """The n training labels of a task at some commit, the `keys` [n] and features [n, D] of their images, and the
    natural prior [C] at that commit."""

    labels: TaskLabels
    keys: npt.NDArray[np.object_]
    features: Tensor
    prior: Floats

    def part(self, chosen: Bools) -> Self:
        """Only the labels that are `chosen` [n]; each class keeps its weight."""
        labels = self.labels
        weights, values = labels.weights[chosen], labels.values[chosen]
        if not labels.numeric:
            _, code = np.unique(labels.values, return_inverse=True)
            whole, left = (
                np.bincount(c, w, code.max() + 1) for c, w in ((code, labels.weights), (code[chosen], weights))
            )
            weights = weights * (whole / np.where(left > 0, left, 1.0))[code[chosen]]
        kept = replace(
            labels, rows=labels.rows[chosen], values=values, weights=weights / weights.sum(), names=labels.names[chosen]
        )
        return replace(self, labels=kept, keys=self.keys[chosen], features=self.features[torch.from_numpy(chosen)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Refit:
    """The labels of a task that a run learned from (`before`), those known `now`, and what heads are judged by.

    `judged` holds the m labels to predict, `inputs` [m, D] the features of their images, and `folds` [m] the fold in
    which each is held out with its group (`fold_of`), `WHOLE` on a split that nothing is trained on. `judged_on` names
    what they are.
    """

    task: Task
    before: Known
    now: Known
    judged: LabelledPredictions
    inputs: Tensor
    folds: Ints
    fold_of: Mapping[str, int]
    judged_on: str
    seed: int
    huber: bool

    def gain(self) -> PairedPredictions:
        """What heads with the labels before and with those of now predict, for the same labels."""
        first, second = (self.predictions(known) for known in (self.before, self.now))
        return PairedPredictions(task=self.task, first=first, second=second)

    def predictions(self, known: Known) -> LabelledPredictions:
        """What the head of these labels predicts for the labels that it is judged by."""
        held = np.array([self.fold_of.get(name, -1) for name in known.labels.names.tolist()], np.int64)
        predicted = np.full(len(self.folds), np.nan)
        for fold in np.unique(self.folds).tolist():
            mine, seen = self.folds == fold, held != fold
            own = known if seen.all() else known.part(seen)
            predicted[mine] = self._predicted(own, self.inputs[torch.from_numpy(mine)])
        return replace(self.judged, predicted=predicted)

    def nested(self, sizes: Sequence[int], order: int) -> list[Known]:
        """Parts of the labels known now: whole groups, until a part has each size; larger parts hold the smaller."""
        names, group = np.unique(self.now.labels.names, return_inverse=True)
        rank = np.argsort(np.argsort(hash64(order, np.arange(len(names)))))[group]
        counts = np.cumsum(np.bincount(rank))
        ends = [int(np.searchsorted(counts, size)) for size in sizes]
        return [self.now.part(rank <= end) for end in ends]

    def _predicted(self, known: Known, inputs: Tensor) -> Floats:
        labels = known.labels
        head = exact_head(labels, known.features.double(), seed=self.seed, huber=self.huber)
        outputs = inputs.double() @ head.weights.T + head.biases
        if labels.numeric:
            return np.asarray(outputs[:, 0].numpy() * labels.task.deviation + labels.task.mean, np.float64)
        natural = natural_probabilities(labels.task, chances_of(outputs), known.prior)
        return decided(self.task, natural, known.prior).astype(np.float64)


def refits_of(
    catalog: Catalog, now: Snapshot, run: str, *, split: str = "validation", tasks: Sequence[str] = (),
    embeddings: str = "", fewest: int = 0,
) -> dict[str, Refit]:  # fmt: skip
    """What the heads of a run's tasks (or of `tasks`) are solved again on, for tasks of classes or numbers.

    They are judged on `split`; with `fewest` above 0 also by the labels that the run learned from, and by new ones
    where these and the split have fewer groups than that. A task whose classes changed since is left out, and one
    without labels to judge by. BadInput for a run without cached features, for labelled images that its pack lacks, and
    for a policy that no longer fits the tasks.
    """
    found = Run.open(catalog.home, run)
    plan = Plan.open(catalog.home, found.plan)
    instead = "name those of a frozen trunk with --embeddings MODEL"
    cached = CachedFeatures.open(catalog, found, plan, embeddings, instead=instead)
    policy = Policy.model_validate(plan.header["policy"])
    pack = Pack.open(catalog.home, plan.pack_hash)
    fresh = draft_plan(catalog, policy, pack, draws=len(policy.phases), commit=now.commit)
    sides = {}
    with catalog.read(plan.commit) as then:
        for name, (at, made) in {"before": (then, plan), "now": (now, fresh)}.items():
            wanted = [part for part in made.tasks if part.task.kind in KINDS and (not tasks or part.name in tasks)]
            priors = {part.name: natural_prior(at, part.task) if part.task.classes else np.empty(0) for part in wanted}
            sides[name] = _known(made, groups_of(at, made), priors, cached)
    samples = Samples.at(now)
    parts = {
        name: _refit(now, samples, sides["before"][name], known, fresh, cached, split, fewest, found)
        for name, known in sides["now"].items()
        if name in sides["before"] and _alike(sides["before"][name].labels.task.task, now.task(name))
    }
    return {name: part for name, part in parts.items() if len(part.folds)}


def why_not_refitted(catalog: Catalog, now: Snapshot, run: str, name: str) -> str:
    """Why `refits_of` leaves a task of a run out whatever labels it has; "" where it does not."""
    task = now.task(name)
    if task.kind not in KINDS:
        return f"heads of a {task.kind} task are not solved again"
    plan = Plan.open(catalog.home, Run.open(catalog.home, run).plan)
    alike = all(_alike(part.task, task) for part in plan.tasks if part.name == name)
    return "" if alike else "its classes, or their order, changed after the run"


def _alike(trained: Task, task: Task) -> bool:
    return (trained.kind, trained.classes) == (task.kind, task.classes)


def _known(plan: Plan, groups: Sequence[str], priors: Mapping[str, Floats], cached: CachedFeatures) -> dict[str, Known]:
    keys = plan.keys.to_pylist()
    found = {}
    for part in task_labels(plan, groups):
        if part.task.name in priors:
            own = np.array([keys[row] for row in part.rows.tolist()], object)
            features = cached.of(own.tolist())[:, : cached.width(part.task)]
            found[part.task.name] = Known(labels=part, keys=own, features=features, prior=priors[part.task.name])
    return found


def _refit(
    now: Snapshot, samples: Samples, before: Known, known: Known, plan: Plan, cached: CachedFeatures, split: str,
    fewest: int, run: Run,
) -> Refit:  # fmt: skip
    """The refit of one task: judged on the split, and with `fewest` in folds of training labels."""
    task = current_task(now, known.labels.task.task)
    truth = known_labels(now, task, samples)
    keys = samples.keys.to_pylist()
    rows: Ints = np.flatnonzero((samples.splits == split) & np.isfinite(truth))
    rows = rows[cached.embeddings.has([keys[row] for row in rows.tolist()])]
    folds: Ints = np.full(len(rows), WHOLE, np.int64)
    fold_of = _held_out(known, before) if fewest else {}
    judged_on = [split] * bool(len(rows)) + [HELD_OUT] * bool(fold_of)
    if fold_of:
        mine = np.isin(known.keys, before.keys)
        if len(np.unique(samples.groups[rows])) + len(np.unique(known.labels.names[mine])) < fewest:
            mine[:] = True
        places = np.asarray(pc.index_in(plan.keys, value_set=samples.keys).to_numpy(), np.int64)[
            known.labels.rows[mine]
        ]
        held = np.array([fold_of[name] for name in known.labels.names[mine].tolist()], np.int64)
        order = np.argsort(np.concatenate([rows, places]))
        rows, folds = np.concatenate([rows, places])[order], np.concatenate([folds, held])[order]
    unknown = np.full(len(rows), np.nan)
    judged = LabelledPredictions.of(
        samples, batches=judging_batches(now, task, samples), rows=rows, truth=truth[rows], predicted=unknown,
        confidence=unknown, probabilities=np.empty((len(rows), 0)),
    )  # fmt: skip
    inputs = cached.of([keys[row] for row in rows.tolist()])[:, : cached.width(known.labels.task)]
    return Refit(
        task=task, before=before, now=known, judged=judged, inputs=inputs, folds=folds, fold_of=fold_of,
        judged_on=" and ".join(judged_on), seed=run.recipe.seed, huber=run.recipe.huber,
    )  # fmt: skip


def _held_out(known: Known, before: Known) -> dict[str, int]:
    """The fold of each group of the labels known now; none where a fold would leave nothing to learn from."""
    labels = known.labels
    folds = dict(zip(labels.names.tolist(), folds_of(labels.groups, labels.strata).tolist(), strict=True))
    held = [{folds.get(name, -1) for name in part.labels.names.tolist()} for part in (known, before)]
    return folds if all(each - {fold} for each in held for fold in folds.values()) else {}
