"""What is likely true, and how each annotator errs, when several label the same samples (Dawid & Skene 1979).

The EM of the kept library (crowd-kit) takes 0.7 s an iteration for a million labels and brings transformers along: 430
MB. This one is arithmetic on arrays, and takes as many samples as fit into `CELLS`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Fitted", "fit"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CELLS: Final = 1_000_000
"""Samples x classes that are fitted at most; of more samples every k-th is taken, which costs a little precision.
    """
ROUNDS: Final = 100
CLOSE: Final = 1e-6
LEAST: Final = 1e-10


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Share of each class [C], and the chance of what an annotator says, given the true class [A, true C, said C].

    `fitted` is how many samples it was fitted on.
    """

    prior: Floats
    confusion: Floats
    fitted: int

    def accuracy(self) -> Floats:
        """Chance [A] that an annotator is right."""
        return np.asarray(np.einsum("c,acc->a", self.prior, self.confusion), np.float64)

    def posterior(self, sample: Ints, annotator: Ints, said: Ints) -> Floats:
        """Chance [n, C] of each class for samples 0 to n - 1, given what was said of them."""
        return _posterior(self.prior, self.confusion, sample, annotator, said)


def fit(sample: Ints, annotator: Ints, said: Ints, *, annotators: int, classes: int) -> Fitted:
    """Fit by EM, beginning with the share of votes. `sample` [n] ascends from 0 without gaps; `said` are codes."""
    step = 1 + int(sample[-1] + 1) * classes // CELLS
    taken = sample % step == 0
    sample, annotator, said = sample[taken] // step, annotator[taken], said[taken]
    chances = np.bincount(sample * classes + said, minlength=int(sample[-1] + 1) * classes).astype(np.float64)
    chances = chances.reshape(-1, classes)
    chances /= chances.sum(axis=1, keepdims=True)
    for _ in range(ROUNDS):
        prior = chances.mean(axis=0)
        confusion = _confusion(chances, sample, annotator, said, annotators)
        fresh = _posterior(prior, confusion, sample, annotator, said)
        moved = float(np.abs(fresh - chances).mean()) * classes
        chances = fresh
        if moved < CLOSE:
            break
    confusion = _confusion(chances, sample, annotator, said, annotators)
    return Fitted(prior=chances.mean(axis=0), confusion=confusion, fitted=len(chances))


def _confusion(chances: Floats, sample: Ints, annotator: Ints, said: Ints, annotators: int) -> Floats:
    """Shares of what each annotator said, by the true class; even where an annotator never met a class."""
    classes = chances.shape[1]
    cell = annotator * classes + said
    columns = [np.bincount(cell, chances[sample, true], annotators * classes) for true in range(classes)]
    counts = np.stack(columns).reshape(classes, annotators, classes).transpose(1, 0, 2) + LEAST
    return np.asarray(counts / counts.sum(axis=2, keepdims=True), np.float64)


def _posterior(prior: Floats, confusion: Floats, sample: Ints, annotator: Ints, said: Ints) -> Floats:
    first = np.flatnonzero(np.diff(sample, prepend=-1))
    likelihood = np.log(confusion).transpose(0, 2, 1)[annotator, said]
    logs = np.log(np.maximum(prior, LEAST)) + np.add.reduceat(likelihood, first, axis=0)
    chances = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(chances / chances.sum(axis=1, keepdims=True), np.float64)
