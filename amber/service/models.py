"""What the service says and takes, as its OpenAPI document has it."""

from abc import abstractmethod
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "FAULTS", "Asked", "AskedFor", "CoverageRow", "Done", "DoubtPicked", "FigureRow", "Given", "GivenLabel", "Health",
    "LabelRow", "PickedSamples", "Problem", "ReasonRow", "RequestPicked", "RequestRow", "RunRow", "SampleRow", "Shown",
    "ShownPicked", "SliceRow", "TagPicked", "TaskRow",
]  # fmt: skip

Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A line of text: nothing that ends it."""


class Row(BaseModel):
    """A row of an answer."""

    model_config = ConfigDict(extra="forbid")


class Health(Row):
    """That the service is there."""

    status: Literal["ok"] = "ok"


class Problem(Row):
    """What was wrong, in one line."""

    detail: str


FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 403, 404, 405, 409, 413, 503)
}
"""What every route may answer besides."""


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
    """A current label: `value` is a class, true or false, a number, classes, or boxes; null where it is unsure."""

    key: str
    task: str
    state: Literal["known", "unsure"]
    source: str
    value: Any


class CoverageRow(Row):
    """How much is known of one (task, slice, split)."""

    task: str
    slice: str
    split: str
    samples: int
    known: int
    unsure: int
    unknown: int


class SliceRow(Row):
    """A declared slice."""

    name: str
    task: str
    predicate: str
    rare: bool


class RunRow(Row):
    """A registered run."""

    run: str
    plan: str
    commit: int


class FigureRow(Row):
    """A figure of a run for one (task, slice, split), with its 95% interval; null where there was too little."""

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


class AskedFor(Row):
    """A budget of labels to ask for."""

    budget: int = Field(ge=1, le=100_000)
    random_share: float = Field(default=0.15, ge=0, le=1)
    seed: int = Field(default=0, ge=0, le=2**31)
    batch: Line = Field(description="the same batch again is a no-op")


class Asked(Row):
    """How many requests a batch opened; 0 when it was there."""

    requests: int


class GivenLabel(Row):
    """A label that somebody gives: `value` as in `LabelRow`, null for unsure."""

    key: Line
    task: Line
    value: Any = None
    labelled_at: datetime | None = None


class Given(Row):
    """Labels of one annotator, all or none of which go in."""

    annotator: Line | Literal[""] = Field(default="", description="the token's owner; an admin may name another")
    batch: Line = Field(description="the same batch again is a no-op")
    labels: list[GivenLabel] = Field(min_length=1, max_length=10_000)


class PickedSamples(BaseModel):
    """Samples that somebody picked, and whether to say only what would be done to them."""

    keys: list[Line] = Field(min_length=1, max_length=10_000)
    batch: Line = Field(description="the same batch again is a no-op")
    preview: bool = False

    @abstractmethod
    def told(self) -> str:
        """The message of the commit."""


class RequestPicked(PickedSamples):
    """Ask for labels of each of `tasks` on the samples."""

    tasks: list[Line] = Field(min_length=1, max_length=100)
    reason: Line

    def told(self) -> str:
        """The message of the commit."""
        return f"ask for labels of {', '.join(self.tasks)}: {self.reason}"


class TagPicked(PickedSamples):
    """Set the attribute `tag_NAME`, which slices can use, or take it away."""

    tag: Line
    on: bool = True

    def told(self) -> str:
        """The message of the commit."""
        return f"tag {self.tag}" if self.on else f"take tag {self.tag} away"


class DoubtPicked(PickedSamples):
    """Say of one task that nobody can tell, or take back what the token's owner said of it."""

    task: Line
    state: Literal["unsure", "retracted"]

    def told(self) -> str:
        """The message of the commit."""
        return f"{self.task} {self.state}"


class Done(Row):
    """What was done to how many, or would be; how many were passed over, and what is to be known of the others, each
    with its reason; null for the commit where there was none."""

    author: str
    done: int
    passed_over: dict[str, int]
    noted: dict[str, int]
    commit: int | None


class ShownPicked(BaseModel):
    """Samples of which to say what the App would show, with the predictions of a run, now or at a commit."""

    keys: list[Line] = Field(min_length=1, max_length=10_000)
    run: Line | Literal[""] = ""
    against: Line | Literal[""] = ""
    commit: int | None = Field(default=None, ge=0, description="default: now")


class Shown(Row):
    """At a commit, the fields of each sample that change with what is known, by key and name; null where empty."""

    commit: int
    samples: dict[str, dict[str, Any]]


class ReasonRow(Row):
    """What one task has to do with the draws of a sample in one phase of a plan: see `samplers.plan.explain`."""

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
