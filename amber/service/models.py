"""What the service says and takes, as its OpenAPI document has it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "Asked", "AskedFor", "CoverageRow", "Given", "GivenLabel", "Health", "LabelRow", "Problem", "RequestRow", "RunRow",
    "SampleRow", "SliceRow", "TaskRow",
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
    """A registered run, and its figures where they were asked for."""

    run: str
    plan: str
    commit: int


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
