"""What a search may move: importances by group of tasks, or rates and decays. Never a share, a rule or a boost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.recipe import Recipe
from training.recipe_parts import TaskRecipe

__all__ = ["Kind", "Knob", "Space", "open_tasks", "recipe_space", "weights_space"]

Kind = Literal["weights", "recipe"]

SPAN = 32.0
"""The importance of a group is searched between 1 / SPAN and SPAN of the first group's."""

RATES = 8.0
"""A learning rate is searched between 1 / RATES and RATES of the recipe's."""

OWN_RATES = 4.0
"""The rate of a group of tasks is searched between 1 / OWN_RATES and OWN_RATES."""

DECAYS = (1e-4, 1.0)
"""Weight decays are searched in this range."""


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A positive number of a search, on a logarithmic scale: `own` is what the plan or recipe has (moved into the range
    where it lies outside), `plain` the plain choice."""

    name: str
    low: float
    high: float
    own: float
    plain: float


@dataclass(frozen=True, kw_only=True)
class Space:
    """The knobs of a search with the groups of tasks that they move together."""

    kind: Kind
    knobs: tuple[Knob, ...]
    groups: dict[str, tuple[str, ...]]

    @property
    def starts(self) -> list[dict[str, float]]:
        """The points that every search begins with: what stands, and the plain choice (even importances)."""
        own = {knob.name: knob.own for knob in self.knobs}
        plain = {knob.name: knob.plain for knob in self.knobs}
        return [own] if plain == own else [own, plain]

    def importances(self, plan: Plan, point: Mapping[str, float]) -> dict[str, float] | None:
        """The importance of each task of the plan at a point; None where the plan's own hold.

        A group without a knob is the one that the others are relative to. Tasks of no group keep theirs, and the groups
        together keep their sum, so nobody outside them gets less. Inside a group tasks keep their proportions.
        """
        if self.kind != "weights" or self._stands(point):
            return None
        own = {task.name: task.importance for task in plan.tasks}
        means = {name: sum(own[task] for task in tasks) / len(tasks) for name, tasks in self.groups.items()}
        moved = {
            task: point.get(_importance(name), 1.0) * own[task] / means[name]
            for name, tasks in self.groups.items() for task in tasks
        }  # fmt: skip
        scale = sum(own[task] for task in moved) / sum(moved.values())
        return own | {task: value * scale for task, value in moved.items()}

    def recipe(self, recipe: Recipe, point: Mapping[str, float]) -> Recipe:
        """The recipe at a point; as it stands at what stands, also where a knob does not reach its value."""
        if self.kind != "recipe" or self._stands(point):
            return recipe
        tasks = dict(recipe.task)
        for name, members in self.groups.items():
            rate, decay = point[f"rate {name}"], point[f"decay {name}"]
            tasks |= {task: replace(tasks.get(task, TaskRecipe()), rate=rate, decay=decay) for task in members}
        return replace(recipe, learning_rate=point["learning_rate"], weight_decay=point["weight_decay"], task=tasks)

    def policy(self, plan: Plan, point: Mapping[str, float]) -> Policy:
        """The plan's policy with the importances of a point."""
        policy = Policy.model_validate(plan.header["policy"])
        found = self.importances(plan, point) or {}
        parts = {
            name: part.model_copy(update={"importance": found.get(name, part.importance)})
            for name, part in policy.task.items()
        }
        return policy.model_copy(update={"task": parts})

    def _stands(self, point: Mapping[str, float]) -> bool:
        return all(math.isclose(point[knob.name], knob.own, rel_tol=1e-9) for knob in self.knobs)


def open_tasks(plan: Plan, now: Snapshot, by: Identity) -> list[str]:
    """The tasks of a plan whose importance a search by `by` may move: those whose owner `by` may sign for.

    That is every owner without members, and each of which `by` is a member (`samplers.plan.sign_off`).
    """
    members, tasks = now.ownership.members(), now.tasks()
    owners = {task.name: tasks[task.name].owner if task.name in tasks else task.owner for task in plan.tasks}
    return [name for name, owner in owners.items() if owner not in members or by in members[owner]]


def weights_space(plan: Plan, groups: Sequence[Sequence[str]]) -> Space:
    """Importances by group, relative to the first group, since all of them times a number is the same objective.

    BadInput for fewer than two groups with an importance above 0.
    """
    own = {task.name: task.importance for task in plan.tasks}
    kept = [tuple(task for task in group if own[task] > 0) for group in groups]
    named = {_name(group): group for group in kept if group}
    if len(named) < 2:
        raise BadInput(
            f"plan {plan.hash[:12]}: {len(named)} group of tasks has an importance that you may move (those of owners "
            "without members, or of which you are one); weights are relative, so a search needs two"
        )
    means = {name: sum(own[task] for task in group) / len(group) for name, group in named.items()}
    first = next(iter(means))
    knobs = [
        Knob(
            name=_importance(name), low=min(1 / SPAN, mean / means[first]), high=max(SPAN, mean / means[first]),
            own=mean / means[first], plain=1.0,
        ) for name, mean in means.items() if name != first
    ]  # fmt: skip
    return Space(kind="weights", knobs=tuple(knobs), groups=named)


def recipe_space(recipe: Recipe, groups: Sequence[Sequence[str]]) -> Space:
    """Learning rate and decay of the whole network, and rate and decay of the heads of each group of tasks."""
    rate = recipe.learning_rate

    def decays(name: str, own: float) -> Knob:
        own = max(own, DECAYS[0])
        return Knob(name=name, low=DECAYS[0], high=max(DECAYS[1], own), own=own, plain=own)

    knobs = [
        Knob(name="learning_rate", low=rate / RATES, high=rate * RATES, own=rate, plain=rate),
        decays("weight_decay", recipe.weight_decay),
    ]
    named = {_name(group): tuple(group) for group in groups}
    for name, group in named.items():
        parts = [recipe.task.get(task, TaskRecipe()) for task in group]
        if len({(part.rate, part.decay) for part in parts}) > 1:
            raise BadInput(
                f"recipe: the tasks of group {name} have different rates or decays; put them into two groups"
            )
        own = min(max(parts[0].rate, 1 / OWN_RATES), OWN_RATES)
        knobs.append(Knob(name=f"rate {name}", low=1 / OWN_RATES, high=OWN_RATES, own=own, plain=own))
        knobs.append(decays(f"decay {name}", recipe.weight_decay if parts[0].decay is None else parts[0].decay))
    return Space(kind="recipe", knobs=tuple(knobs), groups=named)


def _importance(group: str) -> str:
    return f"importance {group}"


def _name(group: Sequence[str]) -> str:
    return "+".join(group)
