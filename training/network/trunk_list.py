"""What trunks there are, with their features, stages and sizes."""

from dataclasses import dataclass

import torch
from torch import nn

from training.network.model import learning_trunk
from training.network.tree_network import staged
from training.network.trunks import EfficientNetLite0
from training.recipe import TIMM, Recipe

__all__ = ["Stage", "Trunk", "trunk_of"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a trunk: its parameters, and the shape of what it puts out for one image."""

    name: str
    parameters: int
    output: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """A trunk at an image size: the width of its features, and its stages; a frozen one has none to leave it at."""

    name: str
    size: tuple[int, int]
    width: int
    parameters: int
    stages: tuple[Stage, ...]


@torch.no_grad()
def trunk_of(name: str, size: tuple[int, int] | None = None, *, frozen: bool = False) -> Trunk:
    """The trunk `name` as a recipe takes it, with random weights; `frozen` for that of cached features.

    BadInput for a name that no recipe takes, and for a trunk without stages.
    """
    more = {"weights": "random"} if name.startswith(TIMM) else {}
    recipe = Recipe.of(name, size=size, **more)
    if frozen:
        module: nn.Module = EfficientNetLite0()
        return Trunk(name=name, size=recipe.size, width=EfficientNetLite0.width, parameters=_count(module), stages=())
    if not recipe.learns:
        recipe = Recipe.of(name, size=size, learn_from="input")
    module = learning_trunk(recipe, initial=False).eval()
    stages, width = staged(module, name)
    seen, found = torch.zeros(1, 3, *recipe.size), []
    for stage, part in stages:
        seen = part(seen)
        found.append(Stage(name=stage, parameters=_count(part), output=tuple(seen.shape[1:])))
    return Trunk(name=name, size=recipe.size, width=width, parameters=_count(module), stages=tuple(found))


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
