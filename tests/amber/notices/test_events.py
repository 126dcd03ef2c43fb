"""What happened: each kind of notice is found where it was planted, and none where nothing changed."""

import doctest
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest
from support.homes import copy_home, label, labels
from support.planted_runs import noisy, plant_run, planted_home

from amber.gate import decide_gate
from amber.notices.events import notices_since
from amber.notices.notice import Notice
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.catalog.ownership import Identity
from curation.errors import BadInput
from curation.labelstudio.item_cache import Item, ItemCache
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import Plan
from samplers.plan.sign_off import save_signed
from samplers.policy.policy import Policy
from training.judging.gate_rules import GateRules

BOB, EVE = (Identity(name=name, via="user") for name in ("bob", "eve"))
GOOD = {"color": 3.0, "car": 3.0, "bike": 3.0}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan]:
    """A workspace with a plan, the run `first`, and members of the owners bob and eve."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("events"))
    plant_run(catalog, plan, "first", lambda task: noisy(catalog, task, signal=3.0))
    with catalog.commit(author="ada", message="members") as change:
        for owner, member in (("bob", BOB), ("eve", EVE)):
            change.set_members(owner, [member], by=member)
    return catalog, plan


@pytest.fixture
def home(planted: tuple[Catalog, Plan], tmp_path: Path) -> Catalog:
    return copy_home(planted[0], tmp_path)


def head(catalog: Catalog) -> int:
    with catalog.read() as now:
        return now.commit


def found(catalog: Catalog, since: int) -> list[Notice]:
    with catalog.read() as now:
        notices, notes = notices_since(now, catalog.home, since)
    assert notes == []
    assert len({each.id for each in notices}) == len(notices)
    return notices


def add_run(catalog: Catalog, name: str, seed: int = 1, parent: str = "", **signals: float) -> None:
    plan, known = Plan.newest(catalog.home), GOOD | signals
    plant_run(catalog, plan, name, lambda task: noisy(catalog, task, signal=known[task.name], seed=seed), parent=parent)


def policy_of(catalog: Catalog, shares: Mapping[str, float]) -> Policy:
    """A policy that gives each task of `shares` so much, and the rest evenly to the others."""
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    rest = (1 - sum(shares.values())) / (len(policy.task) - len(shares))
    parts = {
        name: part.model_copy(update={"share": shares.get(name, rest), "importance": shares.get(name, rest)})
        for name, part in policy.task.items()
    }
    return policy.model_copy(update={"task": parts})


def drafted(catalog: Catalog, shares: Mapping[str, float], draws: int = 400) -> Plan:
    return draft_plan(catalog, policy_of(catalog, shares), make_pack(catalog), draws=draws)


def test_a_slice_that_got_worse_is_found_with_whom_it_concerns(home: Catalog) -> None:
    since = head(home)
    add_run(home, "worse", car=0.0)
    (notice,) = found(home, since)
    assert (notice.kind, notice.commit, notice.link) == ("regressed", since + 1, "runs/worse")
    assert notice.subject == "car got worse in run worse after run first"
    assert notice.text.startswith("everything: accuracy -")
    assert (notice.tasks, notice.owners, notice.persons) == (("car",), ("bob",), ("user:bob",))
    assert notice.command == "amber compare first worse"


def test_a_run_is_compared_with_the_one_that_it_continues(home: Catalog) -> None:
    since = head(home)
    add_run(home, "bad", car=0.0)
    add_run(home, "good")
    add_run(home, "still_bad", parent="bad", car=0.0, seed=4)
    assert [(each.subject, each.commit) for each in found(home, 0)] == [
        ("car got worse in run bad after run first", since + 1)
    ]


def test_what_was_found_does_not_depend_on_later_commits(home: Catalog) -> None:
    since = head(home)
    add_run(home, "worse", car=0.0)
    before = found(home, since)
    with home.commit(author="ada", message="labels that say otherwise") as change:
        rows = change.now.samples("key", "split").to_pylist()
        test = [row["key"] for row in rows if row["split"] == "test"]
        change.add_labels(labels([label(key, "car", True, "ann") for key in test]), source="human")
    assert found(home, since) == before


def test_equal_runs_and_plans_are_silent(home: Catalog) -> None:
    since = head(home)
    for seed in range(1, 4):
        drafted(home, {}, draws=400 + 40 * seed).save(by="user:bob")
        add_run(home, f"equal{seed}", seed=seed)
    assert found(home, since - 1) == []


def test_runs_that_cannot_be_compared_are_named(home: Catalog) -> None:
    since = head(home)
    add_run(home, "worse", car=0.0)
    (home.home / "runs" / "first" / "predictions.parquet").unlink()
    with home.read() as now:
        notices, (note,) = notices_since(now, home.home, since)
    assert notices == []
    assert note.startswith("run worse: not compared with first: ")


def test_a_task_that_gets_less_is_found_whoever_made_the_plan(home: Catalog) -> None:
    since = head(home)
    plan = drafted(home, {"speed": 0.1}).save(by="user:eve")
    (notice,) = [each for each in found(home, since - 1) if "speed" in each.tasks]
    assert (notice.kind, notice.commit, notice.persons) == ("share", since, ("user:eve",))
    assert notice.text.startswith("share 0.25 -> 0.1, importance 0.25 -> 0.1, ess ")
    assert notice.text.endswith("the plan was made by user:eve")
    assert notice.link == f"plans/{plan.hash}"
    assert {each.kind for each in found(home, since - 1)} == {"share"}
    with home.commit(author="ada", message="later"):
        pass
    assert [each.id for each in found(home, since - 1) if "speed" in each.tasks] == [notice.id]


def test_what_a_training_derived_is_no_plan_of_anybody(home: Catalog) -> None:
    since = head(home)
    drafted(home, {"speed": 0.1}).save(by="training", derived=True)
    assert found(home, since - 1) == []


def test_a_gate_that_blocks_names_the_tasks_that_drop(home: Catalog, tmp_path: Path) -> None:
    add_run(home, "worse", car=0.0)
    add_run(home, "equal", parent="first")
    since, rules = head(home), tmp_path / "gate.toml"
    rules.write_text('[[judge]]\ntask = "car"\nmargin = "10 points"\n[[judge]]\ntask = "color"\nmargin = "90 points"\n')
    for run in ("equal", "worse"):
        decide_gate(home, ("first", run), GateRules.load(rules), where="gate.toml", by=BOB, author="bob", home="home")
    (notice,) = found(home, since)
    assert (notice.kind, notice.commit) == ("blocked", since + 2)
    assert notice.subject == "the gate blocks run worse in place of run first"
    assert notice.text == "car: drop by more than is allowed; the gate was run by user:bob"
    assert (notice.tasks, notice.persons) == (("car",), ("user:bob",))


def refused(catalog: Catalog, shares: Mapping[str, float], by: Identity = BOB) -> Plan:
    """A plan that waits for sign-offs."""
    draft = drafted(catalog, shares)
    with pytest.raises(BadInput, match="without the sign-off"):
        save_signed(catalog, draft, Plan.newest(catalog.home), policy_of(catalog, shares), by=by)
    return draft


def test_a_plan_waits_for_each_owner_until_it_signs(home: Catalog) -> None:
    since, before = head(home), Plan.newest(home.home)
    draft = refused(home, {"color": 0.7})
    waits = found(home, since - 1)
    assert [(each.kind, each.commit, each.owners) for each in waits] == [("waiting", since, ("eve",))]
    assert waits[0].subject == f"plan {draft.hash[:12]} waits for the sign-off of eve"
    assert waits[0].text.startswith("speed: share 0.25 -> 0.1\nspeed: importance ")
    assert waits[0].persons == ("user:eve",)
    assert waits[0].command.startswith(f"amber plan --commit {draft.commit} --sign eve")
    refused(home, {"color": 0.7})  # the same again is the same
    assert found(home, since - 1) == waits
    policy = policy_of(home, {"color": 0.7})
    with home.commit(author="eve", message="sign") as change:
        change.sign_off("eve", plan=draft.hash, before=before.hash, policy=policy.sha256, by=EVE)
    assert found(home, since - 1) == []


def test_a_new_proposal_of_the_same_person_replaces_the_earlier_one(home: Catalog) -> None:
    since = head(home)
    refused(home, {"color": 0.7})
    second = refused(home, {"color": 0.6})
    refused(home, {"car": 0.7}, by=EVE)
    waits = found(home, since - 1)
    assert {(each.owners, each.text.rpartition("proposed by ")[2].split()[0]) for each in waits} == {
        (("eve",), "user:bob"), (("ada",), "user:eve"), (("bob",), "user:eve"),
    }  # fmt: skip
    assert [second.hash[:12] in each.subject for each in waits if each.owners == ("eve",)] == [True]
    drafted(home, {}, draws=500).save(by="user:ada")  # then nothing is compared with the plan before
    assert found(home, since - 1) == []


def asked(catalog: Catalog, task: str, count: int) -> list[int]:
    """The ids of new requests for a task."""
    with catalog.commit(author="ada", message="ask") as change:
        known = set(change.now.labels(task)["sample_id"].to_pylist())
        free = [int(id_) for id_ in change.now.training_ids() if int(id_) not in known][:count]
        words = {"arm": "random", "slice": "", "reason": "-", "run": "", "priority": 1, "propensity": 1.0, "cost": 1.0}
        rows = [{"sample_id": id_, "task_id": change.now.task_ids()[task], **words} for id_ in free]
        before = set(change.now.requests()["request_id"].to_pylist())
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
        return [id_ for id_ in change.now.requests()["request_id"].to_pylist() if id_ not in before]


def close(catalog: Catalog, ids: list[int], state: str = "answered") -> None:
    with catalog.commit(author="ada", message="close") as change:
        change.close_requests(ids, state=state)


@pytest.mark.parametrize("state", ["answered", "withdrawn"])
def test_a_queue_that_ran_dry_is_found_until_it_is_filled(home: Catalog, state: str) -> None:
    since = head(home)
    requests = asked(home, "car", 4)
    close(home, requests[:3], state)
    assert found(home, since) == []
    close(home, requests[3:], state)
    (notice,) = found(home, since)
    assert (notice.kind, notice.commit, notice.persons) == ("dry", since + 3, ("user:bob",))
    assert notice.subject == "nobody is asked for labels of car"
    assert "training images have neither a label nor a request" in notice.text
    with home.commit(author="ada", message="later"):
        pass
    assert found(home, since) == [notice]
    asked(home, "car", 2)
    assert found(home, since) == []


def test_a_queue_with_nothing_left_to_ask_is_not_dry(home: Catalog) -> None:
    since = head(home)
    requests = asked(home, "car", 1_000)
    with home.commit(author="ada", message="answers") as change:
        keys = dict(zip(*(change.now.samples(name)[name].to_pylist() for name in ("sample_id", "key")), strict=True))
        open_ = change.now.requests("open").to_pylist()
        change.add_labels(labels([label(keys[row["sample_id"]], "car", False, "ann") for row in open_]), source="human")
        change.close_requests(requests, state="answered")
    assert found(home, since) == []


def test_open_requests_of_which_no_item_asks_are_dry(home: Catalog) -> None:
    since = head(home)
    requests = asked(home, "car", 3)
    cache = ItemCache.open(home.home / "labeling" / ("0" * 12 + ".json"), "studio")
    cache.path.parent.mkdir()
    person = {"id": 1, "completed_by": 7, "updated_at": "2026-11-30T00:00:00Z"}
    item = Item(project=1, item=1, key="k", sample="pictures/00001", requests={"car": requests[0]})
    cache._keep(item)
    cache.save()
    assert found(home, since) == []
    close(home, requests[:1])
    assert found(home, since) == []  # the item asks until the next pull
    cache._keep(Item(**{**vars(item), "annotations": [person]}))
    cache.save()
    (notice,) = found(home, since)
    assert (notice.kind, notice.commit, notice.command) == ("dry", since + 2, "amber label push")
    assert notice.text == "2 requests are open, and no item in Label Studio asks for any of them"


def test_a_plan_of_older_labels_belongs_to_the_newest_commit(home: Catalog) -> None:
    since = head(home)
    with home.commit(author="ada", message="later"):
        pass
    policy = policy_of(home, {"speed": 0.1})
    draft_plan(home, policy, make_pack(home), draws=400, commit=since).save(by="user:ada")
    assert [each.commit for each in found(home, since) if "speed" in each.tasks] == [since + 1]


def test_times_are_in_utc(home: Catalog) -> None:
    since = head(home)
    add_run(home, "worse", car=0.0)
    drafted(home, {"speed": 0.1}).save(by="user:eve")
    now = datetime.now(UTC).replace(tzinfo=None)
    assert all(timedelta(seconds=-1) < now - each.at < timedelta(seconds=60) for each in found(home, since - 1))


def test_doctests(home: Catalog) -> None:
    for name in ("events", "notice", "webhook"):
        done = doctest.testmod(import_module(f"amber.notices.{name}"), extraglobs={"catalog": home})
        assert done.attempted > 0
        assert done.failed == 0
