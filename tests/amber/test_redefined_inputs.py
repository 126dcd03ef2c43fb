"""`amber tasks redefine` changes what a task reads, and what its boxes have; wrong words are one line."""

from pathlib import Path

import pytest
from support.homes import make_home

from amber.cli import run
from curation import Catalog
from curation.catalog.differences import definition_changes
from curation.catalog.ownership import Identity


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("redefined"), samples=8).home


def redefine(home: Path, *words: str) -> int:
    return run(["tasks", "redefine", *words, "--home", str(home), "--author", "ada"])


@pytest.mark.parametrize("name", ["speed", "things"])
def test_a_task_reads_the_frame_before_and_one_frame_again(home: Path, name: str) -> None:
    for gap, (inputs, seconds) in {"0.15": (2, 0.15), "0": (1, 0.0)}.items():
        assert redefine(home, name, "--gap", gap) == 0
        with Catalog.open(home).read() as now:
            task = now.task(name)
        assert (task.inputs, task.gap) == (inputs, seconds)


def test_the_difference_of_two_commits_names_fields_that_came_and_went(tmp_path: Path) -> None:
    home = make_home(tmp_path, samples=8).home
    assert redefine(home, "speed", "--gap", "0.5") == 0
    catalog = Catalog.open(home)
    with catalog.read(1) as before, catalog.read() as now:
        came, went = definition_changes(before, now), definition_changes(now, before)
    assert [(row["field"], row["before"], row["after"]) for row in came] == [("inputs", None, 2), ("gap", None, 0.5)]
    assert [(row["field"], row["before"], row["after"]) for row in went] == [("inputs", 2, None), ("gap", 0.5, None)]


def test_only_members_of_the_owner_change_attributes(tmp_path: Path) -> None:
    home = make_home(tmp_path, samples=8).home
    with Catalog.open(home).commit(author="ada", message="members") as change:
        change.set_members("ada", [Identity(name="somebody", via="token")], by=Identity(name="me", via="user"))
    assert redefine(home, "things", "--attribute", "kind=a,b") != 0
    with Catalog.open(home).read() as now:
        assert now.task("things").attributes == ()


def test_attributes_are_added_changed_and_removed(home: Path) -> None:
    assert redefine(home, "things", "--attribute", "kind=stop, yield", "--attribute", "height=m") == 0
    assert redefine(home, "things", "--attribute", "height=", "--attribute", "kind=stop,yield,bus") == 0
    with Catalog.open(home).read() as now:
        assert now.task("things").attributes == (("kind", ("stop", "yield", "bus")),)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["things", "--attribute", "kind"], "amber: --attribute 'kind': must be NAME=CLASS,CLASS"),
        (["things", "--attribute", "Kind=a,b"], "'Kind' is no name of an attribute"),
        (["car", "--attribute", "kind=a,b"], "a binary task has none"),
        (["speed", "--gap", "-1"], "gap"),
    ],
)
def test_wrong_words_are_one_line(home: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert redefine(home, *words) != 0
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
