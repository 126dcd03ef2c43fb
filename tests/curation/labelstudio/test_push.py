"""Push to a real Label Studio: each request is sent once, in order, with its instructions and predictions."""

from pathlib import Path
from typing import Any

import pytest
from support.homes import label, labels, make_home
from support.label_requests import URL, ask, color, human_labels, items, mine, pushed, states, unlabelled
from support.studio import Studio

from benchmarks.annotators import Annotator
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
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
    for person in (people["ann"], people["bob"], people["ann"], people["cem"], people["bob"]):
        item = person.next(project)
        assert item is not None
        order.append(item["meta"]["amber"]["sample"])
        person.say(item["id"], color(catalog, "red"))
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


def present(catalog: Catalog, server: LabelStudioClient, studio: Studio) -> list[tuple[str, list[Any]]]:
    """The model's view and the pre-filled results of each item."""
    with studio.admin() as admin:
        found = [admin.get(f"/api/tasks/{item.item}").json() for item in items(catalog, server)]
    return [(item["data"]["model_color"], item["predictions"][0]["result"]) for item in found]


def test_the_models_view_is_shown_and_nothing_is_filled_in(
    catalog: Catalog, server: LabelStudioClient, studio: Studio
) -> None:
    one, other = unlabelled(catalog)
    mine(catalog, (one, 1), (other, 9))
    assert pushed(catalog, server).left_out == 1
    assert present(catalog, server, studio) == [("model: yellow (confidence 83%)", []), ("", [])]


def test_with_prefill_the_prediction_is_filled_in(catalog: Catalog, server: LabelStudioClient, studio: Studio) -> None:
    mine(catalog, (unlabelled(catalog)[0], 1))
    pushed(catalog, server, prefill=True)
    assert present(catalog, server, studio) == [("model: yellow (confidence 83%)", color(catalog, "yellow"))]


def test_blind_items_show_nothing(catalog: Catalog, server: LabelStudioClient, studio: Studio) -> None:
    mine(catalog, (unlabelled(catalog)[0], 1))
    pushed(catalog, server, model_view=False)
    assert present(catalog, server, studio) == [("", [])]
    with pytest.raises(BadInput, match="needs the model's view"):
        Asking(model_view=False, prefill=True)


@pytest.mark.parametrize("prefill", [False, True])
@pytest.mark.parametrize("value", ["red", None])
def test_a_suspected_wrong_label_shows_no_view(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, value: str | None, prefill: bool
) -> None:
    """A sample that has a label already, known or unsure."""
    one, other = unlabelled(catalog)
    with catalog.commit(author="ada", message="label") as change:
        change.add_labels(labels([label(f"pictures/{one:05d}", "color", value, "ada")]), source="human")
    mine(catalog, (one, 1), (other, 1))
    pushed(catalog, server, prefill=prefill)
    filled = color(catalog, "yellow") if prefill else []
    assert present(catalog, server, studio) == [("", []), ("model: yellow (confidence 83%)", filled)]


def test_a_new_url_keeps_the_models_view(catalog: Catalog, server: LabelStudioClient, studio: Studio) -> None:
    mine(catalog, (unlabelled(catalog)[0], 1))
    push(catalog, server, Asking(), url_for=URL, lasting=1_000)
    assert push(catalog, server, Asking(), url_for=URL, lasting=9_000).renewed == 1
    assert present(catalog, server, studio) == [("model: yellow (confidence 83%)", [])]


def test_tasks_without_a_description_are_named(catalog: Catalog, server: LabelStudioClient) -> None:
    ask(catalog, (1, "color"), (2, "car"))
    assert pushed(catalog, server, notes={"color": "Which lamp is lit?"}).undescribed == ("car",)
