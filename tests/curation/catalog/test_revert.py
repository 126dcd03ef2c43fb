"""`PendingCommit.revert`: a new commit reverts exactly one earlier commit."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.homes import copy_home, label, labels, make_home, sample_rows

from amber.cli import run
from curation import BadInput, Catalog, Task
from curation.requests.proposals import Proposal, propose

KEY = "pictures/00001"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("revert"), samples=40)


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(original, tmp_path)


def everything(catalog: Catalog) -> dict[str, Any]:
    """The current state: labels, attributes, slices, tasks, open requests."""
    with catalog.read() as now:
        return {
            "labels": {name: now.labels(name).to_pylist() for name in now.tasks()},
            "attributes": {name: now.attribute(name).to_pylist() for name in now.attributes() if name != "mood"},
            "slices": now.slices(),
            "tasks": {name: task for name, task in now.tasks().items() if name != "mood"},
            "requests": now.requests("open").to_pylist(),
        }


def add_label(catalog: Catalog, value: object, annotator: str = "ada") -> int:
    with catalog.commit(author="ada", message="label") as change:
        change.add_labels(labels([label(KEY, "car", value, annotator)]), source="human")
        return change.id


def undo(catalog: Catalog, commit: int) -> dict[str, int]:
    with catalog.commit(author="ada", message=f"revert {commit}") as change:
        return change.revert(commit)


def many_things(catalog: Catalog) -> int:
    """A commit with new and changed labels, attributes, a slice, a redefined task and a new task."""
    keys = [f"pictures/{number:05d}" for number in range(30)]
    with catalog.commit(author="ada", message="many") as change:
        change.add_tasks([Task(name="mood", kind="binary", owner="eve")])
        color = change.now.task("color")
        change.redefine_task(color.model_copy(update={"classes": ("red", "amber", "green")}), {"yellow": "amber"})
        change.add_labels(labels([label(key, "car", True, "vendor") for key in keys]), source="import")
        change.add_labels(labels([label(key, "mood", True, "ada") for key in keys]), source="human")
        change.add_attributes(pa.table({"key": keys, "night": [True] * 30, "mood": ["good"] * 30}))
        change.add_slice("night", "NOT attr.night")
        change.add_slice("cars", "label.car")
        return change.id


def test_everything_in_a_commit_is_reverted(catalog: Catalog) -> None:
    before = everything(catalog)
    commit = many_things(catalog)
    assert everything(catalog) != before
    moved = undo(catalog, commit)
    assert (moved["labels"], moved["attributes"], moved["slices"], moved["tasks"]) == (60, 60, 4, 1)
    after = everything(catalog)
    assert after["labels"].pop("mood") == []
    assert after == before


@pytest.mark.parametrize("fold", [False, True])
def test_a_revert_can_be_reverted(catalog: Catalog, fold: bool) -> None:
    commit = many_things(catalog)
    before = everything(catalog)
    undo(catalog, commit)
    if fold:
        catalog.compact()
    undo(catalog, commit + 1)
    assert everything(catalog) == before


def test_events_that_a_later_commit_replaced_are_kept(catalog: Catalog) -> None:
    first = add_label(catalog, True)
    add_label(catalog, False)
    assert undo(catalog, first) == {
        "kept": 1, "labels": 0, "attributes": 0, "requests": 0, "instructions": 0, "assignments": 0, "people": 0,
        "samples": 0, "tasks": 0, "slices": 0,
    }  # fmt: skip
    with catalog.read() as now:
        codes = {
            row["annotator"]: row["code"] for row in now.labels.by_annotator("car").to_pylist() if row["sample_id"] == 1
        }
    assert codes["ada"] == 0


def test_a_label_with_nothing_before_it_is_retracted(catalog: Catalog) -> None:
    with catalog.read() as now:
        before = now.labels("bike").to_pylist()
    with catalog.commit(author="ada", message="label") as change:
        rows = [label(f"pictures/{i:05d}", "bike", True, "ada") for i in range(40)]
        change.add_labels(labels(rows), source="human")
        commit = change.id
    undo(catalog, commit)
    with catalog.read() as now:
        assert now.labels("bike").to_pylist() == before


def test_samples_that_a_commit_added_are_excluded(catalog: Catalog) -> None:
    with catalog.read() as now:
        image = Path(now.samples()["location"][0].as_py())
    with catalog.commit(author="ada", message="more") as change:
        change.add_samples(sample_rows(["more/1"], [image]), dataset="more")
        change.add_attributes(pa.table({"key": ["more/1"], "split": ["train"]}))
        commit = change.id
    assert undo(catalog, commit)["samples"] == 1
    with catalog.read() as now:
        row = next(row for row in now.samples().to_pylist() if row["key"] == "more/1")
        assert row["excluded"]
        assert row["sample_id"] not in now.training_ids()


def test_requests_are_withdrawn_and_answered_ones_reopened(catalog: Catalog) -> None:
    propose(catalog, Proposal(budget=3, seed=0, random_share=1), author="ada", batch="ask")
    with catalog.read() as now:
        asked, opened = now.requests("open")["request_id"].to_pylist(), now.commit
    with catalog.commit(author="ada", message="close") as change:
        change.close_requests(asked[:1], state="answered")
        closed = change.id
    undo(catalog, closed)
    with catalog.read() as now:
        assert now.requests("open")["request_id"].to_pylist() == asked
    undo(catalog, closed + 1)
    undo(catalog, opened)
    with catalog.read() as now:
        assert [row["state"] for row in now.requests().to_pylist()] == ["answered", "withdrawn", "withdrawn"]


@pytest.mark.parametrize("commit", [0, -1, 2, 99])
def test_only_earlier_commits_can_be_undone(original: Catalog, commit: int) -> None:
    with pytest.raises(BadInput, match="only commits 1 to 1 can be undone"):
        undo(original, commit)


def test_the_command_line_reverts(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    commit = add_label(catalog, True)
    options = ["--author", "ada", "--home", str(catalog.home)]
    assert run(["revert", str(commit), *options]) == 0
    assert capsys.readouterr().out == f"commit {commit + 1} undoes 1 labels\n"
    assert run(["revert", "99", *options]) == 2
    assert "commit 99: only commits 1 to" in capsys.readouterr().err
