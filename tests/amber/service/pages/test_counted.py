"""Values that pages show and that are counted in the background."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import make_home

from amber.service.facts.counted import Counted
from amber.service.pages import home, people, plans, requests, slices, tasks
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("counted"), samples=20)


@pytest.fixture
def made() -> list[str]:
    return []


@pytest.fixture
def counted(catalog: Catalog, made: list[str]) -> Iterator[Counted]:
    def number(now: Snapshot, home: Path) -> int:
        made.append("number")
        return now.commit

    def broken(now: Snapshot, home: Path) -> int:
        raise BadInput("slice 'x': is broken; correct it")

    def of(now: Snapshot, home: Path, thing: str) -> str:
        made.append(thing)
        return f"{thing} {now.commit}"

    found = Counted(catalog, {"number": number, "broken": broken}, {"of": of})
    yield found
    found.close()


def until_ready(counted: Counted, name: str, commit: int) -> object:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        figure = counted.figures((name,), commit)[name]
        if figure and figure.commit >= commit:
            return figure.value
    raise AssertionError(f"{name} was not made")


def test_pages_share_a_name_only_where_they_share_what_makes_it() -> None:
    making: dict[str, object] = {}
    for page in (home, tasks, slices, plans, requests, people):
        for name, function in page.COUNTED.items():
            assert making.setdefault(name, function) is function, name


def test_a_value_is_made_once_a_commit_and_only_when_asked_for(
    catalog: Catalog, counted: Counted, made: list[str]
) -> None:
    with catalog.read() as now:
        commit = now.commit
    assert until_ready(counted, "number", commit) == commit
    assert counted.figures(("number",), commit)["number"].value == commit  # type: ignore[union-attr]
    assert made == ["number"]
    with catalog.commit(author="ada", message="nothing new") as change:
        change.add_slice("dark", "attr.night")
    assert until_ready(counted, "number", commit + 1) == commit + 1
    assert made == ["number", "number"]


def test_what_is_dear_waits_for_somebody_who_looks(
    catalog: Catalog, counted: Counted, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amber.service.facts.counted.DEAR", 0.0)
    with catalog.read() as now:
        commit = now.commit
    until_ready(counted, "number", commit)
    with catalog.commit(author="ada", message="nothing new") as change:
        change.add_slice("darker", "attr.night")
    until_ready(counted, "of:color", commit + 1)
    time.sleep(0.3)
    assert made == ["number", "color"]
    assert until_ready(counted, "number", commit + 1) == commit + 1


def test_one_of_many_things(catalog: Catalog, counted: Counted, made: list[str]) -> None:
    with catalog.read() as now:
        commit = now.commit
    assert until_ready(counted, "of:color", commit) == f"color {commit}"
    assert made == ["color"]


def test_what_cannot_be_made_says_why(catalog: Catalog, counted: Counted) -> None:
    with catalog.read() as now:
        commit = now.commit
    assert until_ready(counted, "broken", commit) is None
    figure = counted.figures(("broken",), commit)["broken"]
    assert figure is not None
    assert figure.problem == "slice 'x': is broken; correct it"
