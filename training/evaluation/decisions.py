"""From class probabilities to predicted classes by the rule of the task's owner, and which threshold to choose.

A threshold is suggested from validation labels alone. Its F1 is estimated across groups: the threshold for a group is
chosen without that group's fold, so images of one burst never choose the threshold that they are judged by.
"""

from dataclasses import dataclass

import numpy as np

from curation.arrays import Bools, Floats, Ints
from curation.catalog.tasks import Task
from training.evaluation.intervals import Figure
from training.evaluation.metrics import ConfusionSums, RankingSums

__all__ = ["SuggestedThreshold", "decided", "rule_in_words", "suggested_threshold"]


FOLDS = 5

FEWEST = 10
"""Groups with the class, and groups without it, below which no threshold is suggested."""


def decided(task: Task, natural: Floats, prior: Floats) -> Ints:
    """The predicted class [n] for natural class probabilities [n, C], where `prior` [C] is how common each class is.

    >>> task = Task(name="lamp", kind="categorical", classes=("red", "yellow"), owner="ada", decide={"yellow": 0.2})
    >>> decided(task, np.array([[0.7, 0.3], [0.9, 0.1]]), np.array([0.9, 0.1])).tolist()
    [1, 0]
    """
    rule = task.decision
    if isinstance(rule, tuple):
        return _by_thresholds(natural, {task.classes.index(name): threshold for name, threshold in rule})
    scores = natural / prior if rule == "balanced" else natural
    return np.asarray(scores.argmax(axis=1), np.int64)


def rule_in_words(task: Task) -> str:
    """The decision rule of a task, for a page or a terminal."""
    rule = task.decision
    if isinstance(rule, tuple):
        met = ", ".join(f"{name} from {threshold:g} on" for name, threshold in rule)
        return f"by threshold: {met}, else the likeliest of the other classes"
    words = {"likeliest": "the likeliest class", "balanced": "the likeliest class if all were equally common"}
    return words[rule]


@dataclass(frozen=True, kw_only=True)
class SuggestedThreshold:
    """The threshold with the highest F1 of a class on validation, and its F1 across groups."""

    threshold: float
    f1: Figure


def suggested_threshold(positive: Bools, scores: Floats, weights: Floats, groups: Ints) -> SuggestedThreshold | None:
    """The threshold on `scores` [n] with the highest F1 for the labels `positive` [n].

    None where fewer than 10 groups have the class or fewer than 10 are without it. `f1` is that of thresholds chosen on
    the other folds: the F1 to expect of a threshold chosen in this way.
    """
    if min(len(np.unique(groups[positive])), len(np.unique(groups[~positive]))) < FEWEST:
        return None
    folds = np.unique(groups, return_inverse=True)[1] % FOLDS
    predicted = np.zeros(len(scores))
    for fold in range(FOLDS):
        here = folds == fold
        best = RankingSums.of(positive[~here], scores[~here], weights[~here]).best_f1()
        predicted[here] = scores[here] >= (best[0] if best else np.inf)
    chosen = RankingSums.of(positive, scores, weights).best_f1()
    assert chosen is not None
    sums = ConfusionSums.of(2, positive.astype(np.float64), predicted, weights, groups)
    return SuggestedThreshold(threshold=_two_digits(chosen[0]), f1=sums.f1(1))


def _two_digits(threshold: float) -> float:
    """Rounded as an owner would write it, and inside (0, 1)."""
    return min(max(float(f"{threshold:.2g}"), 1e-9), 0.99)


def _by_thresholds(natural: Floats, thresholds: dict[int, float]) -> Ints:
    """The class that exceeds its threshold by the largest factor, else the likeliest of those without one."""
    factors = np.full_like(natural, -1.0)
    for code, threshold in thresholds.items():
        factors[:, code] = natural[:, code] / threshold
    others = natural.copy()
    others[:, list(thresholds)] = -1.0
    met = factors.max(axis=1) >= 1
    return np.where(met, factors.argmax(axis=1), others.argmax(axis=1)).astype(np.int64)
