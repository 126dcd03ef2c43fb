"""One step of the optimiser: fused AdamW, a rate and a decay for each task's rows, and rows that do not move at all.

Adam divides a constant factor out of a row's gradient, so a task's rate multiplies its rows' *step*:
`lerp(before, after, rate)`. A frozen task has the rate 0, and its moments are put back; whatever only frozen tasks read
has no gradient, and AdamW leaves it out.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.network.losses import scale_rows
from training.network.model import Network
from training.network.tree_network import TreeNetwork
from training.recipe import Recipe, TaskRecipe

__all__ = ["Optimiser", "PlainOptimiser", "TreeOptimiser", "optimiser_of"]


class PlainOptimiser:
    """The optimiser of a plain recipe: everything learns at one rate; under SGD each head at that of its loss."""

    def __init__(self, recipe: Recipe, network: Network) -> None:
        self._rate, self._heads = recipe.learning_rate, network.heads
        self._rows = network.losses.rates().to(network.heads.weight.device) if recipe.optimizer == "sgd" else None
        parameters, decay = list(network.parameters()), recipe.weight_decay
        self.inner: torch.optim.Optimizer
        if recipe.optimizer == "adamw":
            self.inner = torch.optim.AdamW(parameters, lr=self._rate, weight_decay=decay, fused=True)
        else:
            self.inner = torch.optim.SGD(parameters, lr=self._rate, momentum=0.9, weight_decay=decay)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns."""
        return [parameter for group in self.inner.param_groups for parameter in group["params"]]

    def step(self, share: float) -> None:
        """One step at `share` of the learning rate."""
        for group in self.inner.param_groups:
            group["lr"] = self._rate * share
        if self._rows is not None:
            scale_rows(self._heads, self._rows)
        self.inner.step()


class TreeOptimiser:
    """The optimiser of a tree: parts of the network by the rate and decay of their readers, heads row by row."""

    def __init__(self, recipe: Recipe, network: TreeNetwork, names: Sequence[str]) -> None:
        self._network, self._rate = network, recipe.learning_rate
        own = [recipe.task.get(name, TaskRecipe()) for name in names]
        decay = [recipe.weight_decay if part.decay is None else part.decay for part in own]
        groups = []
        for name, part in network.parts().items():
            rate = _agreed([own[t].rate for t in part.readers], 1.0)
            part_decay = _agreed([decay[t] for t in part.readers], recipe.weight_decay)
            of_trunk = network.of_trunk(name)
            others = [weight for weight in part.module.parameters() if not any(weight is each for each in of_trunk)]
            groups += [_group(of_trunk, rate * recipe.trunk_rate, part_decay), _group(others, rate, part_decay)]
        self._heads = {name: network.head(name) for name in network.heads}
        self._even = len({*decay, recipe.weight_decay}) == 1
        for head in self._heads.values():
            groups.append(_group(list(head.parameters()), 1.0, recipe.weight_decay if self._even else 0.0))
        groups = [group for group in groups if group["params"]]
        self.inner = torch.optim.AdamW(groups, lr=self._rate, fused=True)
        self._task_rates = [part.rate for part in own]
        self._decay = {name: self._by_row(name, decay, recipe.weight_decay) for name in self._heads}
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self.frozen: frozenset[int] = frozenset()
        self.freeze(frozenset())

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns now."""
        return [
            parameter for group in self.inner.param_groups for parameter in group["params"] if parameter.requires_grad
        ]

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step at `share` of the learning rate."""
        before = [(part, part.detach().clone(), rows) for part, rows in self._moved]
        for group in self.inner.param_groups:
            group["lr"] = self._rate * share * group["scale"]
        if not self._even:
            for name, head in self._heads.items():
                head.weight.mul_(1 - self._rate * share * self._decay[name][:, None])
                head.bias.mul_(1 - self._rate * share * self._decay[name])
        self.inner.step()
        for part, old, rows in before:
            part.copy_(torch.lerp(old, part, rows[:, None] if part.dim() == 2 else rows))
        for moment, kept, rows in self._kept:
            moment.index_copy_(0, rows, kept)

    def freeze(self, tasks: frozenset[int], paths: frozenset[int] = frozenset()) -> None:
        """From the next step on, the rows and moments of these tasks (codes) and what only they read stay the same.

        So does whatever a task of `paths` reads.
        """
        network = self._network
        self.frozen = tasks
        for part in network.parts().values():
            learns = bool(part.readers - tasks) and not part.readers & paths
            _learn(part.module, learns)
        for name, head in self._heads.items():
            _learn(head, not self._codes(name) <= tasks)
        rates = [0.0 if t in tasks else rate for t, rate in enumerate(self._task_rates)]
        self._moved = [
            (part, self._by_row(name, rates, 1.0))
            for name, head in self._heads.items() for part in head.parameters()
            if part.requires_grad and any(rates[t] != 1 for t in self._codes(name))
        ]  # fmt: skip
        self._keep_moments()

    def _keep_moments(self) -> None:
        """Take the moments of frozen rows as they are now for those that every later step puts back."""
        self._kept = []
        for name, head in self._heads.items():
            mine = sorted(self._codes(name) & self.frozen)
            if not mine or not head.weight.requires_grad:
                continue
            rows = torch.cat([_span(self._network.rows(t)[1]) for t in mine]).to(head.weight.device)
            for part in head.parameters():
                moments = self.inner.state.get(part, {})
                self._kept += [
                    (moments[which], moments[which].index_select(0, rows), rows)
                    for which in ("exp_avg", "exp_avg_sq") if which in moments
                ]  # fmt: skip

    def _codes(self, node: str) -> frozenset[int]:
        return frozenset(t for t in range(len(self._task_rates)) if self._network.node_of(t) == node)

    def _by_row(self, node: str, values: Sequence[float], rest: float) -> Tensor:
        """A value for each row of a node's heads, from one for each task; `rest` for the rows that fill up."""
        head = self._heads[node]
        found = torch.full((head.out_features,), rest)
        for t in self._codes(node):
            found[self._network.rows(t)[1]] = values[t]
        return found.to(head.weight.device)


Optimiser = PlainOptimiser | TreeOptimiser


def optimiser_of(recipe: Recipe, network: Network | TreeNetwork, names: Sequence[str]) -> Optimiser:
    """The optimiser of `recipe` for its network; `names` are those of the tasks."""
    if isinstance(network, TreeNetwork):
        return TreeOptimiser(recipe, network, names)
    return PlainOptimiser(recipe, network)


def _group(parameters: list[nn.Parameter], scale: float, decay: float) -> dict[str, Any]:
    return {"params": parameters, "scale": scale, "weight_decay": decay}


def _learn(module: nn.Module, learns: bool) -> None:
    """Whether a module learns; without a gradient AdamW leaves it out, moments and decay included."""
    module.requires_grad_(learns)
    if not learns:
        module.zero_grad(set_to_none=True)


def _agreed(values: Sequence[float], otherwise: float) -> float:
    """The value that all agree on, or `otherwise`."""
    return values[0] if len(set(values)) == 1 else otherwise


def _span(rows: slice) -> Tensor:
    return torch.arange(rows.start, rows.stop)
