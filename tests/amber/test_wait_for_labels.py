"""The loop with people: a scripted annotator works through the real server's API while the loop waits."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.label_requests import ask, items, states
from support.lamps import declare
from support.served import served
from support.studio import Studio

from amber.loop import Loop, Round, run_loop
from amber.service.images.signed_urls import url_for
from amber.wait_for_labels import ask_people, follow_up
from benchmarks.annotators import Annotator, Scripted, working
from curation import Catalog, Dataset, ingest
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import PullResult
from curation.labelstudio.push import Asking, push
from curation.requests.proposals import Proposal, propose
from samplers import make_pack
from training.evaluation.features import embed
from training.recipe import Recipe

FAST = Loop(rounds=1, start=8, budget=4, draws=128, recipe=Recipe(size=(32, 32), threads=1))
People = dict[str, Annotator]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, Dataset.load(declare(tmp_path / "data")), author="ada")
    embed(catalog.home, make_pack(catalog), FAST.recipe)
    return catalog


def script(catalog: Catalog, **how: Any) -> Scripted:
    """An annotator who knows the held-back labels, and makes errors."""
    held = pq.read_table(catalog.home / "oracle.parquet").to_pylist()
    truth = {(row["key"], row["task"]): row["text"] for row in held}
    with catalog.read() as now:
        return Scripted(now.tasks(), lambda key, task: truth[key, task], **how)


def go(catalog: Catalog, server: LabelStudioClient, loop: Loop = FAST, **asking: Any) -> list[Round]:
    def answer(batch: str) -> None:
        ask_people(catalog, server, Asking(**asking), batch, url_for=lambda sample: "http://127.0.0.1:1/x", every=0.5)

    return list(run_loop(catalog, loop, author="ada", answer=answer))


def test_perfect_people_give_the_same_loop_as_the_oracle(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People, tmp_path: Path
) -> None:
    shutil.copytree(catalog.home, tmp_path / "with-oracle")
    expected = list(run_loop(Catalog.open(tmp_path / "with-oracle"), FAST, author="ada"))
    with working(catalog, studio.local, [(people["ann"], script(catalog, error=0, unsure=0))]):
        steps = go(catalog, server)
    assert [(step.labels, step.found) for step in steps] == [(step.labels, step.found) for step in expected]
    assert [step.figures for step in steps] == [step.figures for step in expected]
    assert go(catalog, server) == steps


def test_every_label_has_its_annotator_its_time_and_its_item(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    says = [(person, script(catalog, seed=seed)) for seed, person in enumerate(people.values())]
    with working(catalog, studio.local, says):
        steps = go(catalog, server, overlap=2)
    assert [step.labels for step in steps] == [8, 12]
    with catalog.read() as now:
        given = now.labels.by_annotator("color")
        given = given.filter(pc.equal(given["source"], "human"))
        answers = {(row["sample_id"], row["annotator"]): row for row in now.requests.answers().to_pylist()}
        assert now.requests("open").num_rows == 0
    assert len(given) >= 22
    for row in given.to_pylist():
        answer = answers[row["sample_id"], row["annotator"]]
        assert answer["answered_at"] == row["labelled_at"]
        assert answer["item"] > 0


@pytest.mark.parametrize("webhooks_work", [True, False])
def test_answers_arrive_with_and_without_webhooks(
    catalog: Catalog,
    server: LabelStudioClient,
    studio: Studio,
    people: People,
    monkeypatch: pytest.MonkeyPatch,
    webhooks_work: bool,
) -> None:
    if not webhooks_work:
        monkeypatch.setattr("curation.labelstudio.webhook.HEADER", "X-Unknown", raising=True)
        monkeypatch.setattr("curation.labelstudio.client.LabelStudioClient.add_hook", lambda *call: None)
    propose(catalog, Proposal(budget=6, seed=1), author="ada", batch="ask")
    push(catalog, server, Asking(), url_for=lambda sample: "http://127.0.0.1:1/x")
    with working(catalog, studio.local, [(people["ann"], script(catalog))]):
        done = follow_up(catalog, server, PullResult(waiting=1), every=60 if webhooks_work else 0.5)
    assert (done.labels, done.closed, done.waiting) == (6, 6, 0)


# While it waits


LASTING = 8.0  # seconds


@contextmanager
def waiting(catalog: Catalog, server: LabelStudioClient, asking: Asking, **how: Any) -> Iterator[None]:
    """Run `ask_people` beside the block, until people are done."""
    how = {"url_for": lambda sample: "http://127.0.0.1:1/x", "every": 0.3, **how}
    beside = threading.Thread(target=ask_people, args=(catalog, server, asking, "answer"), kwargs=how, daemon=True)
    beside.start()
    yield
    beside.join(60)
    assert not beside.is_alive()


def until(what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_urls_are_renewed_before_they_expire_while_the_loop_waits(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"), (3, "color"))
    with served(catalog.home) as service, studio.server() as ours, studio.admin() as admin:
        signed = url_for(catalog.home, service.url, seconds=LASTING)
        with waiting(catalog, server, Asking(), url_for=signed, lasting=LASTING):
            until(lambda: len(items(catalog, ours)) == 3)
            present = [item.item for item in items(catalog, ours)]

            def shown() -> list[str]:
                return [admin.get(f"/api/tasks/{item}").json()["data"]["image"] for item in present]

            first = shown()
            while httpx.get(first[-1]).status_code == 200:
                assert [httpx.get(url).status_code for url in shown()] == [200] * 3
                with catalog.commit(author="ada", message="beside it") as change:
                    change.add_quarantine([("x", "y")], dataset="d")
            now = shown()
            assert not set(first) & set(now)
            assert [httpx.get(url).status_code for url in now] == [200] * 3
            for item in present:
                people["ann"].say(item, choose("red"))
    assert states(catalog) == ["answered"] * 3


def choose(color: str) -> list[dict[str, Any]]:
    return [{"from_name": "color", "to_name": "image", "type": "choices", "value": {"choices": [color]}}]


def test_requests_added_or_deleted_meanwhile_reach_people(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"))
    with studio.server() as ours, waiting(catalog, server, Asking(), push_every=0.5):
        until(lambda: len(items(catalog, ours)) == 1)
        ask(catalog, (2, "color"), first=1)
        until(lambda: len(items(catalog, ours)) == 2)
        with studio.admin() as admin:
            admin.delete(f"/api/projects/{items(catalog, ours)[0].project}").raise_for_status()
        until(lambda: len(items(catalog, ours)) == 2)
        for item in items(catalog, ours):
            people["ann"].say(item.item, choose("red"))
    assert states(catalog) == ["answered"] * 2


def test_a_loop_waits_for_a_third_person_for_the_given_time(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"))
    with studio.server() as ours, waiting(catalog, server, Asking(overlap=2), third=timedelta(0)):
        until(lambda: len(items(catalog, ours)) == 1)
        (item,) = items(catalog, ours)
        people["ann"].say(item.item, choose("red"))
        people["bob"].say(item.item, choose("green"))
    assert states(catalog) == ["answered"]
    with catalog.read() as now:
        labels = now.labels("color")
    assert labels.filter(pc.equal(labels["sample_id"], 1))["state"].to_pylist() == [2]
