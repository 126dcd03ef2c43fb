"""When a task stops: ACTIVE -> PLATEAU -> DISTILL -> FROZEN, a pure function of a state and the figures of a step.

ACTIVE learns from labels. PLATEAU has not gained for `patience` evaluations; a gain makes it ACTIVE again, another miss
DISTILL, which learns the soft labels of its best step (Lu et al., NAACL 2022, industry track). FROZEN does not learn
and is still evaluated: a loss that rises beyond the tolerance and beyond the error wakes it into DISTILL, which keeps
its best step against a trunk that moves on; new labels wake it into ACTIVE.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from curation.errors import BadInput
from samplers.policy.policy import Policy
from training.recipe import Stopping

__all__ = ["STATES", "Figures", "State", "TaskState", "next_state", "policy_at", "teaches"]

State = Literal["ACTIVE", "PLATEAU", "DISTILL", "FROZEN"]

STATES: Final[tuple[State, ...]] = get_args(State)
"""All states, in their order."""


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """A task's state; `misses` evaluations in a row without a gain over those of the step `reference`.

    `best` is the step of the smallest validation loss so far, `best_loss` that loss over the best constant's. -1: none.
    """

    state: State = "ACTIVE"
    misses: int = 0
    reference: int = -1
    best: int = -1
    best_loss: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A task at one evaluation: its loss over the best constant's, and its gain over the reference step.

    `gain` is the reference's loss minus this one, on the same labels; `error` is its standard error over groups.
    `new_labels` says that the task has labels which it has not learned from.
    """

    step: int
    loss: float
    gain: float = math.inf
    error: float = 0.0
    new_labels: bool = False


def next_state(now: TaskState, figures: Figures, rules: Stopping) -> TaskState:
    """The state after an evaluation.

    >>> rules, now = Stopping(patience=2), TaskState()
    >>> for step, gain in enumerate([9.0, 0.0, 0.0, 0.0]):
    ...     now = next_state(now, Figures(step=step, loss=1 - gain, gain=gain, error=0.1), rules)
    ...     print(now.state, now.misses)
    ACTIVE 0
    ACTIVE 1
    PLATEAU 2
    DISTILL 0
    """
    if figures.new_labels and now.state != "ACTIVE":
        return TaskState(reference=figures.step, best=figures.step, best_loss=figures.loss)
    gained = now.reference < 0 or figures.gain > figures.error
    if now.state == "FROZEN":
        risen = -figures.gain > max(rules.tolerance, figures.error)
        return replace(now, state="DISTILL", misses=0, reference=figures.step) if risen else now
    misses = 0 if gained else now.misses + 1
    after = replace(now, misses=misses, reference=figures.step if gained else now.reference)
    if now.state == "DISTILL":
        done = misses >= rules.patience
        return replace(after, state="FROZEN", misses=0, reference=figures.step) if done else after
    if figures.loss < now.best_loss:
        after = replace(after, best=figures.step, best_loss=figures.loss)
    if misses > rules.patience:
        return replace(after, state="DISTILL", misses=0, reference=figures.step)
    return replace(after, state="PLATEAU" if misses == rules.patience else "ACTIVE")


def teaches(state: TaskState) -> bool:
    """Whether the weights of the task's best step may still be needed: until its soft labels are recorded."""
    return state.state in ("ACTIVE", "PLATEAU") and state.best >= 0


def policy_at(policy: Policy, states: Mapping[str, TaskState], floor: float) -> Policy | None:
    """The policy of the draws for tasks in these states; None where every task is frozen.

    A frozen task has no share and no importance; a task in DISTILL has `floor` times its share. The others take what
    is left, in proportion to their own.
    """
    kept = {name: _kept(states.get(name), floor) for name in policy.task}
    full = [name for name, part in kept.items() if part == 1.0 and policy.task[name].share > 0]
    if not full:  # nobody is left to take the rest: those in DISTILL share all
        kept = {name: math.ceil(part) for name, part in kept.items()}
        full = [name for name, part in kept.items() if part and policy.task[name].share > 0]
    if not full:
        return None
    held = {name: policy.task[name].share * part for name, part in kept.items() if name not in full}
    shares, importances = (
        {name: getattr(policy.task[name], field) for name in full} for field in ("share", "importance")
    )
    left = 1 - math.fsum(held.values())
    shares = held | {name: share * left / math.fsum(shares.values()) for name, share in shares.items()}
    importances |= {name: policy.task[name].importance for name in held if held[name] > 0}
    total = math.fsum(importances.values())
    if total <= 0:
        raise BadInput("policy: all tasks that still learn have importance 0; give one of them some")
    parts = {
        name: part.model_copy(update={"share": shares.get(name, 0.0), "importance": importances.get(name, 0.0) / total})
        for name, part in policy.task.items()
    }
    return policy.model_copy(update={"task": parts})


def _kept(state: TaskState | None, floor: float) -> float:
    return {"FROZEN": 0.0, "DISTILL": floor}.get(state.state if state else "ACTIVE", 1.0)
