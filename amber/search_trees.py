"""A search among trees of tasks: groups proposed from the top down, halved by short runs, judged on fresh seeds.

Short runs choose by the loss on one half of the validation groups. The finalists are trained on the whole plan with
seeds that chose nothing, and are judged by the other half of the groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from amber.compare_trees import TreeComparison, compare_trees, refuse_lists
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.progress import StageProgress
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.recipe import Recipe
from training.tree import Tree

if TYPE_CHECKING:
    from training.dynamics.short_runs import ShortRuns
    from training.dynamics.tree_candidates import Candidate
    from training.loop.ranks import Ranks

__all__ = ["FINALISTS", "PART", "TreeSearch", "TriedTree", "recommended_tree", "search_trees"]

PART = 1 / 8
"""The part of the plan's draws of a first short run; the second round has twice as many."""

PAIRED = 2
"""Seeds of a short run."""

ALPHA = 0.05
"""The chance of a recommendation where no tree is better than the shared one."""

FINALISTS = 2
"""Groupings that are trained on the whole plan, beside shared and separate."""


@dataclass(frozen=True, kw_only=True)
class TriedTree:
    """A candidate: its groups of tasks, its operations, and its mean score minus that of shared in each round it saw.

    The score of short runs is the mean over tasks of 1 - loss / the best constant's.
    """

    tree: str
    groups: tuple[tuple[str, ...], ...]
    macs: int
    gains: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TreeSearch:
    """What was tried, the comparison of the finalists, and the name of the tree to use: shared where none is better."""

    recommended: str
    tried: list[TriedTree]
    comparison: TreeComparison
    recipe: dict[str, Any]
    """The words of the recipe with the recommended tree."""


def search_trees(
    catalog: Catalog, plan: Plan, recipe: Recipe, *, seed: int = 0, seeds: int = 5, part: float = PART,
    largest: float = 0.0, turns: int = 50, every: int = 500, ranks: "Ranks | None" = None,
    progress: StageProgress | None = None,
) -> TreeSearch:  # fmt: skip
    """Search a tree for the tasks of `plan`; `recipe` says the rest, and its `hidden` the width of a branch.

    Short runs have `part` of the draws and the seeds from `seed` on, the finalists the `seeds` seeds after these. Trees
    with more than `largest` times the operations of the shared one are not tried (0: no limit); separate is shown, and
    then not recommended. BadInput for one task, for tasks of boxes or of several classes, for a plan too short for one
    batch of a short run, and for a recipe whose heads are solved.
    """
    from training.dynamics.short_runs import ShortRuns
    from training.dynamics.tree_candidates import SEPARATE, SHARED, tree_candidates
    from training.evaluation.features import embed

    tell = progress or (lambda stage, done, total: None)
    _refuse(plan, recipe)
    cached = embed(
        catalog.home, Pack.open(catalog.home, plan.pack_hash), recipe, progress=lambda *of: tell("embed", *of)
    )
    runs = ShortRuns(catalog, plan, ranks=ranks)
    runs.steps(recipe, part)
    base = replace(recipe, tree=Tree.shared(max(1, recipe.hidden)), seed=seed)
    network = runs.train(base, 1.0, keep=True).network
    assert network is not None  # a recipe with a tree has a tree network
    candidates = tree_candidates(recipe, plan.tasks, network, cached)
    affordable = [each for each in candidates if not largest or each.macs <= largest * candidates[0].macs]
    tried = [each for each in candidates if each in affordable or each.name in (SHARED, SEPARATE)]
    gains = _halved(runs, recipe, tried, part, range(seed, seed + PAIRED), tell)
    groupings = [name for name in _ranked(gains) if name not in (SHARED, SEPARATE)][:FINALISTS]
    finalists = [each for each in tried if each.name in (SHARED, SEPARATE, *groupings)]
    comparison = compare_trees(
        catalog, plan, {each.name: replace(recipe, tree=each.tree) for each in finalists},
        seeds=range(seed + PAIRED, seed + PAIRED + seeds), split="validation", half=True, turns=turns, every=every,
        ranks=ranks, progress=progress,
    )  # fmt: skip
    eligible = [each.name for each in finalists if each in affordable and each.name != SHARED]
    chosen = recommended_tree(comparison, eligible)
    tree = next(each.tree for each in finalists if each.name == chosen)
    return TreeSearch(
        recommended=chosen, comparison=comparison, recipe=replace(recipe, tree=tree).words,
        tried=[
            TriedTree(tree=each.name, groups=each.groups, macs=each.macs, gains=tuple(gains[each.name]))
            for each in tried
        ],
    )  # fmt: skip


def recommended_tree(comparison: TreeComparison, eligible: Sequence[str]) -> str:
    """The tree to use among the compared ones, of which the first is the shared one.

    The `eligible` trees are tested against the shared one, one-sided at 5% all together (Holm 1979): the chance that
    any is taken where none is better is 5%. Of those that pass, the one with the fewest operations is taken among those
    that no other is better than, at 5%.
    """
    costs = {tree.tree: tree.macs for tree in comparison.trees}
    shared, chances = comparison.trees[0].tree, comparison.chances
    passed: list[str] = []
    for name in sorted(eligible, key=lambda each: chances[each][shared]):
        if chances[name][shared] > ALPHA / (len(eligible) - len(passed)):
            break
        passed.append(name)
    for name in sorted(passed, key=lambda each: costs[each]):
        if not any(chances[other][name] <= ALPHA for other in passed if other != name):
            return name
    return shared


def _refuse(plan: Plan, recipe: Recipe) -> None:
    refuse_lists(plan)
    if len(plan.tasks) < 2:
        raise BadInput(f"plan {plan.hash[:12]}: trains one task; a search of trees needs two")
    if recipe.solved or recipe.optimizer != "adamw":
        raise BadInput(
            f"recipe: heads = {recipe.heads} with optimizer = {recipe.optimizer} has no tree; set heads = drawn and "
            "optimizer = adamw, or leave both out"
        )


def _halved(
    runs: "ShortRuns", recipe: Recipe, tried: "Sequence[Candidate]", part: float, seeds: range, tell: StageProgress
) -> dict[str, list[float]]:
    """The gain of each candidate over the first in each round: the better half of the groupings sees the second."""
    gains: dict[str, list[float]] = {each.name: [] for each in tried}
    fixed, left = list(tried[:2]), list(tried[2:])
    total, done = PAIRED * (len(tried) + 2 + (len(left) + 1) // 2), 0
    for number in range(2):
        losses: dict[str, list[Any]] = {}
        for each in (*fixed, *left):
            for seed in seeds:
                trained = runs.train(replace(recipe, tree=each.tree, seed=seed), min(1.0, part * 2**number))
                losses.setdefault(each.name, []).append(trained.losses)
                done += 1
                tell("search", done, total)
        scores = {name: _score(runs, found) for name, found in losses.items()}
        for name, score in scores.items():
            gains[name].append(score - scores[fixed[0].name])
        left = sorted(left, key=lambda each: -gains[each.name][-1])[: (len(left) + 1) // 2]
    return gains


def _score(runs: "ShortRuns", losses: Sequence[Any]) -> float:
    from training.dynamics.short_runs import mean_score

    return mean_score(runs.values(losses, runs.choosing))


def _ranked(gains: Mapping[str, Sequence[float]]) -> list[str]:
    """The names, those of the last round first, each round by its gain."""
    return sorted(gains, key=lambda name: (-len(gains[name]), -gains[name][-1]))
