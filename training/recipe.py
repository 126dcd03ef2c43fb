"""How a network is trained on a plan: the fields of a training, their ranges, and the defaults of each trunk."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict

from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.toml_files import parse, read_toml
from training.recipe_parts import Augmentation, BoxRecipe, Stage, Stopping, TaskRecipe, refuse
from training.tree import Tree

__all__ = ["ADDED", "TIMM", "Augmentation", "BoxRecipe", "Recipe", "Stage", "Stopping", "TaskRecipe"]

HEADS = ("auto", "exact", "shared", "drawn")

Balance = Literal["none", "gradient_norm"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained on a plan; `Recipe.of(trunk)` gives the defaults of a trunk.

    `trunk` is "efficientnet_lite0" (pretrained and frozen, unless `learn_from` says where it begins to learn), "run:ID"
    (trained by that run of this workspace, frozen), "small" (trained from scratch), "timm:NAME" (a model of timm, with
    `weights`), or "MODULE:FUNCTION", whose function returns a trunk of one's own that learns from pixels
    (`training.network.tree_network.Staged`); features of a frozen trunk are computed once. `size` is height and width
    in pixels; `fit` says how an image of another shape becomes that size: "stretch", "letterbox" (grey borders) or
    "crop" (the middle). `mirrored` averages the features of an image and its mirror image.

    `heads` says how heads learn. On a frozen trunk: "exact" solves the linear head of each task to convergence, alone;
    "shared" trains one hidden layer of `units` for all tasks over `epochs` of their labels; "auto" takes for each task
    the better of the two in a cross-validation over groups of the training labels. "drawn" learns from the plan's
    draws, as a trunk that learns from pixels always does; the fields from here on are for drawn heads alone.
    `hidden` is the width of the branch between trunk and heads; 0 puts linear heads on the trunk. `optimizer`
    is "sgd" (with momentum 0.9) or "adamw"; `schedule` keeps the learning rate "constant" or lets it fall to 0 along a
    "cosine", after a linear warm-up over the first `warmup` of the steps.
    `augment` true mirrors half of the images, without those of `Task.sided`, and moves all of a batch together by up
    to 4 pixels; an `Augmentation` says more.

    The fields from `tree` on are for drawn heads with the optimizer "adamw". `tree` says what tasks share (default: one
    branch of `hidden` units). `task` holds what differs between tasks, and `stopping` lets each stop by itself.
    `balance` "gradient_norm" gives each task the same gradient at the features that heads read, within a factor of 4.
    `dropout` is that of these features. `accumulate` computes each batch in that many parts, for less memory; the
    result is that of the whole batch, up to rounding. `clip` bounds the norm of the gradient (0: no bound).
    `trunk_rate` multiplies the learning rate of the trunk. `compile` compiles the stages of a trunk that learns, which
    takes a C++ compiler and up to a minute at the start. `only` names the tasks that learn in a run that continues
    another: whatever another task reads is frozen. Solved heads take it too; the shared layer that they read stays.
    `learn_from` is the stage from which on the trunk learns ("input": all of it, as every trunk but efficientnet_lite0
    does by default); what comes before keeps its weights. `weights` of a model of timm is the path of a state dict,
    "hub" (timm fetches it), or "random". `boxes` says how tasks of boxes are learned; a plan without one does not need
    it, and a plan with one has its defaults (`with_boxes`). `stages` let tasks learn one after the other.

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
    augment: bool | Augmentation = False
    seed: int = 0
    threads: int = 2
    tree: Tree | None = None
    task: dict[str, TaskRecipe] = field(default_factory=dict)
    stopping: Stopping | None = None
    balance: Balance = "none"
    dropout: float = 0.0
    accumulate: int = 1
    clip: float = 0.0
    trunk_rate: float = 1.0
    compile: bool = False
    only: tuple[str, ...] = ()
    learn_from: str = ""
    weights: str = ""
    boxes: BoxRecipe | None = None
    stages: tuple[Stage, ...] = ()

    __pydantic_config__ = ConfigDict(extra="forbid")

    @classmethod
    def of(cls, trunk: str, **changed: Any) -> "Recipe":
        """The defaults of `trunk`, with `changed` fields (None leaves a default); BadInput for what is unknown."""
        given = {name: value for name, value in changed.items() if value is not None}
        return cls(**{"trunk": trunk, **_defaults(trunk, set(given)), **given})

    @classmethod
    def load(cls, path: Path | str, **others: Any) -> "Recipe":
        """The recipe of a TOML file with the words of this class; `others` are fields that hold where it names none.

        BadInput or NotFound in one line for a file that is none.
        """
        return cls.parse({**{name: value for name, value in others.items() if value is not None},
                          **read_toml(Path(path))}, where=str(path))  # fmt: skip

    @classmethod
    def parse(cls, words: Mapping[str, Any], *, where: str = "recipe") -> "Recipe":
        """The recipe of these words, as in a TOML file or as `words` gives them; the trunk's defaults for the others.

        `tree` may be "shared" or "separate" instead of a table.

        >>> Recipe.parse({"trunk": "small", "tree": "separate", "task": {"car": {"rate": 0.5}}}).task["car"].rate
        0.5
        """
        given = dict(words)
        named = {"shared": Tree.shared, "separate": Tree.separate}
        if isinstance(given.get("tree"), str):
            if given["tree"] not in named:
                raise BadInput(f'{where}: tree = {given["tree"]!r} is neither "shared" nor "separate"; name one')
            width = given.get("hidden", DEFAULTS["small"]["hidden"])
            given["tree"] = asdict(named[given["tree"]](width))
        trunk = given.get("trunk", cls.trunk)
        if not isinstance(trunk, str):
            raise BadInput(f"{where}: trunk = {trunk!r} is no name; name one, such as small")
        return parse(cls, {**_defaults(trunk, set(given)), **given}, where=where)

    @property
    def words(self) -> dict[str, Any]:
        """The fields as plain words; those added to recipes since the first runs only where they say something.

        So the id of a run without them is the one that it always had.
        """
        default = {each.name: each for each in fields(self)}
        plain = {name: value for name, value in asdict(self).items() if name not in ADDED}
        given = {name: getattr(self, name) for name in sorted(ADDED)}
        empty: dict[str, Any] = {name: {} if name == "task" else default[name].default for name in ADDED}
        return plain | {name: asdict(self)[name] for name, value in given.items() if value != empty[name]}

    @property
    def plain(self) -> bool:
        """Whether the network is one branch for all tasks that learn alike, as all were before trees."""
        added = set(self.words) & ADDED - ({"only"} if self.solved else set())
        return not added and not _own(self.trunk) and not self.trunk.startswith(TIMM)

    @property
    def learns(self) -> bool:
        """Whether the trunk learns from pixels."""
        return self.trunk == "small" or _own(self.trunk) or self.trunk.startswith(TIMM) or bool(self.learn_from)

    @property
    def branching(self) -> Tree:
        """The tree of a network that learns from draws."""
        return self.tree or Tree.shared(self.hidden)

    @property
    def embeddings(self) -> str:
        """The name of the embeddings that this recipe reads; empty when its trunk is trained on pixels."""
        if self.learns:
            return ""
        height, width = self.size
        views = ("" if self.fit == "stretch" else f"-{self.fit}") + ("-mirrored" if self.mirrored else "")
        return f"{self.trunk.replace(':', '-')}-{height}x{width}{views}"

    @classmethod
    def of_embeddings(cls, name: str) -> "Recipe | None":
        """The recipe that computes embeddings of this name; None where no frozen trunk of Amber's has it.

        >>> Recipe.of_embeddings("efficientnet_lite0-64x128-crop").fit
        'crop'
        >>> Recipe.of_embeddings("mine")
        """
        found = re.fullmatch(r"(.+?)-(\d+)x(\d+)(?:-(letterbox|crop))?(-mirrored)?", name)
        trunk = re.sub("^run-", "run:", found[1]) if found else ""
        if not found or not (trunk in PRETRAINED or trunk.startswith("run:")):
            return None
        size = int(found[2]), int(found[3])
        return cls(trunk=trunk, size=size, fit=found[4] or "stretch", mirrored=bool(found[5]))

    @property
    def solved(self) -> bool:
        """Whether heads learn from the plan's labels as a whole, without its draws."""
        return self.heads != "drawn"

    def features(self, run: str) -> "Recipe | None":
        """What computes the features by which images are compared: this recipe's frozen trunk, or that of `run`.

        A run with a tree, or with a trunk of another kind than "small", is compared by the pretrained trunk. None when
        the trunk learns from pixels and there is no run yet.
        """
        if self.embeddings:
            return self
        if not self.plain:
            return Recipe(size=self.size, seed=self.seed, threads=self.threads)
        return replace(self, trunk=f"run:{run}", heads="auto", hidden=0) if run else None

    def with_boxes(self, tasks: Sequence[Task]) -> "Recipe":
        """This recipe for tasks among which are some of boxes: with `boxes`, by default.

        BadInput for a frozen trunk, whose features hold no map, and for heads that do not learn by AdamW.
        """
        named = [task.name for task in tasks if task.kind == "detection"]
        if not named or self.boxes:
            return self
        if not self.learns or self.optimizer != "adamw":
            raise BadInput(
                f"task {named[0]} (detection): boxes are found on the maps of a trunk that learns from draws by adamw, "
                f"not on {self.trunk} with heads = {self.heads} and optimizer = {self.optimizer}; set learn_from = "
                '"head" (its maps stay frozen), or take trunk small'
            )
        return replace(self, boxes=BoxRecipe())

    def __post_init__(self) -> None:  # long: one rule for each field
        if not (self.trunk in DEFAULTS or self.trunk.startswith(("run:", TIMM)) or _own(self.trunk)):
            raise BadInput(f"recipe: trunk = {self.trunk} is none that a recipe takes; `amber trunks` lists them")
        rules = {
            "learn_from": not (self.learn_from and self.trunk.startswith("run:")),
            "weights": not self.weights or self.trunk.startswith(TIMM),
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
            "balance": self.balance in ("none", "gradient_norm"),
            "dropout": 0 <= self.dropout < 1,
            "accumulate": self.accumulate >= 1 and self.global_batch % self.accumulate == 0,
            "clip": 0 <= self.clip < math.inf,
            "trunk_rate": 0 <= self.trunk_rate < math.inf,
        }
        refuse(self, rules, "recipe")
        if self.trunk.startswith(TIMM) and not self.weights:
            raise BadInput(
                f'recipe: trunk {self.trunk} needs weights; give the path of a state dict, "hub" or "random"'
            )
        if self.stages and (self.only or self.stopping or abs(sum(stage.part for stage in self.stages) - 1) > 1e-6):
            parts = " + ".join(f"{stage.part:g}" for stage in self.stages)
            what = "only" if self.only else "stopping" if self.stopping else ""
            fix = (
                f"{what} decides what learns too; leave one out"
                if what
                else f"parts {parts} must sum to 1; correct them"
            )
            raise BadInput(f"recipe: stages: {fix}")
        if self.boxes and not self.learns:
            raise BadInput(
                f"recipe: boxes are found on maps, and {self.trunk} is read as features alone; set learn_from = "
                '"head" (its maps stay frozen), or take trunk small'
            )
        if self.compile and not self.learns:
            raise BadInput(f"recipe: compile = True is for a trunk that learns, not for {self.trunk}; leave it out")
        if self.learns and (self.fit != "stretch" or self.mirrored):
            raise BadInput(
                f"recipe: fit = {self.fit}, mirrored = {self.mirrored} are for frozen trunks; leave them out"
            )
        if self.solved and (self.learns or self.hidden):
            what = f"trunk {self.trunk} learns from draws" if self.learns else f"hidden = {self.hidden} is for draws"
            raise BadInput(f"recipe: heads = {self.heads} need a frozen trunk alone, but {what}; set heads = drawn")
        if not self.plain and (self.heads != "drawn" or self.optimizer != "adamw"):
            what = next(iter(sorted(set(self.words) & ADDED)), f"trunk {self.trunk}")
            raise BadInput(
                f"recipe: {what} is for heads = drawn with optimizer = adamw, not for {self.heads} with "
                f"{self.optimizer}; set both, or leave it out"
            )


def _own(trunk: str) -> bool:
    """Whether a trunk is one of the user's own, "MODULE:FUNCTION"."""
    return bool(re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", trunk)) and not trunk.startswith(("run:", TIMM))


def _defaults(trunk: str, given: set[str]) -> dict[str, Any]:
    """The defaults of a trunk, for a recipe in which these fields are given."""
    if _own(trunk):
        return DEFAULTS["small"]
    if trunk.startswith(TIMM) or (trunk in PRETRAINED and "learn_from" in given):
        return FINE_TUNED
    on_features = TREES_ON_FEATURES if trunk != "small" and given & ADDED else {}
    return {**DEFAULTS.get(trunk, {}), **on_features}


ADDED: Final = frozenset(
    {
        "tree",
        "task",
        "stopping",
        "balance",
        "dropout",
        "accumulate",
        "clip",
        "trunk_rate",
        "compile",
        "only",
        "learn_from",
        "weights",
        "boxes",
        "stages",
    }
)
"""Fields that recipes did not have at first; a recipe that says nothing in them keeps its run's id."""

TREES_ON_FEATURES: Final[dict[str, Any]] = {
    "heads": "drawn", "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01, "schedule": "cosine",
    "warmup": 0.05,
}  # fmt: skip
"""The defaults of a recipe that has one of these fields, on features of a frozen trunk."""


TIMM: Final = "timm:"
"""What the name of a trunk of timm begins with."""

PRETRAINED: Final = ("efficientnet_lite0",)
"""Trunks that are frozen unless a recipe says from which stage on they learn."""

FINE_TUNED: Final[dict[str, Any]] = {
    "heads": "drawn", "optimizer": "adamw", "learning_rate": 3e-3, "trunk_rate": 0.1, "weight_decay": 0.05,
    "schedule": "cosine", "warmup": 0.05, "augment": True,
}  # fmt: skip
"""The defaults of a recipe whose trunk has been trained elsewhere and goes on learning."""


DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "efficientnet_lite0": {},
    "small": {
        "size": (80, 128), "heads": "drawn", "optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.5,
        "schedule": "cosine", "warmup": 0.05, "hidden": 128, "augment": True,
    },
}  # fmt: skip
