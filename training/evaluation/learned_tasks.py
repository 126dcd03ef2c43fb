"""The plan that each head of a run was learned on: a head that a fenced run left alone is that of a run before it.

What a network says of a task is read by what the task learned from: the weights of its classes, how many labels they
had, and their natural prior at that time. Labels that came since change none of it until the head learns again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from curation.analysis.priors import natural_prior
from curation.arrays import Floats
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from samplers.plan.plan import Plan, PlanTask
from training.run import Run
from training.run_list import ancestors

__all__ = ["LearnedTask", "has_prior", "learned_priors", "learned_tasks"]


@dataclass(frozen=True, kw_only=True)
class LearnedTask:
    """A task with the plan that its head was learned on, in which it has the number `code`."""

    plan: Plan
    code: int

    @property
    def task(self) -> PlanTask:
        """The task in that plan."""
        return self.plan.tasks[self.code]


def learned_tasks(home: Path, run: Run) -> list[LearnedTask]:
    """The tasks of a run's plan, in its order.

    Where a run before is gone, a head that it had learned counts as learned by the oldest one that is left.
    """
    line = [Run.open(home, name) for name in ancestors(home, run.id)] or [run]
    plans = {each.id: Plan.open(home, each.plan) for each in line[:1]}
    found = []
    for task in plans[line[0].id].tasks:
        learned = next((each for each in line if not each.recipe.only or task.name in each.recipe.only), line[-1])
        plan = plans.setdefault(learned.id, Plan.open(home, learned.plan))
        codes = {part.name: code for code, part in enumerate(plan.tasks)}
        found.append(LearnedTask(plan=plan, code=codes[task.name]))
    return found


def learned_priors(catalog: Catalog, learned: Iterable[LearnedTask]) -> dict[str, Floats]:
    """The natural prior [C] of each task that predicts probabilities of classes, at the commit of its plan."""
    found: dict[str, Floats] = {}
    by_commit: dict[int, list[PlanTask]] = {}
    for part in learned:
        by_commit.setdefault(part.plan.commit, []).append(part.task)
    for commit, tasks in by_commit.items():
        with catalog.read(commit) as then:
            found |= {part.name: natural_prior(then, part.task) for part in tasks if has_prior(part.task)}
    return found


def has_prior(task: Task) -> bool:
    """Whether a task predicts the probabilities of its classes: one of boxes predicts scores, which have no prior."""
    return bool(task.classes) and task.kind != "detection"
