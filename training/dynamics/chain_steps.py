"""The trainings of a chain as steps that can be repeated, left out, or flattened into one training from scratch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from curation.errors import BadInput
from training.dynamics.lineage import Lineage
from training.recipe import Recipe
from training.run import Run

__all__ = ["Step", "flat", "reseeded", "steps_of", "with_threads", "without"]

SEEDS_APART: Final = 1_000
"""Seeds of two repetitions of a training are so far apart: the seeds of a chain's own trainings are often 0, 1, 2."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training of a chain: the run that it repeats, and what it is made of, all by the ids that were recorded.

    `features_of` is the run whose trunk its recipe reads ("" for none). `quarantine` says that unreadable images were
    replaced.
    """

    run: str
    plan: str
    recipe: Recipe
    parent: str = ""
    features_of: str = ""
    quarantine: bool = False


def steps_of(home: Path, lineage: Lineage) -> list[Step]:
    """The steps of a lineage, oldest first; BadInput where a link was withdrawn or is missing."""
    lineage.refuse_broken()
    return [
        Step(
            run=link.run, plan=link.plan, recipe=run.recipe, parent=link.parent, features_of=link.features_of,
            quarantine=bool(run.replaced(home)),
        )
        for link in lineage.links
        for run in [Run.open(home, link.run)]
    ]  # fmt: skip


def without(steps: Sequence[Step], link: str) -> list[Step]:
    """The steps without the one of the run `link`: who continued it continues the run that it continued.

    Without the last step, the one before it ends the chain. BadInput where nothing could take its place: a step learns
    some tasks only, or reads features, and the link continued no run.
    """
    gone = next(step for step in steps if step.run == link)
    if gone is steps[-1]:
        before = gone.parent or gone.features_of
        if not before:
            raise BadInput(f"run {link}: is the only training of its lineage; without it nothing is left")
        return _needed(steps, before)
    found = [_past(step, gone) for step in steps if step is not gone]
    return _needed(found, steps[-1].run)


def _past(step: Step, gone: Step) -> Step:
    """A step that was made of `gone`, made of what that continued instead."""
    if step.parent == gone.run:
        if step.recipe.only and not gone.parent:
            raise BadInput(
                f"run {step.run}: learns only {', '.join(step.recipe.only)} and continues {gone.run}, which "
                "continues no run; leave out another link"
            )
        step = replace(step, parent=gone.parent)
    if step.features_of == gone.run:
        if not gone.parent:
            raise BadInput(
                f"run {step.run}: reads the trunk of {gone.run}, which continues no run whose trunk it could read "
                "instead; leave out another link"
            )
        step = replace(step, features_of=gone.parent)
    return step


def _needed(steps: Sequence[Step], last: str) -> list[Step]:
    """The steps of which the run `last` is made, in order, ending with it."""
    by_run = {step.run: step for step in steps}
    wanted, waiting = set[str](), [last]
    while waiting:
        name = waiting.pop()
        if name and name not in wanted:
            wanted.add(name)
            waiting += [by_run[name].parent, by_run[name].features_of]
    return [step for step in steps if step.run in wanted]


def flat(steps: Sequence[Step]) -> list[Step]:
    """One step: the last plan, learned from scratch by the last recipe.

    Where the last training reads the trunk of another run, by the recipe of that one; and for all tasks of the plan.
    """
    by_run, last = {step.run: step for step in steps}, steps[-1]
    learner = last
    while learner.features_of:
        learner = by_run[learner.features_of]
    return [replace(last, recipe=replace(learner.recipe, only=()), parent="", features_of="")]


def reseeded(steps: Sequence[Step], turn: int, keep: int = 0) -> list[Step]:
    """The steps with other seeds for the repetition `turn` (0: those recorded); the first `keep` are unchanged."""
    return [
        step
        if number < keep
        else replace(step, recipe=replace(step.recipe, seed=step.recipe.seed + SEEDS_APART * turn))
        for number, step in enumerate(steps)
    ]


def with_threads(steps: Sequence[Step], threads: int) -> list[Step]:
    """The steps on another number of threads, which changes the last bits of sums."""
    return [replace(step, recipe=replace(step.recipe, threads=threads)) for step in steps]
