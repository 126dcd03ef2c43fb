"""The policy: what the owners of tasks ask for, as one TOML file."""

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.toml_files import parse, read_toml

__all__ = ["Policy", "TaskPolicy", "boost_problems"]

Rule = Literal["natural", "balanced", "power", "effective_number", "repeat_factor"]

SUM_TOLERANCE = 1e-6
MOST_BOOSTS = 16


class TaskPolicy(BaseModel):
    """What the owner of one task asks for.

    `share` is the part of all draws spent on the task, `importance` its weight in the objective. `rule` says how its
    draws are spread over its classes (or over bins of its target):

    - natural: pi_c ~ n_c
    - balanced: pi_c ~ 1
    - power: pi_c ~ n_c^gamma
    - effective_number: pi_c ~ n_c (1 - beta) / (1 - beta^n_c)   (Cui et al. 2019)
    - repeat_factor: pi_c ~ f_c max(1, sqrt(threshold / f_c)), f_c = n_c / |L|   (Gupta et al. 2019)

    `boost` multiplies the mass of slices inside their class: by a number, or by one for each of the policy's phases, so
    that a boost cools down. `cap` bounds how often an image may come up in as many
    draws of the task as it has labels. `mined` says what labels weigh that answered mined requests: "natural" as much
    of their class as such images are among all, "as_found" as much as any other label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str = Field(min_length=1)
    share: float = Field(ge=0, le=1)
    importance: float = Field(ge=0, le=1)
    rule: Rule = "natural"
    gamma: float = Field(default=0.5, ge=0, le=1)
    beta: float = Field(default=0.999, ge=0, lt=1)
    threshold: float = Field(default=0.01, gt=0, le=1)
    boost: dict[str, float | tuple[float, ...]] = Field(default_factory=dict)
    cap: float | None = Field(default=None, ge=1)
    model_labels: bool = Field(default=False, description="train on labels that a model gave")
    mined: Literal["natural", "as_found"] = "natural"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.share == 0 and self.importance > 0:
            raise ValueError("a task of share 0 is not trained, so its importance must be 0")
        wrong = [
            f"{name} = {value}" for name, value in self.boost.items()
            if not all(0 < factor < math.inf for factor in _factors(value))
        ]  # fmt: skip
        if wrong:
            raise ValueError(f"boosts must be above 0 ({', '.join(wrong)})")
        if len(self.boost) > MOST_BOOSTS:
            raise ValueError(f"{len(self.boost)} boosts: at most {MOST_BOOSTS}")
        return self

    def boosts(self, phase: int) -> tuple[float, ...]:
        """The factor of each boosted slice in a phase, in the order of `boost`."""
        return tuple(factors[min(phase, len(factors) - 1)] for factors in map(_factors, self.boost.values()))


def _factors(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


class Policy(BaseModel):
    """One section `[task.NAME]` for each task; shares sum to 1, and so do importances.

    `phases` are the parts of the draws in which boosts take one value after the other; they sum to 1. `sign_off` has a
    line for each owner who agreed to get less than in an earlier plan: `owner = "HASH"` names that plan, and holds
    against no other. `tolerance` is how much less, relatively, needs no sign-off. Neither changes what is drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: dict[str, TaskPolicy] = Field(min_length=1)
    phases: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0,), min_length=1)
    sign_off: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{8,32}$")]] = Field(default_factory=dict)
    tolerance: float = Field(default=0.01, ge=0, lt=1)

    @model_validator(mode="after")
    def _phases(self) -> Self:
        if abs(math.fsum(self.phases) - 1) > SUM_TOLERANCE:
            raise ValueError(f"the phases sum to {math.fsum(self.phases):.6g}, must sum to 1")
        for name, part in self.task.items():
            for boosted, value in part.boost.items():
                if isinstance(value, tuple) and len(value) != len(self.phases):
                    raise ValueError(
                        f"task {name} boosts {boosted} by {len(value)} numbers, and there are {len(self.phases)} phases"
                    )
        return self

    @model_validator(mode="after")
    def _sums(self) -> Self:
        totals = {
            field: math.fsum(getattr(part, field) for part in self.task.values()) for field in ("share", "importance")
        }
        wrong = [
            f"the tasks' {field}s sum to {total:.6g}, must sum to 1"
            for field, total in totals.items() if abs(total - 1) > SUM_TOLERANCE
        ]  # fmt: skip
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def without(self, task: str) -> Self:
        """The same policy once `task` has stopped: its share and importance go to the others in proportion.

        BadInput for a task that has none, or that is the last one with a share.
        """
        stopped = self.task.get(task)
        if stopped is None or not 0 < stopped.share < 1:
            raise BadInput(f"task {task!r}: has no share that others could take; name one of those that train")
        rest = {field: 1 - getattr(stopped, field) for field in ("share", "importance")}
        if rest["importance"] <= 0:
            raise BadInput(f"task {task!r}: has all importance, so that nothing would be left to learn; keep it")
        parts = {
            name: part.model_copy(
                update={field: 0.0 if name == task else getattr(part, field) / left for field, left in rest.items()}
            )
            for name, part in self.task.items()
        }
        return self.model_copy(update={"task": parts})

    def drawn(self) -> dict[str, Any]:
        """What decides what is drawn, as JSON: all but sign-offs and the tolerance."""
        return self.model_dump(mode="json", exclude={"sign_off", "tolerance"})

    @classmethod
    def load(cls, path: Path | str) -> "Policy":
        """Read and validate a policy file; BadInput names every problem in one line."""
        return parse(cls, read_toml(Path(path)), where=str(path))

    @classmethod
    def even(cls, tasks: Iterable[Task], *, rule: Rule = "balanced") -> Self:
        """Every task with a head gets the same share and importance; regression targets are drawn as they are."""
        trained = [task for task in tasks if task.outputs]
        if not trained:
            raise BadInput("policy: there is no label to train on for any task; ask for labels, or declare a task")
        part = 1 / len(trained)
        return cls(
            task={
                task.name: TaskPolicy(
                    owner=task.owner, share=part, importance=part,
                    rule="natural" if task.kind == "regression" else rule,
                )
                for task in trained
            }
        )  # fmt: skip

    @classmethod
    def for_labelled(cls, now: Snapshot) -> Self:
        """`even` over the tasks of a snapshot that have a label to train on."""
        train = now.training_ids()
        tasks = [task for task in now.tasks().values() if task.outputs]
        return cls.even([task for task in tasks if np.isin(now.labels(task.name)["sample_id"].to_numpy(), train).any()])

    def check(self, now: Snapshot) -> None:
        """Refuse a policy that names a task or a slice that the catalog does not have; says the first problem."""
        slices, tasks = now.slices(), now.tasks()
        for name, part in self.task.items():
            if name not in tasks:
                now.task(name)  # which says what is near
            for problem in boost_problems(name, part, slices):
                raise BadInput(problem)


def boost_problems(name: str, part: TaskPolicy, slices: Mapping[str, Slice]) -> Iterator[str]:
    """What is wrong with the slices that a task boosts, each as one line."""
    for boosted in part.boost:
        if boosted not in slices:
            near = difflib.get_close_matches(boosted, slices, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            yield f"policy: task {name} boosts slice {boosted!r}, which is not declared{hint}; correct it"
        elif slices[boosted].reads_predictions:
            yield f"policy: task {name} boosts {boosted!r}, a slice over predictions; freeze it as a tag"
