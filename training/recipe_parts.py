"""Parts of a recipe that are tables of their own: a task, stopping, augmentation and boxes, each checked when made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict

from curation.errors import BadInput

__all__ = ["Augmentation", "BoxRecipe", "Stage", "Stopping", "TaskRecipe", "refuse"]


@dataclass(frozen=True, kw_only=True)
class TaskRecipe:
    """How one task learns in a network that learns from draws; the defaults change nothing.

    `rate` multiplies the learning rate of the task's rows, and of the branches that only tasks with this rate read: an
    importance cannot do so, because Adam divides it out again. `decay` and `dropout` replace those of the recipe;
    `dropout` is that of the features that the head reads. `smoothing` is the part of a class label that is spread
    evenly over the classes. `stop` says whether the task takes part in `Recipe.stopping`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    rate: float = 1.0
    decay: float | None = None
    dropout: float | None = None
    smoothing: float = 0.0
    stop: bool = True

    def __post_init__(self) -> None:
        rules = {
            "rate": 0 <= self.rate < math.inf,
            "decay": self.decay is None or 0 <= self.decay < math.inf,
            "dropout": self.dropout is None or 0 <= self.dropout < 1,
            "smoothing": 0 <= self.smoothing < 1,
        }
        refuse(self, rules, "task recipe")


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a task stops by itself (`training.loop.states`).

    Every `every` steps each task is evaluated on its validation labels. After `patience` evaluations in a row whose
    gain is below its standard error over groups, the task is on a plateau; one more, and it learns the soft labels of
    its best step, at `floor` times its share. After `patience` further evaluations without a gain it is frozen. It
    learns again once its loss (over the best constant's) has risen by more than `tolerance` and by more than the error.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    every: int = 100
    patience: int = 3
    floor: float = 0.25
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        rules = {
            "every": self.every >= 1,
            "patience": self.patience >= 1,
            "floor": 0 < self.floor <= 1,
            "tolerance": 0 <= self.tolerance < math.inf,
        }
        refuse(self, rules, "stopping")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the draws in which some tasks learn (`training.loop.stages`); the parts of all stages sum to 1.

    `tasks` are those that learn and are drawn (default: all). The heads of the others rest. Layers that `tasks` share
    with them learn, unless the stage is `fixed`: then what a resting task of an earlier stage reads keeps its weights.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    part: float
    tasks: tuple[str, ...] = ()
    fixed: bool = False

    def __post_init__(self) -> None:
        refuse(self, {"part": 0 < self.part <= 1, "tasks": len(set(self.tasks)) == len(self.tasks)}, "stages")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How each image differs from draw to draw, by a hash of (seed, position): the same on any number of ranks.

    With `flip` half of the images are mirrored, but none with a known label of a task whose labels depend on left and
    right (`Task.sided`). Each moves by up to `shift` pixels, becomes larger or smaller by at most the factor
    1 + `scale`, and brighter or darker by at most the part `brightness`. What moves into view repeats the border.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    flip: bool = True
    shift: int = 4
    scale: float = 0.1
    brightness: float = 0.1

    def __post_init__(self) -> None:
        rules = {
            "shift": self.shift >= 0,
            "scale": 0 <= self.scale < math.inf,
            "brightness": 0 <= self.brightness <= 1,
        }
        refuse(self, rules, "augment")


@dataclass(frozen=True, kw_only=True)
class BoxRecipe:
    """How tasks of boxes are learned (`training.network.detection`).

    Each has a head of `width` channels on the trunk's map of `stride` (pixels of the input to a cell) and its coarser
    ones, and predicts at most the `most` best boxes of an image.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    width: int = 64
    stride: int = 8
    most: int = 100

    def __post_init__(self) -> None:
        rules = {
            "width": self.width >= 8 and self.width % 8 == 0,
            "stride": self.stride in (2, 4, 8, 16, 32),
            "most": 1 <= self.most <= 1000,
        }
        refuse(self, rules, "boxes")


def refuse(made: Any, rules: Mapping[str, bool], what: str) -> None:
    """BadInput for the first field whose rule does not hold."""
    for name, holds in rules.items():
        if not holds:
            raise BadInput(f"{what}: {name} = {getattr(made, name)} is out of range; correct it")
