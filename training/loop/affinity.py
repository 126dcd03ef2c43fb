"""Whether the gradients of tasks agree at the features that their heads read, watched while a network learns.

The gradients of tasks a and b at the features of draw i are D_a[i] W_a and D_b[i] W_b, with D the gradient at the
outputs and W the heads' weights. So their inner product, summed over the draws, is the sum over their block of
(D^T D) * (W W^T), without a further backward pass. Draws on which only one of the two is known add nothing to it, and
nothing to the norms that the cosine divides by.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.network.model import Network
from training.network.tree_network import TreeNetwork

__all__ = ["EVERY", "RELIABLE", "TaskAffinity"]

EVERY = 10
"""Steps between those that are watched."""

MEMORY = 0.95
"""What remains of the running sums at each watched step."""

RELIABLE = 0.4
"""Share of the labels of both tasks that must lie on the same draws before a cosine says anything: below 30% it is
noise, above 40% reliable (arXiv 2604.07848)."""


class TaskAffinity:
    """Running sums over watched steps, for each pair of tasks [T, T]: inner products, squared norms, and counts.

    `sums` [3, T, T] holds the inner products of a and b; the squared norms of a on draws where b is known too; and how
    many draws, of all watched, have both. The first two forget older steps, the last does not.
    """

    def __init__(self, network: Network | TreeNetwork) -> None:
        self._network = network
        layout, device = network.losses.layout, next(network.parameters()).device
        tasks = len(layout.columns)
        self.sums = torch.zeros(3, tasks, tasks, device=device)
        self._owners = torch.zeros(layout.linear, tasks, device=device)
        self._owner = torch.full((layout.linear,), tasks, device=device)
        for t, columns in layout.columns.items():
            if t not in layout.maps:  # heads of boxes read maps, not these features
                self._owners[columns, t] = 1.0
                self._owner[columns] = t
        self._same = [self._owners[span] @ self._owners[span].T for span, _ in self._nodes()]

    def watches(self, number: int) -> bool:
        """Whether step `number` is a watched one."""
        return number % EVERY == 0

    @torch.no_grad()
    def of(self, gradients: Tensor, known: Tensor) -> Tensor:
        """What the gradients [B, O] of these draws add to `sums`, with known labels [B, T]."""
        found, seen = torch.zeros_like(self.sums), known.float()
        for (span, heads), same in zip(self._nodes(), self._same, strict=True):
            mine, gram = gradients[:, span].float(), heads @ heads.T
            by_task = self._summed((mine.T @ mine) * gram, span)
            found[0] += self._summed(by_task.T.contiguous(), span)
            squares = ((mine @ (gram * same)) * mine) @ self._owners[span]
            found[1] += squares.T @ seen
        found[2] = seen.T @ seen
        return found

    def _summed(self, rows: Tensor, span: slice) -> Tensor:
        """The sums [T, n] of the rows [O, n] of each task among the outputs of `span`; on a GPU by a product, because
        its sums by index have no fixed order."""
        if rows.is_cuda:
            return self._owners[span].T @ rows
        tasks = len(self.sums[0])
        return rows.new_zeros(tasks + 1, rows.shape[1]).index_add_(0, self._owner[span], rows)[:tasks]

    def add(self, found: Tensor) -> None:
        """Take in a watched step, summed over ranks."""
        keep = torch.tensor([MEMORY, MEMORY, 1.0], device=found.device)
        self.sums = self.sums * keep[:, None, None] + found

    def rows(self, tasks: Sequence[str]) -> list[dict[str, Any]]:
        """Of each pair that shared a watched draw or could have: `one`, `other`, how many watched draws have `both`
        labels, the `share` of the labels of the task with more that these are, and their `cosine`.

        The cosine is None where the share is below `RELIABLE`, and where the heads read different features.
        """
        inner, norms, both = self.sums.double().cpu().unbind(0)
        found = []
        for a, one in enumerate(tasks):
            for b in range(a + 1, len(tasks)):
                most, together = float(max(both[a, a], both[b, b])), float(both[a, b])
                share, length = together / most if most else 0.0, float((norms[a, b] * norms[b, a]).sqrt())
                shown = share >= RELIABLE and length > 0 and self._same_features(a, b)
                found.append(
                    {"one": one, "other": tasks[b], "both": int(together), "share": share,
                     "cosine": float(inner[a, b]) / length if shown else None}
                )  # fmt: skip
        return found

    def _nodes(self) -> list[tuple[slice, Tensor]]:
        """The columns of each set of heads that read the same features, and their weights."""
        layout = self._network.losses.layout
        if isinstance(self._network, TreeNetwork):
            heads = [self._network.head(name).weight for name in self._network.heads]
            return list(zip(layout.nodes, heads, strict=True))
        return [(slice(0, layout.linear), self._network.heads.weight)]

    def _same_features(self, a: int, b: int) -> bool:
        columns = self._network.losses.layout.columns
        return any(
            span.start <= columns[a].start < span.stop and span.start <= columns[b].start < span.stop
            for span, _ in self._nodes()
        )  # fmt: skip
