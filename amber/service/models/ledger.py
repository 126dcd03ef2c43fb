"""Requests and responses of the service: the schemas of its OpenAPI document."""

from abc import abstractmethod
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "FAULTS",
    "Asked",
    "AskedFor",
    "CoverageRow",
    "Done",
    "DoubtPicked",
    "FigureRow",
    "Given",
    "GivenLabel",
    "Health",
    "LabelRow",
    "Line",
    "ListedPlan",
    "Moment",
    "PaceRow",
    "PickedSamples",
    "Problem",
    "QueueChanged",
    "ReasonRow",
    "RequestPicked",
    "RequestRow",
    "RequestsChosen",
    "Row",
    "RunRow",
    "SampleRow",
    "Shown",
    "ShownPicked",
    "SignOff",
    "SignedOff",
    "SliceRow",
    "TagPicked",
    "TaskRow",
]  # fmt: skip

Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line of text, without control characters."""


Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
"""The whole hash of a plan or a policy."""


def _in_utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


Moment = Annotated[datetime, AfterValidator(_in_utc)]
"""A moment; one without a zone is UTC."""


class Row(BaseModel):
    """A row of a response."""

    model_config = ConfigDict(extra="forbid")


class Health(Row):
    """The service is up."""

    status: Literal["ok"] = "ok"


class Problem(Row):
    """What went wrong, in one line."""

    detail: str


FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 403, 404, 405, 409, 413, 503)
}
"""Error responses that every route may give."""


class TaskRow(Row):
    """A learning task."""

    name: str
    kind: str
    classes: list[str]
    unit: str
    metric: str
    owner: str
    description: str


class SampleRow(Row):
    """A sample; `image` is the signed path of its image."""

    key: str
    dataset: str
    width: int
    height: int
    group: str
    split: str
    excluded: bool
    image: str


class LabelRow(Row):
    """A current label: `value` is a class, true or false, a number, classes, or boxes; null for unsure and
    inapplicable."""

    key: str
    task: str
    state: Literal["known", "unsure", "inapplicable"]
    source: str
    value: Any


class CoverageRow(Row):
    """Counts of known, unsure, inapplicable and unknown labels of one (task, slice, split)."""

    task: str
    slice: str
    split: str
    samples: int
    known: int
    unsure: int
    inapplicable: int = 0
    unknown: int


class SliceRow(Row):
    """A declared slice."""

    name: str
    task: str
    predicate: str
    rare: bool


class ListedPlan(Row):
    """A plan of the list of plans, as a table."""

    plan: str


class RunRow(Row):
    """A registered run."""

    run: str
    plan: str
    commit: int


class FigureRow(Row):
    """A figure of a run for one (task, slice, split), with its 95% interval; null where samples were too few."""

    task: str
    slice: str
    split: str
    metric: str
    n: int
    groups: int
    value: float | None
    low: float | None
    high: float | None


class RequestRow(Row):
    """A label request."""

    request_id: int
    key: str
    task: str
    state: str
    arm: str
    slice: str
    reason: str
    priority: int
    propensity: float
    cost: float


class PaceRow(Row):
    """The requests of a task by state and how fast they are answered: see `curation.requests.request_queue`.

    `cost` is that of the open ones, `seconds` the median of an answer, `hours` the work that is left, `rate` requests
    answered a day over the last week, `days` the time until the open ones are answered; null for no data.
    """

    task: str
    open: int
    answered: int
    withdrawn: int
    cost: float
    seconds: float | None
    hours: float | None
    rate: float | None
    days: float | None


class RequestsChosen(BaseModel):
    """Label requests, by id."""

    requests: list[Annotated[int, Field(ge=0, le=2**53)]] = Field(min_length=1, max_length=10_000)
    batch: Line = Field(description="the same batch again is a no-op")


class QueueChanged(Row):
    """How many requests were withdrawn, or moved in the queue; 0 when the batch was committed before."""

    requests: int
    commit: int


class AskedFor(Row):
    """A budget of labels to request."""

    budget: int = Field(ge=1, le=100_000)
    random_share: float = Field(default=0.15, ge=0, le=1)
    run: Line | None = Field(
        default=None, description="its predictions guide the mining; with triggers: the newest run"
    )
    triggers: list[Line] = Field(default=[], max_length=100, description="triggers of the run that share the budget")
    against: Line | None = Field(default=None, description="the run that triggers compare with")
    seed: int = Field(default=0, ge=0, le=2**31)
    batch: Line = Field(description="the same batch of the same token again is a no-op")


class Asked(Row):
    """How many requests or labels a batch added; 0 when the batch was committed before."""

    requests: int


class GivenLabel(Row):
    """A label that a person gives: `value` as in `LabelRow`, null for unsure, or for inapplicable if `state` says
    so."""

    key: Line
    task: Line
    value: Any = None
    state: Literal["", "unsure", "inapplicable"] = ""
    labelled_at: datetime | None = None


class Given(Row):
    """Labels of one annotator; all of them are committed or none."""

    annotator: Line | Literal[""] = Field(default="", description="the token's owner; an admin may name another")
    batch: Line = Field(description="the same batch again is a no-op")
    labels: list[GivenLabel] = Field(min_length=1, max_length=10_000)


class PickedSamples(BaseModel):
    """Samples that somebody picked; `preview` returns what would be done, without doing it."""

    keys: list[Line] = Field(min_length=1, max_length=10_000)
    batch: Line = Field(description="the same batch again is a no-op")
    preview: bool = False

    @abstractmethod
    def commit_message(self) -> str:
        """The message of the commit."""


class RequestPicked(PickedSamples):
    """Request labels of each of `tasks` for the samples."""

    tasks: list[Line] = Field(min_length=1, max_length=100)
    reason: Line

    def commit_message(self) -> str:
        """The message of the commit."""
        return f"ask for labels of {', '.join(self.tasks)}: {self.reason}"


class TagPicked(PickedSamples):
    """Set or remove the attribute `tag_NAME`, which slices can use."""

    tag: Line
    on: bool = True

    def commit_message(self) -> str:
        """The message of the commit."""
        return f"tag {self.tag}" if self.on else f"take tag {self.tag} away"


class DoubtPicked(PickedSamples):
    """Mark one task as unsure, or retract the labels that the token's owner gave for it."""

    task: Line
    state: Literal["unsure", "retracted"]

    def commit_message(self) -> str:
        """The message of the commit."""
        return f"{self.task} {self.state}"


class Done(Row):
    """How many samples were changed, or would be, and by whom.

    `passed_over` and `noted` count samples by reason: those left alone, and those changed with a remark. `commit` is
    null when nothing was committed.
    """

    author: str
    done: int
    passed_over: dict[str, int]
    noted: dict[str, int]
    commit: int | None


class SignOff(BaseModel):
    """A sign-off: for `owner`, of the plan `plan` in comparison with the plan `before`, under `policy`; all by hash."""

    owner: Line
    plan: Hash
    before: Hash
    policy: Hash
    batch: Line = Field(description="the same batch again is a no-op")


class SignedOff(Row):
    """A recorded sign-off: who acted, and in which commit."""

    owner: str
    by: str
    commit: int


class ShownPicked(BaseModel):
    """Samples whose App fields to return, with the predictions of a run, now or at a commit."""

    keys: list[Line] = Field(min_length=1, max_length=10_000)
    run: Line | Literal[""] = ""
    against: Line | Literal[""] = ""
    commit: int | None = Field(default=None, ge=0, description="default: now")


class Shown(Row):
    """By key and name, the fields of each sample that depend on the catalog, at a commit; null where empty."""

    commit: int
    samples: dict[str, dict[str, Any]]


class ReasonRow(Row):
    """How one task contributes to the draws of a sample in one phase of a plan: see `samplers.plan.explain`."""

    plan: str
    task: str
    stratum: str
    phase: int
    labels: int
    target: float
    p: float
    part: float
    weight: float
    expected: float
    drawn: int
    hot: bool
