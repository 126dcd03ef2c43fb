"""The weight of a label, w = q / p, and the probability p of a draw: what makes one stream unbiased for every task.

    p(i)   = sum_t share_t q_t(i)          the balance heuristic (Veach & Guibas 1995)
    w_t(i) = q_t(i) / p(i)                 at most 1 / share_t

so sum_i p(i) w_t(i) f(i) = sum_i q_t(i) f(i) for every f: each task sees its own target distribution.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from curation.arrays import Floats

Rows = npt.NDArray[np.signedinteger[Any]]

__all__ = ["draw_probabilities", "label_weights"]


def draw_probabilities(q: Floats, share: Floats, sample: Rows, samples: int) -> Floats:
    """p [S]: the probability that a draw is each of `samples` images; sums to 1 when q sums to 1 for every task.

    q [L] is the target probability of each label under its task, `share` [L] the task's share of the draws, `sample`
    [L] the image of the label.

    >>> draw_probabilities(np.array([1.0, 0.5, 0.5]), np.array([0.6, 0.4, 0.4]), np.array([0, 0, 1]), 2)
    array([0.8, 0.2])
    """
    return np.asarray(np.bincount(sample, share * q, minlength=samples), np.float64)


def label_weights(q: Floats, p: Floats, sample: Rows) -> Floats:
    """w [L]: the weight of each label when its image is drawn; q [L], p [S], `sample` [L] as above.

    >>> label_weights(np.array([1.0, 0.5, 0.5]), np.array([0.8, 0.2]), np.array([0, 0, 1]))
    array([1.25 , 0.625, 2.5  ])
    """
    return np.asarray(q / p[sample], np.float64)
