"""Where the loop and its tasks stand, as the service says it: equal to what the catalog holds."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx
import pytest
from support.planted_runs import noisy, plant_run, planted_home
from support.served import Served, served

from amber.service.client import Client
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import NotFound
from curation.requests.proposals import Proposal, propose
from training.report.worst_slices import worst_slices

Answer = TypeVar("Answer")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    made, plan = planted_home(tmp_path_factory.mktemp("standing"))
    for seed, name in enumerate(("old", "new")):
        plant_run(made, plan, name, lambda task, seed=seed: noisy(made, task, signal=2.0, seed=seed))  # type: ignore[misc]
    propose(made, Proposal(budget=30, seed=0, random_share=0.5, run="new"), author="ada", batch="asked")
    return made


@pytest.fixture(scope="module")
def service(catalog: Catalog) -> Iterator[Served]:
    with served(catalog.home) as running:
        yield running


@pytest.fixture
def client(catalog: Catalog, service: Served, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(service.url, Tokens(catalog.home).add(request.node.name, "read")) as client:
        yield client


def counted(ask: Callable[[], Answer], ready: Callable[[Answer], bool]) -> Answer:
    """An answer, once everything in it was counted."""
    deadline = time.monotonic() + 60
    while not ready(answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ready(answer)
    return answer


def test_where_the_loop_stands(catalog: Catalog, client: Client) -> None:
    found = counted(client.standing, lambda answer: answer.counted_at == answer.commit)
    with catalog.read() as now:
        worst = worst_slices(now, "new", now.runs.predictions_file(catalog.home, "new"))[:5]
        open_ = now.requests("open")["task"].to_pylist()
        commits = len(now.log())
    assert [(row.task, row.slice, row.told) for row in found.worst or []] == [
        (row.task, row.slice, row.told) for row in worst
    ]
    assert found.asked is not None
    assert found.asked.open == {task: open_.count(task) for task in set(open_)}
    assert found.week is not None
    assert (found.week.commits, sorted(found.week.runs)) == (commits, ["new", "old"])
    assert found.disputed == {}


def test_where_a_task_stands(catalog: Catalog, client: Client) -> None:
    found = counted(lambda: client.task_standing("color"), lambda answer: answer.counted_at == answer.commit)
    with catalog.read() as now:
        labels = now.labels("color")
        figure = next(row for row in now.runs.slice_errors("new").to_pylist()
                      if (row["task"], row["slice"], row["split"]) == ("color", "", "test"))  # fmt: skip
    assert found.known is not None
    assert (found.known.samples, found.known.known) == (800, len(labels))
    assert found.run == "new"
    assert sum(row.true for row in found.classes) == figure["n"]
    recalls = [row.recall for row in found.classes if row.recall is not None]
    assert sum(recalls) / len(recalls) == pytest.approx(figure["value"], abs=1e-3)
    assert found.outcome is not None
    assert (found.outcome.owner, found.outcome.share) == ("ada", 0.25)
    assert [(row.annotator, row.labels) for row in found.annotators] == [("vendor", len(labels))]
    with pytest.raises(NotFound):
        client.task_standing("nothing")


def test_trends(catalog: Catalog, client: Client, service: Served) -> None:
    found = counted(lambda: client.trends("color"), bool)
    with catalog.read() as now:
        rows = [(run, row) for run in ("old", "new") for row in now.runs.slice_errors(run).to_pylist()]
    expected = {(run, row["slice"]): row["value"] for run, row in rows
                if (row["task"], row["split"]) == ("color", "test") and row["value"] is not None}  # fmt: skip
    assert {(row.run, row.slice): row.value for row in found} == expected
    headers = {"Authorization": f"Bearer {Tokens(catalog.home).add('csv', 'read')}"}
    text = httpx.get(f"{service.url}/api/trends?task=color&slice=&format=csv", headers=headers).text.splitlines()
    assert text[0] == '"run","task","slice","metric","n","value","low","high"'
    assert len(text) == 3
