"""Groups of tasks under an inference budget: what networks cost, and the choices that are always looked at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from amber.pairs import features_recipe
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.images.embeddings import Embeddings
from samplers.plan.plan import Plan
from training.dynamics.effects import Effects
from training.dynamics.grouping import Grouping, choose_groups, grouping_of
from training.recipe import Recipe
from training.run import Run
from training.tree import INPUT, TRUNK, Branch, Tree

__all__ = ["Candidate", "Groups", "choose", "tree_words", "write_tree"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A grouping, the multiply-accumulate operations (`macs`) of an image in all its networks, and whether it fits."""

    name: str
    grouping: Grouping
    macs: int
    fits: bool


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The chosen grouping first, then all tasks in one network and each in its own.

    `width` and `parent` are those of the branches that make these networks, `unmeasured` the tasks of the run that no
    pair holds.
    """

    candidates: tuple[Candidate, ...]
    unmeasured: tuple[str, ...]
    parent: str
    width: int


def choose(
    catalog: Catalog, run: Run, effects: Effects, *, size: tuple[int, int], networks: int, budget: int = 0,
    helpers: bool = False,
) -> Groups:  # fmt: skip
    """The grouping of the measured tasks of `run` with the largest expected gain, in at most `networks` networks.

    All networks together may take `budget` multiply-accumulate operations for an image (0: any number); those of a
    frozen trunk, which they share, are not counted. BadInput for a budget below one network for all tasks.
    """
    recipe = run.recipe if run.recipe.learns else features_recipe(run, size)
    cost = _cost_of(catalog, run, recipe)
    shared = grouping_of(effects.tasks, effects.gains, [effects.tasks])
    separate = grouping_of(effects.tasks, effects.gains, [[name] for name in effects.tasks])
    one = cost(shared)
    if budget and one > budget:
        raise BadInput(f"--budget {budget:,}: one network for all tasks takes {one:,} operations an image; raise it")
    most = min(networks, len(effects.tasks))
    chosen = choose_groups(effects.tasks, effects.gains, most, helpers=helpers)
    while budget and cost(chosen) > budget:
        most -= 1
        chosen = choose_groups(effects.tasks, effects.gains, most, helpers=helpers)
    named = {"chosen": chosen, "all shared": shared, "all separate": separate}
    found = {name: cost(grouping) for name, grouping in named.items()}
    return Groups(
        candidates=tuple(
            Candidate(
                name=name, grouping=grouping, macs=found[name],
                fits=len(grouping.networks) <= networks and (not budget or found[name] <= budget),
            ) for name, grouping in named.items()
        ),
        unmeasured=tuple(name for name in _tasks(catalog, run) if name not in effects.tasks),
        parent=INPUT if run.recipe.learns else TRUNK, width=recipe.hidden if run.recipe.learns else recipe.units,
    )  # fmt: skip


def tree_words(groups: Groups) -> str:
    """The chosen grouping as a tree file for `amber compare-trees` and recipes. Helpers, which no tree holds, are left
    out, and tasks that no pair holds share a branch."""
    branches = {
        f"group{number}": Branch(parent=groups.parent, width=groups.width, tasks=network.serves)
        for number, network in enumerate(groups.candidates[0].grouping.networks, 1)
    }
    if groups.unmeasured:
        branches["others"] = Branch(parent=groups.parent, width=groups.width, tasks=groups.unmeasured)
    lines = []
    for name, branch in Tree(branch=branches).branch.items():
        tasks = ", ".join(f'"{task}"' for task in branch.tasks)
        lines.append(f'[tree.branch.{name}]\nparent = "{branch.parent}"\nwidth = {branch.width}\ntasks = [{tasks}]\n')
    return "\n".join(lines)


def write_tree(groups: Groups, path: Path) -> Path:
    """Write the chosen grouping as a tree file."""
    with whole(path) as part:
        part.write_text(tree_words(groups))
    return path


def _tasks(catalog: Catalog, run: Run) -> list[str]:
    return [task.name for task in Plan.open(catalog.home, run.plan).tasks]


def _cost_of(catalog: Catalog, run: Run, recipe: Recipe) -> Callable[[Grouping], int]:
    """What counts the operations of an image in all networks of a grouping, each from the input or from features."""
    import torch

    from training.evaluation.cost import network_cost
    from training.network.model import build_tree

    plan = Plan.open(catalog.home, run.plan)
    embeddings = Embeddings.open(catalog.home, recipe.embeddings) if recipe.embeddings else None
    inputs = torch.zeros(1, len(embeddings.mean)) if embeddings else torch.zeros(1, 3, *recipe.size)
    width = recipe.hidden if recipe.learns else recipe.units
    shared = replace(recipe, heads="drawn", optimizer="adamw", tree=Tree.shared(width), task={}, only=(), hidden=width)

    def macs(serves: Sequence[str]) -> int:
        tasks = [task for task in plan.tasks if task.name in serves]
        return network_cost(build_tree(shared, tasks, embeddings).eval(), inputs).macs

    return lambda grouping: sum(macs(network.serves) for network in grouping.networks)
