"""Requests and responses about people: their work, the items that they are given, and disputes."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from amber.service.models.ledger import Line, Row

__all__ = ["Assigned", "AssignedTo", "DisputeRow", "PersonRow", "Settled", "Settlement", "StatementRow", "WeekRow"]


class Share(Row):
    """A share with its 95% interval over groups of samples, and on how many it is; null where there are too few."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int


class WeekRow(Row):
    """The work of a person in the week that begins on the Monday `week` ("": at any time): answers, the median seconds
    of one, gold questions answered right, and agreement with others."""

    person: str
    week: str
    answers: int
    seconds: float | None
    gold: Share
    agreement: Share


class PersonRow(WeekRow):
    """A person's work at any time, and the items of Label Studio as of the last push or pull: `given` to the person, of
    these `open`; `answered` by the person, of these `others`, which were given to other people. `tasks` are those whose
    items the person gets, with the limits of open ones (null: any number)."""

    left: bool
    given: int
    open: int
    answered: int
    others: int
    tasks: dict[str, int | None]


class StatementRow(Row):
    """What one person says of a sample, when, and under which version of the instructions."""

    annotator: str
    value: str
    at: str
    instructions: int | None


class DisputeRow(Row):
    """A label on which people disagree so that none holds; `open` while another person is asked."""

    task: str
    key: str
    owner: str
    statements: list[StatementRow]
    reason: str
    open: bool


class AssignedTo(BaseModel):
    """Give the items of a task to a person, at most `limit` open ones at a time; 0: no more, null: any number."""

    task: Line
    person: Line
    limit: int | None = Field(default=None, ge=0, le=2**31 - 1)
    batch: Line = Field(description="the same batch again is a no-op")


class Assigned(Row):
    """The assignment that was recorded; the next push follows it."""

    task: str
    person: str
    limit: int | None
    commit: int


class Settlement(BaseModel):
    """Settle a dispute: `value` is a class, a number, classes separated by commas ("" for none), "inapplicable", or a
    person whose statement holds."""

    task: Line
    key: Line
    value: Annotated[str, StringConstraints(max_length=2_000)]
    batch: Line = Field(description="the same batch again is a no-op")


class Settled(Row):
    """The dispute that was settled, by whom, and in which commit."""

    task: str
    key: str
    value: str
    by: str
    commit: int
