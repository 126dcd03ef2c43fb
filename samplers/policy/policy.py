"""The policy: the shares, weights and sampling rules that task owners request, in one TOML file."""

import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.catalog.schema import KNOWN
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.toml_files import parse, read_toml

__all__ = ["Policy", "TaskPolicy", "boost_problems", "default_tasks", "left_out"]

Rule = Literal["natural", "balanced", "power", "effective_number", "repeat_factor"]

SUM_TOLERANCE = 1e-6
MAX_BOOSTS = 16


class TaskPolicy(BaseModel):
    """What the owner of one task requests.

    `share` is the fraction of all draws that the task gets, `importance` its weight in the objective. `rule` sets the
    task's class distribution (or its distribution over bins of a regression target):

    - natural: pi_c ~ n_c
    - balanced: pi_c ~ 1
    - power: pi_c ~ n_c^gamma
    - effective_number: pi_c ~ n_c (1 - beta) / (1 - beta^n_c)   (Cui et al. 2019)
    - repeat_factor: pi_c ~ f_c max(1, sqrt(threshold / f_c)), f_c = n_c / |L|   (Gupta et al. 2019)

    `boost` multiplies the mass of a slice within each class, by one number or by one number per phase. Other classes
    keep their mass. `cap` bounds the expected draws of one image in L draws for the task, where L is its number of
    labels. `mined` sets the weight of labels that answered mined requests: "natural" weighs them within their class by
    how common such images are, "as_found" weighs them as every other label.
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
            raise ValueError("a task with share 0 is not trained, so its importance must be 0")
        wrong = [
            f"{name} = {value}" for name, value in self.boost.items()
            if not all(0 < factor < math.inf for factor in _factors(value))
        ]  # fmt: skip
        if wrong:
            raise ValueError(f"boosts must be above 0 ({', '.join(wrong)})")
        if len(self.boost) > MAX_BOOSTS:
            raise ValueError(f"{len(self.boost)} boosts: at most {MAX_BOOSTS}")
        return self

    def boosts(self, phase: int) -> tuple[float, ...]:
        """The factor of each boosted slice in a phase, in the order of `boost`."""
        return tuple(factors[min(phase, len(factors) - 1)] for factors in map(_factors, self.boost.values()))


def _factors(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


class Policy(BaseModel):
    """One section `[task.NAME]` per task. Shares sum to 1, and so do importances.

    `phases` are fractions of the draws and sum to 1; a boost may have one value per phase. `tolerance` is the relative
    loss that needs no sign-off; it does not change the draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: dict[str, TaskPolicy] = Field(min_length=1)
    phases: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0,), min_length=1)
    tolerance: float = Field(default=0.01, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _no_lines(cls, data: dict[str, Any]) -> dict[str, Any]:
        if isinstance(data, dict) and data.get("sign_off"):
            raise ValueError("[sign_off] lines do not count; owners sign with `amber plan --sign OWNER`, take them out")
        return {name: value for name, value in data.items() if name != "sign_off"} if isinstance(data, dict) else data

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
        """The policy after `task` stops: the other tasks take its share and importance in proportion to their own.

        BadInput if the task has no share, or is the only task with a share.
        """
        stopped = self.task.get(task)
        if stopped is None or not 0 < stopped.share < 1:
            raise BadInput(f"task {task!r}: has no share that other tasks could take; name a task that trains")
        rest = {field: 1 - getattr(stopped, field) for field in ("share", "importance")}
        if rest["importance"] <= 0:
            raise BadInput(f"task {task!r}: has all importance, so nothing else would be learned; keep it")
        parts = {
            name: part.model_copy(
                update={field: 0.0 if name == task else getattr(part, field) / left for field, left in rest.items()}
            )
            for name, part in self.task.items()
        }
        return self.model_copy(update={"task": parts})

    def importances(self) -> dict[str, float]:
        """The weight of each task in label requests: its importance, 0 where it has no share."""
        return {name: part.importance if part.share else 0.0 for name, part in self.task.items()}

    def trained(self, now: Snapshot) -> list[Task]:
        """The tasks with a share, as they are defined at a snapshot."""
        tasks = now.tasks()
        return [tasks[name] for name, part in self.task.items() if part.share and name in tasks]

    def sampling_rules(self) -> dict[str, Any]:
        """The fields that determine the draws, as JSON: everything except the tolerance."""
        return self.model_dump(mode="json", exclude={"tolerance"})

    @property
    def sha256(self) -> str:
        """The hash by which sign-offs and the policy in force name this policy."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:32]

    @classmethod
    def load(cls, path: Path | str) -> "Policy":
        """Read and validate a policy file. BadInput names every problem in one line."""
        return parse(cls, read_toml(Path(path)), where=str(path))

    @classmethod
    def even(cls, tasks: Iterable[Task], *, rule: Rule = "balanced") -> Self:
        """Equal shares and importances for all tasks but those of boxes; for these where there are no others.

        Boxes learn from pixels, the others from any features, so a policy of your own gives boxes their share beside
        others. Regression targets use the rule "natural".

        >>> task = Task(name="color", kind="categorical", classes=("red", "green"), owner="ada")
        >>> policy = Policy.even([task])
        >>> policy.task["color"].share, policy.task["color"].rule
        (1.0, 'balanced')
        """
        trained = default_tasks(tasks)
        if not trained:
            raise BadInput("policy: there is no label to train on for any task; request labels, or declare a task")
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
    def in_force(cls, now: Snapshot) -> Self:
        """The policy in force at a snapshot (`amber policy set`), or `for_labelled` where none is."""
        stored = now.ownership.policy()
        return cls.model_validate_json(stored) if stored else cls.for_labelled(now)

    @classmethod
    def for_labelled(cls, now: Snapshot) -> Self:
        """`even` over the tasks of a snapshot that have at least one training label."""
        train = now.training_ids()
        tasks = list(now.tasks().values())
        known = {task.name: now.labels(task.name) for task in tasks}
        known = {name: labels.filter(pc.equal(labels["state"], KNOWN)) for name, labels in known.items()}
        return cls.even([task for task in tasks if np.isin(known[task.name]["sample_id"].to_numpy(), train).any()])

    def check(self, now: Snapshot) -> None:
        """BadInput or NotFound for the first task or slice of the policy that the catalog lacks."""
        slices, tasks = now.slices(), now.tasks()
        for name, part in self.task.items():
            if name not in tasks:
                now.task(name)  # raises NotFound and suggests a similar name
            for problem in boost_problems(name, part, slices):
                raise BadInput(problem)


def left_out(tasks: Iterable[Task], policy: Policy) -> str:
    """One line that names the tasks which a default policy leaves out, and why; "" where it leaves out none.

    >>> signs = Task(name="signs", kind="detection", classes=("stop",), owner="ada")
    >>> left_out([signs], Policy.even([Task(name="dark", kind="binary", owner="ada")]))
    'task signs (detection): boxes learn from pixels, so no default policy draws for it; give it a share in a policy'
    """
    held = [task for task in tasks if not task.outputs and task.name not in policy.task]
    named = ", ".join(f"{task.name} ({task.kind})" for task in held)
    which = f"task{'s' * (len(held) > 1)} {named}"
    line = f"{which}: boxes learn from pixels, so no default policy draws for {'them' if len(held) > 1 else 'it'}; "
    line += f"give {'each' if len(held) > 1 else 'it'} a share in a policy"
    return line if held else ""


def default_tasks(tasks: Iterable[Task]) -> list[Task]:
    """The tasks of a default policy: all but those of boxes; these where there are no others."""
    each = list(tasks)
    return [task for task in each if task.outputs] or each


def boost_problems(name: str, part: TaskPolicy, slices: Mapping[str, Slice]) -> Iterator[str]:
    """One line for each boosted slice of a task that the catalog lacks or that cannot be boosted."""
    for boosted in part.boost:
        if boosted not in slices:
            near = difflib.get_close_matches(boosted, slices, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            yield f"policy: task {name} boosts slice {boosted!r}, which is not declared{hint}; correct it"
        elif slices[boosted].reads_predictions:
            yield f"policy: task {name} boosts {boosted!r}, a slice over predictions; freeze it as a tag"
