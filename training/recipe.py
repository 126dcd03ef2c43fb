"""How a network is trained on a plan: the fields of a training, their ranges, and the defaults of each trunk."""

import math
from dataclasses import dataclass, replace
from typing import Any, Final

from curation.errors import BadInput

__all__ = ["Recipe"]

HEADS = ("auto", "exact", "shared", "drawn")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained on a plan; `Recipe.of(trunk)` gives the defaults of a trunk.

    `trunk` is "efficientnet_lite0" (pretrained and frozen), "run:ID" (trained by that run of this workspace, frozen)
    or "small" (trained from scratch); features of a frozen trunk are computed once. `size` is height and width in
    pixels; `fit` says how an image of another shape becomes that size: "stretch", "letterbox" (grey borders) or "crop"
    (the middle). `mirrored` averages the features of an image and its mirror image.

    `heads` says how heads learn. On a frozen trunk: "exact" solves the linear head of each task to convergence, alone;
    "shared" trains one hidden layer of `units` for all tasks over `epochs` of their labels; "auto" takes for each task
    the better of the two in a cross-validation over groups of the training labels. "drawn" learns from the plan's
    draws, as a trunk that learns from pixels always does; the fields from here on are for drawn heads alone.
    `hidden` is the width of the branch between trunk and heads; 0 puts linear heads on the trunk. `optimizer`
    is "sgd" (with momentum 0.9) or "adamw"; `schedule` keeps the learning rate "constant" or lets it fall to 0 along a
    "cosine", after a linear warm-up over the first `warmup` of the steps.
    `augment` mirrors and moves images; labels must not depend on left and right.

    >>> Recipe.of("small").heads, Recipe.of("efficientnet_lite0", size=(96, 96)).heads
    ('drawn', 'auto')
    """

    trunk: str = "efficientnet_lite0"
    size: tuple[int, int] = (64, 128)
    fit: str = "stretch"
    mirrored: bool = False
    heads: str = "auto"
    huber: bool = False
    """Numeric tasks of exact heads lose by Huber (linear beyond one deviation) instead of by squares."""
    units: int = 512
    epochs: int = 20
    global_batch: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.3
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    hidden: int = 0
    augment: bool = False
    seed: int = 0
    threads: int = 2

    @classmethod
    def of(cls, trunk: str, **changed: Any) -> "Recipe":
        """The defaults of `trunk`, with `changed` fields (None leaves a default); BadInput for what is unknown."""
        given = {name: value for name, value in changed.items() if value is not None}
        return cls(**{"trunk": trunk, **DEFAULTS.get(trunk, {}), **given})

    @property
    def embeddings(self) -> str:
        """The name of the embeddings that this recipe reads; empty when its trunk is trained on pixels."""
        if self.trunk == "small":
            return ""
        height, width = self.size
        views = ("" if self.fit == "stretch" else f"-{self.fit}") + ("-mirrored" if self.mirrored else "")
        return f"{self.trunk.replace(':', '-')}-{height}x{width}{views}"

    @property
    def solved(self) -> bool:
        """Whether heads learn from the plan's labels as a whole, without its draws."""
        return self.heads != "drawn"

    def features(self, run: str) -> "Recipe | None":
        """What computes the features by which images are compared: this recipe's frozen trunk, or that of `run`.

        None when the trunk learns from pixels and there is no run yet.
        """
        if self.embeddings:
            return self
        return replace(self, trunk=f"run:{run}", heads="auto", hidden=0) if run else None

    def __post_init__(self) -> None:
        rules = {
            "trunk": self.trunk in DEFAULTS or self.trunk.startswith("run:"),
            "fit": self.fit in ("stretch", "letterbox", "crop"),
            "heads": self.heads in HEADS,
            "units": self.units >= 1,
            "epochs": self.epochs >= 1,
            "optimizer": self.optimizer in ("sgd", "adamw"),
            "schedule": self.schedule in ("constant", "cosine"),
            "global_batch": self.global_batch >= 1,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "warmup": 0 <= self.warmup < 1,
            "hidden": self.hidden >= 0,
            "threads": self.threads >= 1,
            "size": min(self.size) >= 32,
        }
        for name, holds in rules.items():
            if not holds:
                raise BadInput(f"recipe: {name} = {getattr(self, name)} is out of range; correct it")
        if self.trunk == "small" and (self.fit != "stretch" or self.mirrored):
            raise BadInput(
                f"recipe: fit = {self.fit}, mirrored = {self.mirrored} are for frozen trunks; leave them out"
            )
        if self.solved and (self.trunk == "small" or self.hidden):
            what = "trunk small learns from draws" if self.trunk == "small" else f"hidden = {self.hidden} is for draws"
            raise BadInput(f"recipe: heads = {self.heads} need a frozen trunk alone, but {what}; set heads = drawn")


DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "efficientnet_lite0": {},
    "small": {
        "size": (80, 128), "heads": "drawn", "optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.5,
        "schedule": "cosine", "warmup": 0.05, "hidden": 128, "augment": True,
    },
}  # fmt: skip
