"""Quality and throughput of people, compared with figures counted by hand; and the verbs that need no server."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.homes import label, labels, make_home
from support.refusals import refused

from amber.cli import run
from amber.people import ItemCounts, figures_of_people, item_counts
from curation.analysis.work_of_people import ANSWER, GOLD, PAIR, WORK, work_of_people
from curation.catalog.catalog import Catalog
from curation.catalog.people import Assignment
from curation.labelstudio.item_cache import Item

FIRST, SECOND = datetime(2026, 11, 18, 9), datetime(2026, 11, 23, 9)


def work(*rows: tuple[str, str, int, datetime, float | None]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(WORK.names, row, strict=True)) for row in rows], WORK)


def test_figures_are_by_person_and_week() -> None:
    done = work(
        ("ann", ANSWER, 1, FIRST, 4.0), ("ann", ANSWER, 2, FIRST, 6.0), ("ann", ANSWER, 3, SECOND, None),
        ("ann", GOLD, 4, FIRST, 1.0), ("ann", GOLD, 5, FIRST, 0.0), ("ann", PAIR, 1, SECOND, 1.0),
        ("bob", PAIR, 1, FIRST, 1.0),
    )  # fmt: skip
    ann, bob = figures_of_people(done, {}, by_week=False)
    assert (ann.person, ann.week, ann.answers, ann.seconds) == ("ann", "", 3, 5.0)
    assert (ann.gold.value, ann.gold.n, ann.agreement.value, bob.gold.value) == (0.5, 2, 1.0, None)
    weeks = figures_of_people(done, {}, by_week=True)
    assert [(row.person, row.week, row.answers, row.gold.n, row.agreement.n) for row in weeks] == [
        ("ann", "2026-11-16", 2, 2, 0), ("ann", "2026-11-23", 1, 0, 1), ("bob", "2026-11-16", 0, 0, 1),
    ]  # fmt: skip


def test_the_interval_counts_groups_not_images() -> None:
    done = work(*(("ann", GOLD, sample, FIRST, float(sample < 10)) for sample in range(20)))
    alone = figures_of_people(done, {sample: str(sample) for sample in range(20)}, by_week=False)[0].gold
    bursts = figures_of_people(done, {sample: str(sample // 10) for sample in range(20)}, by_week=False)[0].gold
    assert alone.low is not None
    assert bursts.low is not None
    assert (alone.value, bursts.value, bursts.groups) == (0.5, 0.5, 2)
    assert bursts.low < alone.low


def test_pairs_are_the_statements_of_two_people_on_a_sample(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=20)
    given = [("color", 1, "ann", "red"), ("color", 1, "bob", "red"), ("color", 1, "cem", "green"),
             ("color", 2, "ann", "red"), ("color", 3, "ann", None), ("color", 3, "bob", "red"),
             ("speed", 1, "ann", 10.0), ("speed", 1, "bob", 10.0)]  # fmt: skip
    rows = [label(f"pictures/{sample:05d}", task, value, who) for task, sample, who, value in given]
    with catalog.commit(author="ada", message="labels") as change:
        change.add_labels(labels(rows), source="human")
    with catalog.read() as now:
        found = [(row["annotator"], row["what"], row["value"]) for row in work_of_people(now).to_pylist()]
    assert sorted(found) == [
        ("ann", PAIR, 0.0), ("ann", PAIR, 1.0), ("ann", PAIR, 1.0), ("bob", PAIR, 0.0), ("bob", PAIR, 1.0),
        ("bob", PAIR, 1.0), ("cem", PAIR, 0.0), ("cem", PAIR, 0.0),
    ]  # fmt: skip


def test_items_are_counted_by_who_got_and_who_answered_them() -> None:
    def item(number: int, *people: str, answered: int = 0) -> Item:
        annotations = [{"id": 1, "completed_by": answered}] if answered else []
        return Item(
            project=1, item=number, key="", sample="", requests={"color": 1}, assigned=people, annotations=annotations
        )

    items = [item(1, "ann"), item(2, "ann", answered=1), item(3, "ann", answered=2), item(4, answered=2)]
    limits = [Assignment(task="color", person="cem", most=3)]
    assert item_counts(items, limits, {1: "ann", 2: "bob"}) == {
        "ann": ItemCounts(given=3, open=1, answered=1), "bob": ItemCounts(answered=2, others=1),
        "cem": ItemCounts(tasks={"color": 3}),
    }  # fmt: skip


@pytest.mark.usefixtures("folder")
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bytes").write_bytes(b"\xff\xfe")
    Path("empty").write_text(" \n")
    for words, why in {
        ("label", "people", "--left", "nobody"): "nobody: not known",
        ("label", "people", "--left", "a", "--back", "b"): "name one of them",
        ("label", "people", "--left", "a", "--author", ""): "every commit has one",
        ("label", "assign", "--task", "color", "--to", "ann"): "no Label Studio is running",
        ("label", "disputes", "--task", "colour"): "did you mean 'color'",
        ("label", "disputes", "--settle", "lamps/red/001", "red"): "people do not disagree on it",
        ("label", "disputes", "--settle", "lamps/red/001", "red", "--author", ""): "every label has one",
        ("tasks", "instructions", "colour", "empty"): "did you mean 'color'",
        ("tasks", "instructions", "color", "missing"): "missing: cannot be read",
        ("tasks", "instructions", "color", "bytes"): "not UTF-8",
        ("tasks", "instructions", "color", "empty"): "must be 1 to",
        ("tasks", "instructions", "color", "empty", "--author", ""): "every commit has one",
    }.items():  # fmt: skip
        assert why in refused(capsys, *words)


@pytest.mark.usefixtures("folder")
def test_instructions_are_set_shown_and_used_by_slices(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.md").write_text("Say which lamp is lit.\n")
    assert run(["tasks", "instructions", "color", "text.md"]) == 0
    assert run(["tasks", "instructions", "color", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.partition("\n")[2].partition("\n")[2])
    assert shown == {"task": "color", "version": 1, "text": "Say which lamp is lit."}
    assert run(["slices", "add", "old_color", "instructions.color < 1", "--task", "color"]) == 0
    assert run(["log", "--json"]) == 0
    assert "instructions for signals by user:" in capsys.readouterr().out


def dispute(folder: Path) -> dict[str, Any]:
    """A disputed label in the workspace."""
    with Catalog.open(folder / "home").commit(author="people", message="label") as change:
        for who, value in (("ann@x.org", "red"), ("bob@x.org", "green")):
            change.add_labels(labels([label("lamps/red/001", "color", value, who)]), source="human")
    return {"task": "color", "key": "lamps/red/001"}


def test_disputes_are_listed_and_settled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = dispute(folder)
    assert run(["label", "disputes", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (where.items() <= found.items(), [each["value"] for each in found["statements"]]) == (True, ["red", "green"])
    assert run(["label", "disputes"]) == 0
    assert "ann@x.org: red" in capsys.readouterr().out
    assert run(["label", "disputes", "--settle", "lamps/red/001", "bob@x.org", "--author", "lea"]) == 0
    assert "color of lamps/red/001: bob@x.org, by lea" in capsys.readouterr().out
    assert run(["label", "disputes"]) == 0
    assert "nothing is disputed" in capsys.readouterr().err
    with Catalog.open(folder / "home").read() as now:
        rows = [row for row in now.labels.by_annotator("color").to_pylist() if row["source"] == "lead"]
        assert [(row["annotator"], row["code"]) for row in rows] == [("lea", 2)]


def test_a_person_who_left_comes_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dispute(folder)
    assert run(["label", "people", "--left", "ann"]) == 0
    assert "ann@x.org: left" in capsys.readouterr().out
    assert "left already" in refused(capsys, "label", "people", "--left", "ann")
    assert run(["label", "people", "--back", "ann@x.org", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"person": "ann@x.org", "left": False}
