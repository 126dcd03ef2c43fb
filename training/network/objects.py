"""Labelled boxes as tensors, placed in the network's input: what the heads of boxes learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from curation.arrays import Floats, Ints
from samplers.plan.boxes import DrawBoxes

__all__ = ["LEAST_VISIBLE", "Objects", "cells_of"]

LEAST_VISIBLE = 0.25
"""An object of which augmentation leaves less than this part in view is ignored: it is neither there nor not there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """N boxes of a batch: `draws`, `tasks` and `codes` [N] as in `samplers.plan.boxes.DrawBoxes`, `ignored` [N],
    `values` float32 [N, K], and `corners` float32 [N, 4]: left, top, right and bottom as parts of the input's width and
    height, inside 0 to 1."""

    draws: Tensor
    tasks: Tensor
    codes: Tensor
    corners: Tensor
    ignored: Tensor
    values: Tensor

    @classmethod
    def of(cls, boxes: DrawBoxes, sizes: Ints, moves: Floats | None = None) -> "Objects":
        """The boxes in inputs to which images of `sizes` [B, 2] (width, height) are stretched, and then moved.

        `moves` [B, 4] are factors and shifts of x and y (`training.loop.augmentation.moves_of`). A box is cut at the
        borders; out of view it is left out, mostly out of view it is ignored.
        """
        sides = np.tile(sizes[boxes.draws].astype(np.float64), 2)
        corners = np.concatenate([boxes.corners[:, :2], boxes.corners[:, :2] + boxes.corners[:, 2:]], axis=1) / sides
        if moves is not None:
            corners = corners * np.tile(moves[boxes.draws, :2], 2) + np.tile(moves[boxes.draws, 2:], 2)
            corners = np.concatenate(
                [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], axis=1
            )
        area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        corners = corners.clip(0.0, 1.0)
        left = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        kept = left > 0
        ignored = boxes.ignored | (left < LEAST_VISIBLE * area)
        columns = {"draws": boxes.draws, "tasks": boxes.tasks, "codes": boxes.codes, "ignored": ignored,
                   "values": boxes.values.astype(np.float32)}  # fmt: skip
        return cls(
            corners=torch.from_numpy(corners[kept].astype(np.float32)),
            **{name: torch.from_numpy(np.ascontiguousarray(value[kept])) for name, value in columns.items()},
        )

    def part(self, rows: slice) -> "Objects":
        """Those of some of the draws, which then count from 0."""
        here = (self.draws >= rows.start) & (self.draws < rows.stop)
        found = self.taken(here)
        return Objects(**{**vars(found), "draws": found.draws - rows.start})

    def rows(self, rows: Tensor) -> "Objects":
        """Those of the draws at these places [B], in this order; a draw may be taken several times."""
        places, boxes = (rows[:, None].to(self.draws.device) == self.draws[None]).nonzero(as_tuple=True)
        return Objects(**{**vars(self.taken(boxes)), "draws": places})

    def of_task(self, task: int) -> "Objects":
        """Those of one task (code)."""
        return self.taken(self.tasks == task)

    def to(self, device: torch.device) -> "Objects":
        """The same on a device."""
        return Objects(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})

    def taken(self, here: Tensor) -> "Objects":
        """Only the boxes that `here` [N] marks, or at these places."""
        return Objects(**{name: value[here] for name, value in vars(self).items()})


def cells_of(objects: Objects, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The cells (x, y), the exact centres and the sides of boxes [N, 2], in cells of a map of this height and width."""
    lengths = torch.tensor([shape[1], shape[0]], device=objects.corners.device)
    low, high = objects.corners[:, :2] * lengths, objects.corners[:, 2:] * lengths
    centres = (low + high) / 2
    cells = torch.minimum(centres.floor().long(), lengths - 1)
    return cells, centres, high - low
