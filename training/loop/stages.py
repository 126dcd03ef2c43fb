"""The order of training: stages in which some tasks learn, each a plan of the run's course."""

from collections.abc import Sequence

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.loop.learner import Learner
from training.loop.optimise import TreeOptimiser
from training.recipe_parts import Stage

__all__ = ["Stages", "narrowed", "staged_plan"]


class Stages:
    """The stages of a run over `steps` steps: where each begins, and what a learner learns there.

    BadInput for a stage that names no task of the plan, and for one without a whole batch.
    """

    def __init__(self, stages: Sequence[Stage], plan: Plan, steps: int) -> None:
        self._stages, self._policy = stages, Policy.model_validate(plan.header["policy"])
        self._names = [task.name for task in plan.tasks]
        for stage in stages:
            _refuse_unknown(stage, self._names)
            narrowed(self._policy, stage.tasks or self._names)
        ends = [round(steps * sum(each.part for each in stages[: at + 1])) for at in range(len(stages))]
        self._begins = [0, *ends[:-1]]
        if short := [at for at, (begin, end) in enumerate(zip(self._begins, ends, strict=True), 1) if begin == end]:
            raise BadInput(f"stage {short[0]}: its part of {steps} batches holds none; raise it, or plan more draws")

    def begins(self, step: int) -> bool:
        """Whether a stage after the first begins before this step."""
        return step > 0 and step in self._begins

    def policy(self, step: int) -> Policy:
        """The policy of the stage at `step`."""
        return narrowed(self._policy, self._learned(self._at(step)))

    def apply(self, step: int, learner: Learner) -> None:
        """Let the tasks of the stage at `step` learn, and nothing else: their importances sum to 1."""
        assert isinstance(learner.optimiser, TreeOptimiser)
        now = self._at(step)
        learned = set(self._learned(now))
        others = frozenset(t for t, name in enumerate(self._names) if name not in learned)
        before = {name for stage in range(now) for name in self._learned(stage)}
        kept = frozenset(t for t in others if self._names[t] in before) if self._stages[now].fixed else frozenset()
        learner.optimiser.freeze(others, kept)
        weights = learner.network.losses.importances.clone()
        weights[sorted(others)] = 0.0
        learner.weights = weights / weights.sum()

    def _at(self, step: int) -> int:
        """The number of the stage in which a step lies."""
        return max(at for at, begin in enumerate(self._begins) if begin <= step)

    def _learned(self, stage: int) -> tuple[str, ...]:
        return self._stages[stage].tasks or tuple(self._names)


def staged_plan(stages: Sequence[Stage], plan: Plan, catalog: Catalog) -> Plan:
    """The plan that the first stage draws from, with as many draws as `plan`; `plan` itself where all tasks learn."""
    first = stages[0]
    names = tuple(task.name for task in plan.tasks)
    _refuse_unknown(first, names)
    if not first.tasks or set(first.tasks) == set(names):
        return plan
    policy = narrowed(Policy.model_validate(plan.header["policy"]), first.tasks)
    draft = draft_plan(
        catalog, policy, Pack.open(catalog.home, plan.pack_hash), draws=len(plan.draws), seed=plan.seed,
        commit=plan.commit,
    )  # fmt: skip
    return draft.save(by="training", derived=True)


def narrowed(policy: Policy, tasks: Sequence[str]) -> Policy:
    """The policy for these tasks alone, in proportion to their shares and importances.

    BadInput where they have none.
    """
    share, importance = (sum(getattr(policy.task[name], field) for name in tasks) for field in ("share", "importance"))
    if share <= 0 or importance <= 0:
        raise BadInput(f"tasks {', '.join(tasks)}: have no share or no importance in the plan; plan with some")
    parts = {
        name: part.model_copy(
            update={
                "share": part.share / share if name in tasks else 0.0,
                "importance": part.importance / importance if name in tasks else 0.0,
            }
        )
        for name, part in policy.task.items()
    }
    return policy.model_copy(update={"task": parts})


def _refuse_unknown(stage: Stage, names: Sequence[str]) -> None:
    if wrong := [name for name in stage.tasks if name not in names]:
        raise BadInput(f"stages: {wrong[0]} is no task of the plan ({', '.join(names)}); correct it")
