"""Dawid and Skene's model (1979): the likely true class, and how each annotator errs, where several label a sample.

The EM of crowd-kit takes 0.7 s an iteration for a million labels and depends on transformers (430 MB). This one is
arithmetic on arrays; it uses as many samples as fit into `CELLS`. Samples with the same labels have the same chances:
each distinct set of labels is computed once and counts as often as it occurs.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from curation.analysis.annotator_labels import distinct_sets
from curation.arrays import Floats, Ints

__all__ = ["FittedModel", "fit"]


CELLS: Final = 1_000_000
"""At most so many samples x classes are fitted. Of more, every k-th sample is used: a little less precise."""
ROUNDS: Final = 100
CLOSE: Final = 1e-6
SMALLEST: Final = 1e-10


@dataclass(frozen=True, kw_only=True)
class FittedModel:
    """The share of each class [C], and the chance of the class that an annotator gives [A, true C, given C].

    `fitted` is the number of samples that the model is fitted on.
    """

    prior: Floats
    confusion: Floats
    fitted: int

    def accuracy(self) -> Floats:
        """Chance [A] that each annotator is right."""
        return np.asarray(np.einsum("c,acc->a", self.prior, self.confusion), np.float64)

    def posterior(self, sample: Ints, annotator: Ints, code: Ints) -> Floats:
        """Chance [n, C] of each class for samples 0 to n - 1, given their labels."""
        return _posterior(self.prior, self.confusion, sample, annotator, code)


def fit(sample: Ints, annotator: Ints, code: Ints, *, annotators: int, classes: int) -> FittedModel:
    """Fit by EM from the shares of votes. `sample`, `annotator` and `code` [n] are the labels, ordered by sample.

    Samples and annotators are numbered from 0, samples without gaps; `code` is 0 to `classes` - 1.

    >>> model = fit(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), annotators=2, classes=2)
    >>> model.accuracy().round(3).tolist()
    [1.0, 1.0]
    """
    step = 1 + int(sample[-1] + 1) * classes // CELLS
    taken = sample % step == 0
    sample, annotator, code = sample[taken] // step, annotator[taken], code[taken]
    sample, annotator, code, times = _distinct(sample, annotator, code, classes)
    chances = np.bincount(sample * classes + code, minlength=len(times) * classes).astype(np.float64)
    chances = chances.reshape(-1, classes)
    chances /= chances.sum(axis=1, keepdims=True)
    for _ in range(ROUNDS):
        prior = times @ chances / times.sum()
        confusion = _confusion(chances * times[:, None], sample, annotator, code, annotators)
        fresh = _posterior(prior, confusion, sample, annotator, code)
        moved = float((times @ np.abs(fresh - chances)).sum() / times.sum())
        chances = fresh
        if moved < CLOSE:
            break
    confusion = _confusion(chances * times[:, None], sample, annotator, code, annotators)
    return FittedModel(prior=times @ chances / times.sum(), confusion=confusion, fitted=int(times.sum()))


def _distinct(sample: Ints, annotator: Ints, code: Ints, classes: int) -> tuple[Ints, Ints, Ints, Ints]:
    """The labels of one sample for each distinct set of labels, and how many samples have this set."""
    sets = distinct_sets(sample, annotator * classes + code, int(sample[-1]) + 1)
    _, first, times = np.unique(sets, return_index=True, return_counts=True)
    order = np.argsort(first)
    kept = np.zeros(len(sets), np.bool_)
    kept[first] = True
    rows = kept[sample]
    return (np.cumsum(kept) - 1)[sample[rows]], annotator[rows], code[rows], times[order]


def _confusion(weights: Floats, sample: Ints, annotator: Ints, code: Ints, annotators: int) -> Floats:
    """Share of each given class by annotator and true class, from the weight of each true class [n, C]; uniform where
    an annotator never met a class."""
    classes = weights.shape[1]
    cell = annotator * classes + code
    columns = [np.bincount(cell, weights[sample, true], annotators * classes) for true in range(classes)]
    counts = np.stack(columns).reshape(classes, annotators, classes).transpose(1, 0, 2) + SMALLEST
    return np.asarray(counts / counts.sum(axis=2, keepdims=True), np.float64)


def _posterior(prior: Floats, confusion: Floats, sample: Ints, annotator: Ints, code: Ints) -> Floats:
    first = np.flatnonzero(np.diff(sample, prepend=-1))
    likelihood = np.log(confusion).transpose(0, 2, 1)[annotator, code]
    logs = np.log(np.maximum(prior, SMALLEST)) + np.add.reduceat(likelihood, first, axis=0)
    chances = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(chances / chances.sum(axis=1, keepdims=True), np.float64)
