"""Labelling progress, compared with figures counted by hand."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.homes import label, labels, make_home
from support.label_requests import ask, states

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.labelstudio.pull import ANSWERS
from curation.labelstudio.status import Progress, people, progress

BEGAN = datetime(2026, 1, 1, 9)
ANSWERED = {
    (1, "ann"): "red", (1, "bob"): "red", (2, "ann"): "red", (2, "bob"): "green", (3, "ann"): None,
    (4, "ann"): "green", (4, "bob"): "green",
}  # fmt: skip
"""Answers for the task color by (sample, annotator), one every ten minutes; 2 and 3 are of the slice night."""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = make_home(tmp_path, samples=40)
    rows = [
        {"sample_id": sample, "task_id": 0, "arm": "mined", "slice": "night" if sample in (2, 3) else "yellow",
         "reason": "", "run": "", "priority": sample, "propensity": 1.0, "cost": 2.0} for sample in range(1, 7)
    ]  # fmt: skip
    with catalog.commit(author="ada", message="ask") as change:
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    with catalog.commit(author="people", message="answer") as change:
        given = [label(f"pictures/{sample:05d}", "color", value, who) for (sample, who), value in ANSWERED.items()]
        change.add_labels(labels(given), source="human")
        change.add_answers(pa.Table.from_pylist([answer(number) for number in range(len(ANSWERED))], ANSWERS))
        change.close_requests([0, 3], state="answered")
        change.close_requests([5], state="withdrawn")
    return catalog


def answer(number: int) -> dict[str, Any]:
    (sample, who), value = list(ANSWERED.items())[number]
    return {
        "sample_id": sample, "task_id": 0, "annotator": who, "server": "local", "project": 1, "item": sample,
        "annotation": number, "outcome": "known" if value else "unsure", "seconds": 2.0 + number,
        "answered_at": BEGAN + timedelta(minutes=10 * number),
    }  # fmt: skip


def test_progress_is_counted_by_task_and_slice(catalog: Catalog) -> None:
    with catalog.read() as now:
        all_, night, yellow = progress(now, {1, 2, 4})
    same = {"task": "color", "skipped": 0, "rate": 6.0}
    assert all_ == Progress(
        **same, slice="", requests=6, sent=3, disputed=1, answered=2, withdrawn=1, unsure=1, agreement=2 / 3, spent=4.0,
        open_cost=6.0, hours=1.0,
    )  # fmt: skip
    assert night == Progress(
        **same, slice="night", requests=2, sent=2, disputed=1, answered=0, withdrawn=0, unsure=1, agreement=0.0,
        spent=0.0, open_cost=4.0, hours=2 / 6,
    )  # fmt: skip
    assert (yellow.slice, yellow.agreement, yellow.spent, yellow.open_cost) == ("yellow", 1.0, 4.0, 2.0)


def test_figures_without_data_are_none(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=40)
    ask(catalog, (1, "color"))
    with catalog.read() as now:
        (row,) = progress(now, set())
        assert (row.requests, row.rate, row.agreement, row.hours, people(now)) == (1, None, None, None, [])
    assert states(catalog) == ["open"]


def test_people_are_counted_by_their_answers(catalog: Catalog) -> None:
    with catalog.read() as now:
        ann, bob = people(now)
    assert (ann.annotator, ann.answers, ann.unsure, ann.seconds, ann.quality) == ("ann", 4, 1, 5.0, None)
    assert (bob.annotator, bob.answers, bob.unsure, bob.seconds) == ("bob", 3, 0, 5.0)
