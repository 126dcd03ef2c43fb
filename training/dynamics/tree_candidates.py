"""The trees that a search compares: shared, separate, and up to three depths of grouping in two widths or places."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from curation.images.embeddings import Embeddings
from samplers.plan.plan import PlanTask
from training.dynamics.bipartition import partitions
from training.dynamics.task_similarity import task_similarity
from training.evaluation.cost import network_cost
from training.network.model import build_tree
from training.network.pairs import as_pair, paired_tasks
from training.network.tree_network import TreeNetwork, staged
from training.recipe import Recipe
from training.tree import REST, TRUNK, Branch, Tree

__all__ = ["DEPTHS", "SEPARATE", "SHARED", "Candidate", "tree_candidates"]

DEPTHS = 3
"""Cuts of the tasks that are tried, one after the other: 2, 3 and 4 groups."""

SHARED, SEPARATE = "shared", "separate"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A tree with its name, the groups of its tasks, and the multiply-accumulate operations of one image."""

    name: str
    tree: Tree
    groups: tuple[tuple[str, ...], ...]
    macs: int


def tree_candidates(
    recipe: Recipe, tasks: Sequence[PlanTask], network: TreeNetwork, embeddings: Embeddings | None
) -> list[Candidate]:
    """At most 8 trees for T > 1 tasks, shared first, then separate; groups come from the trained shared `network`.

    On cached features a grouping is tried with the width at which it costs no more than the shared network, and with
    the recipe's width. On a trunk that learns, its branches leave the trunk's end, or its last stage but one.
    """
    names = [task.name for task in tasks]
    width = max(1, recipe.hidden)

    def macs(tree: Tree) -> int:
        return _macs(recipe, tree, tasks, embeddings)

    def candidate(name: str, tree: Tree, groups: Sequence[Sequence[str]]) -> Candidate:
        return Candidate(name=name, tree=tree, groups=tuple(map(tuple, groups)), macs=macs(tree))

    shared = candidate(SHARED, Tree.shared(width), [names])
    found = [shared, candidate(SEPARATE, Tree.separate(width), [[name] for name in names])]
    places = {"": TRUNK} if embeddings is not None else {"": TRUNK, "_early": _early(network)}
    for partition in partitions(task_similarity(network), DEPTHS + 1):
        groups = [[names[code] for code in group] for group in partition]
        for suffix, place in places.items():
            wide = grouped_tree(groups, width, place)
            if embeddings is not None:
                narrow = _narrowed(groups, width, shared.macs, macs)
                found.append(candidate(f"groups{len(groups)}", narrow, groups))
                if len(groups) == len(names):
                    continue  # each task alone with the recipe's width is the separate tree
                suffix = "_wide"
            found.append(candidate(f"groups{len(groups)}{suffix}", wide, groups))
    return found


def grouped_tree(groups: Sequence[Sequence[str]], width: int, place: str = TRUNK) -> Tree:
    """A branch at `place` for each group; the largest has the tasks that no other names.

    >>> grouped_tree([["car", "bike"], ["sign"]], 8).branch["g2"].tasks
    ('sign',)
    """
    largest = max(range(len(groups)), key=lambda number: len(groups[number]))
    return Tree(
        branch={
            f"g{number + 1}": Branch(parent=place, width=width, tasks=(REST,) if number == largest else tuple(group))
            for number, group in enumerate(groups)
        }
    )


def _narrowed(groups: Sequence[Sequence[str]], width: int, most: int, macs: Callable[[Tree], int]) -> Tree:
    """The grouping with the largest width, at least 1, that costs at most `most` operations."""
    low, high = 1, width
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if macs(grouped_tree(groups, middle)) <= most else (low, middle - 1)
    return grouped_tree(groups, low)


def _early(network: TreeNetwork) -> str:
    """The last stage but one of a trunk that learns; its end where it has a single stage."""
    names = [name for name, _ in staged(network.trunk, TRUNK)[0]]
    return f"{TRUNK}:{names[-2]}" if len(names) > 1 else TRUNK


def _macs(recipe: Recipe, tree: Tree, tasks: Sequence[PlanTask], embeddings: Embeddings | None) -> int:
    network = build_tree(replace(recipe, tree=tree), tasks, embeddings).eval()
    inputs = torch.zeros(1, len(embeddings.mean)) if embeddings else torch.zeros(1, 3, *recipe.size)
    if paired_tasks(tasks):
        inputs = as_pair(inputs, inputs, torch.ones(1, dtype=torch.bool))
    return network_cost(network, inputs).macs
