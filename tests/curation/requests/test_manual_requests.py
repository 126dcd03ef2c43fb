"""What people do to picked samples through the service: request, tag, mark as unsure, and ask why one is drawn."""

import doctest
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import copy_home, make_home
from support.served import served

from amber.service.client import Client
from amber.service.models.ledger import Done, DoubtPicked, GivenLabel, RequestPicked, ShownPicked, TagPicked
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, NotFound
from curation.requests import manual_requests
from curation.requests.manual_requests import request_labels
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import draft_plan
from samplers.plan.strata import SliceMembership
from samplers.policy.policy import Policy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("picked"), samples=40)


@pytest.fixture
def catalog(made: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(made, tmp_path)


@pytest.fixture
def eve(catalog: Catalog) -> Iterator[Client]:
    secret = Tokens(catalog.home).add("eve", "label")
    with served(catalog.home) as service, Client(service.url, secret) as client:
        yield client


def keys(*numbers: int) -> list[str]:
    return [f"pictures/{number:05d}" for number in numbers]


def commits(catalog: Catalog) -> int:
    with catalog.read() as now:
        return now.commit


def test_requests_have_an_author_and_a_reason(catalog: Catalog, eve: Client) -> None:
    wish = RequestPicked(keys=keys(5, 6, 5), tasks=["speed", "car"], reason="looks wrong", batch="one")
    before = commits(catalog)
    shown = eve.pick(wish.model_copy(update={"preview": True}))
    assert (shown.author, shown.done, shown.commit, commits(catalog)) == ("eve", 4, None, before)
    done = eve.pick(wish)
    assert done == shown.model_copy(update={"commit": before + 1})
    with catalog.read() as now:
        rows = now.requests("open").to_pylist()
        assert {(row["key"], row["task"]) for row in rows} == {(k, t) for k in keys(5, 6) for t in ("speed", "car")}
        assert {(row["arm"], row["reason"]) for row in rows} == {("picked", "looks wrong")}
        assert now.log()["author"][0].as_py() == "eve"
    again = eve.pick(wish.model_copy(update={"batch": "two"}))
    assert (again.done, again.passed_over, again.commit) == (0, {"requested already": 4}, None)


def test_known_labels_and_evaluation_samples_may_be_requested_and_are_noted(catalog: Catalog) -> None:
    with catalog.read() as now:
        samples = {row["sample_id"]: row for row in now.samples().to_pylist()}
        known = [samples[row["sample_id"]] for row in now.labels("color").to_pylist()]
        found = request_labels(now, [row["key"] for row in known], ["color"], "again")
    assert found.noted["known already, and requested again"] == len(known) == len(found.rows)
    assert sum(found.noted.values()) - len(known) == sum(row["split"] == "test" for row in known) > 0


def test_labels_of_picked_samples_count_as_mined(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="ask") as change:
        change.add_requests(request_labels(change.now, keys(7), ["color"], "rare").rows)
    with catalog.commit(author="ada", message="answered") as change:
        change.close_requests(change.now.requests()["request_id"].to_pylist(), state="answered")
    with catalog.read() as now:
        ids = now.samples()["sample_id"].to_numpy()
        assert SliceMembership(now).mined("color", ids).sum() == 1


def test_a_tag_is_an_attribute_that_slices_use(catalog: Catalog, eve: Client) -> None:
    assert eve.pick(TagPicked(keys=keys(1, 2), tag="blurred", batch="on")).done == 2
    assert eve.pick(TagPicked(keys=keys(2, 3), tag="blurred", batch="more")).passed_over == {"tagged already": 1}
    assert eve.pick(TagPicked(keys=keys(1, 9), tag="blurred", on=False, batch="off")).done == 1
    with catalog.read() as now:
        ids = dict(zip(now.samples()["key"].to_pylist(), now.samples()["sample_id"].to_pylist(), strict=True))
        assert sorted(now.members("attr.tag_blurred")) == sorted(ids[key] for key in keys(2, 3))
    for wrong in ("Blurred", "a b", "x" * 60):
        with pytest.raises(BadInput, match="choose another"):
            eve.pick(TagPicked(keys=keys(1), tag=wrong, batch="wrong"))


def test_a_doubt_is_a_label_by_the_owner_of_the_token(catalog: Catalog, eve: Client) -> None:
    eve.give([GivenLabel(key=keys(1)[0], task="color", value="red")], batch="given")
    assert doubt(eve, "retracted", 1, 2) == (1, {"eve has no label of it": 1})
    assert doubt(eve, "unsure", 1, 2) == (2, {})
    assert doubt(eve, "unsure", 2, 3) == (1, {"eve is unsure already": 1})
    with catalog.read() as now:
        unsure = [row["sample_id"] for row in now.labels("color").to_pylist() if row["state"] == 2]
        keys_of = dict(zip(now.samples()["sample_id"].to_pylist(), now.samples()["key"].to_pylist(), strict=True))
    assert sorted(keys_of[id_] for id_ in unsure) == keys(1, 2, 3)


def doubt(client: Client, state: str, *numbers: int) -> tuple[int, dict[str, int]]:
    wish = DoubtPicked(keys=keys(*numbers), task="color", state=state, batch=f"{state} {numbers}")
    shown = client.pick(wish.model_copy(update={"preview": True}))
    done = client.pick(wish)
    assert (shown.done, shown.passed_over) == (done.done, done.passed_over)
    return done.done, done.passed_over


def test_the_same_batch_again_is_a_no_op(eve: Client) -> None:
    wish = TagPicked(keys=keys(1), tag="dark", batch="same")
    first = eve.pick(wish)
    eve.pick(TagPicked(keys=keys(1), tag="dark", on=False, batch="off"))
    second: Done = eve.pick(wish)
    assert (second.done, second.commit) == (0, first.commit)


def test_what_is_missing_is_named(eve: Client) -> None:
    with pytest.raises(NotFound, match="'nosuch'"):
        eve.pick(TagPicked(keys=["nosuch"], tag="dark", batch="a"))
    with pytest.raises(NotFound, match="colour"):
        eve.pick(RequestPicked(keys=keys(1), tasks=["colour"], reason="r", batch="b"))
    with pytest.raises(NotFound, match="no plan yet"):
        eve.why(keys(1)[0])


def test_what_the_app_shows_of_picked_samples(catalog: Catalog, eve: Client) -> None:
    before = commits(catalog)
    eve.pick(TagPicked(keys=keys(1), tag="dark", batch="dark"))
    now, then = (eve.shown(ShownPicked(keys=keys(1, 2), commit=commit)) for commit in (None, before))
    assert (now.commit, then.commit) == (before + 1, before)
    assert now.samples.keys() == {*keys(1, 2)}
    assert ("dark" in now.samples[keys(1)[0]]["tags"], "dark" in then.samples[keys(1)[0]]["tags"]) == (True, False)
    assert now.samples[keys(1)[0]]["attr_tag_dark"] is True
    assert eve.shown(ShownPicked(keys=["nosuch"])).samples == {}
    with pytest.raises(NotFound, match="run 'nosuch'"):
        eve.shown(ShownPicked(keys=keys(1), run="nosuch"))
    with pytest.raises(NotFound, match="commit 99"):
        eve.shown(ShownPicked(keys=keys(1), commit=99))


def test_the_examples_run(catalog: Catalog) -> None:
    with catalog.read() as now:
        assert doctest.testmod(manual_requests, extraglobs={"now": now}).failed == 0


def test_why_a_sample_is_drawn(catalog: Catalog, eve: Client) -> None:
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    plan = draft_plan(catalog, policy, make_pack(catalog), draws=200, seed=0, commit=None).save()
    key = plan.keys[0].as_py()
    rows = eve.why(key)
    assert {row.plan for row in rows} == {plan.hash}
    assert sum(row.part for row in rows) == pytest.approx(rows[0].p)
    assert eve.why(key, plan=plan.hash[:8]) == rows
    with pytest.raises(NotFound):
        eve.why("nosuch")
    with pytest.raises(BadInput):
        eve.why(key, plan="../..")
