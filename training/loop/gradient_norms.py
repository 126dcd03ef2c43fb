"""The norm of each task's gradient at the features that its head reads, from the Gram matrix of the heads.

The gradient of task t at the features of draw b is D_t[b] W_t, with D the gradient at the outputs and W the heads'
weights. So the inner product of two tasks' gradients, summed over the draws, is the sum over their block of
(D^T D) * (W W^T): no further backward pass, however many tasks there are.
"""

import torch
from torch import Tensor

from training.network.tree_network import TreeNetwork

__all__ = ["GradientNorms"]

MEMORY = 0.9
"""What remains of the mean squares at each step."""

LIMIT = 4.0
"""Factors are within 1 / LIMIT and LIMIT."""


class GradientNorms:
    """Running squared gradient norms [T] of the tasks of a network, and the factors that would make them equal."""

    def __init__(self, network: TreeNetwork) -> None:
        self._network = network
        device = next(network.parameters()).device
        layout = network.losses.layout
        self._nodes = list(zip(network.heads, layout.nodes, strict=True))
        self._owners = torch.zeros(layout.linear, len(layout.columns), device=device)
        for t, columns in layout.columns.items():
            if t not in layout.maps:  # heads of boxes read maps, not these features: their factor stays 1
                self._owners[columns, t] = 1.0
        self.squares = torch.zeros(len(layout.columns), device=device)
        """The running mean of the squared norms [T]; 0 for a task that has had no gradient."""

    @torch.no_grad()
    def of(self, gradients: Tensor, weights: Tensor) -> Tensor:
        """Squared norms [T] from gradients [B, O] of an objective in which the tasks weigh `weights` [T]."""
        found = torch.zeros_like(self.squares)
        for name, span in self._nodes:
            mine, heads = gradients[:, span].float(), self._network.head(name).weight
            owners = self._owners[span]
            gram = (mine.T @ mine) * (heads @ heads.T)
            found += ((gram @ owners) * owners).sum(dim=0)
        return torch.where(weights > 0, found.clamp(min=0) / weights.clamp(min=1e-20) ** 2, 0.0)

    def add(self, squares: Tensor) -> None:
        """Take in the squared norms [T] of a step."""
        first = self.squares == 0
        self.squares = torch.where(first, squares, torch.lerp(squares, self.squares, MEMORY))

    def factors(self) -> Tensor:
        """What multiplies each task's loss [T]: the geometric mean of all norms over its own, within 1/4 and 4."""
        norms = self.squares.sqrt()
        seen = norms > 0
        if not bool(seen.any()):
            return torch.ones_like(norms)
        logs = torch.log(norms.clamp(min=1e-20))
        mean = (logs * seen).sum() / seen.sum()
        return torch.where(seen, torch.exp(mean - logs), 1.0).clamp(1 / LIMIT, LIMIT)
