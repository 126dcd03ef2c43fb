"""Trees compared: each is trained with each seed on one plan, and all are judged on the same labels.

Trainings are runs of the workspace, so a comparison that was killed goes on where it was; the catalog records none of
them. A difference from the first tree is paired, seed by seed and label by label.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Bools
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.progress import StageProgress
from curation.files.toml_files import read_toml
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.evaluation.halves import halves
from training.evaluation.paired import Estimate, SeedValues, chance, estimate
from training.evaluation.predictions import KnownLabels, LabelledPredictions, Samples, rows_of
from training.recipe import Recipe
from training.report.run_results import constant_error

if TYPE_CHECKING:
    from training.evaluation.cost import Cost
    from training.loop.ranks import Ranks

__all__ = [
    "JOINT", "ComparedTree", "TreeComparison", "TreeFigure", "compare_trees", "order_recipes", "refuse_lists",
    "tree_recipes",
]  # fmt: skip

NAMED = ("shared", "separate")
"""Trees that need no file."""

JOINT = "joint"
"""The order that needs no file: all tasks from the first draw on."""


@dataclass(frozen=True, kw_only=True)
class ComparedTree:
    """One tree: its runs by seed, its cost for one image, and how well it does.

    `parameters` and `macs` (multiply-accumulate operations) are those of the network on its inputs, `milliseconds` the
    median time of a pass over one image. `score` is the mean over tasks and seeds of the share that is right, or of
    1 - error / error of the best constant for numbers; `gap` is the score minus that of the first tree, with its 95%
    interval (None for the first). `front`: no other tree is at least as good with at most as many operations.
    """

    tree: str
    runs: tuple[str, ...]
    parameters: int
    macs: int
    milliseconds: float
    score: float
    gap: Estimate | None
    front: bool


@dataclass(frozen=True, kw_only=True)
class TreeFigure:
    """The metric of one tree on one (task, slice), over n labels of `groups` groups; the slice "" is everything.

    `values` are those of the seeds, `value` their mean. `gap` is the value minus that of the first tree, with its 95%
    interval over seeds and groups (`training.evaluation.paired`); None for the first tree. It is in the metric's unit:
    of `mae`, less is better.
    """

    tree: str
    task: str
    slice: str
    metric: str
    n: int
    groups: int
    value: float
    values: tuple[float, ...]
    gap: Estimate | None


@dataclass(frozen=True, kw_only=True)
class TreeComparison:
    """Trees compared on one split; the first of `trees` is the one that the others are compared with.

    `chances[A][B]` is the one-sided p of the score of tree A minus that of B: small where A is surely better.
    `frozen_macs` are the operations of the frozen trunk whose features are cached: the same for every tree, and in
    none of their figures. 0 where the trunk learns.
    """

    plan: str
    split: str
    seeds: tuple[int, ...]
    frozen_macs: int
    trees: list[ComparedTree]
    figures: list[TreeFigure]
    chances: dict[str, dict[str, float]]


def tree_recipes(words: Mapping[str, Any], trees: Sequence[str]) -> dict[str, Recipe]:
    """The recipe of `words` with each of `trees`: "shared", "separate", or a TOML file with a table [tree].

    The name of a file's tree is the file's without its ending. BadInput for words that already have a tree, for a file
    that says more than a tree, for a name twice, and for fewer than two trees.
    """
    for word in ("tree", "only"):
        if word in words:
            raise BadInput(f"recipe: {word} is no part of a comparison of trees; leave it out")
    found: dict[str, Recipe] = {}
    for tree in trees:
        name, given, where = tree, tree, "recipe"
        if tree not in NAMED:
            name, where = Path(tree).stem, tree
            given = _tree_of(Path(tree))
        if name in found:
            raise BadInput(f"trees: {name} is there twice; leave one out, or rename its file")
        found[name] = Recipe.parse({**words, "tree": given}, where=where)
    if len(found) < 2:
        raise BadInput(f"trees {','.join(trees) or 'none'}: a comparison needs two; name another, such as separate")
    return found


def order_recipes(orders: Sequence[str], words: Mapping[str, Any]) -> dict[str, Recipe]:
    """The recipes of `orders`, TOML files with `stages`; "joint" is that of the first file without them.

    `words` hold where a file says nothing. The name of a file's recipe is the file's without its ending. BadInput for
    fewer than two, for a name twice, and for recipes of different trunks or sizes of images.
    """
    files = [Path(order) for order in orders if order != JOINT]
    if not files:
        raise BadInput(f"orders {','.join(orders) or 'none'}: {JOINT} is a file without its stages; name the file too")
    found: dict[str, Recipe] = {}
    for order in orders:
        path = files[0] if order == JOINT else Path(order)
        own = {"tree": "shared", **read_toml(path)}
        if order == JOINT:
            own.pop("stages", None)
        name = order if order == JOINT else path.stem
        if name in found:
            raise BadInput(f"orders: {name} is there twice; leave one out, or rename its file")
        found[name] = Recipe.parse({**words, **own}, where=str(path))
    if len(found) < 2:
        raise BadInput(f"orders {','.join(orders) or 'none'}: a comparison needs two; name another, such as joint")
    first, *others = found.values()
    if any(
        (other.trunk, other.size, other.embeddings) != (first.trunk, first.size, first.embeddings) for other in others
    ):
        raise BadInput(f"orders {','.join(orders)}: have different trunks or sizes of images; make them equal")
    return found


def _tree_of(path: Path) -> Any:
    words = read_toml(path)
    if list(words) != ["tree"]:
        more = next((word for word in words if word != "tree"), None)
        what = f"{more} is no part of a tree" if more else "has no table [tree]"
        raise BadInput(f"{path}: {what}; compared trees differ in [tree] alone")
    return words["tree"]


def compare_trees(
    catalog: Catalog, plan: Plan, recipes: Mapping[str, Recipe], *, seeds: Sequence[int], split: str = "test",
    half: bool = False, turns: int = 50, every: int = 500, ranks: "Ranks | None" = None,
    progress: StageProgress | None = None,
) -> TreeComparison:  # fmt: skip
    """Train each recipe with each seed on `plan`, and compare them on the labels of `split` that are known now.

    With `half`, only the half of the groups that confirms what the other half chose is judged on (`halves`). A training
    that the workspace has is not repeated; `every` is that of `training.loop.trainer.train`. Times are medians of
    `turns` passes over one image, in which the trees take turns. Slices that read predictions are left out, since their
    members differ from run to run. BadInput before any training for a tree that does not fit the plan's tasks, for
    tasks that `refuse_lists` refuses, and for a split without known labels.
    """
    from training.evaluation.features import embed
    from training.loop.ranks import Ranks

    tell = progress or (lambda stage, done, total: None)
    refuse_lists(plan)
    for recipe in recipes.values():
        recipe.branching.nodes([task.name for task in plan.tasks])
    with catalog.read() as now:
        commit = now.commit
        _refuse_unjudged(now, plan, split)
    first = next(iter(recipes.values()))
    embed(catalog.home, Pack.open(catalog.home, plan.pack_hash), first, progress=lambda *of: tell("embed", *of))
    costs, milliseconds = _costs(recipes, plan, catalog.home, turns, tell)
    runs: dict[str, list[str]] = {name: [] for name in recipes}
    predicted: dict[str, list[dict[str, LabelledPredictions]]] = {name: [] for name in recipes}
    for name, run, found in _trained(catalog, plan, recipes, seeds, commit, every, ranks or Ranks(), tell):
        runs[name].append(run)
        predicted[name].append(found)
    with catalog.read(commit) as then:
        judged = _Judged(then, plan, split, predicted, half=half)
    scores = {name: judged.scores(name) for name in runs}
    return TreeComparison(
        plan=plan.hash, split=split, seeds=tuple(seeds), frozen_macs=_frozen_macs(first, catalog.home),
        trees=_compared(scores, runs, costs, milliseconds), figures=list(judged.figures()), chances=_chances(scores),
    )  # fmt: skip


def refuse_lists(plan: Plan) -> None:
    """BadInput for a plan with a task of boxes or of several classes: only classes and numbers have a paired figure."""
    if lists := [task for task in plan.tasks if task.task.kind in ("detection", "multilabel")]:
        raise BadInput(
            f"task {lists[0].name} ({lists[0].task.kind}): trees are compared on classes and numbers; plan without it"
        )


def _refuse_unjudged(now: Snapshot, plan: Plan, split: str) -> None:
    samples = Samples.at(now)
    for task in plan.tasks:
        labels = now.labels(task.name)
        rows = rows_of(samples.ids, labels.filter(pc.equal(labels["state"], 1)))
        if (samples.splits[rows] == split).any():
            return
    raise BadInput(f"split {split}: no task of plan {plan.hash[:12]} has a known label there; name another split")


def _trained(
    catalog: Catalog, plan: Plan, recipes: Mapping[str, Recipe], seeds: Sequence[int], commit: int, every: int,
    ranks: "Ranks", tell: StageProgress,
) -> Iterator[tuple[str, str, dict[str, LabelledPredictions]]]:  # fmt: skip
    """Name of the tree, id of the run, and its predictions by task, for each seed and tree."""
    from training.evaluation.evaluation import current_task, predict
    from training.evaluation.learned_tasks import LearnedTask, learned_priors
    from training.loop.trainer import train

    todo = [(name, replace(recipe, seed=seed)) for seed in seeds for name, recipe in recipes.items()]
    with catalog.read(commit) as then:
        tasks = [current_task(then, task.task) for task in plan.tasks]
        known = KnownLabels.of(then, tasks)
    priors = learned_priors(catalog, [LearnedTask(plan=plan, code=code) for code in range(len(plan.tasks))])
    for turn, (name, recipe) in enumerate(todo):
        draws = len(plan.draws) // recipe.global_batch * recipe.global_batch
        here = partial(_tell_draws, tell, turn * draws, len(todo) * draws)
        run = train(recipe, plan, catalog, every=every, ranks=ranks, progress=here)
        table = predict(run, catalog, priors=priors)[1]
        found = {task.name: known.beside(task, table) for task in tasks}
        tell("train", (turn + 1) * draws, len(todo) * draws)
        yield name, run.id, found


def _tell_draws(tell: StageProgress, before: int, total: int, done: int, own: int, loss: float) -> None:
    """One training is `done`; the comparison is not before its last run has been judged."""
    tell("train", min(before + done, total - 1), total)


def _costs(
    recipes: Mapping[str, Recipe], plan: Plan, home: Path, turns: int, tell: StageProgress
) -> tuple[dict[str, "Cost"], dict[str, float]]:
    """The cost of each tree's network, and its time for one image; neither depends on the weights."""
    import torch

    from training.evaluation.cost import latencies, network_cost
    from training.network.model import build_tree
    from training.network.pairs import as_pair, paired_tasks

    first = next(iter(recipes.values()))
    embeddings = Embeddings.open(home, first.embeddings) if first.embeddings else None
    networks = {name: build_tree(recipe, plan.tasks, embeddings).eval() for name, recipe in recipes.items()}
    inputs = torch.zeros(1, len(embeddings.mean)) if embeddings else torch.zeros(1, 3, *first.size)
    if paired_tasks(plan.tasks):
        inputs = as_pair(inputs, inputs, torch.ones(1, dtype=torch.bool))
    torch.set_num_threads(first.threads)
    times = latencies(networks, inputs, turns=turns, progress=lambda *of: tell("time", *of))
    return {name: network_cost(network, inputs) for name, network in networks.items()}, times


def _frozen_macs(recipe: Recipe, home: Path) -> int:
    """Operations of the frozen trunk for one image."""
    if not recipe.embeddings:
        return 0
    import torch

    from training.evaluation.cost import macs_of
    from training.evaluation.features import frozen_trunk

    image = torch.zeros(1, 3, *recipe.size, dtype=torch.uint8)
    return macs_of(frozen_trunk(home, recipe).features, image) * (1 + recipe.mirrored)


class _Judged:
    """The predictions of every tree and seed beside the labels of one split."""

    def __init__(
        self,
        then: Snapshot,
        plan: Plan,
        split: str,
        predicted: Mapping[str, Sequence[Mapping[str, LabelledPredictions]]],
        *,
        half: bool,
    ) -> None:
        self._samples, self._predicted = Samples.at(then), predicted
        chosen = halves(self._samples, split)[1] if half else self._samples.splits == split
        self._split: Bools = np.asarray(chosen, np.bool_)
        self._tasks = [then.tasks()[task.name] for task in plan.tasks]
        self._slices = {name: part for name, part in then.slices().items() if not part.reads_predictions}
        self._inside = {"": self._split} | {
            name: self._split & np.isin(self._samples.ids, then.members(part.predicate))
            for name, part in self._slices.items()
        }
        self._first = next(iter(predicted))

    def figures(self) -> Iterator[TreeFigure]:
        """By task and slice, a figure for each tree."""
        for task in self._tasks:
            for name, inside in self._inside.items():
                if name and self._slices[name].task not in ("", task.name):
                    continue
                values = {tree: self._values(tree, task, inside) for tree in self._predicted}
                for tree, mine in values.items():
                    first = values[self._first]
                    if mine is not None and first is not None:
                        yield self._figure(tree, task, name, mine, first)

    def scores(self, tree: str) -> list[SeedValues]:
        """Of each task with labels: 1 where a prediction is right, or 1 - error / mean error of the best constant."""
        found = []
        for task in self._tasks:
            values = self._values(tree, task, self._split)
            if values is None:
                continue
            if task.metric == "mae":
                constant = constant_error(self._predicted[tree][0][task.name], self._split)
                values = replace(values, values=1 - values.values / (constant or 1.0))
            found.append(values)
        return found

    def _figure(self, tree: str, task: Task, slice_: str, mine: SeedValues, first: SeedValues) -> TreeFigure:
        seeds = mine.by_seed()
        gap = estimate([mine.minus(first)]) if tree != self._first else None
        return TreeFigure(
            tree=tree, task=task.name, slice=slice_, metric=task.metric, n=len(mine.weights),
            groups=len(np.unique(mine.groups)), value=float(seeds.mean()), values=tuple(seeds.tolist()), gap=gap,
        )  # fmt: skip

    def _values(self, tree: str, task: Task, inside: Bools) -> SeedValues | None:
        return SeedValues.of(task, [found[task.name].at(inside) for found in self._predicted[tree]], self._samples)


def _compared(
    scores: Mapping[str, Sequence[SeedValues]], runs: Mapping[str, Sequence[str]], costs: Mapping[str, "Cost"],
    milliseconds: Mapping[str, float],
) -> list[ComparedTree]:  # fmt: skip
    """Each tree with its score and whether it is on the front."""
    first = next(iter(scores))
    means = {name: estimate(parts).value for name, parts in scores.items()}
    found = []
    for name in runs:
        gap = None
        if name != first:
            gap = estimate([a.minus(b) for a, b in zip(scores[name], scores[first], strict=True)])
        beaten = any(
            means[other] >= means[name] and costs[other].macs <= costs[name].macs
            and (means[other] > means[name] or costs[other].macs < costs[name].macs) for other in runs
        )  # fmt: skip
        found.append(
            ComparedTree(
                tree=name, runs=tuple(runs[name]), parameters=costs[name].parameters, macs=costs[name].macs,
                milliseconds=milliseconds[name], score=means[name], gap=gap, front=not beaten,
            )
        )  # fmt: skip
    return found


def _chances(scores: Mapping[str, Sequence[SeedValues]]) -> dict[str, dict[str, float]]:
    """The one-sided p of each tree's score minus every other's."""
    return {
        tree: {
            other: chance([a.minus(b) for a, b in zip(mine, theirs, strict=True)])
            for other, theirs in scores.items() if other != tree
        } for tree, mine in scores.items()
    }  # fmt: skip
