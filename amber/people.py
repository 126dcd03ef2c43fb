"""Quality and throughput of each person over time."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

import numpy as np
import pyarrow as pa

from curation.analysis.work_of_people import ANSWER, GOLD, PAIR
from curation.catalog.people import Assignment
from curation.labelstudio.item_cache import Item
from training.evaluation.intervals import NOT_ENOUGH_DATA, Figure, proportion

__all__ = ["ItemCounts", "PersonFigures", "figures_of_people", "item_counts"]


@dataclass(frozen=True, kw_only=True)
class PersonFigures:
    """One person's work, in the week that begins on the Monday `week` ("": at any time).

    `answers` that are a label; the median `seconds` of these (None: not measured); the shares of `gold` questions
    answered right and of pairs of statements in `agreement` with others, with intervals over groups of samples.
    """

    person: str
    week: str
    answers: int
    seconds: float | None
    gold: Figure
    agreement: Figure

    @classmethod
    def of_nobody(cls, person: str) -> Self:
        """The figures of a person without work."""
        return cls(person=person, week="", answers=0, seconds=None, gold=NOT_ENOUGH_DATA, agreement=NOT_ENOUGH_DATA)


@dataclass(kw_only=True)
class ItemCounts:
    """A person's items on the server: `given` to the person, of these `open`; `answered` or skipped by the person, of
    these `others`, which were given to other people. `tasks` whose items the person gets, with the limits."""

    given: int = 0
    open: int = 0
    answered: int = 0
    others: int = 0
    tasks: dict[str, int | None] = field(default_factory=dict)


def figures_of_people(work: pa.Table, groups: Mapping[int, str], *, by_week: bool) -> list[PersonFigures]:
    """The figures of everybody in `work` (columns of `WORK`), by person; with `by_week` of every week with work.

    `groups` has the group of each sample: samples of one group are not independent of each other.
    """
    parts: dict[tuple[str, str], dict[str, list[tuple[float | None, int]]]] = defaultdict(lambda: defaultdict(list))
    codes = {name: code for code, name in enumerate(dict.fromkeys(groups.values()))}
    for row in work.to_pylist():
        cell = row["annotator"], monday(row["at"]) if by_week else ""
        parts[cell][row["what"]].append((row["value"], codes.get(groups.get(row["sample_id"], ""), -1)))
    return [
        PersonFigures(
            person=person, week=week, answers=len(part[ANSWER]), seconds=_median(value for value, _ in part[ANSWER]),
            gold=_share(part[GOLD]), agreement=_share(part[PAIR]),
        ) for (person, week), part in sorted(parts.items())
    ]  # fmt: skip


def item_counts(
    items: Iterable[Item], assignments: Iterable[Assignment], names: Mapping[int, str]
) -> dict[str, ItemCounts]:
    """The items of each person, by name; `names` are the e-mail addresses by user id."""
    found = defaultdict[str, ItemCounts](ItemCounts)
    for part in assignments:
        found[part.person].tasks[part.task] = part.most
    for item in items:
        answered = {names.get(id_ or 0, f"label_studio:{id_}") for id_ in item.people}
        for person in item.assigned:
            found[person].given += 1
            found[person].open += item.unfinished and person not in answered
        for person in answered:
            found[person].answered += 1
            found[person].others += bool(item.assigned) and person not in item.assigned
    return dict(found)


def monday(at: datetime) -> str:
    """The date on which the week of a time begins.

    >>> monday(datetime(2026, 11, 29, 16))
    '2026-11-23'
    """
    return (at - timedelta(days=at.weekday())).date().isoformat()


def _median(seconds: Iterable[float | None]) -> float | None:
    measured = [each for each in seconds if each is not None]
    return float(np.median(measured)) if measured else None


def _share(rows: list[tuple[float | None, int]]) -> Figure:
    values = np.array([value for value, _ in rows], np.float64)
    return proportion(values, np.ones(len(rows)), np.array([group for _, group in rows], np.int64))
