"""Push, against a real Label Studio: each thing is asked once, in order, with what it needs."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.asked import URL, ask, color, items, said, sent, states
from support.homes import make_home
from support.studio import Studio

from benchmarks.annotators import Annotator
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.errors import BadInput
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import Pulled, pull
from curation.labelstudio.push import Asking, Pushed, push

People = dict[str, Annotator]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


def test_nothing_is_sent_twice(catalog: Catalog, server: LabelStudioClient) -> None:
    ask(catalog, (1, "color"), (2, "color"), (3, "car"))
    first = sent(catalog, server)
    assert (first.requests, first.items, len(first.projects)) == (3, 3, 2)
    assert sent(catalog, server).items == 0
    ask(catalog, (4, "color"))
    assert (sent(catalog, server).items, len(items(catalog, server))) == (1, 4)


def test_one_item_asks_for_all_that_is_wanted_of_a_sample(catalog: Catalog, server: LabelStudioClient) -> None:
    ask(catalog, (1, "color"), (1, "car"), (1, "speed"), (1, "things"))
    assert (sent(catalog, server).items, len(items(catalog, server))) == (1, 1)
    assert set(items(catalog, server)[0].tasks) == {"color", "car", "speed", "things"}


def test_the_page_says_what_the_card_says_of_the_task(
    catalog: Catalog, server: LabelStudioClient, studio: Studio
) -> None:
    ask(catalog, (1, "color"))
    made = sent(catalog, server, notes={"color": "Look <twice>.\nArrows too.", "car": "Vans are cars."})
    with studio.admin() as admin:
        told = admin.get(f"/api/projects/{made.projects[0].rpartition('/')[2]}").json()
    assert told["show_instruction"] is True
    assert "Look &lt;twice&gt;.<br>Arrows too." in told["expert_instruction"]
    assert "Vans" not in told["expert_instruction"]


def test_the_queue_follows_the_priority(catalog: Catalog, server: LabelStudioClient, people: People) -> None:
    wanted = [7, 3, 9, 1, 5]
    ask(catalog, *((sample, "color") for sample in wanted))
    project = int(sent(catalog, server).projects[0].rpartition("/")[2])
    order: list[str] = []
    people["ann"].work(project, lambda item: order.append(item["meta"]["amber"]["sample"]) or color(catalog, "red"))
    assert order == [f"pictures/{sample:05d}" for sample in wanted]


def test_a_lost_mirror_loses_and_doubles_nothing(catalog: Catalog, server: LabelStudioClient, people: People) -> None:
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
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
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
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
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
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
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
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
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


def test_urls_that_end_soon_are_renewed_where_people_still_look(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, *((sample, "color") for sample in (1, 2)))
    turn = 0

    def url(sample: Any) -> str:
        return f"http://127.0.0.1:1/{sample['key']}?{turn}"

    def pushed(lasting: float) -> Pushed:
        return push(catalog, server, Asking(), url_for=url, lasting=lasting)

    def shown() -> list[str]:
        with studio.admin() as admin:
            told = [admin.get(f"/api/tasks/{item.item}").json() for item in items(catalog, server)]
        assert all(len(item["predictions"]) == 1 for item in told)
        return [item["data"]["image"][-1] for item in told]

    assert pushed(1_000).items == 2
    before = items(catalog, server)
    people["ann"].say(before[0].item, color(catalog, "red"))
    turn = 1
    assert [pushed(lasting).renewed for lasting in (1_000, 1_900)] == [0, 0]
    assert (pushed(3_000).renewed, shown()) == (1, ["0", "1"])
    assert pushed(3_000).renewed == 0
    assert [(item.key, item.requests) for item in items(catalog, server)] == [(i.key, i.requests) for i in before]
    people["ann"].say(before[1].item, color(catalog, "red"))
    assert (pull(catalog, server).closed, states(catalog)) == (2, ["answered", "answered"])


def test_items_without_an_end_keep_their_urls(catalog: Catalog, server: LabelStudioClient) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    assert push(catalog, server, Asking(), url_for=URL, lasting=1_000).renewed == 0


def test_suggestions_are_what_the_run_said(catalog: Catalog, server: LabelStudioClient, studio: Studio) -> None:
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
