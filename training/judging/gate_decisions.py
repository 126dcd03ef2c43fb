"""Decisions of gates that the catalog has recorded: each is an act, and the message of its commit says what it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow.compute as pc

from curation.catalog.snapshot import Snapshot
from training.judging.judged import JudgedFigure, Outcome

__all__ = ["TEAM", "RecordedDecision", "decision_message", "gate_decisions"]

TEAM: Final = "team"
"""Stands in a message for the team's figure."""


@dataclass(frozen=True, kw_only=True)
class RecordedDecision:
    """A decision on `run` in place of `before` ("": by floors alone), of a commit, by an identity such as `user:ann`.

    `blocking` names the tasks with a figure that blocks, and `TEAM` for the team's; an older Amber recorded none.
    """

    commit: int
    run: str
    before: str
    outcome: str
    blocking: tuple[str, ...]
    by: str


def decision_message(run: str, outcome: Outcome, figures: Sequence[JudgedFigure], team: JudgedFigure | None) -> str:
    """The message of the commit that records a decision, with the tasks that block."""
    blocking = [figure.task for figure in figures if figure.outcome == "block"]
    blocking += [TEAM] if team and team.outcome == "block" else []
    names = f" ({', '.join(dict.fromkeys(blocking))})" if blocking else ""
    return f"gate {run}: {outcome}{names}"


def gate_decisions(now: Snapshot, after: int = 0) -> list[RecordedDecision]:
    """Decisions in commits after `after`, oldest first."""
    acts = now.ownership.acts(after)
    gates = acts.filter(pc.equal(acts["act"], "gate")).to_pylist()
    commits = now.log.of(row["commit_id"] for row in gates)
    return [_decision(row, commits[row["commit_id"]]["message"]) for row in gates]


def _decision(act: dict[str, object], message: str) -> RecordedDecision:
    outcome, _, names = message.partition(": ")[2].removesuffix(")").partition(" (")
    return RecordedDecision(
        commit=int(str(act["commit_id"])), run=str(act["subject"]), before=str(act["before"]), outcome=outcome,
        blocking=tuple(names.split(", ")) if names else (), by=f"{act['via']}:{act['member']}",
    )  # fmt: skip
