"""Requests and responses of the service about runs: lists, trainings that go on, comparisons, gates and releases."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from amber.service.models.ledger import Line, Moment, Row

__all__ = [
    "ComparedRow",
    "ComparisonRow",
    "FlipRow",
    "GateAsked",
    "GateRow",
    "LineageRow",
    "LiveRow",
    "ReleaseAsked",
    "ReleaseRow",
    "ReleaseSigned",
    "ReleasesRow",
    "ReturnAsked",
    "Returned",
    "RunEntryRow",
    "SignedRelease",
    "WorkRow",
]  # fmt: skip

Rules = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
"""The TOML text of a gate's rules."""


class RunEntryRow(Row):
    """A run, as `amber runs` lists it; `figures` are those on all images of test, `model` that of an imported run."""

    run: str
    at: Moment
    author: str
    commit: int
    plan: str
    policy: str
    parent: str
    figures: list[dict[str, Any]]
    alarms: list[str]
    withdrawn: str
    model: str = ""
    trained_on: str = ""


class LiveRow(Row):
    """A training that goes on, or how it ended: `state` is training, trained, stopped, failed or killed.

    `unit` says what `done` and `total` count. `losses` are the newest by task, `points` the curve so far.
    """

    run: str
    plan: str
    parent: str
    state: Literal["training", "trained", "stopped", "failed", "killed"]
    line: str
    unit: Literal["images", "heads"]
    done: int
    total: int
    rate: float
    left: float | None
    started: float
    at: float
    losses: dict[str, float | None]
    points: list[dict[str, float | None]]
    states: dict[str, str]


class LineageRow(Row):
    """The runs and plans that led to a run, as `amber lineage --json` gives them."""

    run: str
    links: list[dict[str, Any]]
    plans: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    broken: list[str]
    marks: dict[str, list[str]]


class ComparedRow(Row):
    """One measure of two runs on one slice, or on a value of an attribute: see `training.judging.comparison`."""

    task: str
    slice: str
    measure: str
    unit: str
    n: int
    groups: int
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    q: float | None
    verdict: str
    fixed: int
    broken: int
    doubt: str


class FlipRow(Row):
    """One label that only one of two runs predicts right; `image` is the signed path of the image."""

    task: str
    key: str
    what: Literal["fixed", "broken"]
    truth: Any
    first: Any
    second: Any
    confidence: list[float | None]
    image: str


class ComparisonRow(Row):
    """Two runs beside each other; `flipped` counts all flipped images by task, `flips` are the first of them."""

    first: str
    second: str
    split: str
    commit: int
    figures: list[ComparedRow]
    attributes: list[ComparedRow]
    flips: list[FlipRow]
    flipped: dict[str, dict[str, int]]
    notes: list[str]


class GateAsked(BaseModel):
    """A decision that is asked for: may `run` replace `against`, by these rules (TOML, as of `amber gate --gate`)?"""

    run: Line
    against: Line | Literal[""] = Field(default="", description="default: the run before it")
    rules: Rules


class GateRow(Row):
    """The report of a gate, as `amber gate --json` gives it."""

    outcome: Literal["pass", "block", "not enough data"]
    run: str
    against: str
    commit: int
    beside: dict[str, str]
    next: list[str]
    evaluation_set: dict[str, Any]
    rules: dict[str, Any]
    rules_sha256: str
    figures: list[dict[str, Any]]
    team: dict[str, Any] | None


class ReleaseAsked(BaseModel):
    """A release that is asked for, with the rules of its gate; `against` as in `amber release`."""

    run: Line
    rules: Rules
    against: Line | Literal[""] = ""
    notes: Annotated[str, StringConstraints(max_length=20_000)] = ""


class ReleaseSigned(BaseModel):
    """The release of `run`, which `owner` accepts although its rules leave tasks of that owner out.

    The `rules` are the gate's, as TOML; of a release that waits, `rules_sha256` is their hash and `against` the run
    that it replaces, both as /api/sign-offs names them.
    """

    run: Line
    owner: Line
    rules: Rules | Literal[""] = ""
    rules_sha256: Line | Literal[""] = ""
    against: Line | Literal[""] = ""
    batch: Line | Literal[""] = Field("", description="with rules_sha256: the same batch again is a no-op")


class SignedRelease(Row):
    """A recorded sign-off of a release: who acted."""

    run: str
    against: str
    owner: str
    by: str


class WorkRow(Row):
    """The release that goes on, or the last one since the service began: see `Working`."""

    run: str
    by: str
    started: float
    done: int
    total: int
    outcome: Literal["", "released", "deployed already", "block", "not enough data", "failed"]
    line: str
    gate: GateRow | None


class ReleaseRow(Row):
    """One release, or one return to an earlier release."""

    run: str
    act: str
    at: Moment
    by: str
    before: str
    release: str
    commit: int
    deployed: bool
    withdrawn: bool


class ReleasesRow(Row):
    """All releases, the newest first, the deployed run ("": none), and the release that goes on, if any."""

    releases: list[ReleaseRow]
    deployed: str
    work: WorkRow | None


class ReturnAsked(BaseModel):
    """Go back to the release before; `deployed` is the run that the caller takes for deployed."""

    deployed: Line


class Returned(Row):
    """A return: the run that is deployed, the one before it, and those that were passed over as withdrawn."""

    run: str
    before: str
    skipped: list[str]
