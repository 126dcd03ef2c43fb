"""The policy: what the owners of tasks ask for, as one TOML file."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.dataset import parse, read_toml
from curation.errors import BadInput
from curation.ledger.snapshot import Snapshot
from curation.tasks import Task

__all__ = ["Policy", "TaskPolicy"]

Rule = Literal["natural", "balanced", "power", "effective_number", "repeat_factor"]

SUM_TOLERANCE = 1e-6


class TaskPolicy(BaseModel):
    """What the owner of one task asks for.

    `share` is the part of all draws spent on the task, `importance` its weight in the objective. `rule` says how its
    draws are spread over its classes (or over bins of its target):

    - natural: pi_c ~ n_c
    - balanced: pi_c ~ 1
    - power: pi_c ~ n_c^gamma
    - effective_number: pi_c ~ n_c (1 - beta) / (1 - beta^n_c)   (Cui et al. 2019)
    - repeat_factor: pi_c ~ f_c max(1, sqrt(threshold / f_c)), f_c = n_c / |L|   (Gupta et al. 2019)

    `boost` multiplies the mass of slices inside their class. `cap` bounds how often an image may come up in as many
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
    boost: dict[str, float] = Field(default_factory=dict)
    cap: float | None = Field(default=None, ge=1)
    model_labels: bool = Field(default=False, description="train on labels that a model gave")
    mined: Literal["natural", "as_found"] = "natural"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.share == 0 and self.importance > 0:
            raise ValueError("a task of share 0 is not trained, so its importance must be 0")
        wrong = [f"{name} = {value}" for name, value in self.boost.items() if not (0 < value < math.inf)]
        if wrong:
            raise ValueError(f"boosts must be above 0 ({', '.join(wrong)})")
        return self


class Policy(BaseModel):
    """One section `[task.NAME]` for each task; shares sum to 1, and so do importances."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: dict[str, TaskPolicy] = Field(min_length=1)

    @model_validator(mode="after")
    def _sums(self) -> Self:
        for field in ("share", "importance"):
            total = math.fsum(getattr(part, field) for part in self.task.values())
            if abs(total - 1) > SUM_TOLERANCE:
                raise ValueError(f"the tasks' {field}s sum to {total:.6g}, must sum to 1")
        return self

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
        """Refuse a policy that names a task or a slice that the catalog does not have, or boosts what it must not."""
        slices = now.slices()
        for name, part in self.task.items():
            if not now.task(name).outputs:
                raise BadInput(f"policy: task {name} is for detection, which has no head yet; take it out")
            for boosted in part.boost:
                if boosted not in slices:
                    raise BadInput(f"policy: task {name} boosts slice {boosted!r}, which is not declared; correct it")
                if slices[boosted].reads_predictions:
                    raise BadInput(
                        f"policy: task {name} boosts {boosted!r}, a slice over predictions; freeze it as a tag"
                    )
