"""Requests and responses of the service about commits."""

from typing import Any

from pydantic import BaseModel, Field

from amber.service.models.ledger import Line, Moment, Row

__all__ = ["ChangesRow", "CommitRow", "LabelsChangedRow", "RevertAsked", "Reverted"]


class CommitRow(Row):
    """A commit, and how many rows of each kind it added."""

    commit: int
    at: Moment
    author: str
    message: str
    batch: str
    digest: str
    added: dict[str, int]


class LabelsChangedRow(Row):
    """How the current labels of one (task, slice) changed: see `curation.catalog.differences`."""

    task: str
    slice: str
    before: int
    after: int
    learned: int
    changed: int
    doubted: int
    lost: int


class ChangesRow(Row):
    """What a commit changed: labels by task and slice, definitions, slices, and acts."""

    commit: int
    labels: list[LabelsChangedRow]
    definitions: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    acts: list[dict[str, Any]]


class RevertAsked(BaseModel):
    """A commit to undo; with `preview` nothing is undone."""

    batch: Line = Field(description="the same batch again is a no-op")
    preview: bool = False


class Reverted(Row):
    """What was undone, or would be: `moved` counts by kind, `kept` events that later commits have replaced.

    `made` is the commit that undoes it, null for a preview.
    """

    commit: int
    made: int | None
    moved: dict[str, int]
    kept: int
