"""The loss of a multilabel task: one logistic per class, and nothing where nobody looked.

The loss of a draw is the sum over its known classes, not their mean: then a task of C classes is C separate problems,
each statement about a class weighs the same however many others were made of its image, and heads that are solved and
heads that learn from draws have one objective. The plan's constant loss is a sum over the same classes, so the number
of classes cancels.
"""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["lone_odds", "masked_logistic", "one_sided"]


def masked_logistic(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of logits and targets (0 to 1) of one shape, exactly 0 in value and gradient where not `known`.

    An infinite logit of an unknown class adds nothing either.

    >>> masked_logistic(torch.tensor([0.0, torch.inf]), torch.tensor([1.0, 0.0]), torch.tensor([True, False])).tolist()
    [0.6931471824645996, 0.0]
    """
    safe = torch.where(known, logits, 0.0)
    losses = functional.binary_cross_entropy_with_logits(safe, torch.where(known, targets, 0.0), reduction="none")
    return torch.where(known, losses, 0.0)


def one_sided(weights: Tensor, states: Tensor) -> Tensor:
    """Which classes [B, K] have weight on at most one side: everywhere or nowhere among what is known.

    `weights` [B, n] are of n labels in B problems, `states` [n, K] are 1, 0, or -1: unknown.
    """
    return (weights @ (states == 1).double() == 0) | (weights @ (states == 0).double() == 0)


def lone_odds(states: Tensor) -> Tensor:
    """The logits [K] of classes that all n labels which know them agree about: odds of n + 1/2 to 1/2, 0 without one.

    >>> lone_odds(torch.tensor([[1, 0, -1]])).round(decimals=2).tolist()
    [1.1, -1.1, -0.0]
    """
    there, known = (states == 1).sum(dim=0), (states >= 0).sum(dim=0)
    return torch.where(there > 0, 1.0, -1.0) * torch.log(2 * known.double() + 1)
