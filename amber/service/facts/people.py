"""What is known about people who label, and the acts by which leads assign items and settle disputes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from amber.people import ItemCounts, PersonFigures, figures_of_people, item_counts
from amber.service.access import Workspace, batch_of
from amber.service.facts.label_items import cached_items, people_by_id
from amber.service.models.people import (
    Assigned,
    AssignedTo,
    DisputeRow,
    PersonRow,
    Settled,
    Settlement,
    WeekRow,
)
from amber.service.tokens import Token
from curation.analysis.disputes import disputes, settle
from curation.analysis.known_people import known_people, person_named
from curation.analysis.work_of_people import work_of_people
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput

__all__ = ["assign", "dispute_rows", "people_rows", "settle_dispute", "week_rows"]


def people_rows(now: Snapshot, home: Path) -> list[PersonRow]:
    """A row for each person who answered, was assigned to, or left, by name."""
    figures = {row.person: row for row in _figures(now, by_week=False)}
    items, gone = cached_items(home), now.people.left()
    counts = item_counts(items, now.people.assignments(), people_by_id(items, now.requests.answers()))
    return [
        _person(figures.get(name) or PersonFigures.of_nobody(name), counts.get(name, ItemCounts()), left=name in gone)
        for name in sorted({*figures, *counts, *gone})
    ]


def week_rows(now: Snapshot, home: Path) -> list[WeekRow]:
    """A row for each person and week with work, the newest week first."""
    rows = [WeekRow.model_validate(asdict(row)) for row in _figures(now, by_week=True)]
    return sorted(rows, key=lambda row: row.week, reverse=True)


def dispute_rows(now: Snapshot, home: Path) -> list[DisputeRow]:
    """The disputes of all tasks, the oldest last statement first."""
    owners = {name: task.owner for name, task in now.tasks().items()}
    return [
        DisputeRow.model_validate(
            {
                **asdict(part), "owner": owners[part.task],
                "statements": [{**asdict(each), "at": each.at.isoformat(" ", "minutes")} for each in part.statements],
            }
        )
        for part in disputes(now)
    ]  # fmt: skip


def assign(workspace: Workspace, token: Token, wish: AssignedTo) -> Assigned:
    """Give the items of a task to a person, for a token of a lead; the same batch again changes nothing.

    `person` is an e-mail address of Label Studio, or the name of somebody known. NotFound for a name that is neither;
    BadInput for a person who left, and when the task's owner has members and the token is none of them.
    """
    message, batch = f"assign {wish.task} to {wish.person}", batch_of(token, wish.batch)
    with workspace.catalog.commit(author=token.name, message=message, batch=batch) as change:
        person = wish.person if "@" in wish.person else person_named(wish.person, known_people(change.now))
        if any(mark in person for mark in "<> ") or not person.isprintable():
            raise BadInput(f"person {person!r}: must be an e-mail address of Label Studio; correct it")
        change.people.assign(wish.task, person, most=wish.limit, by=Identity(name=token.name, via="token"))
    return Assigned(task=wish.task, person=person, limit=wish.limit, commit=change.id)


def settle_dispute(workspace: Workspace, token: Token, wish: Settlement) -> Settled:
    """Settle a dispute by a label of the token's owner, who leads; the same batch again changes nothing."""
    by, batch = Identity(name=token.name, via="token"), batch_of(token, wish.batch)
    with workspace.catalog.commit(author=token.name, message="settle a dispute", batch=batch) as change:
        if not change.repeated:
            settle(change, wish.key, wish.value, task=wish.task, annotator=token.name, by=by)
    return Settled(task=wish.task, key=wish.key, value=wish.value, by=str(by), commit=change.id)


def _figures(now: Snapshot, *, by_week: bool) -> list[PersonFigures]:
    work = work_of_people(now)
    return figures_of_people(work, _groups(now, work), by_week=by_week)


def _groups(now: Snapshot, work: pa.Table) -> Mapping[int, str]:
    """The groups of the samples that somebody worked on."""
    samples = now.samples("sample_id", "group")
    mine = samples.filter(pc.is_in(samples["sample_id"], value_set=pc.unique(work["sample_id"])))
    return dict(zip(mine["sample_id"].to_pylist(), mine["group"].to_pylist(), strict=True))


def _person(figures: PersonFigures, counts: ItemCounts, *, left: bool) -> PersonRow:
    fields: dict[str, Any] = {**asdict(figures), **asdict(counts), "answers": figures.answers, "left": left}
    return PersonRow.model_validate(fields)
