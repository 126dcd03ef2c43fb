"""A learner on made features, and draws for its steps."""

import numpy as np
import torch
from support.learned import TASKS, recipe
from torch import nn

from training.loop.learner import Draws, Learner
from training.loop.ranks import Ranks
from training.network.tree_network import TreeNetwork
from training.recipe import Recipe

WIDTH, SIZE = 12, 16


class Features(nn.Module):
    """A trunk without parameters."""

    width = WIDTH

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        return [("features", nn.Identity())]


TREE = {"branch": {"both": {"width": 6, "tasks": ["*"]}, "own": {"width": 4, "tasks": ["car"]}}}


def learner(**changed: object) -> Learner:
    made: Recipe = recipe(**({"tree": TREE} | changed))
    network = TreeNetwork(Features(), made, made.branching.nodes([task.name for task in TASKS]), TASKS)
    torch.manual_seed(0)
    for node in network.heads:
        nn.init.normal_(network.head(node).weight, std=0.3)
    return Learner(made, network, TASKS, Ranks())


def draws(seed: int, size: int = SIZE) -> Draws:
    generator = torch.Generator().manual_seed(seed)
    values = torch.stack([torch.randint(0, 2, (size,), generator=generator).float() for _ in TASKS], dim=1)
    known = torch.rand(size, len(TASKS), generator=generator) < 0.6
    return Draws(
        inputs=torch.randn(size, WIDTH, generator=generator), values=values, known=known, weights=known.float(),
        keys=[f"key/{row}" for row in range(size)], positions=np.arange(size) + seed * size,
    )  # fmt: skip


def states(made: Learner) -> dict[str, torch.Tensor]:
    return {name: part.detach().clone() for name, part in made.network.state_dict().items()}
