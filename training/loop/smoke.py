"""Whether each head of a recipe can fit two batches of its own labels: seconds of work before hours of training.

A head that cannot memorise 32 labels will not learn thousands: its learning rate or size is wrong, its images say
nothing about its labels, or the same image carries two labels.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from curation.arrays import Ints
from curation.catalog.catalog import Catalog
from curation.files.progress import Progress
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.boxes import PlanBoxes, has_boxes
from samplers.plan.interleave import hash64
from samplers.plan.plan import Plan, PlanTask
from samplers.plan.presence import class_spans, presence_entropy
from samplers.streaming.frame_pairs import pairs_of
from training.evaluation.features import embed_some
from training.evaluation.pair_inputs import vectors_of
from training.loop.inputs import Inputs, Source
from training.loop.learner import Draws, Learner
from training.loop.ranks import Ranks
from training.loop.shared_layer import table_of, train_shared
from training.loop.task_labels import TaskLabels
from training.network.exact import Problem, losses_of, rotate, solve
from training.network.losses import TaskLosses
from training.network.model import build, build_any
from training.network.objects import Objects
from training.network.ridge import PATH
from training.recipe import Recipe, TaskRecipe

__all__ = ["FITS", "SmokeHead", "smoke"]

LABELS = 32
"""Labels of a task: two batches of 16, spread over its classes (or over the bins of a number)."""

FITS = 0.1
"""A head fits its labels once its loss is at most this part of that of the best constant on them."""

STEPS, STEPS_ON_FEATURES = 300, 600
"""Steps of heads that learn from draws, on pixels and on cached features."""

RATE = 1e-3
"""On pixels the learning rate is at most this: what pays over thousands of images is too much noise on 32."""

EACH = 20
"""Steps between two looks at the losses."""

SMALLEST = 0.1
"""The loss of the best constant counts as at least this much: labels of one class alone are fitted at once."""


@dataclass(frozen=True, kw_only=True)
class SmokeHead:
    """A head after the check: its loss on its own `labels`, over that of the best constant on them."""

    task: str
    kind: str
    labels: int
    loss: float

    @property
    def fits(self) -> bool:
        """Whether it has learned them."""
        return self.loss <= FITS


def smoke(
    recipe: Recipe, plan: Plan, catalog: Catalog, *, ranks: Ranks | None = None, progress: Progress | None = None
) -> list[SmokeHead]:
    """Each head of `recipe`, trained without noise on two batches of each task's labels; writes nothing.

    Heads that learn from draws take up to 300 steps at the recipe's rate, at most 0.001 (on cached features 600 at any
    rate), all tasks together, without augmentation, dropout, decay and smoothing. Exact heads are solved with the
    smallest ridge; with heads "auto" both kinds are checked. `progress` is called with the heads or steps done and all.
    BadInput for what does not fit together.
    """
    recipe = recipe.with_boxes([part.task for part in plan.tasks])
    ranks, tell = ranks or Ranks(), progress or (lambda done, total: None)
    torch.set_num_threads(recipe.threads)
    rows, labels = _two_batches(plan)
    keys = plan.keys.take(rows.tolist()).to_pylist()
    pairs = pairs_of(plan, catalog.home, Pack.open(catalog.home, plan.pack_hash))
    earlier = pairs.keys_before(keys) if pairs else []
    with tempfile.TemporaryDirectory(prefix="amber-smoke-") as folder:
        embeddings = _embeddings(recipe, plan, catalog.home, [*keys, *sorted(set(earlier) - set(keys))], Path(folder))
        if not recipe.solved:
            return _drawn(recipe, plan, catalog.home, embeddings, keys, labels, ranks, tell)
        assert embeddings is not None
        with torch.no_grad():
            features = build(recipe, plan.tasks, embeddings).features(vectors_of(embeddings, keys, pairs))
    return _solved(recipe, features, len(embeddings.mean), labels, tell)


def _two_batches(plan: Plan) -> tuple[Ints, list[TaskLabels]]:
    """Rows [N] of the plan's samples, and up to 32 labels of each task on them; `rows` of a label count among these N.

    Images that serve one task serve the next where they can. A task's classes (or bins) take turns.
    """
    seen, chosen = np.zeros(len(plan.keys), np.bool_), []
    for code in range(len(plan.tasks)):
        mine = np.flatnonzero(plan.label_task == code)
        samples, strata = plan.label_sample[mine].astype(np.int64), plan.label_stratum[mine].astype(np.int64)
        order = np.lexsort([hash64(code, samples), ~seen[samples], strata])
        _, first, counts = np.unique(strata[order], return_index=True, return_counts=True)
        turn = np.arange(len(order)) - np.repeat(first, counts)
        taken = mine[order[np.argsort(turn, kind="stable")][:LABELS]]
        seen[plan.label_sample[taken]] = True
        chosen.append(np.sort(taken))
    rows = np.flatnonzero(seen)
    return rows, [_labels(plan, task, part, rows) for task, part in zip(plan.tasks, chosen, strict=True)]


def _labels(plan: Plan, task: PlanTask, chosen: Ints, rows: Ints) -> TaskLabels:
    values = np.asarray(plan.label_value[chosen], np.float64)
    if task.task.kind == "regression":
        values = (values - task.mean) / task.deviation
    where = np.searchsorted(rows, plan.label_sample[chosen].astype(np.int64))
    weights = np.full(len(chosen), 1 / max(1, len(chosen)))
    presence = None
    if task.task.kind == "multilabel":
        span = class_spans([part.task for part in plan.tasks])[plan.tasks.index(task)]
        presence = plan.presence(plan.label_sample[chosen])[:, span]
    return TaskLabels(task=task, rows=where, values=values, weights=weights, names=where.astype(str), presence=presence)


def _embeddings(recipe: Recipe, plan: Plan, home: Path, keys: Sequence[str], folder: Path) -> Embeddings | None:
    """Those of the workspace if they are there; else of these images alone."""
    name = recipe.embeddings
    if not name:
        return None
    if (home / "embeddings" / name / "embeddings.json").is_file():
        found = Embeddings.open(home, name)
        if found.covers(keys):
            return found
    return embed_some(home, Pack.open(home, plan.pack_hash), recipe, keys, folder)


def _solved(
    recipe: Recipe, features: Tensor, width: int, labels: Sequence[TaskLabels], tell: Progress
) -> list[SmokeHead]:
    """Exact heads, and all tasks on a shared layer, as the recipe has them.

    Features are [N, D], or [N, 2 D + 1] of pairs for tasks that read two frames, which have exact heads alone.
    """
    single = [part for part in labels if part.task.task.inputs == 1]
    alone = [part for part in labels if recipe.heads != "shared" or part.task.task.inputs == 2]
    shared = bool(single) and (recipe.heads == "shared" or (recipe.heads == "auto" and len(single) > 1))
    found, total = list[SmokeHead](), len(alone) + shared
    for part in alone:
        own = features if part.task.task.inputs == 2 else features[:, :width]
        found.append(_head(part, "exact", _exact_loss(part, own, recipe)))
        tell(len(found), total)
    if shared:
        table, tasks = table_of(single), [part.task for part in single]
        layer = train_shared(recipe, tasks, table, features[torch.from_numpy(table.rows), :width])[-1]
        losses = _each(TaskLosses(tasks), layer.outputs(features[torch.from_numpy(table.rows), :width]), single)
        found += [_head(part, "shared", loss) for part, loss in zip(single, losses, strict=True)]
        tell(total, total)
    return found


def _exact_loss(part: TaskLabels, features: Tensor, recipe: Recipe) -> float:
    """The mean loss of the exact head with the smallest ridge on its own labels."""
    if part.constant:
        return 0.0
    weights = torch.from_numpy(part.weights)
    columns = rotate(features[torch.from_numpy(part.rows)].double(), weights)
    problem = Problem(
        loss=part.loss(huber=recipe.huber), outputs=part.outputs, columns=columns,
        targets=torch.from_numpy(part.targets),
        weights=weights[None], ridges=torch.tensor([PATH[-1] * float(columns.moments.sum())], dtype=torch.float64),
    )  # fmt: skip
    return float((losses_of(problem, solve(problem, tolerance=1e-4).heads)[0] * weights).sum())


def _drawn(
    recipe: Recipe, plan: Plan, home: Path, embeddings: Embeddings | None, keys: Sequence[str],
    labels: Sequence[TaskLabels], ranks: Ranks, tell: Progress,
) -> list[SmokeHead]:  # fmt: skip
    """Heads that learn from draws, all tasks at once, until all fit or the steps are over."""
    plain = _without_noise(recipe, min(LABELS, len(keys)))
    network = build_any(plain, plan.tasks, embeddings).to(ranks.device)
    learner = Learner(plain, network, plan.tasks, ranks)
    if embeddings is not None:
        pairs = pairs_of(plan, home, Pack.open(home, plan.pack_hash))
        inputs = vectors_of(embeddings, keys, pairs).to(ranks.device)
    else:
        inputs = torch.cat(list(Inputs(plain, plan, home, Source(), ranks).of(keys)))
    values, known, weights, presence = (part.to(ranks.device) for part in _table(labels, len(keys)))
    objects = _objects(plan, home, keys, ranks)
    steps = STEPS if embeddings is None else STEPS_ON_FEATURES
    for step in range(steps):
        rows = _batch(step, plain.global_batch, len(keys))
        draws = Draws(
            inputs=inputs[rows], values=values[rows], known=known[rows], weights=weights[rows],
            keys=[keys[row] for row in rows.tolist()], positions=rows, presence=presence[rows],
            objects=objects and objects.rows(torch.from_numpy(rows)),
        )  # fmt: skip
        learner.step(draws, step, 1.0)
        tell(step + 1, steps)
        if (step + 1) % EACH == 0 or step + 1 == steps:
            found = _heads(learner, inputs, labels, objects)
            if all(head.fits for head in found):
                break
    return found


def _objects(plan: Plan, home: Path, keys: Sequence[str], ranks: Ranks) -> Objects | None:
    """The boxes on these images, where the plan has a task of boxes."""
    if not has_boxes(plan):
        return None
    pack = Pack.open(home, plan.pack_hash)
    rows = pc.index_in(pa.array(keys), value_set=plan.keys).to_numpy().astype(np.int32)
    return Objects.of(PlanBoxes(plan).of(rows), pack.sizes(keys)).to(ranks.device)


def _without_noise(recipe: Recipe, batch: int) -> Recipe:
    """The recipe without anything that keeps a network from memorising; rates stay as they are."""
    own = {name: replace(part, decay=None, dropout=None, smoothing=0.0) for name, part in recipe.task.items()}
    own = {name: part for name, part in own.items() if part != TaskRecipe()}
    rate = min(RATE, recipe.learning_rate) if recipe.learns else recipe.learning_rate
    return replace(
        recipe, learning_rate=rate, augment=False, dropout=0.0, weight_decay=0.0, schedule="constant", warmup=0.0,
        accumulate=1, task=own, stopping=None, only=(), compile=False, global_batch=batch,
    )  # fmt: skip


def _batch(step: int, size: int, images: int) -> Ints:
    """The images of a step: each epoch takes all of them once, in a hashed order."""
    at = np.arange(step * size, (step + 1) * size)
    epochs, places = at // images, at % images
    orders = {epoch: np.argsort(hash64(epoch, np.arange(images))) for epoch in np.unique(epochs).tolist()}
    return np.array([orders[epoch][place] for epoch, place in zip(epochs.tolist(), places.tolist(), strict=True)])


def _table(labels: Sequence[TaskLabels], images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, known, weights [N, T], presence [N, M]; a task's weights sum to N: its mean loss is of its own labels."""
    table = table_of(labels)
    assert len(table.rows) == images
    return table.values, table.known, table.weights, table.presence


@torch.no_grad()
def _heads(learner: Learner, inputs: Tensor, labels: Sequence[TaskLabels], objects: Objects | None) -> list[SmokeHead]:
    learner.network.eval()
    outputs = torch.cat([learner.network(part).float() for part in inputs.split(64)])
    losses = _each(learner.network.losses, outputs, labels, objects)
    learner.train()
    return [_head(part, "drawn", loss) for part, loss in zip(labels, losses, strict=True)]


def _each(
    losses: TaskLosses, outputs: Tensor, labels: Sequence[TaskLabels], objects: Objects | None = None
) -> list[float]:
    """The mean loss of each task over its labels, from outputs [N, O] of all images."""
    values, known, _, presence = (part.to(outputs.device) for part in _table(labels, len(outputs)))
    each = losses.each(outputs, values, presence=presence, objects=objects)[:, torch.argsort(losses.group_order)]
    sums = torch.where(known, each, 0.0).sum(dim=0) / known.sum(dim=0).clamp(min=1)
    return [float(value) for value in sums]


def _head(part: TaskLabels, kind: str, loss: float) -> SmokeHead:
    constant = max(SMALLEST, _constant_loss(part))
    return SmokeHead(task=part.task.name, kind=kind, labels=len(part.rows), loss=loss / constant)


def _constant_loss(part: TaskLabels) -> float:
    """The mean loss of the best constant on these labels: half the variance, or the entropy of the classes.

    Of a multilabel task, that of the presence of each class, summed; of boxes, that of all labels of the plan.
    """
    values = part.values
    if part.task.task.kind == "detection":
        return part.task.constant_loss
    if part.presence is not None:
        return presence_entropy(part.presence, np.full(len(values), 1 / max(1, len(values))))
    if part.numeric:
        return float(values.var() / 2) if len(values) else 0.0
    shares = np.unique(values, return_counts=True)[1] / max(1, len(values))
    return float(-(shares * np.log(shares)).sum())
