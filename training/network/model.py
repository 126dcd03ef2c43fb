"""The network: trunk -> branch -> heads, as a tree in which a task's gradient touches only its own path."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from curation.arrays import Float32s
from curation.errors import BadInput, Damaged
from curation.files.read_back import one_line
from curation.images.embeddings import Embeddings
from samplers.plan.plan import PlanTask
from training.network.losses import TaskLosses
from training.network.pairs import paired_tasks, split_pair
from training.network.tree_network import TreeNetwork, staged
from training.network.trunks import FineTunedLite0, SmallTrunk, learning_from, load_own
from training.network.weights import read_tensors
from training.recipe import TIMM, Recipe
from training.run import Run
from training.tree import Tree

__all__ = [
    "Beside",
    "Network",
    "Standardise",
    "as_pixels",
    "build",
    "build_any",
    "build_tree",
    "learning_trunk",
    "load_any",
    "load_network",
]

REACH = 5.0


class Network(nn.Module):
    """A trunk [B, 3, H, W] or [B, D] -> [B, F], a shared branch, and one linear layer that holds every task's head.

    Heads are rows of one matrix, so that a hundred tasks cost about what one costs; the rows of a task see only its own
    loss. There is no live batch normalisation: its statistics would follow the mixture of the draws. With `hidden`
    units heads read the branch alone; with `beside` units they read the trunk and, beside it, a shared layer. Where a
    task reads two frames, inputs are pairs of features [B, 2 D + 1], and its rows of `before` read the other frame's.
    """

    def __init__(
        self, trunk: nn.Module, width: int, hidden: int, tasks: Sequence[PlanTask], *, beside: int = 0
    ) -> None:
        super().__init__()
        self.trunk, self.width = trunk, width
        self.branch: nn.Module = nn.Identity()
        if hidden:
            self.branch = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        elif beside:
            self.branch = Beside(width, beside)
        self.losses = TaskLosses(tasks)
        self.heads = nn.Linear(hidden or width + beside, self.losses.layout.outputs)
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)
        self.before: nn.Linear | None = None
        if paired_tasks(tasks):
            self.before = nn.Linear(width + 1, self.losses.layout.outputs, bias=False)
            nn.init.zeros_(self.before.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [B, O] of all heads, in the order of `losses.layout`."""
        return self.of_features(self.features(inputs))

    def features(self, inputs: Tensor) -> Tensor:
        """What the trunk makes of inputs: [B, F], or [B, 2 F + 1] of pairs, 0 where there is no frame before."""
        if self.before is None:
            seen: Tensor = self.trunk(inputs)
            return seen
        pair = split_pair(inputs)
        return torch.cat([self.trunk(pair.now), self.trunk(pair.before) * pair.flag, pair.flag.float()], dim=1)

    def of_features(self, features: Tensor) -> Tensor:
        """Outputs [B, O] from `features`. What heads of one frame take from the other is exactly 0."""
        if self.before is None:
            outputs: Tensor = self.heads(self.branch(features))
            return outputs
        own: Tensor = self.heads(self.branch(features[:, : self.width].contiguous()))
        other: Tensor = self.before(features[:, self.width :])
        return own + other

    def answers(self, outputs: Tensor, task: int) -> Tensor:
        """As `TaskLosses.answers`."""
        return self.losses.answers(outputs, task)


class Beside(nn.Module):
    """Features [B, F] followed by the units [B, U] of a hidden layer on them."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, units)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([features, torch.relu(self.hidden(features))], dim=1)


class Standardise(nn.Module):
    """The trunk of a network on cached features: each block of a vector [B, D] gets mean 0 and the same weight."""

    mean: Tensor
    scale: Tensor
    reach: Tensor

    def __init__(self, mean: Float32s, scale: Float32s, widths: list[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(np.array(mean)))
        self.register_buffer("scale", torch.from_numpy(np.array(scale)))
        self.register_buffer("reach", torch.from_numpy(REACH / np.sqrt(np.array(widths, np.float32))))
        self.width = len(mean)

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        """One stage: the features themselves."""
        return [("features", self)]

    def forward(self, vectors: Tensor) -> Tensor:
        """Standardised vectors, float32; values beyond 5 deviations are cut to 5."""
        return ((vectors.float() - self.mean) * self.scale).clamp(-self.reach, self.reach)


def build(recipe: Recipe, tasks: Sequence[PlanTask], embeddings: Embeddings | None, *, beside: int = 0) -> Network:
    """The network of a plain `recipe`: on cached features when `embeddings` are given, else on pixels.

    Seeded by the recipe. `beside` is the number of units of a shared layer beside the features. Tasks of boxes need
    `build_tree` (`Recipe.with_boxes`).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if embeddings is not None:
            trunk: nn.Module = Standardise(embeddings.mean, embeddings.scale, embeddings.widths)
            return Network(trunk, len(embeddings.mean), recipe.hidden, tasks, beside=beside)
        trunk = SmallTrunk()
        return Network(trunk, trunk.width, recipe.hidden, tasks)


def build_tree(
    recipe: Recipe, tasks: Sequence[PlanTask], embeddings: Embeddings | None, *, initial: bool = True
) -> TreeNetwork:
    """The network of a recipe that learns from draws, as the tree of the recipe; for the rest as `build`.

    Without `initial` a trunk of timm has random weights, for a network whose weights are loaded next. BadInput for a
    tree that names a task of none of `tasks`, leaves one out, or leaves the trunk at no stage of it, and for a trunk
    whose stages do not give its features.
    """
    names, boxed = [task.name for task in tasks], [task.name for task in tasks if task.task.kind == "detection"]
    for name in (*recipe.task, *recipe.only):
        if name not in names:
            raise BadInput(f"recipe: task {name} is none of the plan's ({', '.join(names)}); correct it")
    named = [name for branch in recipe.branching.branch.values() for name in branch.tasks]
    if wrong := [name for name in (*recipe.branching.tasks, *named) if name in boxed]:
        raise BadInput(f"tree: {wrong[0]} is a task of boxes, whose head reads the trunk's maps; leave it out")
    linear = [name for name in names if name not in boxed]
    nodes = recipe.branching.nodes(linear) if linear else Tree(tasks=()).nodes([])
    if embeddings is not None:
        trunk: nn.Module = Standardise(embeddings.mean, embeddings.scale, embeddings.widths)
        return TreeNetwork(trunk, recipe, nodes, tasks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        trunk = learning_trunk(recipe, initial=initial)
    stages, _ = staged(trunk, recipe.trunk)
    learning_from(trunk, stages, recipe.learn_from, recipe.trunk)
    return TreeNetwork(trunk, recipe, nodes, tasks)


def learning_trunk(recipe: Recipe, *, initial: bool = True) -> nn.Module:
    """The trunk of a recipe that learns from pixels, as it begins; BadInput where its stages do not give its features.

    Without `initial`, a trunk of timm has random weights.
    """
    if recipe.trunk == SmallTrunk.name:
        return SmallTrunk()
    if recipe.trunk == FineTunedLite0.name:
        return FineTunedLite0()
    if recipe.trunk.startswith(TIMM):
        from training.network.timm_trunks import RANDOM, TimmTrunk

        return TimmTrunk(recipe.trunk.removeprefix(TIMM), recipe.size, recipe.weights if initial else RANDOM)
    trunk = load_own(recipe.trunk)
    _check_stages(trunk, recipe)
    return trunk


@torch.no_grad()
def _check_stages(trunk: nn.Module, recipe: Recipe) -> None:
    """BadInput where running the stages one after the other does not give features [B, width]."""
    stages, width = staged(trunk, recipe.trunk)
    modes = {module: module.training for module in trunk.modules()}
    seen = torch.zeros(1, 3, *recipe.size)
    for name, stage in stages:
        try:
            seen = stage.eval()(seen)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(
                f"trunk {recipe.trunk}: its stage {name!r} cannot read what comes before it ({one_line(error)}); name "
                "the modules that make it up, in order"
            ) from error
    if list(seen.shape) != [1, width]:
        raise BadInput(
            f"trunk {recipe.trunk}: its stages put out {list(seen.shape)} for one image, must be [1, {width}] by its "
            "`width`; correct one of them"
        )
    for module, training in modes.items():
        module.training = training


def build_any(
    recipe: Recipe, tasks: Sequence[PlanTask], embeddings: Embeddings | None, *, beside: int = 0, initial: bool = True
) -> Network | TreeNetwork:
    """The network of any recipe, as `build` or `build_tree` makes it.

    Tasks that read two frames and learn from draws have a branch of their own, so their network is a tree. BadInput
    where such a recipe has another optimizer than adamw.
    """
    two = [tasks[t].name for t in sorted(paired_tasks(tasks))]
    if recipe.plain and not (two and not recipe.solved):
        return build(recipe, tasks, embeddings, beside=beside)
    if recipe.optimizer != "adamw":
        raise BadInput(
            f"task {two[0]}: two frames that learn from draws need optimizer = adamw, not {recipe.optimizer}"
        )
    return build_tree(recipe, tasks, embeddings, initial=initial)


def load_network(run: Run, tasks: Sequence[PlanTask], home: Path) -> Network:
    """The trained network of a finished run with a plain recipe, for evaluation; BadInput for one with a tree."""
    network = load_any(run, tasks, home)
    if not isinstance(network, Network):
        raise BadInput(f"run {run.id}: its network is a tree of its own; name a run without one")
    return network


def load_any(run: Run, tasks: Sequence[PlanTask], home: Path) -> Network | TreeNetwork:
    """The trained network of a finished run of a workspace, for evaluation; Damaged where it cannot be read."""
    name = run.recipe.embeddings
    embeddings = Embeddings.open(home, name) if name else None
    network = build_any(run.recipe, tasks, embeddings, beside=run.shared_units, initial=False)
    path, fix = home / "runs" / run.id / "checkpoints" / "last.pt", f"train run {run.id} again"
    weights = read_tensors(path, fix)
    try:
        for old in ("losses.places", "losses.absent"):  # in runs of before grouped losses
            weights.pop(old, None)
        network.load_state_dict(weights)
    except (AttributeError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise Damaged(f"{path}: cannot be read ({one_line(error)}); {fix}") from error
    return network.eval()


def as_pixels(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] as float32 in [-1, 1], in channels-last memory."""
    return images.float().sub_(127.5).div_(127.5).contiguous(memory_format=torch.channels_last)
