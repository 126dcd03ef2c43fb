"""Attributes of boxes on the maps of their head: losses at the centres of known boxes, and what is read at cells.

The maps of a task's attributes follow one another: a logit for each class, or one standardised number. A box's
attribute is what the cell of its centre says (as embeddings of identities in FairMOT, Zhang et al. 2021, arXiv
2004.01888).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from samplers.plan.box_attributes import BoxAttribute, attribute_columns
from training.network.objects import Objects, cells_of

__all__ = ["attribute_answers", "attribute_losses", "attributes_at"]


def attribute_losses(maps: Tensor, objects: Objects, attributes: Sequence[BoxAttribute]) -> Tensor:
    """The loss [B] of each draw, from maps [B, A, h, w] and the objects of one task.

    The cross-entropy of an attribute's class, or half the squared error of its standardised number, at the centre of
    each box of which it is known, over `BoxAttribute.constant_loss`; the sum over boxes and attributes is divided by
    the boxes of the image (at least 1). An unknown attribute and a region that is ignored add exactly 0.
    """
    mine = objects.taken(~objects.ignored)
    read = attributes_at(maps, mine)
    found = torch.zeros(len(maps), device=maps.device)
    counts = torch.zeros_like(found).index_add_(0, mine.draws, torch.ones_like(mine.draws, dtype=found.dtype))
    for (attribute, columns), truth in zip(attribute_columns(attributes), mine.values.T, strict=False):
        known = ~truth.isnan()
        own, target = read[known][:, columns], truth[known]
        loss = (
            functional.cross_entropy(own, target.long(), reduction="none") if attribute.classes
            else 0.5 * (own[:, 0] - target) ** 2
        )  # fmt: skip
        found = found.index_add(0, mine.draws[known], loss / attribute.constant_loss)
    return found / counts.clamp(min=1)


def attributes_at(maps: Tensor, objects: Objects) -> Tensor:
    """What maps [B, A, h, w] hold at the cells of the objects' centres [N, A]."""
    cells, _, _ = cells_of(objects, maps.shape[2:])
    return maps[objects.draws, :, cells[:, 1], cells[:, 0]]


def attribute_answers(outputs: Tensor, attributes: Sequence[BoxAttribute]) -> Tensor:
    """Class probabilities and numbers in their units [..., A], from what cells of the maps hold [..., A]."""
    parts = [
        torch.softmax(outputs[..., columns], dim=-1) if attribute.classes
        else outputs[..., columns] * attribute.deviation + attribute.mean
        for attribute, columns in attribute_columns(attributes)
    ]  # fmt: skip
    return torch.cat(parts, dim=-1)
