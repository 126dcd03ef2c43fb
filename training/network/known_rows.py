"""Parts of a network that one task alone reads, computed for the rows alone on which it is known.

An unknown label adds exactly 0 to the loss and to every gradient, so what its task alone would read is not computed. In
a tree of a branch for each task with a tenth of the labels known this is most of the work. What several tasks read is
computed for all rows: a product of more rows may round otherwise, and a label of one task must not move the others.
"""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

__all__ = ["by_rows", "rows_known"]

Part = Callable[..., Tensor | tuple[Tensor, ...]]

MOST = 0.75
"""Where more than this part of the rows is known, choosing them costs what it saves."""


def rows_known(known: Tensor | None, readers: Collection[int]) -> Tensor | None:
    """The rows [n] of `known` [B, T] on which the one task of `readers` (codes) is known; None: all are computed.

    That is so without `known`, for other numbers of readers, where there is one task in all, and where more than `MOST`
    of the rows are known. Where none is, the first row stands for them, so that every parameter has a gradient, of 0,
    on each rank.
    """
    if known is None or len(readers) != 1 or known.shape[1] == 1:
        return None
    rows = known[:, next(iter(readers))].nonzero()[:, 0]
    if len(rows) > MOST * len(known):
        return None
    return rows if len(rows) else rows.new_zeros(1)


def by_rows(part: Part, rows: Tensor | None, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What `part` puts out for inputs [B, ...], computed for `rows` alone (None: for all); 0 in the others."""
    found = part(*(inputs if rows is None else (_laid(each.index_select(0, rows)) for each in inputs)))
    outputs = found if isinstance(found, tuple) else (found,)
    if rows is None:
        return outputs
    count = len(inputs[0])
    return tuple(_laid(each.new_zeros(count, *each.shape[1:])).index_copy(0, rows, each) for each in outputs)


def _laid(tensor: Tensor) -> Tensor:
    """Maps [n, C, H, W] with their channels last, as convolutions take them; others as they are."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
