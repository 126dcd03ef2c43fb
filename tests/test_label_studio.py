"""Asking people through a real Label Studio: each thing once, nothing lost, and every answer with its provenance."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from homes import make_home
from studio import Studio

from benchmarks.annotators import Annotator, Scripted, cannot_tell
from curation.errors import BadInput, Failed, NotFound
from curation.labeling.answers import suggest
from curation.labeling.desk import at_desk
from curation.labeling.hook import HEADER, PATH, bell
from curation.labeling.items import UrlFor
from curation.labeling.mirror import Item, Reach
from curation.labeling.pull import Pulled, pull
from curation.labeling.push import Asking, Pushed, push
from curation.labeling.server import Server
from curation.labeling.status import people as people_of
from curation.labeling.status import progress
from curation.ledger.catalog import Catalog
from curation.requests import REQUESTS

People = dict[str, Annotator]
SIZE = (48, 32)


def place(sample: Any) -> str:
    return f"http://127.0.0.1:1/{sample['key']}.jpg"


URL: UrlFor = place


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


@pytest.fixture
def server(studio: Studio) -> Iterator[Server]:
    with studio.server() as server:
        yield server


def ask(catalog: Catalog, *wanted: tuple[int, str], first: int = 0) -> None:
    """Open label requests for (sample id, task), the first the most urgent."""
    with catalog.commit(author="ada", message="ask") as change:
        ids = change.now.task_ids()
        rows = [
            {"sample_id": sample, "task_id": ids[task], "arm": "random", "slice": "", "reason": "r", "run": "",
             "priority": first + rank, "propensity": 0.5, "cost": 2.0}
            for rank, (sample, task) in enumerate(wanted)
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))


def sent(catalog: Catalog, server: Server, **asking: Any) -> Pushed:
    return push(catalog, server, Asking(**asking), url_for=URL)


def items(catalog: Catalog, server: Server) -> list[Item]:
    """What lies on the server, by sample."""
    with at_desk(catalog, server) as desk:
        desk.refresh()
        return sorted(desk.mirror.items(), key=lambda item: (item.sample, item.tasks))


def said(catalog: Catalog, task: str) -> list[tuple[int, str, int, Any]]:
    """Statements of people: sample id, annotator, state, and code or number."""
    with catalog.read() as now:
        rows = now.statements(task).to_pylist()
    mine = [row for row in rows if row["source"] == "human" and row["state"]]
    values = [row["number"] if row["code"] is None else row["code"] for row in mine]
    return [
        (row["sample_id"], row["annotator"].partition("@")[0], row["state"], value)
        for row, value in zip(mine, values, strict=True)
    ]


def states(catalog: Catalog) -> list[str]:
    with catalog.read() as now:
        return now.requests()["state"].to_pylist()


def color(catalog: Catalog, value: str) -> list[dict[str, Any]]:
    with catalog.read() as now:
        return suggest(now.task("color"), value, SIZE)


# Push


def test_nothing_is_sent_twice(catalog: Catalog, server: Server) -> None:
    ask(catalog, (1, "color"), (2, "color"), (3, "car"))
    first = sent(catalog, server)
    assert (first.requests, first.items, len(first.projects)) == (3, 3, 2)
    assert sent(catalog, server).items == 0
    ask(catalog, (4, "color"))
    assert (sent(catalog, server).items, len(items(catalog, server))) == (1, 4)


def test_one_item_asks_for_all_that_is_wanted_of_a_sample(catalog: Catalog, server: Server) -> None:
    ask(catalog, (1, "color"), (1, "car"), (1, "speed"), (1, "things"))
    assert (sent(catalog, server).items, len(items(catalog, server))) == (1, 1)
    assert set(items(catalog, server)[0].tasks) == {"color", "car", "speed", "things"}


def test_the_queue_follows_the_priority(catalog: Catalog, server: Server, people: People) -> None:
    wanted = [7, 3, 9, 1, 5]
    ask(catalog, *((sample, "color") for sample in wanted))
    project = int(sent(catalog, server).projects[0].rpartition("/")[2])
    order: list[str] = []
    people["ann"].work(project, lambda item: order.append(item["meta"]["amber"]["sample"]) or color(catalog, "red"))
    assert order == [f"pictures/{sample:05d}" for sample in wanted]


def test_a_lost_mirror_loses_and_doubles_nothing(catalog: Catalog, server: Server, people: People) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    sent(catalog, server)
    people["ann"].say(items(catalog, server)[0].item, color(catalog, "red"))
    pull(catalog, server)
    before = said(catalog, "color")
    for path in (catalog.home / "labeling").glob("*.json"):
        path.write_text("{")
    assert sent(catalog, server).items == 0
    assert pull(catalog, server).labels == 0
    assert (said(catalog, "color"), len(items(catalog, server))) == (before, 2)


def test_items_that_stand_twice_are_deleted_unless_answered(
    catalog: Catalog, server: Server, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    sent(catalog, server)
    one, _ = items(catalog, server)
    with studio.admin() as admin:
        twin = admin.get(f"/api/tasks/{one.item}").json()
        again = [{"data": twin["data"], "meta": twin["meta"]}] * 2
        ids = admin.post(f"/api/projects/{one.project}/import?return_task_ids=true", json=again).json()["task_ids"]
    people["ann"].say(ids[0], color(catalog, "red"))
    assert sent(catalog, server).doubled == 2
    assert [item.item for item in items(catalog, server) if item.key == one.key] == [ids[0]]
    assert pull(catalog, server).labels == 1


def test_a_config_that_was_changed_there_is_not_sent_to(
    catalog: Catalog, server: Server, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    (item,) = items(catalog, server)
    with studio.admin() as admin:
        config = admin.get(f"/api/projects/{item.project}").json()["label_config"].replace("red", "blue")
        admin.patch(f"/api/projects/{item.project}", json={"label_config": config}).raise_for_status()
    ask(catalog, (2, "color"))
    with pytest.raises(BadInput, match="labelling config was changed there"):
        sent(catalog, server)
    blue = [{"from_name": "color", "to_name": "image", "type": "choices", "value": {"choices": ["blue"]}}]
    people["ann"].say(item.item, blue)
    assert pull(catalog, server).unfit == 1
    with catalog.read() as now:
        assert "'blue' is no class of color" in now.quarantine()["reason"][0].as_py()
    assert pull(catalog, server) == Pulled(waiting=1)


def test_a_deleted_project_is_made_again_for_what_is_open(
    catalog: Catalog, server: Server, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    sent(catalog, server)
    one, other = items(catalog, server)
    people["ann"].say(one.item, color(catalog, "red"))
    pull(catalog, server)
    with studio.admin() as admin:
        admin.delete(f"/api/projects/{one.project}").raise_for_status()
    pull(catalog, server)
    assert said(catalog, "color") == [(1, "ann", 1, 0)]
    assert (sent(catalog, server).items, [item.sample for item in items(catalog, server)]) == (1, [other.sample])


def test_an_id_that_sqlite_gives_again_is_another_item(
    catalog: Catalog, server: Server, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    (first,) = items(catalog, server)
    people["ann"].say(first.item, color(catalog, "red"))
    pull(catalog, server)
    with studio.admin() as admin:
        admin.delete(f"/api/tasks/{first.item}").raise_for_status()
    ask(catalog, (2, "color"))
    sent(catalog, server)
    (second,) = items(catalog, server)
    assert (second.item, second.sample != first.sample) == (first.item, True)
    people["bob"].say(second.item, color(catalog, "green"))
    pull(catalog, server)
    assert said(catalog, "color") == [(1, "ann", 1, 0), (2, "bob", 1, 2)]


def test_suggestions_are_what_the_run_said(catalog: Catalog, server: Server, studio: Studio) -> None:
    import pyarrow.parquet as pq

    keys = [f"pictures/{sample:05d}" for sample in (1, 2)]
    table = pa.table({"key": keys, "task": ["color"] * 2, "code": pa.array([1, 9], pa.int32()), "number": [None, None]})
    pq.write_table(table, catalog.home / "predictions.parquet")
    with catalog.commit(author="ada", message="run") as change:
        change.add_run("r1", plan="", predictions="predictions.parquet", sha256="")
        rows = [
            {"sample_id": sample, "task_id": 0, "arm": "mined", "slice": "", "reason": "", "run": "r1", "priority": 0,
             "propensity": 1.0, "cost": 1.0} for sample in (1, 2)
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    assert sent(catalog, server).left_out == 1
    with studio.admin() as admin:
        shown = [admin.get(f"/api/tasks/{item.item}").json()["predictions"] for item in items(catalog, server)]
    assert [part[0]["result"] for part in shown] == [suggest_yellow(catalog), []]


def suggest_yellow(catalog: Catalog) -> list[dict[str, Any]]:
    return color(catalog, "yellow")


# Pull


def test_answers_become_labels_with_their_provenance(catalog: Catalog, server: Server, people: People) -> None:
    ask(catalog, (1, "color"), (1, "car"), (1, "speed"), (1, "things"))
    sent(catalog, server)
    (item,) = items(catalog, server)
    with catalog.read() as now:
        tasks = now.tasks()
    box = {"class": "light", "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}
    answer = [
        *suggest(tasks["color"], "yellow", SIZE), *cannot_tell(tasks["car"]), *suggest(tasks["speed"], 30.5, SIZE),
        *suggest(tasks["things"], [box], SIZE),
    ]  # fmt: skip
    annotation = people["ann"].say(item.item, answer, seconds=7.5)
    done = pull(catalog, server)
    assert (done.labels, done.closed, done.waiting) == (4, 4, 0)
    assert said(catalog, "color") + said(catalog, "car") + said(catalog, "speed") == [
        (1, "ann", 1, 1), (1, "ann", 2, None), (1, "ann", 1, 30.5),
    ]  # fmt: skip
    with catalog.read() as now:
        (found,) = next(row["boxes"] for row in now.statements("things").to_pylist() if row["sample_id"] == 1)
        assert [found[part] for part in "xywh"] == pytest.approx([1, 2, 3, 4])
        answers = now.answers().to_pylist()
        at = now.statements("color").filter(pc.equal(now.statements("color")["source"], "human"))["labelled_at"][0]
    assert {(row["annotator"], row["item"], row["annotation"], row["seconds"]) for row in answers} == {
        ("ann@people.test", item.item, annotation, 7.5)
    }
    assert {row["answered_at"] for row in answers} == {at.as_py()}
    assert pull(catalog, server) == Pulled()


def test_an_answer_is_changed_and_taken_back(catalog: Catalog, server: Server, people: People) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    (item,) = items(catalog, server)
    annotation = people["ann"].say(item.item, color(catalog, "red"))
    assert pull(catalog, server).labels == 1
    people["ann"].change(annotation, color(catalog, "green"))
    assert pull(catalog, server).labels == 1
    assert said(catalog, "color") == [(1, "ann", 1, 2)]
    people["ann"].change(annotation, [])
    done = pull(catalog, server)
    assert (done.empty, done.retracted, said(catalog, "color")) == (1, 1, [])
    people["ann"].change(annotation, color(catalog, "red"))
    pull(catalog, server)
    people["ann"].delete(annotation)
    assert pull(catalog, server).retracted == 1
    assert (said(catalog, "color"), pull(catalog, server)) == ([], Pulled())


def test_what_everybody_skips_is_withdrawn(catalog: Catalog, server: Server, people: People) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    sent(catalog, server, overlap=2)
    one, other = items(catalog, server)
    people["ann"].say(one.item, None)
    assert (pull(catalog, server).skipped, states(catalog)) == (1, ["open", "open"])
    people["bob"].say(one.item, None)
    people["ann"].say(other.item, None)
    people["bob"].say(other.item, color(catalog, "red"))
    pull(catalog, server)
    assert states(catalog) == ["withdrawn", "answered"]


def test_two_who_differ_are_settled_by_a_third(catalog: Catalog, server: Server, people: People) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    project = int(sent(catalog, server, overlap=2).projects[0].rpartition("/")[2])
    people["ann"].work(project, lambda item: color(catalog, "red"))
    people["bob"].work(
        project, lambda item: color(catalog, "red" if item["meta"]["amber"]["sample"][-1] == "1" else "green")
    )
    done = pull(catalog, server)
    assert (done.closed, done.disputed, states(catalog)) == (1, 1, ["answered", "open"])
    assert people["cem"].work(project, lambda item: color(catalog, "green")) == 1
    assert (pull(catalog, server).closed, states(catalog)) == (1, ["answered", "answered"])
    with catalog.read() as now:
        labels = now.labels("color")
        labels = labels.filter(pc.equal(labels["source"], "human"))
    assert labels["code"].to_pylist() == [0, 2]


def test_gold_items_measure_people_and_give_no_labels(catalog: Catalog, server: Server, people: People) -> None:
    with catalog.read() as now:
        known = {row["sample_id"]: row["code"] for row in now.labels("color").to_pylist()}
        keys = dict(zip(now.samples()["key"].to_pylist(), now.samples()["sample_id"].to_pylist(), strict=True))
        open_ = [sample for sample in now.training_ids().tolist() if sample not in known][:8]
        tasks = now.tasks()
    ask(catalog, *((sample, "color") for sample in open_))
    made = sent(catalog, server, gold=0.2)
    assert (made.items, made.gold, sent(catalog, server, gold=0.2).gold) == (8, 2, 0)
    project = int(made.projects[0].rpartition("/")[2])
    truth = Scripted(tasks, lambda key, task: tasks["color"].classes[known.get(keys[key], 0)], error=0, unsure=0)
    people["ann"].work(project, truth)
    people["bob"].work(project, truth)
    assert pull(catalog, server).gold == 2
    assert len(said(catalog, "color")) == 8
    with catalog.read() as now:
        (ann,) = people_of(now)
        (row,) = progress(now, set())
    assert (ann.annotator, ann.gold, ann.quality, ann.answers, ann.seconds) == ("ann@people.test", 2, 1.0, 8, 2.0)
    assert (row.task, row.answered, row.spent, row.open_cost) == ("color", 8, 16.0, 0.0)


def test_a_clock_that_was_put_back_hides_nothing(catalog: Catalog, server: Server, people: People) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    (item,) = items(catalog, server)
    with at_desk(catalog, server) as desk:
        desk.mirror.reach[item.project] = Reach(
            newest="2099-01-01T00:00:00.000000Z", sure="2098-12-31T00:00:00.000000Z"
        )
    people["ann"].say(item.item, color(catalog, "red"))
    assert pull(catalog, server).labels == 1


def test_a_sample_that_was_forgotten_is_passed_over(catalog: Catalog, server: Server, people: People) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    (item,) = items(catalog, server)
    with catalog.commit(author="ada", message="forget") as change:
        change.forget(item.sample, predictions={})
    people["ann"].say(item.item, color(catalog, "red"))
    assert pull(catalog, server) == Pulled()


# The wire


class Dropping(httpx.HTTPTransport):
    """Loses the answer to every write of a kind, once each, after the server has done it."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part
        self.dropped: set[bytes] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        body = request.read()
        if request.method != "GET" and self.part in request.url.path and body not in self.dropped:
            self.dropped.add(body)
            answer.read()
            raise httpx.ReadError("dropped")
        return answer


class Counting(httpx.HTTPTransport):
    """Counts what is read of items."""

    bytes = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self.bytes += len(answer.read()) if request.url.path == "/api/tasks" else 0
        return answer


def test_an_import_whose_answer_is_lost_is_not_doubled(catalog: Catalog, studio: Studio, server: Server) -> None:
    ask(catalog, *((sample, "color") for sample in range(1, 30)))
    dropping = Dropping("/import")
    with studio.server(transport=dropping) as flaky:
        assert push(catalog, flaky, Asking(), url_for=URL).items == 29
    assert len(dropping.dropped) == 1
    assert len(items(catalog, server)) == 29


def test_a_project_whose_answer_is_lost_is_not_doubled(catalog: Catalog, studio: Studio, server: Server) -> None:
    ask(catalog, (1, "color"))
    with studio.server(transport=Dropping("/api/projects/")) as flaky, pytest.raises(Failed):
        push(catalog, flaky, Asking(), url_for=URL)
    sent(catalog, server)
    with at_desk(catalog, server) as desk:
        assert len(desk.projects) == 1


def test_a_pull_reads_what_changed(
    catalog: Catalog, studio: Studio, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.labeling.mirror.OVERLAP", timedelta(0))
    ask(catalog, *((sample, "color") for sample in range(1, 31)))
    counting = Counting()
    with studio.server(transport=counting) as server:
        sent(catalog, server)
        pull(catalog, server)
        for item in items(catalog, server)[:2]:
            people["ann"].say(item.item, color(catalog, "red"))
            before = counting.bytes
            assert pull(catalog, server).labels == 1
            assert 0 < counting.bytes - before < 1_500


def test_what_may_come_late_is_read_again_for_a_minute_and_then_no_more(
    catalog: Catalog, studio: Studio, people: People
) -> None:
    ask(catalog, *((sample, "color") for sample in range(1, 31)))
    counting = Counting()
    with studio.server(transport=counting) as server:

        def read() -> int:
            before = counting.bytes
            pull(catalog, server)
            return counting.bytes - before

        sent(catalog, server)
        assert min(read(), read()) > 5_000
        with at_desk(catalog, server) as desk:
            desk.mirror.reach = {
                project: replace(reach, marked=reach.marked - 61) for project, reach in desk.mirror.reach.items()
            }
        assert read() > 5_000
        assert read() < 500
        people["ann"].say(items(catalog, server)[0].item, color(catalog, "red"))
        assert read() < 1_500
    assert len(said(catalog, "color")) == 1


def told(release: Any, status: int = 200) -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: httpx.Response(status, json=release))


@pytest.mark.parametrize("release", [{"release": "2.0.1"}, {"release": "1.22.9"}, {"release": "new"}, {}, []])
def test_a_server_of_an_unknown_version_is_refused(release: Any) -> None:
    with pytest.raises(BadInput, match=r"Amber knows 1\.23"):
        Server("http://studio.test", "t", transport=told(release))
    with Server("http://studio.test", "t", transport=told(release), any_version=True) as server:
        assert server.url == "http://studio.test"


def test_a_token_that_is_refused_is_said_so(studio: Studio) -> None:
    with Server(studio.local.url, "0" * 40) as server, pytest.raises(BadInput, match="the token was refused"):
        server.projects()
    with pytest.raises(BadInput, match="the token was refused"):
        Server(studio.local.url, "a.b.c")


def test_a_personal_token_is_renewed(studio: Studio) -> None:
    with studio.admin() as admin:
        admin.post("/api/jwt/settings", json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": True})
        made = admin.post("/api/token/")
        assert made.status_code == 201, made.text
    with Server(studio.local.url, made.json()["token"]) as server:
        server._client.headers["Authorization"] = "Bearer worn.out.token"
        assert server.projects()


def test_what_cannot_be_reached_is_said_so() -> None:
    with pytest.raises(Failed, match="cannot be reached"):
        Server("http://127.0.0.1:9", "t", patience=0)
    with pytest.raises(BadInput, match="no address"):
        Server("studio", "t")


def test_what_is_not_there_and_what_is_refused(server: Server) -> None:
    with pytest.raises(NotFound, match="was the project deleted"):
        list(server.changed_items(999_999, ""))
    with pytest.raises(BadInput, match="refused"):
        server.make_project({"title": "x", "label_config": "<View><Nosuch/></View>"})


# The bell


def test_the_bell_rings_when_somebody_answers(catalog: Catalog, server: Server, people: People) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    (item,) = items(catalog, server)
    with bell(server, [item.project]) as rung:
        people["ann"].say(item.item, color(catalog, "red"))
        assert rung.wait(10)
        assert len(server.hooks(item.project)) == 1
    assert server.hooks(item.project) == []
    assert pull(catalog, server).labels == 1


def test_only_who_knows_the_secret_rings(server: Server, catalog: Catalog) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    project = items(catalog, server)[0].project
    with bell(server, [project]) as rung:
        (hook,) = server.hooks(project)
        assert httpx.post(hook["url"], headers={HEADER: "guess"}).status_code == 403
        assert httpx.post(hook["url"].replace(PATH, "/else"), headers=hook["headers"]).status_code == 204
        assert not rung.is_set()
        assert httpx.post(hook["url"], headers=hook["headers"], content=json.dumps({"x": 1})).status_code == 204
        assert rung.is_set()
