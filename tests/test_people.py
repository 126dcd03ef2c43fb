"""The loop closed with people: a scripted annotator works through the real server's API while the loop waits."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from lamps import declare
from studio import Studio

from amber.loop import Loop, Round, go_round
from amber.people import ask_people, follow_up
from benchmarks.annotators import Annotator, Scripted, working
from curation import Catalog, Dataset, ingest
from curation.labeling.pull import Pulled
from curation.labeling.push import Asking, push
from curation.labeling.server import Server
from curation.requests import Proposal, propose
from samplers import make_pack
from training.features import embed
from training.runs import Recipe

FAST = Loop(rounds=1, start=8, budget=4, draws=128, recipe=Recipe(size=(32, 32), threads=1))
People = dict[str, Annotator]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, Dataset.load(declare(tmp_path / "data")), author="ada")
    embed(catalog.home, make_pack(catalog), FAST.recipe)
    return catalog


def script(catalog: Catalog, **how: Any) -> Scripted:
    """An annotator who knows what the data set holds back, and errs on it."""
    held = pq.read_table(catalog.home / "oracle.parquet").to_pylist()
    truth = {(row["key"], row["task"]): row["text"] for row in held}
    with catalog.read() as now:
        return Scripted(now.tasks(), lambda key, task: truth[key, task], **how)


def go(catalog: Catalog, server: Server, loop: Loop = FAST, **asking: Any) -> list[Round]:
    def answer(batch: str) -> None:
        ask_people(catalog, server, Asking(**asking), batch, url_for=lambda sample: "http://127.0.0.1:1/x", every=0.5)

    return list(go_round(catalog, loop, author="ada", answer=answer))


def test_people_who_know_all_end_where_the_oracle_ends(
    catalog: Catalog, server: Server, studio: Studio, people: People, tmp_path: Path
) -> None:
    shutil.copytree(catalog.home, tmp_path / "with-oracle")
    expected = list(go_round(Catalog.open(tmp_path / "with-oracle"), FAST, author="ada"))
    with working(catalog, studio.local, [(people["ann"], script(catalog, error=0, unsure=0))]):
        steps = go(catalog, server)
    assert [(step.labels, step.found) for step in steps] == [(step.labels, step.found) for step in expected]
    assert [step.figures for step in steps] == [step.figures for step in expected]
    assert go(catalog, server) == steps


def test_every_label_of_the_loop_names_its_annotator_its_time_and_its_item(
    catalog: Catalog, server: Server, studio: Studio, people: People
) -> None:
    says = [(person, script(catalog, seed=seed)) for seed, person in enumerate(people.values())]
    with working(catalog, studio.local, says):
        steps = go(catalog, server, overlap=2)
    assert [step.labels for step in steps] == [8, 12]
    with catalog.read() as now:
        said = now.statements("color")
        said = said.filter(pc.equal(said["source"], "human"))
        answers = {(row["sample_id"], row["annotator"]): row for row in now.answers().to_pylist()}
        assert now.requests("open").num_rows == 0
    assert len(said) >= 22
    for row in said.to_pylist():
        answer = answers[row["sample_id"], row["annotator"]]
        assert answer["answered_at"] == row["labelled_at"]
        assert answer["item"] > 0


@pytest.mark.parametrize("bell_works", [True, False])
def test_answers_arrive_with_the_bell_and_without(
    catalog: Catalog, server: Server, studio: Studio, people: People, monkeypatch: pytest.MonkeyPatch, bell_works: bool
) -> None:
    if not bell_works:
        monkeypatch.setattr("curation.labeling.hook.HEADER", "X-Nobody-Looks-For-This", raising=True)
        monkeypatch.setattr("curation.labeling.server.Server.add_hook", lambda *call: None)
    propose(catalog, Proposal(budget=6, seed=1), author="ada", batch="ask")
    push(catalog, server, Asking(), url_for=lambda sample: "http://127.0.0.1:1/x")
    with working(catalog, studio.local, [(people["ann"], script(catalog))]):
        done = follow_up(catalog, server, Pulled(waiting=1), every=60 if bell_works else 0.5)
    assert (done.labels, done.closed, done.waiting) == (6, 6, 0)
