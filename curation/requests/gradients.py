"""BADGE: samples whose loss would change the last layer most, and in different ways (Ash et al. 2020)."""

from typing import Final

import numpy as np

from curation.arrays import Float32s, Floats, Ints

__all__ = ["MOST_ROWS", "class_residuals", "gradient_spread", "important_rows", "statement_residuals"]

MOST_ROWS: Final = 20_000
"""Distances are taken among so many rows at most: this bounds time and memory."""


def class_residuals(chances: Floats) -> Float32s:
    """The gradient [n, C] of the loss by the logits, if the likeliest class of the `chances` [n, C] were the label."""
    residuals = chances.astype(np.float32)
    residuals[np.arange(len(chances)), chances.argmax(axis=1)] -= 1
    return residuals


def statement_residuals(chances: Floats) -> Float32s:
    """The same where each class has a chance [n, C] by itself: the likelier of present and absent were the label."""
    return np.asarray(chances - (chances > 0.5), np.float32)


def gradient_spread(residuals: Float32s, vectors: Float32s, count: int, generator: "np.random.Generator") -> Ints:
    """Up to `count` rows by k-means++ on the gradients of the last layer (Ash et al. 2020, "Deep batch active learning
    by diverse, uncertain gradient lower bounds").

    The gradient of a row is the outer product of its `residuals` [n, C] and its `vectors` [n, D]. It is never built:
    a product of two gradients is the product of those of their factors. The longest gradient comes first, each next row
    is drawn in proportion to its squared distance from the nearest before it. Fewer than `count` where all the other
    gradients equal chosen ones. Of more than `MOST_ROWS` rows those of `important_rows` are considered, with weights.
    """
    lengths = _squares(residuals) * _squares(vectors)
    rows, weights = important_rows(lengths, MOST_ROWS, generator)
    residuals, vectors, lengths = residuals[rows], vectors[rows], lengths[rows]
    if not count or not len(rows) or not lengths.max() > 0:
        return np.empty(0, np.int64)
    picked = [int(lengths.argmax())]
    nearest: Floats = np.full(len(rows), np.inf)
    floor = 1e-6 * float(lengths.max())
    while len(picked) < min(count, len(rows)):
        last = picked[-1]
        products = (residuals @ residuals[last]) * (vectors @ vectors[last])
        nearest = np.minimum(nearest, np.maximum(lengths + lengths[last] - 2 * products, 0))
        nearest[last] = 0
        mass = np.cumsum(np.where(nearest > floor, nearest, 0) * weights)
        if not mass[-1] > 0:
            break
        picked.append(int(np.searchsorted(mass, generator.random() * mass[-1], side="right")))
    return np.asarray(rows[picked], np.int64)


def important_rows(masses: Floats | Float32s, count: int, generator: "np.random.Generator") -> tuple[Ints, Floats]:
    """`count` of n rows, ascending, and what each weighs; all rows with weight 1 where there are no more.

    Half of the chance of a row is uniform, half is in proportion to its mass [n], and its weight is the inverse of its
    chance: a lightweight coreset (Bachem, Lucic and Krause 2018), drawn without replacement by Gumbel keys.
    """
    if len(masses) <= count:
        return np.arange(len(masses)), np.ones(len(masses))
    whole = float(masses.sum())
    chances: Floats = np.full(len(masses), 1 / len(masses))
    if whole > 0:
        chances = 0.5 * chances + 0.5 * masses / whole
    keys = np.log(chances) + generator.gumbel(size=len(masses))
    rows = np.sort(np.argpartition(-keys, count)[:count])
    return rows, 1 / (chances[rows] * len(masses))


def _squares(values: Float32s) -> Floats:
    """The squared length [n] of each row."""
    return np.asarray(np.einsum("nd,nd->n", values, values), np.float64)
