"""Dropout as a pure function of (seed, position, layer): a run resumes anywhere, on any number of ranks."""

import numpy as np
import torch
from torch import Tensor

from curation.arrays import Ints
from samplers.plan.interleave import hash64

__all__ = ["dropout_mask"]


def dropout_mask(seed: int, positions: Ints, units: int, rate: float, *, layer: int = 0) -> Tensor:
    """What multiplies the units [B, units] at `positions` [B]: 0 for the dropped, 1 / (1 - rate) for the others.

    >>> dropout_mask(0, np.array([7]), 4, 0.5).tolist() == dropout_mask(0, np.arange(8), 4, 0.5)[7:].tolist()
    True
    """
    words = -(-units // 4)  # a hash decides four units
    words_at = positions[:, None] * words + np.arange(words)
    numbers = hash64(seed + 1 + layer, words_at.ravel()).view(np.uint16).reshape(len(positions), -1)[:, :units]
    return torch.from_numpy((numbers >= round(rate * 2**16)).astype(np.float32) / (1 - rate))
