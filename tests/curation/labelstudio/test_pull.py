"""Pull from a real Label Studio: no answer is lost, and each has its provenance."""

from datetime import timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest
from support.homes import make_home
from support.label_requests import SIZE, ask, color, human_labels, items, pushed, states
from support.studio import Studio

from amber.forget import forget
from benchmarks.annotators import Annotator, Scripted, cannot_tell
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from curation.labelstudio.annotations import encode_answer
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.item_cache import Reach
from curation.labelstudio.pull import PullResult, pull
from curation.labelstudio.session import open_session
from curation.labelstudio.status import people as people_of
from curation.labelstudio.status import progress

People = dict[str, Annotator]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


def test_answers_become_labels_with_their_provenance(
    catalog: Catalog, server: LabelStudioClient, people: People
) -> None:
    ask(catalog, (1, "color"), (1, "car"), (1, "speed"), (1, "things"))
    pushed(catalog, server)
    (item,) = items(catalog, server)
    with catalog.read() as now:
        tasks = now.tasks()
    box = {"class": "light", "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}
    answer = [
        *encode_answer(tasks["color"], "yellow", SIZE), *cannot_tell(tasks["car"]),
        *encode_answer(tasks["speed"], 30.5, SIZE), *encode_answer(tasks["things"], [box], SIZE),
    ]  # fmt: skip
    annotation = people["ann"].say(item.item, answer, seconds=7.5)
    done = pull(catalog, server)
    assert (done.labels, done.closed, done.waiting) == (4, 4, 0)
    assert human_labels(catalog, "color") + human_labels(catalog, "car") + human_labels(catalog, "speed") == [
        (1, "ann", 1, 1), (1, "ann", 2, None), (1, "ann", 1, 30.5),
    ]  # fmt: skip
    with catalog.read() as now:
        (found,) = next(row["boxes"] for row in now.labels.by_annotator("things").to_pylist() if row["sample_id"] == 1)
        assert [found[part] for part in "xywh"] == pytest.approx([1, 2, 3, 4])
        answers = now.requests.answers().to_pylist()
        at = now.labels.by_annotator("color").filter(pc.equal(now.labels.by_annotator("color")["source"], "human"))[
            "labelled_at"
        ][0]
    assert {(row["annotator"], row["item"], row["annotation"], row["seconds"]) for row in answers} == {
        ("ann@people.test", item.item, annotation, 7.5)
    }
    assert {row["answered_at"] for row in answers} == {at.as_py()}
    assert pull(catalog, server) == PullResult()


def test_changed_and_deleted_answers(catalog: Catalog, server: LabelStudioClient, people: People) -> None:
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    (item,) = items(catalog, server)
    annotation = people["ann"].say(item.item, color(catalog, "red"))
    assert pull(catalog, server).labels == 1
    people["ann"].change(annotation, color(catalog, "green"))
    assert pull(catalog, server).labels == 1
    assert human_labels(catalog, "color") == [(1, "ann", 1, 2)]
    people["ann"].change(annotation, [])
    done = pull(catalog, server)
    assert (done.empty, done.retracted, human_labels(catalog, "color")) == (1, 1, [])
    people["ann"].change(annotation, color(catalog, "red"))
    pull(catalog, server)
    people["ann"].delete(annotation)
    assert pull(catalog, server).retracted == 1
    assert (human_labels(catalog, "color"), pull(catalog, server)) == ([], PullResult())


def test_an_answer_is_taken_though_its_items_time_was_seen_before(
    catalog: Catalog, server: LabelStudioClient, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server reads items, then annotations: one saved in between arrives with the item's old time."""
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    pull(catalog, server)
    (item,) = items(catalog, server)
    people["ann"].say(item.item, color(catalog, "red"))
    pages = [
        [{**row, "updated_at": item.updated_at} for row in page] for page in server.changed_items(item.project, "")
    ]
    with monkeypatch.context() as patch:
        patch.setattr(server, "changed_items", lambda project, since: iter(pages))
        assert pull(catalog, server).labels == 1
    assert (human_labels(catalog, "color"), states(catalog)) == ([(1, "ann", 1, 0)], ["answered"])
    assert pull(catalog, server) == PullResult()


def test_malformed_answers_are_quarantined_and_the_others_taken(
    catalog: Catalog, server: LabelStudioClient, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"), (3, "color"), (4, "color"))
    pushed(catalog, server)
    present = items(catalog, server)
    choice = color(catalog, "red")[0]
    two = {**choice, "value": {"choices": ["red", "green"]}}
    for item, results in zip(present, [[{"from_name": "color"}], [two], [{**choice, "type": "number"}]], strict=False):
        people["ann"].say(item.item, results)
    people["ann"].say(present[3].item, [choice])
    done = pull(catalog, server)
    assert (done.unfit, done.labels, done.waiting) == (3, 1, 0)
    with catalog.read() as now:
        rows = now.quarantine().to_pylist()
    assert [(row["dataset"], row["location"].split(" item ")[1].split()[0]) for row in rows] == [
        ("label-studio", str(item.item)) for item in present[:3]
    ]
    assert (human_labels(catalog, "color"), states(catalog)) == ([(4, "ann", 1, 0)], ["withdrawn"] * 3 + ["answered"])
    people["ann"].change(people["ann"].done[-3][1], [choice])
    assert pull(catalog, server).labels == 1
    assert human_labels(catalog, "color") == [(2, "ann", 1, 0), (4, "ann", 1, 0)]


def task_of(catalog: Catalog, name: str) -> Task:
    with catalog.read() as now:
        return now.task(name)


def test_a_request_that_everybody_skips_is_withdrawn(
    catalog: Catalog, server: LabelStudioClient, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    pushed(catalog, server, overlap=2)
    one, other = items(catalog, server)
    people["ann"].say(one.item, None)
    assert (pull(catalog, server).skipped, states(catalog)) == (1, ["open", "open"])
    people["bob"].say(one.item, None)
    people["ann"].say(other.item, None)
    people["bob"].say(other.item, color(catalog, "red"))
    pull(catalog, server)
    assert states(catalog) == ["withdrawn", "answered"]


def test_a_third_person_resolves_a_disagreement(catalog: Catalog, server: LabelStudioClient, people: People) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    project = int(pushed(catalog, server, overlap=2).projects[0].rpartition("/")[2])
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


def test_without_a_third_person_in_time_the_label_stays_unsure(
    catalog: Catalog, server: LabelStudioClient, people: People
) -> None:
    ask(catalog, (1, "color"), (1, "car"), (2, "color"))
    pushed(catalog, server, overlap=2)
    both, alone = items(catalog, server)
    car = cannot_tell(task_of(catalog, "car"))
    for name, value in (("ann", "red"), ("bob", "green")):
        people[name].say(both.item, [*color(catalog, value), *car])
        people[name].say(alone.item, color(catalog, "red"))
    assert (pull(catalog, server).disputed, pull(catalog, server).waiting) == (1, 2)
    with catalog.read() as now:
        rows = {row.task: (row.disputed, row.answered) for row in progress(now, set())}
    assert rows == {"color": (1, 1), "car": (0, 0)}
    done = pull(catalog, server, third=timedelta(0))
    assert (done.closed, done.waiting, states(catalog)) == (2, 0, ["answered"] * 3)
    people["cem"].say(both.item, color(catalog, "green"))
    assert pull(catalog, server).labels == 1
    with catalog.read() as now:
        labels = now.labels("color")
        assert labels.filter(pc.equal(labels["sample_id"], 1))["state"].to_pylist() == [1]


def test_gold_items_measure_people_and_give_no_labels(
    catalog: Catalog, server: LabelStudioClient, people: People
) -> None:
    with catalog.read() as now:
        known = {row["sample_id"]: row["code"] for row in now.labels("color").to_pylist()}
        keys = dict(zip(now.samples()["key"].to_pylist(), now.samples()["sample_id"].to_pylist(), strict=True))
        open_ = [sample for sample in now.training_ids().tolist() if sample not in known][:8]
        tasks = now.tasks()
    ask(catalog, *((sample, "color") for sample in open_))
    made = pushed(catalog, server, gold=0.2)
    assert (made.items, made.gold, pushed(catalog, server, gold=0.2).gold) == (8, 2, 0)
    project = int(made.projects[0].rpartition("/")[2])
    truth = Scripted(tasks, lambda key, task: tasks["color"].classes[known.get(keys[key], 0)], error=0, unsure=0)
    people["ann"].work(project, truth)
    people["bob"].work(project, truth)
    assert pull(catalog, server).gold == 2
    assert len(human_labels(catalog, "color")) == 8
    with catalog.read() as now:
        (ann,) = people_of(now)
        (row,) = progress(now, set())
    assert (ann.annotator, ann.gold, ann.quality, ann.answers, ann.seconds) == ("ann@people.test", 2, 1.0, 8, 2.0)
    assert (row.task, row.answered, row.spent, row.open_cost) == ("color", 8, 16.0, 0.0)


def test_setting_the_servers_clock_back_hides_nothing(
    catalog: Catalog, server: LabelStudioClient, people: People
) -> None:
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    (item,) = items(catalog, server)
    with open_session(catalog, server) as session:
        session.cache.reach[item.project] = Reach(
            newest="2099-01-01T00:00:00.000000Z", sure="2098-12-31T00:00:00.000000Z"
        )
    people["ann"].say(item.item, color(catalog, "red"))
    assert pull(catalog, server).labels == 1


def test_answers_on_a_forgotten_sample_are_ignored(catalog: Catalog, server: LabelStudioClient, people: People) -> None:
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    (item,) = items(catalog, server)
    with catalog.commit(author="ada", message="forget") as change:
        change.forget(item.sample, predictions={})
    people["ann"].say(item.item, color(catalog, "red"))
    assert pull(catalog, server) == PullResult(forgotten=(item.sample,))
    assert items(catalog, server) == []
    assert pull(catalog, server) == PullResult()


def test_forgetting_a_sample_deletes_its_item_and_annotations(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ask(catalog, (1, "color"), (2, "color"))
    pushed(catalog, server)
    one, other = items(catalog, server)
    people["ann"].say(one.item, color(catalog, "red"))
    pull(catalog, server)
    assert forget(catalog, one.sample, author="ada").servers == (server.name,)
    assert not any(one.sample in path.read_text() for path in (catalog.home / "labeling").glob("*.json"))
    assert forget(catalog, "pictures/00009", author="ada").servers == ()
    pushed(catalog, server)
    assert [item.sample for item in items(catalog, server)] == [other.sample]
    with studio.admin() as admin:
        assert admin.get(f"/api/tasks/{one.item}").status_code == 404
    assert not any(one.sample in path.read_text() for path in (catalog.home / "labeling").glob("*.json"))
