"""The typed client of the service: every route, every name, and what it says when nobody is there."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from support.homes import make_home, sample_rows
from support.served import Served, served

from amber.service.client import Client
from amber.service.models.ledger import (
    AskedFor,
    DoubtPicked,
    GivenLabel,
    RequestPicked,
    RequestsChosen,
    ShownPicked,
    SignOff,
    TagPicked,
)
from amber.service.models.people import AssignedTo, Settlement
from amber.service.models.plans import PolicyAsked
from amber.service.models.runs import GateAsked, ReleaseAsked, ReleaseSigned
from amber.service.models.slices import NewSlice
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Failed, NotFound

ODD = "a key? #1 \u00fc%2f"
FIGURES = pa.schema(
    [("run", pa.string()), ("task", pa.string()), ("slice", pa.string()), ("split", pa.string()),
     ("metric", pa.string()), ("n", pa.int64()), ("groups", pa.int64()), ("value", pa.float64()),
     ("low", pa.float64()), ("high", pa.float64())]
)  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("client"), samples=40)


@pytest.fixture(scope="module")
def service(catalog: Catalog) -> Iterator[Served]:
    with served(catalog.home) as running:
        yield running


@pytest.fixture
def reader(catalog: Catalog, service: Served, tmp_path: Path) -> Iterator[Client]:
    with Client(service.url, Tokens(catalog.home).add(tmp_path.name, "read")) as client:
        yield client


PICKED = {"keys": ["k"], "batch": "b", "preview": True}
CALLS: dict[str, Callable[[Client], object]] = {
    "GET /api/tasks": Client.tasks,
    "GET /api/samples": Client.samples,
    "GET /api/samples/k": lambda client: client.sample("k"),
    "GET /api/labels/color": lambda client: client.labels("color"),
    "POST /api/labels": lambda client: client.give([GivenLabel(key="k", task="color")], batch="b"),
    "GET /api/coverage": Client.coverage,
    "GET /api/slices": Client.slices,
    "GET /api/plans": Client.plans,
    "GET /api/runs": Client.runs,
    "GET /api/runs/r/figures": lambda client: client.figures("r"),
    "GET /api/requests": Client.requests,
    "POST /api/requests": lambda client: client.ask(AskedFor(budget=1, batch="b")),
    "POST /api/picked/requests": lambda client: client.pick(RequestPicked(**PICKED, tasks=["color"], reason="r")),
    "POST /api/picked/tags": lambda client: client.pick(TagPicked(**PICKED, tag="t")),
    "POST /api/picked/doubts": lambda client: client.pick(DoubtPicked(**PICKED, task="color", state="unsure")),
    "POST /api/sign-offs": lambda client: client.sign_off(
        SignOff(owner="o", plan="0" * 32, before="0" * 32, policy="0" * 32, batch="b")
    ),
    "GET /api/sign-offs": Client.waiting,
    "GET /api/signed": Client.signed,
    "GET /api/plan-list": Client.plan_list,
    "GET /api/plans/0000": lambda client: client.plan("0000"),
    "GET /api/accounts": Client.accounts,
    "GET /api/policy": Client.policy,
    "POST /api/policy": lambda client: client.put_policy(PolicyAsked(text="", read="", batch="b")),
    "POST /api/policy/check": lambda client: client.check_policy(""),
    "GET /api/requests/pace": Client.pace,
    "POST /api/requests/withdrawn": lambda client: client.withdraw(RequestsChosen(requests=[1], batch="b")),
    "POST /api/requests/raised": lambda client: client.put_first(RequestsChosen(requests=[1], batch="b")),
    "GET /api/people": Client.people,
    "GET /api/people/weeks": Client.weeks,
    "GET /api/disputes": Client.disputes,
    "POST /api/assignments": lambda client: client.assign(AssignedTo(task="t", person="p", batch="b")),
    "POST /api/settlements": lambda client: client.settle(Settlement(task="t", key="k", value="v", batch="b")),
    "POST /api/picked/shown": lambda client: client.shown(ShownPicked(keys=["k"])),
    "GET /api/why/k": lambda client: client.why("k"),
    "GET /metrics": Client.metrics,
    "GET /api/standing": Client.standing,
    "GET /api/standing/color": lambda client: client.task_standing("color"),
    "GET /api/trends": Client.trends,
    "POST /api/slices": lambda client: client.declare_slice(NewSlice(name="n", predicate="true", batch="b")),
    "GET /api/slice-summaries": Client.slice_summaries,
    "GET /api/slice-preview": lambda client: client.preview_slice("true"),
    "GET /api/slices/night": lambda client: client.slice("night"),
    "GET /api/slices/night/sizes": lambda client: client.slice_sizes("night"),
    "GET /api/slices/night/pictures": lambda client: client.pictures("night"),
    "GET /api/slices/night/elsewhere": lambda client: client.slice_elsewhere("night"),
    "GET /api/pictures/k": lambda client: client.picture("k"),
    "GET /api/run-entries": Client.run_entries,
    "GET /api/runs/r": lambda client: client.run("r"),
    "GET /api/live-runs": Client.live_runs,
    "GET /api/runs/r/lineage": lambda client: client.lineage("r"),
    "GET /api/runs/r/report": lambda client: client.report("r"),
    "GET /api/comparison": Client.comparison,
    "POST /api/gates": lambda client: client.gate(GateAsked(run="r", rules="x = 1")),
    "GET /api/releases": Client.releases,
    "POST /api/releases": lambda client: client.release(ReleaseAsked(run="r", rules="x = 1")),
    "POST /api/releases/signed": lambda client: client.sign_release(ReleaseSigned(run="r", owner="o", rules="x = 1")),
    "POST /api/releases/back": lambda client: client.go_back("r"),
    "GET /api/commits": Client.commits,
    "GET /api/commits/1": lambda client: client.commit(1),
    "GET /api/commits/1/changes": lambda client: client.changes(1),
    "POST /api/commits/1/revert": lambda client: client.revert(1, batch="b"),
}


def test_it_has_every_route(service: Served) -> None:
    names = {"{key}": "k", "{task}": "color", "{run}": "r", "{plan}": "0000", "{slice}": "night", "{commit}": "1"}
    known = {
        f"{method.upper()} {'/'.join(names.get(part, part) for part in path.split('/'))}"
        for path, methods in service.app.openapi()["paths"].items()
        for method in methods
    }
    assert known - {"GET /health"} == set(CALLS)


@pytest.mark.parametrize("route", CALLS)
def test_each_call_asks_for_its_route(service: Served, route: str) -> None:
    asked: list[str] = []

    def note(request: httpx.Request) -> None:
        asked.append(f"{request.method} {request.url.path}")

    hooks = {"request": [note]}
    http = httpx.Client(base_url=service.url, timeout=60, event_hooks=hooks)
    with Client("", "none", http=http) as client, pytest.raises(BadInput, match="token: missing"):
        CALLS[route](client)
    assert asked == [route]


def test_names_are_asked_for_as_they_are(reader: Client, catalog: Catalog) -> None:
    path = catalog.home.parent / "images" / "00000.jpg"
    with catalog.commit(author="ada", message="an odd one") as change:
        change.add_samples(sample_rows([ODD], [path]), dataset="odd")
    assert reader.sample(ODD).key == ODD
    for call in (reader.sample, reader.labels, reader.figures, reader.why):
        with pytest.raises(NotFound):
            call("nosuch? #1 %2f")


def test_a_run_has_figures(reader: Client, catalog: Catalog) -> None:
    row = {"run": "r1", "task": "color", "split": "test", "metric": "accuracy", "groups": 3}
    rows = [
        {**row, "slice": "", "n": 9, "value": 0.5, "low": 0.25, "high": 0.75},
        {**row, "slice": "night", "n": 0, "value": float("nan"), "low": None, "high": None},
    ]
    with catalog.commit(author="ada", message="a run") as change:
        change.add_run("r1", plan="p", predictions="x", sha256="")
        change.add_slice_errors(pa.Table.from_pylist(rows, FIGURES))
    assert [run.run for run in reader.runs()] == ["r1"]
    assert [(row.slice, row.value, row.high) for row in reader.figures("r1")] == [
        ("", 0.5, 0.75),
        ("night", None, None),
    ]


def test_a_service_that_is_away_is_said_so(reader: Client) -> None:
    sample = reader.samples(limit=1)[0]
    with Client("http://127.0.0.1:9", "none") as away:
        for call in (away.health, away.metrics, lambda: away.image(sample)):
            with pytest.raises(Failed, match="cannot be reached"):
                call()
