"""Published strategies, to compare the default with: margin, entropy, BADGE, TypiClust and DIRECT."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from curation.arrays import Bools, Float32s, Floats
from curation.catalog.tasks import Task
from curation.requests.candidates import Candidates
from curation.requests.class_lists import known_states
from curation.requests.clusters import typical_of_clusters
from curation.requests.gradients import class_residuals, gradient_spread, statement_residuals
from curation.requests.picks import MARGIN, best_picks
from curation.requests.separation import around_separations
from curation.requests.strategies import Pick, entropy, smallest_margin

__all__ = ["PUBLISHED", "picks_of_strategy"]

PUBLISHED: Final = ("margin", "entropy", "badge", "typiclust", "direct")
"""Names of `picks_of_strategy`."""


def picks_of_strategy(
    candidates: Candidates, task: Task, count: int, seed: Sequence[int], strategy: str
) -> list[Pick] | None:
    """Up to `count` open rows of a whole task by one of `PUBLISHED`; None where it cannot rank the task.

    All but TypiClust need a run that predicts classes of the task, BADGE and TypiClust need vectors. Where each class
    of a task has a chance by itself, the margin of an image is that of its most doubtful class, and the entropy is the
    sum over classes. Margin, entropy and DIRECT take one of each group first, the others need no such rule: they spread
    by themselves.
    """
    open_, generator = candidates.open[task.name], np.random.default_rng(seed)
    if strategy == "typiclust":
        if not candidates.has_vectors:
            return None
        rows = typical_of_clusters(candidates.principal(), ~open_, count, generator)
        return [Pick(row=row, arm="cluster", reason="typical of a large cluster") for row in rows.tolist()]
    alone = task.kind == "multilabel"
    chances = candidates.class_chances(task) if alone else candidates.probabilities(task)
    if chances is None or (strategy == "badge" and not candidates.has_vectors):
        return None
    if strategy == "margin":
        scores = 1 - np.abs(2 * chances - 1).min(axis=1) if alone else smallest_margin(chances, np.ones_like(open_))
        return list(best_picks(candidates, task, scores, MARGIN, count))
    if strategy == "entropy":
        scores = entropy(chances) + (entropy(1 - chances) if alone else 0)
        return list(best_picks(candidates, task, scores, "the prediction is unsure: entropy =", count))
    if strategy == "badge":
        residuals = statement_residuals(chances) if alone else class_residuals(chances)
        return _by_gradient(candidates, open_, residuals, count, generator)
    scores, states = (chances - 0.5 if alone else _margins(chances)), known_states(candidates, task)
    found = around_separations(scores, states, open_, candidates.groups, count, generator)
    why = [f"near what separates {task.classes[code]} from the others" for _, code in found]
    return [Pick(row=row, arm="mined", reason=reason) for (row, _), reason in zip(found, why, strict=True)]


def _by_gradient(
    candidates: Candidates, open_: Bools, residuals: Float32s, count: int, generator: "np.random.Generator"
) -> list[Pick]:
    rows = np.flatnonzero(open_)
    vectors = candidates.principal_of(rows)
    found = rows[gradient_spread(residuals[rows], vectors, count, generator)]
    return [Pick(row=row, arm="mined", reason="its gradient is long and unlike the others") for row in found.tolist()]


def _margins(chances: Floats) -> Floats:
    """How far the chance [N, C] of each class is above the largest of the others."""
    top = np.partition(chances, -2, axis=1)[:, -2:]
    likeliest = chances.argmax(axis=1)[:, None] == np.arange(chances.shape[1])
    return np.asarray(chances - np.where(likeliest, top[:, :1], top[:, 1:]), np.float64)
