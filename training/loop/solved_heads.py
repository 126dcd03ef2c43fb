"""Heads that learn without draws: each exact, all on a shared layer, or for each task the better of the two."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from curation.arrays import Floats, Ints
from training.loop.exact_heads import ExactHead, Start, exact_head, held_out_outputs
from training.loop.shared_layer import CHECKPOINTS, SharedLayer, Table, table_of, train_shared
from training.loop.task_labels import TaskLabels
from training.network.folds import folds_of
from training.network.losses import Layout
from training.network.ridge import weighted_mean
from training.recipe import Recipe
from training.run import Head

__all__ = ["SolvedHeads", "solve_heads"]


FOLDS = 3
"""Folds in which the two kinds of head are compared; the shared layer is trained once in each."""

FEWEST_TASKS = 2
"""Tasks that a layer must serve to be shared."""

GROWTH = 1.25
"""By how much the labels of a task may grow until the two kinds are compared again."""

FEWEST_IMAGES = 256
"""Labelled images below which heads are exact without a comparison: a layer does not pay there (docs/log.md)."""


@dataclass(frozen=True, kw_only=True)
class SolvedHeads:
    """The heads of all tasks: a task in `shared` reads that layer, every other task its head in `exact`.

    Exact heads that lost the comparison are kept too.
    """

    exact: Mapping[str, ExactHead]
    shared: Mapping[str, SharedLayer]
    records: list[Head]


def solve_heads(
    recipe: Recipe,
    labels: Sequence[TaskLabels],
    features: Tensor,
    *,
    starts: Mapping[str, Start] | None = None,
    progress: Callable[[int, int], None] | None = None,
    fewest_images: int = FEWEST_IMAGES,
) -> SolvedHeads:
    """The heads of all tasks, on `features` [S, D] float32 of the plan's samples.

    `starts` are the heads of an earlier run, by task. `progress` is called with steps done and all steps. "auto" takes
    exact heads without a comparison for a single task and below `fewest_images` labelled images, and the choices of the
    earlier run while the labels of no task have grown by more than a quarter since its comparison.
    """
    images = len(np.unique(np.concatenate([part.rows for part in labels])))
    several = recipe.heads == "auto" and len(labels) >= FEWEST_TASKS and images >= fewest_images
    kept = _kept(labels, starts or {}) if several else {}
    compared = recipe.heads == "shared" or (several and not kept)
    on_layer = {task for task, record in kept.items() if record.kind == "shared"}
    steps = len(labels) + (FOLDS + 1 if compared else bool(on_layer))
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, steps)

    exact: dict[str, ExactHead] = {}
    for part in labels:
        name = part.task.name
        if (recipe.heads != "shared" and name not in on_layer) or part.constant:
            own = features[torch.from_numpy(part.rows)].double()
            start = (starts or {}).get(name)
            exact[name] = exact_head(
                part, own, seed=recipe.seed, huber=recipe.huber,
                start=start if start and start.record.kind == "exact" else None,
            )  # fmt: skip
        advance()
    if compared:
        return _with_shared(recipe, labels, features, exact, advance)
    records = [_record(part, exact.get(part.task.name), kept.get(part.task.name)) for part in labels]
    return _with_layer(recipe, labels, features, exact, records, advance)


def _kept(labels: Sequence[TaskLabels], starts: Mapping[str, Start]) -> dict[str, Head]:
    """The records of an earlier comparison of these tasks, if its choices still hold; otherwise none."""
    found = {}
    for part in labels:
        if part.constant:
            continue
        before = starts[part.task.name].record if part.task.name in starts else None
        if not before or not before.compared / GROWTH <= len(part.rows) <= GROWTH * before.compared:
            return {}
        found[part.task.name] = before
    return found


def _record(part: TaskLabels, exact: ExactHead | None, kept: Head | None) -> Head:
    """The record of a head whose kind was chosen earlier, if it was."""
    if exact is None:
        assert kept
        return replace(kept, labels=len(part.rows), classes=part.classes, groups=part.count)
    if kept is None:
        return exact.record
    return replace(exact.record, gain=kept.gain, low=kept.low, high=kept.high, compared=kept.compared)


def _with_shared(
    recipe: Recipe, labels: Sequence[TaskLabels], features: Tensor, exact: dict[str, ExactHead],
    advance: Callable[[], None],
) -> SolvedHeads:  # fmt: skip
    """Compare on held-out groups, then train the layer on all labels for the tasks that take it."""
    table = table_of(labels)
    own = features[torch.from_numpy(table.rows)]
    folds = _folds(labels, recipe.seed)
    held_out = _held_out(recipe, labels, table, own, folds, advance)
    records = [
        _compare(recipe, part, exact.get(part.task.name), features, outputs, fold)
        for part, outputs, fold in zip(labels, held_out, folds, strict=True)
    ]
    return _with_layer(recipe, labels, features, exact, records, advance)


def _with_layer(
    recipe: Recipe, labels: Sequence[TaskLabels], features: Tensor, exact: dict[str, ExactHead], records: list[Head],
    advance: Callable[[], None],
) -> SolvedHeads:  # fmt: skip
    """Train the layer on all labels for the tasks whose record takes it, up to the checkpoint in `part`."""
    taken = {record.task: CHECKPOINTS.index(record.part) for record in records if record.kind == "shared"}
    shared: dict[str, SharedLayer] = {}
    if taken:
        table = table_of(labels)
        layers = train_shared(recipe, [part.task for part in labels], table, features[torch.from_numpy(table.rows)])
        shared = {task: layers[min(checkpoint, len(layers) - 1)] for task, checkpoint in taken.items()}
        records = [
            replace(record, epochs=shared[record.task].epochs) if record.task in shared else record
            for record in records
        ]
        advance()
    return SolvedHeads(exact=exact, shared=shared, records=records)


def _folds(labels: Sequence[TaskLabels], seed: int) -> list[Ints]:
    """The fold of each label of each task: all labels of an image, and of its group, share one."""
    groups = np.unique(np.concatenate([part.names for part in labels]), return_inverse=True)[1]
    strata = np.concatenate([code * 2**20 + part.strata for code, part in enumerate(labels)])
    found = folds_of(groups, strata, seed=seed, folds=FOLDS)
    return np.split(found, np.cumsum([len(part.rows) for part in labels])[:-1])


def _held_out(
    recipe: Recipe, labels: Sequence[TaskLabels], table: Table, features: Tensor, folds: Sequence[Ints],
    advance: Callable[[], None],
) -> list[list[Tensor]]:  # fmt: skip
    """For each task and checkpoint, the shared layer's outputs [n, K] for labels of the fold that it did not see."""
    layout = Layout([part.task for part in labels])
    where = [np.searchsorted(table.rows, part.rows) for part in labels]
    fold_of_image = np.zeros(len(table.rows), np.int64)
    for rows, fold in zip(where, folds, strict=True):
        fold_of_image[rows] = fold
    outputs = [[torch.zeros(len(part.rows), part.outputs) for _ in CHECKPOINTS] for part in labels]
    for fold in np.unique(fold_of_image).tolist():
        kept = fold_of_image != fold
        layers = train_shared(
            recipe, [part.task for part in labels], table.part(kept), features[torch.from_numpy(kept)]
        )
        advance()
        for code, rows in enumerate(where):
            mine = torch.from_numpy(np.flatnonzero(folds[code] == fold))
            seen = features[torch.from_numpy(rows[mine.numpy()])]
            for checkpoint, layer in enumerate(layers):
                outputs[code][checkpoint][mine] = layer.outputs(seen)[:, layout.columns[code]]
    return outputs


def _compare(
    recipe: Recipe, part: TaskLabels, exact: ExactHead | None, features: Tensor, outputs: Sequence[Tensor], folds: Ints
) -> Head:
    """The record of the better kind of head for a task."""
    scores = [_scores(part, each) for each in outputs]
    checkpoint = _checkpoint(part, scores)
    if exact is None:
        return Head(
            task=part.task.name, kind="shared", labels=len(part.rows), classes=part.classes, groups=part.count,
            part=CHECKPOINTS[checkpoint],
        )  # fmt: skip
    record = replace(exact.record, compared=len(part.rows))
    if exact.record.kind == "constant" or len(np.unique(folds)) < FOLDS:
        return record
    own = features[torch.from_numpy(part.rows)].double()
    alone = held_out_outputs(part, own, folds, ridge=exact.record.ridge, huber=recipe.huber)
    gain, error = weighted_mean(scores[checkpoint] - _scores(part, alone), part.weights, part.groups)
    reach = float(stats.t.ppf(0.975, max(1, part.count - 1))) * error
    compared = replace(record, gain=gain, low=gain - reach, high=gain + reach)
    if gain <= 0:
        return compared
    return replace(compared, kind="shared", part=CHECKPOINTS[checkpoint])


def _checkpoint(part: TaskLabels, scores: Sequence[Floats]) -> int:
    """The last checkpoint, or an earlier one that is ahead of it by more than one standard error.

    Held-out losses would choose too early: a layer that grows overconfident still gets more answers right.
    """
    leads = [weighted_mean(score - scores[-1], part.weights, part.groups) for score in scores[:-1]]
    best = max(range(len(leads)), key=lambda step: leads[step][0], default=None)
    return len(leads) if best is None or leads[best][0] <= leads[best][1] else best


def _scores(part: TaskLabels, outputs: Tensor) -> Floats:
    """What a held-out label counts [n]: 1 where the likeliest class is right, or minus the error in deviations.

    For a multilabel task, the share of its known classes that are right.
    """
    found = outputs.double().numpy()
    if part.numeric:
        return np.asarray(-np.abs(found[:, 0] - part.values), np.float64)
    if part.presence is not None:
        right, known = (found > 0) == (part.presence == 1), part.presence >= 0
        return np.asarray((right & known).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.float64)
    predicted = (found[:, 0] > 0).astype(np.int64) if part.outputs == 1 else found.argmax(axis=1)
    return np.asarray(predicted == part.values, np.float64)
