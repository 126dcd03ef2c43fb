"""Responses about where the loop and single tasks stand."""

from amber.service.models.ledger import Row
from amber.service.models.plans import OutcomeRow

__all__ = ["KnownLabels", "Standing", "TaskStanding", "TrendRow"]


class WorstSlice(Row):
    """A slice of the newest run, the largest error first; `sure` is false with too little data for a conclusion."""

    task: str
    slice: str
    told: str
    sure: bool


class Week(Row):
    """The last seven days: commits and their authors, statements about labels by task, and evaluated runs."""

    commits: int
    authors: list[str]
    labels: dict[str, int]
    runs: list[str]


class AskedLabels(Row):
    """Open requests by task, and how many were answered in the last seven days."""

    open: dict[str, int]
    answered: int


class StaleTask(Row):
    """A task of which something changed since `run` learned it ("": no run did), and what to train by these counts."""

    task: str
    run: str
    new: int
    corrected: int
    action: str


class Standing(Row):
    """Where the loop stands; null is being counted for the first time. `counted_at` is the oldest commit that a value
    is of, 0 while one is missing."""

    commit: int
    counted_at: int
    worst: list[WorstSlice] | None
    week: Week | None
    asked: AskedLabels | None
    stale: list[StaleTask] | None
    disputed: dict[str, int] | None


class KnownLabels(Row):
    """Images by the state of their current label."""

    samples: int
    known: int
    unsure: int
    inapplicable: int


class ClassRow(Row):
    """A class on test by the newest run; null where there is not enough data."""

    name: str
    true: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None


class AnnotatorRow(Row):
    """How many images an annotator has a label on."""

    task: str
    annotator: str
    source: str
    labels: int


class TaskStanding(Row):
    """Where one task stands: `outcome` is what it gets from the newest plan, `classes` how the newest run does."""

    task: str
    commit: int
    counted_at: int
    known: KnownLabels | None
    plan: str
    outcome: OutcomeRow | None
    run: str
    classes: list[ClassRow]
    annotators: list[AnnotatorRow]


class TrendRow(Row):
    """A figure of test of one run on a (task, slice), with its 95% interval."""

    run: str
    task: str
    slice: str
    metric: str
    n: int
    value: float | None
    low: float | None
    high: float | None
