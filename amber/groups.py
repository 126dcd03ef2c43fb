"""Groups of tasks under an inference budget: what networks cost, and the choices that are always looked at."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from amber.pairs import features_recipe
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.toml_files import toml_text
from curation.images.embeddings import Embeddings
from samplers.plan.plan import Plan
from training.dynamics.effects import Effects
from training.dynamics.grouping import Grouping, choose_groups, grouping_of
from training.recipe import Recipe
from training.run import Run
from training.tree import INPUT, TRUNK, Branch, Tree

__all__ = ["Candidate", "Groups", "choose", "write_tree"]


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
    pair holds, without those of boxes, which no branch holds.
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
    plan = Plan.open(catalog.home, run.plan)
    cost = _cost_of(catalog, plan, recipe)
    shared = grouping_of(effects.tasks, effects.gains, [effects.tasks])
    separate = grouping_of(effects.tasks, effects.gains, [[name] for name in effects.tasks])
    one = cost(shared)
    if budget and one > budget:
        raise BadInput(f"--budget {budget:,}: one network for all tasks takes {one:,} operations an image; raise it")
    chosen = choose_groups(effects.tasks, effects.gains, networks, helpers=helpers)
    while budget and cost(chosen) > budget:
        chosen = choose_groups(effects.tasks, effects.gains, len(chosen.networks) - 1, helpers=helpers)
    named = {"chosen": chosen, "all shared": shared, "all separate": separate}
    found = {name: cost(grouping) for name, grouping in named.items()}
    return Groups(
        candidates=tuple(
            Candidate(
                name=name, grouping=grouping, macs=found[name],
                fits=len(grouping.networks) <= networks and (not budget or found[name] <= budget),
            ) for name, grouping in named.items()
        ),
        unmeasured=tuple(
            task.name for task in plan.tasks if task.name not in effects.tasks and task.task.kind != "detection"
        ),
        parent=INPUT if run.recipe.learns else TRUNK, width=recipe.hidden if run.recipe.learns else recipe.units,
    )  # fmt: skip


def write_tree(groups: Groups, path: Path) -> None:
    """Write the chosen grouping as a tree file for `amber compare-trees` and recipes.

    Helpers, which no tree holds, are left out, and tasks that no pair holds share a branch.
    """
    branches = {
        f"group{number}": Branch(parent=groups.parent, width=groups.width, tasks=network.serves)
        for number, network in enumerate(groups.candidates[0].grouping.networks, 1)
    }
    if groups.unmeasured:
        branches["others"] = Branch(parent=groups.parent, width=groups.width, tasks=groups.unmeasured)
    with whole(path) as part:
        part.write_text(toml_text({"tree": {"branch": {name: asdict(branch) for name, branch in branches.items()}}}))


def _cost_of(catalog: Catalog, plan: Plan, recipe: Recipe) -> Callable[[Grouping], int]:
    """What counts the operations of an image in all networks of a grouping, each from the input or from features."""
    import torch

    from training.evaluation.cost import network_cost
    from training.network.model import build_tree

    embeddings = Embeddings.open(catalog.home, recipe.embeddings) if recipe.embeddings else None
    inputs = torch.zeros(1, len(embeddings.mean)) if embeddings else torch.zeros(1, 3, *recipe.size)
    width = recipe.hidden if recipe.learns else recipe.units
    shared = replace(recipe, heads="drawn", optimizer="adamw", tree=Tree.shared(width), task={}, only=(), hidden=width)

    def macs(serves: Sequence[str]) -> int:
        tasks = [task for task in plan.tasks if task.name in serves]
        return network_cost(build_tree(shared, tasks, embeddings).eval(), inputs).macs

    return lambda grouping: sum(macs(network.serves) for network in grouping.networks)
