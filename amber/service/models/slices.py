"""Requests and responses about slices and single images: schemas of the service's OpenAPI document."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from amber.service.models.ledger import Line, Row

__all__ = [
    "AttributeRow", "BoxRow", "CurrentLabel", "Declaration", "Elsewhere", "ItemRow", "NearRow", "NewSlice",
    "PictureFacts", "PictureRow", "PredictedRow", "SampleRequest", "SliceFacts", "SliceFigure", "SlicePreview",
    "SliceSize", "SliceSummary", "StatementRow",
]  # fmt: skip

Predicate = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class NewSlice(BaseModel):
    """A slice to declare: reported for `task` alone, or for every task ("")."""

    name: Line
    predicate: Predicate
    task: Line | Literal[""] = ""
    rare: bool = Field(default=False, description="mine label requests for it")
    replace: bool = Field(default=False, description="a slice of this name gets the new predicate")
    batch: Line = Field(description="the same batch again is a no-op")


class SliceFigure(Row):
    """The figure of one run on a slice for one task, on test, with its 95% interval."""

    run: str
    task: str
    metric: str
    n: int
    groups: int
    value: float | None
    low: float | None
    high: float | None


class SliceSummary(Row):
    """A slice with its size at a commit (null while it is being counted, or where it reads predictions and there is no
    run), and its newest figure on test: of its task, or of the task on which it fails worst.

    `change` is the figure minus the one of the run before. `gate` is the outcome of the newest release's gate on it
    ("" where it was not judged).
    """

    name: str
    task: str
    predicate: str
    rare: bool
    samples: int | None
    samples_commit: int | None
    figure_task: str
    run: str
    metric: str
    n: int | None
    value: float | None
    low: float | None
    high: float | None
    change: float | None
    gate: str


class Declaration(Row):
    """One declaration of a slice; an empty predicate removed it."""

    commit: int
    at: datetime
    author: str
    task: str
    predicate: str
    rare: bool


class SliceFacts(Row):
    """A slice: its definition, its size (as in `SliceSummary`), its declarations, and its figures by task and run."""

    name: str
    task: str
    predicate: str
    rare: bool
    samples: int | None
    samples_commit: int | None
    declarations: list[Declaration]
    figures: list[SliceFigure]


class SliceSize(Row):
    """How many samples were in a slice, by its newest predicate, after a commit."""

    commit: int
    at: datetime
    samples: int


class BoxRow(Row):
    """A box, in pixels of the image; `score` is null for a known one."""

    task: str
    name: str
    x: float
    y: float
    w: float
    h: float
    score: float | None = None


class PictureRow(Row):
    """An image of a slice: what is known of one task, what a run predicts ("": nothing), and all boxes.

    `wrong` is null where there is no label, no prediction, or where the task is one of boxes.
    """

    key: str
    image: str
    width: int
    height: int
    split: str
    excluded: bool
    state: Literal["known", "unsure", "inapplicable", "unknown"]
    truth: str
    predicted: str
    confidence: float | None
    wrong: bool | None
    boxes: list[BoxRow]
    predicted_boxes: list[BoxRow]


class SlicePreview(Row):
    """A predicate that is sound, in its canonical text: how many samples it holds, and some of them."""

    predicate: str
    samples: int
    of: int
    run: str
    examples: list[PictureRow]


class StatementRow(Row):
    """What one annotator stated of a sample for a task, and when; `state` "retracted" took a statement back.

    `instructions` is the version of the task's instructions that the annotator had (null: not known).
    """

    commit: int
    at: datetime
    author: str
    task: str
    annotator: str
    source: str
    state: str
    value: str
    labelled_at: datetime
    instructions: int | None
    confidence: float


class CurrentLabel(Row):
    """The current label of a task, in words."""

    task: str
    state: str
    value: str
    source: str


class PredictedRow(Row):
    """What a run predicts of a sample for a task, in words."""

    run: str
    task: str
    value: str
    confidence: float | None


class SampleRequest(Row):
    """A label request of a sample, in its current state."""

    request_id: int
    task: str
    state: str
    arm: str
    slice: str
    reason: str
    run: str
    opened: int
    opened_at: datetime
    changed: int
    changed_at: datetime


class ItemRow(Row):
    """An item of Label Studio that asks somebody about a sample; `url` is "" while its server does not run."""

    key: str
    tasks: list[str]
    url: str


class Elsewhere(Row):
    """Where else a slice can be looked at: `app` is the address of its view where the FiftyOne App runs ("": nowhere),
    `command` opens it there."""

    app: str
    command: str
    items: list[ItemRow]


class NearRow(Row):
    """A near-duplicate: `distance` of 64 bits of the perceptual hash differ."""

    key: str
    image: str
    distance: int


class AttributeRow(Row):
    """An attribute of a sample, as text."""

    name: str
    value: str


class PictureFacts(Row):
    """Everything that the catalog knows of one image. `problem` says why its file cannot be shown ("": it can)."""

    key: str
    image: str
    location: str
    dataset: str
    width: int
    height: int
    format: str
    bytes: int
    group: str
    split: str
    excluded: bool
    commit: int
    labels: list[CurrentLabel]
    boxes: list[BoxRow]
    predicted_boxes: list[BoxRow]
    statements: list[StatementRow]
    predictions: list[PredictedRow]
    requests: list[SampleRequest]
    near: list[NearRow]
    attributes: list[AttributeRow]
    items: list[ItemRow]
    problem: str = ""
