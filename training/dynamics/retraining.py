"""One retraining: the run that it starts from, what is trained again in which order, and what came of it.

A rung of the ladder trains more than the one below it:

    head     the heads of some tasks, on features and layers that stay
    branch   whatever only these tasks read, or on a frozen trunk all heads with the layer that they share
    trunk    the whole network, from the weights that it has
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from curation.files.atomic import whole
from curation.files.read_back import read_json, sealed, unsealed
from training.recipe import Recipe

if TYPE_CHECKING:
    from training.judging.judged import JudgedFigure
    from training.judging.queue import QueueRow

__all__ = ["FILE", "RUNGS", "Attempt", "Retraining", "Rung", "failing_tasks", "first_rungs"]

Rung = Literal["head", "branch", "trunk"]
RUNGS: Final[tuple[Rung, ...]] = ("head", "branch", "trunk")
"""From the cheapest on."""

FILE: Final = "retraining.json"
"""The newest retraining of a workspace."""

AGAIN: Final = "remove it, then retrain again"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One training of a retraining: `tasks` are those that learned (all: ()), and `outcome` the gate's decision.

    `failing` are the tasks that the gate did not pass ("": the team's figure). `seconds` is the time of training and
    evaluation.
    """

    rung: Rung
    tasks: tuple[str, ...]
    run: str
    outcome: str
    failing: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A retraining of the run `base` with the labels of `commit`, to the rung `up_to` at most.

    `settings` are what else it depends on, `ledger` counts what the catalog held. `wanted` names the tasks that each
    rung is to train, as decided at the beginning. `outcome` is "" until it has ended, then "nothing", "pass", "block"
    or "not enough data".
    """

    base: str
    commit: int
    settings: dict[str, Any]
    ledger: dict[str, int]
    wanted: dict[str, tuple[str, ...]]
    why: dict[str, str]
    """By task, why it is trained or not."""
    attempts: tuple[Attempt, ...] = ()
    outcome: str = ""

    @property
    def candidate(self) -> str:
        """The last run that the gate passed; "" where there is none."""
        return next((each.run for each in reversed(self.attempts) if each.outcome == "pass"), "")

    def save(self, home: Path) -> "Retraining":
        """Write it, whole or not at all."""
        with whole(home / FILE) as part:
            part.write_text(json.dumps(sealed(asdict(self)), indent=1), encoding="utf-8")
        return self

    @classmethod
    def newest(cls, home: Path) -> "Retraining | None":
        """The newest one of a workspace; None where there was none. Damaged for a file that is not what was written."""
        path = home / FILE
        return read_json(path, AGAIN, cls._of) if path.is_file() else None

    @classmethod
    def _of(cls, data: dict[str, Any]) -> "Retraining":
        data = unsealed(data)
        attempts = tuple(
            Attempt(**{**row, "tasks": tuple(row["tasks"]), "failing": tuple(row["failing"])})
            for row in data.pop("attempts")
        )
        wanted = {rung: tuple(names) for rung, names in data.pop("wanted").items()}
        return cls(**data, attempts=attempts, wanted=wanted)

    def follows(self, base: str, settings: Mapping[str, Any]) -> bool:
        """Whether it is one of this run with these settings."""
        return (self.base, self.settings) == (base, dict(settings))

    def found(self, rung: Rung, tasks: Sequence[str]) -> Attempt | None:
        """The attempt that this rung made at these tasks."""
        return next((each for each in self.attempts if (each.rung, each.tasks) == (rung, tuple(tasks))), None)

    def with_attempt(self, attempt: Attempt) -> "Retraining":
        """With one attempt more."""
        return replace(self, attempts=(*self.attempts, attempt))

    def end(self) -> "Retraining":
        """With its outcome: "pass" with a candidate, else the worst of the attempts."""
        if self.candidate or not self.attempts:
            return replace(self, outcome="pass" if self.candidate else "nothing")
        outcomes = {attempt.outcome for attempt in self.attempts}
        return replace(self, outcome="block" if "block" in outcomes else "not enough data")


def first_rungs(rows: "Sequence[QueueRow]", recipe: Recipe, *, trunk_due: bool) -> dict[str, tuple[str, ...]]:
    """The tasks that each rung trains at first, by their actions in the queue.

    On a trunk that does not learn there is nothing above the branch, and heads that learn from draws go on with what
    only they read, so a head is a branch there. A trunk that is due takes all tasks.
    """
    by_action = {action: tuple(row.change.task for row in rows if row.action == action) for action in RUNGS}
    if recipe.solved:
        found = {"head": by_action["head"], "branch": by_action["branch"] + by_action["trunk"], "trunk": ()}
    else:
        found = {"head": (), "branch": by_action["head"] + by_action["branch"], "trunk": by_action["trunk"]}
    if trunk_due:
        found["branch" if recipe.solved else "trunk"] = tuple(row.change.task for row in rows)
    return found


def failing_tasks(figures: "Sequence[JudgedFigure]", team: "JudgedFigure | None") -> tuple[str, ...]:
    """The tasks that a gate did not pass; "" for the team's figure."""
    failed = [figure.task for figure in figures if figure.outcome != "pass"]
    return tuple(dict.fromkeys([*failed, *([""] if team and team.outcome != "pass" else [])]))
