"""Pages of the service: every row once, at one commit, and only with the cursor that the page before gave."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from support.homes import copy_home, label, labels, make_home
from support.served import Served, served

from amber.service.client import Client, Page
from amber.service.tokens import Tokens
from curation.catalog import pages
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.requests.proposals import Proposal, propose

SAMPLES = 60
FIGURES = [("color", "", "test"), ("color", "night", "test"), ("car", "", "test"), ("car", "", "validation")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = make_home(tmp_path_factory.mktemp("pages"), samples=SAMPLES)
    propose(catalog, Proposal(budget=12, random_share=1.0, seed=0), author="ada", batch="ask")
    for number in range(5):
        with catalog.commit(author="ada", message="run") as change:
            change.add_run(f"run{number}", plan="0" * 32, predictions="none", sha256="0" * 64)
            change.add_slice_errors(figures(f"run{number}"))
    return catalog


def figures(run: str) -> pa.Table:
    rows = [
        {"run": run, "task": task, "slice": part, "split": split, "metric": "accuracy", "n": 1, "groups": 1,
         "value": 1.0, "low": 0.5, "high": 1.0}
        for task, part, split in FIGURES
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def service(made: Catalog) -> Iterator[Served]:
    with served(made.home) as running:
        yield running


@pytest.fixture(scope="module")
def client(made: Catalog, service: Served) -> Iterator[Client]:
    with Client(service.url, Tokens(made.home).add("reader", "read")) as client:
        yield client


def read_all(read: Callable[..., Page[object]], limit: int) -> list[object]:
    page = read(limit=limit)
    rows = list(page)
    while page.next:
        assert len(page) <= limit
        page = read(limit=limit, after=page.next)
        rows += page
    return rows


LISTS: dict[str, tuple[Callable[..., Callable[..., Page[object]]], Callable[[Snapshot], list[object]]]] = {
    "samples": (lambda client: client.samples, lambda now: now.samples()["key"].to_pylist()),
    "a slice": (
        lambda client: lambda **asked: client.samples(slice="night", **asked),
        lambda now: keys_of(now, now.members(now.slice("night").predicate)),
    ),
    "labels": (
        lambda client: lambda **asked: client.labels("color", **asked),
        lambda now: keys_of(now, now.labels("color")["sample_id"].to_numpy()),
    ),
    "requests": (
        lambda client: client.requests,
        lambda now: (
            now.requests("open").sort_by([("priority", "ascending"), ("request_id", "ascending")])["key"].to_pylist()
        ),
    ),
}


def keys_of(now: Snapshot, ids: object) -> list[object]:
    names = dict(zip(*(now.samples()[name].to_pylist() for name in ("sample_id", "key")), strict=True))
    return [names[id_] for id_ in ids]  # type: ignore[attr-defined]


@pytest.mark.parametrize("limit", [7, 1_000])
@pytest.mark.parametrize(("read", "truth"), LISTS.values(), ids=LISTS)
def test_pages_hold_every_row_once(
    client: Client, made: Catalog, read: Callable[..., Callable[..., Page[object]]],
    truth: Callable[[Snapshot], list[object]], limit: int,
) -> None:  # fmt: skip
    with made.read() as now:
        right = truth(now)
    assert [row.key for row in read_all(read(client), limit)] == right  # type: ignore[attr-defined]
    assert len(right) > 7


def test_runs_and_figures_come_in_pages_too(client: Client) -> None:
    runs = read_all(lambda **asked: client.page("/api/runs", **asked), 2)
    assert [row["run"] for row in runs] == [row.run for row in client.runs()] == [f"run{n}" for n in range(5)]
    path = "/api/runs/run3/figures"
    rows = read_all(lambda **asked: client.page(path, **asked), 3)
    assert [(row["task"], row["slice"], row["split"]) for row in rows] == sorted(FIGURES)
    assert [(row.task, row.slice, row.split) for row in client.figures("run3")] == sorted(FIGURES)


def test_a_page_looks_at_a_limited_number_of_samples(made: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LOOKED", 8)
    with made.read() as now:
        predicate, found, after = now.slice("night").predicate, [], ()
        sizes = []
        while after is not None:
            page = now.sample_page(after, limit=50, predicate=predicate)
            found += page.rows["key"].to_pylist()
            sizes.append(len(page.rows))
            after = page.next
        assert found == keys_of(now, now.members(predicate))
    assert len(sizes) == -(-SAMPLES // 8)
    assert max(sizes) <= 8


def test_all_pages_are_of_the_commit_of_the_first(made: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(made, tmp_path)
    with catalog.read() as now:
        before = {row["sample_id"]: row["code"] for row in now.labels("color").to_pylist()}
        keys = keys_of(now, before)
    with served(catalog.home) as service, Client(service.url, Tokens(catalog.home).add("r", "read")) as client:
        first = client.labels("color", limit=5)
        with catalog.commit(author="bob", message="all other colours") as change:
            rows = labels([label(key, "color", "green", annotator="bob") for key in keys])
            change.add_labels(rows, source="human")
        rest = client.labels("color", limit=1_000, after=first.next)
        fresh = client.labels("color", limit=1_000)
    classes = ["red", "yellow", "green"]
    with catalog.read() as now:
        classes = list(now.task("color").classes)
    assert [classes.index(row.value) for row in [*first, *rest]] == list(before.values())
    assert {row.value for row in fresh if row.key in keys} == {"green"}


def test_an_altered_cursor_is_refused_in_one_line(
    client: Client, service: Served, made: Catalog, request: pytest.FixtureRequest
) -> None:
    good = client.samples(limit=5).next
    secret = Tokens(made.home).add(request.node.name, "read")
    middle = len(good) // 2
    other = "A" if good[middle] != "A" else "B"
    bad = [good[:-1], good + "A", good[:middle] + other + good[middle + 1 :], good.partition(".")[0], "fleet/1", "."]
    for word in bad:
        answer = httpx.get(
            f"{service.url}/api/samples", params={"after": word}, headers={"Authorization": f"Bearer {secret}"}
        )
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith("after: is not a cursor of this list; take")
    for read in (client.requests, lambda **asked: client.samples(slice="night", **asked),
                 lambda **asked: client.labels("color", **asked)):  # fmt: skip
        with pytest.raises(BadInput, match="is not a cursor of this list"):
            read(after=good)
