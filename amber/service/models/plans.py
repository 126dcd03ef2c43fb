"""Requests and responses about policies, plans and sign-offs."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from amber.service.models.ledger import Line, Row
from samplers.plan.policy_text import LONGEST

__all__ = [
    "AccountLine", "ExposureLine", "OutcomeRow", "PlanFacts", "PlanRow", "PlanRun", "PolicyAsked", "PolicyChecked",
    "PolicyFacts", "PolicyFault", "PolicyPart", "PolicySaved", "PolicyShift", "PolicyWish", "SignedRow", "TaskShift",
    "WaitingRow",
]  # fmt: skip

Text = Annotated[str, StringConstraints(max_length=LONGEST)]
"""A policy as TOML."""


class PolicyPart(Row):
    """What the owner of one task requests; `boosts` in words."""

    task: str
    owner: str
    share: float
    importance: float
    rule: str
    boosts: str


class PolicyFacts(Row):
    """The policy in force as TOML, with its hash, who set it, in which commit and when; `policy` is "" for none."""

    policy: str
    by: str
    commit: int
    at: str
    text: str
    tasks: list[PolicyPart]


class PolicyFault(Row):
    """Why a text is no policy, and the lines that say so; none where no line alone is wrong."""

    text: str
    lines: list[int]


class PolicyShift(Row):
    """What a task gets under two policies: shares and importances, null where a policy does not name it."""

    task: str
    owner: str
    share_before: float | None
    share: float | None
    importance_before: float | None
    importance: float | None
    verdict: Literal["gains", "pays", "as before"]


class TaskShift(Row):
    """What a task gets from two plans; null for a plan that does not draw for it. `lowered` says what falls."""

    task: str
    owner: str
    share_before: float | None
    share: float | None
    ess_before: float | None
    ess: float | None
    lowered: list[str]


class PolicyChecked(Row):
    """Whether a text is a policy; who gains and who pays against what is in force, by shares, and by the draws of a
    plan like the newest one where that is quick to make (else `not_drawn` says why)."""

    policy: str
    faults: list[PolicyFault]
    shifts: list[PolicyShift]
    against: str
    drawn: list[TaskShift]
    not_drawn: str


class PolicyWish(BaseModel):
    """A policy to check."""

    text: Text


class PolicyAsked(PolicyWish):
    """A policy to put in force, and the hash of the one that it was written over ("" for none)."""

    read: Annotated[str, StringConstraints(pattern="^([0-9a-f]{32})?$")]
    batch: Line = Field(description="the same batch again is a no-op")


class PolicySaved(Row):
    """The policy that was put in force: its hash, who acted, and in which commit."""

    policy: str
    by: str
    commit: int


class WaitingRow(Row):
    """A plan (or the release of a run) that was refused and waits for an owner, by the hashes that a sign-off names.

    `losses` says what falls; `by` proposed it at the time `at` (UTC). `members` of the owner may sign; anybody, while
    there are none. `labels` is the commit to plan at again (0 for a release).
    """

    what: Literal["plan", "replan", "release"]
    owner: str
    losses: list[str]
    subject: str
    before: str
    policy: str
    by: str
    at: str
    labels: int
    members: list[str]


class SignedRow(Row):
    """A sign-off of the ledger; `made` says whether the plan exists by now."""

    owner: str
    by: str
    subject: str
    before: str
    policy: str
    commit: int
    made: bool


class OutcomeRow(Row):
    """What a task gets from a plan: see `samplers.plan.task_outcomes`."""

    task: str
    owner: str
    share: float
    importance: float
    labels: int
    ess: float
    drawn_ess: float
    distinct_ess: float
    distinct: int
    most_repeated: int


class PlanRow(Row):
    """A plan of the workspace: when and by whom it was made, and of what; `withdrawn` is a time, or ""."""

    plan: str
    at: str
    by: str
    policy: str
    commit: int
    draws: int
    tasks: list[str]
    parent: str
    withdrawn: str
    derived: bool


class ExposureLine(Row):
    """The draws that a plan requested of a task, a stratum or a boosted slice, and those that a run was trained on."""

    kind: str
    name: str
    asked: float
    drawn: int


class PlanRun(Row):
    """A run on a plan, with its recorded draws (none where heads were solved) and the alarm about them."""

    run: str
    alarm: str
    exposure: list[ExposureLine]


class PlanFacts(Row):
    """A plan, what each task gets from it, how that differs from the plan before (or `against`), and its runs.

    A withdrawn plan has lost its tables: only the row is left.
    """

    row: PlanRow
    outcomes: list[OutcomeRow]
    against: str
    shifts: list[TaskShift]
    signed: list[SignedRow]
    runs: list[PlanRun]


class AccountLine(Row):
    """An alarm of the accounts: a task that fell under somebody else's plan or run."""

    kind: Literal["plan", "figure"]
    task: str
    owner: str
    subject: str
    by: str
    what: str
    gained: list[str]
    signed: bool | None
