"""Push to a real Label Studio: each request is sent once, in order, with its instructions and predictions."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.homes import make_home
from support.label_requests import URL, ask, color, human_labels, items, pushed, states
from support.studio import Studio

from benchmarks.annotators import Annotator
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.errors import BadInput
from curation.files.read_back import sha256_of
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import PullResult, pull
from curation.labelstudio.push import Asking, PushResult, push

People = dict[str, Annotator]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


def test_a_request_is_sent_once(catalog: Catalog, server: LabelStudioClient) -> None:
    ask(catalog, (1, "color"), (2, "color"), (3, "car"))
    first = pushed(catalog, server)
    assert (first.requests, first.items, len(first.projects)) == (3, 3, 2)
    assert pushed(catalog, server).items == 0
    ask(catalog, (4, "color"))
    assert (pushed(catalog, server).items, len(items(catalog, server))) == (1, 4)


def test_one_item_asks_for_all_tasks_of_a_sample(catalog: Catalog, server: LabelStudioClient) -> None:
    ask(catalog, (1, "color"), (1, "car"), (1, "speed"), (1, "things"))
    assert (pushed(catalog, server).items, len(items(catalog, server))) == (1, 1)
    assert set(items(catalog, server)[0].tasks) == {"color", "car", "speed", "things"}


def test_the_instructions_contain_the_card_of_each_task(
    catalog: Catalog, server: LabelStudioClient, studio: Studio
) -> None:
    ask(catalog, (1, "color"))
    made = pushed(catalog, server, notes={"color": "Look <twice>.\nArrows too.", "car": "Vans are cars."})
    with studio.admin() as admin:
        project = admin.get(f"/api/projects/{made.projects[0].rpartition('/')[2]}").json()
    assert project["show_instruction"] is True
    assert "Look &lt;twice&gt;.<br>Arrows too." in project["expert_instruction"]
    assert "Vans" not in project["expert_instruction"]


def test_the_queue_follows_the_priority(catalog: Catalog, server: LabelStudioClient, people: People) -> None:
    samples = [7, 3, 9, 1, 5]
    ask(catalog, *((sample, "color") for sample in samples))
    project = int(pushed(catalog, server).projects[0].rpartition("/")[2])
    order: list[str] = []
    people["ann"].work(project, lambda item: order.append(item["meta"]["amber"]["sample"]) or color(catalog, "red"))
    assert order == [f"pictures/{sample:05d}" for sample in samples]


def test_a_damaged_item_cache_loses_and_doubles_nothing(
    catalog: Catalog, server: LabelStudioClient, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    pushed(catalog, server)
    people["ann"].say(items(catalog, server)[0].item, color(catalog, "red"))
    pull(catalog, server)
    before = human_labels(catalog, "color")
    for path in (catalog.home / "labeling").glob("*.json"):
        path.write_text("{")
    assert pushed(catalog, server).items == 0
    assert pull(catalog, server).labels == 0
    assert (human_labels(catalog, "color"), len(items(catalog, server))) == (before, 2)


def test_duplicate_items_are_deleted_unless_answered(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    pushed(catalog, server)
    one, _ = items(catalog, server)
    with studio.admin() as admin:
        duplicate = admin.get(f"/api/tasks/{one.item}").json()
        again = [{"data": duplicate["data"], "meta": duplicate["meta"]}] * 2
        ids = admin.post(f"/api/projects/{one.project}/import?return_task_ids=true", json=again).json()["task_ids"]
    people["ann"].say(ids[0], color(catalog, "red"))
    assert pushed(catalog, server).doubled == 2
    assert [item.item for item in items(catalog, server) if item.key == one.key] == [ids[0]]
    assert pull(catalog, server).labels == 1


def test_a_project_with_a_changed_config_gets_no_items(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    (item,) = items(catalog, server)
    with studio.admin() as admin:
        config = admin.get(f"/api/projects/{item.project}").json()["label_config"].replace("red", "blue")
        admin.patch(f"/api/projects/{item.project}", json={"label_config": config}).raise_for_status()
    ask(catalog, (2, "color"))
    with pytest.raises(BadInput, match="labelling config was changed there"):
        pushed(catalog, server)
    blue = [{"from_name": "color", "to_name": "image", "type": "choices", "value": {"choices": ["blue"]}}]
    people["ann"].say(item.item, blue)
    assert pull(catalog, server).unfit == 1
    with catalog.read() as now:
        assert "'blue' is no class of color" in now.quarantine()["reason"][0].as_py()
    assert pull(catalog, server) == PullResult(waiting=1)


def test_a_deleted_project_is_created_again_for_open_requests(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    pushed(catalog, server)
    one, other = items(catalog, server)
    people["ann"].say(one.item, color(catalog, "red"))
    pull(catalog, server)
    with studio.admin() as admin:
        admin.delete(f"/api/projects/{one.project}").raise_for_status()
    pull(catalog, server)
    assert human_labels(catalog, "color") == [(1, "ann", 1, 0)]
    assert (pushed(catalog, server).items, [item.sample for item in items(catalog, server)]) == (1, [other.sample])


def test_a_reused_item_id_is_another_item(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    (first,) = items(catalog, server)
    people["ann"].say(first.item, color(catalog, "red"))
    pull(catalog, server)
    with studio.admin() as admin:
        admin.delete(f"/api/tasks/{first.item}").raise_for_status()
    ask(catalog, (2, "color"))
    pushed(catalog, server)
    (second,) = items(catalog, server)
    assert (second.item, second.sample != first.sample) == (first.item, True)
    people["bob"].say(second.item, color(catalog, "green"))
    pull(catalog, server)
    assert human_labels(catalog, "color") == [(1, "ann", 1, 0), (2, "bob", 1, 2)]


def test_expiring_urls_of_unfinished_items_are_renewed(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, *((sample, "color") for sample in (1, 2)))
    turn = 0

    def url(sample: Any) -> str:
        return f"http://127.0.0.1:1/{sample['key']}?{turn}"

    def push_lasting(lasting: float) -> PushResult:
        return push(catalog, server, Asking(), url_for=url, lasting=lasting)

    def shown() -> list[str]:
        with studio.admin() as admin:
            found = [admin.get(f"/api/tasks/{item.item}").json() for item in items(catalog, server)]
        assert all(len(item["predictions"]) == 1 for item in found)
        return [item["data"]["image"][-1] for item in found]

    assert push_lasting(1_000).items == 2
    before = items(catalog, server)
    people["ann"].say(before[0].item, color(catalog, "red"))
    turn = 1
    assert [push_lasting(lasting).renewed for lasting in (1_000, 1_900)] == [0, 0]
    assert (push_lasting(3_000).renewed, shown()) == (1, ["0", "1"])
    assert push_lasting(3_000).renewed == 0
    assert [(item.key, item.requests) for item in items(catalog, server)] == [(i.key, i.requests) for i in before]
    people["ann"].say(before[1].item, color(catalog, "red"))
    assert (pull(catalog, server).closed, states(catalog)) == (2, ["answered", "answered"])


def test_urls_without_an_expiry_are_kept(catalog: Catalog, server: LabelStudioClient) -> None:
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    assert push(catalog, server, Asking(), url_for=URL, lasting=1_000).renewed == 0


def test_suggestions_are_the_predictions_of_the_run(
    catalog: Catalog, server: LabelStudioClient, studio: Studio
) -> None:
    import pyarrow.parquet as pq

    keys = [f"pictures/{sample:05d}" for sample in (1, 2)]
    table = pa.table({"key": keys, "task": ["color"] * 2, "code": pa.array([1, 9], pa.int32()), "number": [None, None]})
    pq.write_table(table, catalog.home / "predictions.parquet")
    with catalog.commit(author="ada", message="run") as change:
        change.add_run(
            "r1", plan="", predictions="predictions.parquet", sha256=sha256_of(catalog.home / "predictions.parquet")
        )
        rows = [
            {"sample_id": sample, "task_id": 0, "arm": "mined", "slice": "", "reason": "", "run": "r1", "priority": 0,
             "propensity": 1.0, "cost": 1.0} for sample in (1, 2)
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    assert pushed(catalog, server).left_out == 1
    with studio.admin() as admin:
        shown = [admin.get(f"/api/tasks/{item.item}").json()["predictions"] for item in items(catalog, server)]
    assert [part[0]["result"] for part in shown] == [suggest_yellow(catalog), []]


def suggest_yellow(catalog: Catalog) -> list[dict[str, Any]]:
    return color(catalog, "yellow")
