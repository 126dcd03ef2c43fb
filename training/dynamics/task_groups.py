"""Groups of tasks that a search moves together."""

from collections.abc import Sequence
from dataclasses import replace

from curation.catalog.catalog import Catalog
from samplers.plan.plan import Plan
from training.dynamics.bipartition import partitions
from training.dynamics.short_runs import ShortRuns
from training.dynamics.task_similarity import task_similarity
from training.recipe import Recipe
from training.tree import Tree

__all__ = ["similar_groups"]


def similar_groups(
    catalog: Catalog, plan: Plan, recipe: Recipe, tasks: Sequence[str], *, most: int, seed: int
) -> list[list[str]]:
    """At most `most` groups of these tasks: each alone where that suffices, else by their heads in a shared network.

    That network is trained once on the whole plan.
    """
    if len(tasks) <= most:
        return [[task] for task in tasks]
    if most == 1:
        return [list(tasks)]
    shared = replace(recipe, tree=Tree.shared(max(1, recipe.hidden)), seed=seed)
    network = ShortRuns(catalog, plan).train(shared, 1.0, keep=True).network
    assert network is not None  # a recipe with a tree has a tree network
    codes = [code for code, task in enumerate(plan.tasks) if task.name in tasks]
    names = [plan.tasks[code].name for code in codes]
    groups = partitions(task_similarity(network)[codes][:, codes], most)[-1]
    return [[names[code] for code in group] for group in groups]
