"""A network as a tree: trunk -> branches -> heads. A task's gradient touches only its own path.

Every module runs once a pass, however many tasks read it. The heads of a node are rows of one matrix; the rows of a
task see only its own loss, and modules off its path get no gradient at all.
"""

import math
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from curation.arrays import Ints
from curation.errors import BadInput
from samplers.plan.box_attributes import attribute_outputs
from samplers.plan.interleave import hash64
from samplers.plan.plan import PlanTask
from training.network.detection import EXTRA, BoxHead, boxes_of, stages_with_maps
from training.network.dropout import dropout_mask
from training.network.known_rows import by_rows, rows_known
from training.network.losses import Layout, TaskLosses, head_order
from training.network.pairs import BOX_PAIRS, Joined, PairBranch, paired_tasks, split_nodes, split_pair
from training.recipe import BoxRecipe, Recipe
from training.tree import INPUT, TRUNK, Node, path_of

__all__ = ["BOXES", "Part", "Staged", "TreeNetwork", "staged"]

BOXES = "boxes"
"""What the name of a head of boxes begins with among the parts: "boxes:TASK"."""


class Staged(Protocol):
    """A trunk: a module whose `stages`, in order, make it up, and `width`, the number of features at its end [B, F]."""

    @property
    def stages(self) -> Sequence[tuple[str, nn.Module]]: ...

    @property
    def width(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stage of the trunk, a branch, or a head of boxes, and the codes of the tasks that read it."""

    module: nn.Module
    readers: frozenset[int]


class TreeNetwork(nn.Module):
    """A tree of layers on `trunk`, with heads of the tasks (names as in `nodes`) at its nodes.

    Tasks of boxes stand at no node: each has a head of its own on the maps of the trunk's stages, or, where it reads
    two frames, on those of the same stages in the branch `BOX_PAIRS`. `nodes` are those of the other tasks.
    Outputs are laid out as `losses.layout` says. The weights of a branch depend on the recipe's seed and the branch's
    name alone, not on the other branches. BadInput for a stage that the trunk does not have.

    Where tasks read two frames, inputs are pairs (`training.network.pairs`); what such tasks' branches read is computed
    for both frames by the same layers, and joined there.
    """

    def __init__(self, trunk: nn.Module, recipe: Recipe, nodes: Sequence[Node], tasks: Sequence[PlanTask]) -> None:
        super().__init__()
        stages, self.width = staged(trunk, recipe.trunk)
        two = frozenset(tasks[t].name for t in paired_tasks(tasks))
        nodes = split_nodes(nodes, recipe.tree, two, f"{TRUNK}:{stages[0][0]}", recipe.hidden)
        self.trunk, self.nodes, self._seed = trunk, tuple(nodes), recipe.seed
        boxed = {task.name for task in tasks if task.task.kind == "detection"}
        self._paired_boxes = frozenset(t for t, task in enumerate(tasks) if task.name in boxed & two)
        own = {BOX_PAIRS} if self._paired_boxes else set()
        self.paired = frozenset(node.name for node in nodes if set(node.tasks) & two or node.name in own)
        """The branches whose tasks read two frames."""
        self.branches, self.heads = nn.ModuleDict(), nn.ModuleDict()
        self._copied: dict[str, int] = {}
        codes = {task.name: t for t, task in enumerate(tasks)}
        words = [recipe.task.get(task.name) for task in tasks]
        self._dropout = {
            t: recipe.dropout if part is None or part.dropout is None else part.dropout for t, part in enumerate(words)
        }
        self.box_recipe = recipe.boxes or BoxRecipe()
        self.boxes, self.map_stages, maps = self._box_heads(tasks, stages, recipe)
        standing = [node for node in nodes if node.tasks]
        order = [head_order(tasks, [codes[name] for name in node.tasks], self._dropout) for node in standing]
        self.losses = TaskLosses(tasks, Layout(tasks, order, maps), [part.smoothing if part else 0.0 for part in words])
        widths = {TRUNK: self.width}
        for node in nodes[1:]:
            width, joined = widths.get(node.parent, self.width), None
            if node.name in self.paired:
                joined = _joined(node, stages, width, recipe)
                width = width if joined.mix else 2 * width + 1
            branch = _branch(node, stages[: self._map_depth()] if node.name in own else stages, width, recipe.seed)
            self._copied[node.name] = len(branch) - 2 * bool(node.width)
            self.branches[node.name] = PairBranch(joined, branch, self._places(node)) if joined else branch
            widths[node.name] = node.width or width
        for node, span in zip(standing, self.losses.layout.nodes, strict=True):
            head = nn.Linear(widths[node.name], span.stop - span.start)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            self.heads[node.name] = head
        self._node_of = {t: node.name for node, codes_ in zip(standing, order, strict=True) for t in codes_}
        self._first = {node.name: span.start for node, span in zip(standing, self.losses.layout.nodes, strict=True)}
        self._rates = {node.name: _runs(codes_, self) for node, codes_ in zip(standing, order, strict=True)}
        self._exits = {node.parent.partition(":")[2] for node in nodes if ":" in node.parent} | set(self.map_stages)
        self._depth = self._needed_stages(stages)
        self._readers = {name: part.readers for name, part in self.parts().items()}

    def forward(
        self, inputs: Tensor, positions: Ints | None = None, *, only: frozenset[int] | None = None,
        known: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Outputs [B, O] of all heads; with the draws' `positions` [B], dropout acts as the recipe says.

        With `only` (codes of tasks), nothing but their paths is computed, and other nodes put out 0 without a gradient.
        With `known` [B, T], what one task alone reads is computed for the rows alone on which it is known; its outputs
        for the others then mean nothing.
        """
        nodes = None if only is None else frozenset(self._node_of[t] for t in only if t in self._node_of)
        pairs = {BOX_PAIRS} if only and only & self._paired_boxes else set()
        at = self.features(inputs, None if nodes is None else nodes | pairs, known)
        found = [
            self._at_node(name, head, at[name], positions)
            if nodes is None or name in nodes
            else inputs.new_zeros(len(inputs), self.head(name).out_features, dtype=torch.float32)
            for name, head in self.heads.items()
        ]
        found += [
            self._boxes_of(t, at, known)
            if only is None or t in only
            else inputs.new_zeros(len(inputs), math.prod(self.losses.layout.maps[t]), dtype=torch.float32)
            for t, name in self._box_tasks.items()
        ]
        return torch.cat(found, dim=1) if len(found) > 1 else found[0]

    def _boxes_of(self, task: int, at: Mapping[str, Tensor], known: Tensor | None) -> Tensor:
        """The maps [B, ...] of a task of boxes (code), flattened, from what the nodes put out."""
        head, places = self.boxes[self._box_tasks[task]], self.maps_read(task)
        rows = rows_known(known, [task])
        return by_rows(lambda *maps: head(list(maps)), rows, *(at[place] for place in places))[0].flatten(1)

    def features(
        self, inputs: Tensor, nodes: frozenset[str] | None = None, known: Tensor | None = None
    ) -> dict[str, Tensor]:  # fmt: skip
        """What each node puts out; with `nodes`, only these, and only what they read is computed; `known` [B, T] as in
        `forward`."""
        wanted = self._ancestors(nodes) if nodes is not None else {node.name for node in self.nodes}
        joined = [node for node in self.nodes if node.name in self.paired & wanted]
        if not self.paired:
            return self._along(inputs, wanted, self._depth, known)
        pair = split_pair(inputs)
        at = self._along(pair.now, wanted - self.paired, self._depth, known)
        if joined:
            parents = frozenset(node.parent for node in joined)
            earlier = self._along(pair.before, self._ancestors(parents), self._depth_of(parents), known)
            for node in joined:
                read = at[node.parent], earlier[node.parent], pair.flag
                at[node.name], *maps = by_rows(self.branches[node.name], self._rows_of(node.name, known), *read)
                at |= {f"{node.name}:{stage}": each for stage, each in zip(self.map_stages, maps, strict=False)}
        return at

    def _rows_of(self, branch: str, known: Tensor | None) -> Tensor | None:
        """The rows for which a branch is computed (`rows_known`)."""
        return None if known is None else rows_known(known, self._readers[branch])

    def _along(
        self, inputs: Tensor, wanted: Collection[str], depth: int, known: Tensor | None
    ) -> dict[str, Tensor]:  # fmt: skip
        """What the trunk's first `depth` stages put out, and the branches in `wanted`, which read one frame."""
        at, seen = {INPUT: inputs}, inputs
        for name, stage in self._stages()[:depth]:
            seen = stage(seen)
            if name in self._exits:
                at[f"{TRUNK}:{name}"] = seen
        at[TRUNK] = seen
        for node in self.nodes[1:]:
            if node.name in wanted:
                rows = self._rows_of(node.name, known)
                (at[node.name],) = by_rows(self.branches[node.name], rows, at[node.parent])
        return at

    def _depth_of(self, places: Collection[str]) -> int:
        """How many stages of the trunk lead to these places: nodes, exits of the trunk, or its input."""
        names = [name for name, _ in self._stages()]
        return max(self._reach(path_of(self.nodes, place)[0], names) for place in places)

    def outputs_of(self, inputs: Tensor, task: int) -> Tensor:
        """Outputs [B, K] of one task (code), computed along its path alone."""
        name, rows = self.rows(task)
        seen = self.features(inputs, frozenset({name}))[name]
        return nn.functional.linear(seen, self.head(name).weight, self.head(name).bias)[:, rows]

    def answers(self, outputs: Tensor, task: int) -> Tensor:
        """As `TaskLosses.answers`; for a task of boxes `training.network.detection.boxes_of`."""
        if task in self._box_tasks:
            maps = self.losses.maps_of(outputs, task).float()
            return boxes_of(maps, self.box_recipe.most, self.losses.attributes[task])
        return self.losses.answers(outputs, task)

    def head(self, node: str) -> nn.Linear:
        """All heads of a node."""
        head = self.heads[node]
        assert isinstance(head, nn.Linear)
        return head

    def rows(self, task: int) -> tuple[str, slice]:
        """The node at which the head of `task` (code) stands, and the rows of that head in the node's matrix."""
        node, columns = self._node_of[task], self.losses.layout.columns[task]
        return node, slice(columns.start - self._first[node], columns.stop - self._first[node])

    def node_of(self, task: int) -> str:
        """The node at which the head of `task` (code) stands; "" for a task of boxes."""
        return self._node_of.get(task, "")

    def maps_read(self, task: int) -> list[str]:
        """The places whose maps a task of boxes (code) reads, the finest first, such as "trunk:STAGE"."""
        return [f"{BOX_PAIRS if task in self._paired_boxes else TRUNK}:{stage}" for stage in self.map_stages]

    def path(self, task: int) -> tuple[str, ...]:
        """The names of the parts that `task` (code) reads, in order: stages of the trunk, then branches."""
        return tuple(name for name, part in self.parts().items() if task in part.readers)

    def of_trunk(self, name: str) -> list[nn.Parameter]:
        """The parameters of a part that is a stage of the trunk, or of a branch's copies of its stages."""
        if name.startswith(f"{TRUNK}:"):
            return list(self.parts()[name].module.parameters())
        if name.startswith(f"{BOXES}:"):
            return []
        branch = self.branches[name]
        if isinstance(branch, PairBranch):
            branch = branch.rest
        assert isinstance(branch, nn.Sequential)
        return list(branch[: self._copied[name]].parameters())

    def parts(self) -> dict[str, Part]:
        """Each stage of the trunk ("trunk:NAME"), branch and head of boxes ("boxes:TASK") by name, with its readers."""
        names = [name for name, _ in self._stages()]
        paths = {t: self._path_of(t) for t in (*self._node_of, *self._paired_boxes)}
        reach = {t: self._reach(path[0], names) for t, path in paths.items()}
        reach |= dict.fromkeys(self._box_tasks.keys() - self._paired_boxes, self._map_depth())
        stages = {
            f"{TRUNK}:{name}": Part(module=stage, readers=frozenset(t for t, depth in reach.items() if depth > at))
            for at, (name, stage) in enumerate(self._stages())
        }
        branches = {
            name: Part(module=module, readers=frozenset(t for t, path in paths.items() if name in path))
            for name, module in self.branches.items()
        }
        heads = {
            f"{BOXES}:{name}": Part(module=self.boxes[name], readers=frozenset([t]))
            for t, name in self._box_tasks.items()
        }
        return stages | branches | heads

    def _at_node(self, name: str, head: nn.Module, seen: Tensor, positions: Ints | None) -> Tensor:
        assert isinstance(head, nn.Linear)
        rates = self._rates[name]
        if positions is None or all(rate == 0 for rate, _ in rates):
            outputs: Tensor = head(seen)
            return outputs
        layer = zlib.crc32(name.encode())
        parts = []
        for rate, rows in rates:
            kept = seen
            if rate:
                mask = dropout_mask(self._seed, positions, seen.shape[1], rate, layer=layer)
                kept = seen * mask.to(seen.device, non_blocking=True)
            parts.append(nn.functional.linear(kept, head.weight[rows], head.bias[rows]))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _stages(self) -> Sequence[tuple[str, nn.Module]]:
        return staged(self.trunk, "trunk")[0]

    def _needed_stages(self, stages: Sequence[tuple[str, nn.Module]]) -> int:
        """How many stages of the trunk any task reads."""
        names = [name for name, _ in stages]
        standing = (*self._node_of, *self._paired_boxes)
        deepest = max((self._reach(self._path_of(t)[0], names) for t in standing), default=0)
        return max(deepest, self._map_depth() if self._box_tasks.keys() - self._paired_boxes else 0)

    def _map_depth(self) -> int:
        """How many stages of the trunk a head of boxes reads."""
        names = [name for name, _ in self._stages()]
        return max((names.index(stage) + 1 for stage in self.map_stages), default=0)

    def _places(self, node: Node) -> list[int]:
        """After how many layers a branch puts out maps: `BOX_PAIRS`, which leaves the trunk at its first stage."""
        names = [name for name, _ in self._stages()]
        return (
            [names.index(stage) for stage in self.map_stages] if self._paired_boxes and node.name == BOX_PAIRS else []
        )

    def _box_heads(
        self, tasks: Sequence[PlanTask], stages: Sequence[tuple[str, nn.Module]], recipe: Recipe
    ) -> tuple[nn.ModuleDict, list[str], dict[int, tuple[int, int, int]]]:
        """The heads of boxes by task, the stages that they read, and the shape of each task's maps."""
        self._box_tasks = {t: task.name for t, task in enumerate(tasks) if task.task.kind == "detection"}
        if not self._box_tasks:
            return nn.ModuleDict(), [], {}
        found = stages_with_maps(stages, recipe.size, self.box_recipe.stride, recipe.trunk)
        shapes, heads, maps = list(found.values()), nn.ModuleDict(), dict[int, tuple[int, int, int]]()
        for t, name in self._box_tasks.items():
            with _seeded(recipe.seed, name):
                channels, classes = [shape[0] for shape in shapes], len(tasks[t].task.classes)
                more = attribute_outputs(tasks[t].attributes)
                heads[name] = BoxHead(channels, classes, self.box_recipe.width, more)
            maps[t] = (classes + EXTRA + more, *shapes[0][1:])
        return heads, list(found), maps

    def _path_of(self, task: int) -> tuple[str, ...]:
        """The places from where the task's path begins (the input, an exit of the trunk, its end) to its node, or to
        the branch whose maps it reads."""
        return path_of(self.nodes, self._node_of.get(task, BOX_PAIRS))

    def _reach(self, start: str, names: Sequence[str]) -> int:
        """How many stages of the trunk a path reads that begins at `start`."""
        if start == INPUT:
            return 0
        return names.index(start.partition(":")[2]) + 1 if ":" in start else len(names)

    def _ancestors(self, nodes: frozenset[str]) -> set[str]:
        return {place for name in nodes for place in path_of(self.nodes, name)}


def staged(trunk: nn.Module, name: str) -> tuple[Sequence[tuple[str, nn.Module]], int]:
    """The stages and the width of a trunk called `name`; BadInput where it has none (`Staged`)."""
    stages, width = getattr(trunk, "stages", None), getattr(trunk, "width", None)
    if not stages or not isinstance(width, int):
        raise BadInput(f"trunk {name}: must have `stages`, pairs of name and module, and an integer `width`; add both")
    return stages, width


def _branch(node: Node, stages: Sequence[tuple[str, nn.Module]], width: int, seed: int) -> nn.Sequential:
    """A copy of the trunk's stages after the place where the branch leaves it, and its hidden layer."""
    names = [name for name, _ in stages]
    exit_ = node.parent.partition(":")[2]
    if exit_ and exit_ not in names:
        raise BadInput(f"tree: branch {node.name} leaves the trunk at {exit_!r}; its stages are {', '.join(names)}")
    copied = stages[names.index(exit_) + 1 :] if exit_ else stages if node.parent == INPUT else []
    layers = [deepcopy(stage) for _, stage in copied]
    if node.width:
        with _seeded(seed, node.name):
            layers += [nn.Linear(width, node.width), nn.GELU()]
    return nn.Sequential(*layers)


@torch.no_grad()
def _joined(node: Node, stages: Sequence[tuple[str, nn.Module]], width: int, recipe: Recipe) -> Joined:
    """What joins both frames before the branch `node`: of maps where it leaves the trunk at one, else of vectors."""
    names = [name for name, _ in stages]
    exit_ = node.parent.partition(":")[2]
    if recipe.embeddings or not (exit_ or node.parent == INPUT):
        return Joined(width, maps=False)
    seen = torch.zeros(1, 3, *recipe.size)
    for _, stage in stages[: names.index(exit_) + 1 if exit_ in names else 0]:
        mode = stage.training
        seen = stage.eval()(seen)
        stage.train(mode)
    with _seeded(recipe.seed, f"{node.name} joined"):
        return Joined(seen.shape[1], maps=seen.dim() == 4)


@contextmanager
def _seeded(seed: int, name: str) -> Iterator[None]:
    """Weights made inside depend on the seed and the name alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(hash64(seed, zlib.crc32(name.encode()))) >> 1)
        yield


def _runs(codes: Sequence[int], network: TreeNetwork) -> list[tuple[float, slice]]:
    """Each dropout rate among the heads of a node, with its rows; the last run ends with the rows that fill up."""
    found: list[tuple[float, slice]] = []
    for t in codes:
        _, rows = network.rows(t)
        rate = network._dropout[t]
        if found and found[-1][0] == rate:
            found[-1] = (rate, slice(found[-1][1].start, rows.stop))
        else:
            found.append((rate, rows))
    node = network._node_of[codes[0]]
    return [*found[:-1], (found[-1][0], slice(found[-1][1].start, network.head(node).out_features))]
