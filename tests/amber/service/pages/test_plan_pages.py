"""The page of plans: what waits for an owner, sign-offs that the catalog decides, and what each task gets."""

import html
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import copy_home
from support.shared_plans import DRAWS, EVE, policy_of, set_members, shared_home
from support.visitors import Visitors, alerts, forms, words

from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.errors import BadInput
from samplers import Plan, make_pack, make_plan
from samplers.plan.build import draft_plan
from training import Recipe, Run

BOB = Identity(name="bob", via="user")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan]:
    return shared_home(tmp_path_factory.mktemp("plans"))


@pytest.fixture
def home(made: tuple[Catalog, Plan], tmp_path: Path) -> Catalog:
    return copy_home(made[0], tmp_path)


@pytest.fixture
def visitors(home: Catalog) -> Iterator[Visitors]:
    with Visitors(home.home) as visitors:
        yield visitors


def propose(catalog: Catalog, color: float = 5, *, commit: int | None = None) -> Plan | None:
    """Make a plan as bob; None where it is refused."""
    try:
        return make_plan(catalog, policy_of(color), make_pack(catalog), draws=DRAWS, commit=commit, by=BOB)
    except BadInput:
        return None


def test_a_refused_plan_waits_for_its_owner_who_signs_it(home: Catalog, visitors: Visitors) -> None:
    set_members(home, "eve", EVE)
    assert propose(home) is None
    eve = visitors.of("eve", "owner")
    page = eve.get("/plans")
    assert "Waits for eve" in page.text
    assert "speed: share 0.5 -> 0.1667" in html.unescape(page.text)
    (row,) = eve.get("/api/sign-offs").json()
    assert (row["owner"], row["by"], row["members"]) == ("eve", "user:bob", ["token:eve"])
    answer = eve.send("/plans/sign", page)
    again = eve.send("/plans/sign", page)  # a double click
    assert (answer.status_code, again.status_code) == (303, 303)
    done = eve.get(answer.headers["location"])
    assert f"token:eve signed plan {row['subject'][:12]} off for eve" in done.text
    assert "Waits for eve" not in done.text
    with home.read() as now:
        acts = [act for act in now.ownership.acts().to_pylist() if act["act"] == "sign_off"]
        assert [(act["owner"], act["member"], act["subject"]) for act in acts] == [("eve", "eve", row["subject"])]
        assert now.log()["author"][0].as_py() == "eve"
    made = propose(home, commit=row["labels"])
    assert made
    assert made.hash == row["subject"]
    assert eve.get("/api/sign-offs").json() == []
    assert eve.get("/api/signed").json()[0]["made"] is True


@pytest.mark.parametrize(("name", "scope"), [("bob", "owner"), ("amy", "label"), ("lea", "admin")])
def test_nobody_else_signs(home: Catalog, visitors: Visitors, name: str, scope: str) -> None:
    set_members(home, "eve", EVE)
    propose(home)
    other, eve = visitors.of(name, scope), visitors.of("eve", "owner")  # type: ignore[arg-type]
    page = other.get("/plans")
    assert "Sign off for eve" not in page.text
    assert "Only token:eve may sign" in page.text
    hidden = forms(page.text)[0][1] | {"owner": "eve", "once": "x", **_hashes(eve.get("/api/sign-offs").json()[0])}
    answer = other.client.post("/plans/sign", data=hidden)
    assert answer.status_code == (409 if scope == "owner" else 403)
    assert ("needs eve (token:eve)" if scope == "owner" else "this needs owner") in alerts(answer)
    with home.read() as now:
        assert now.ownership.acts().to_pylist()[-1]["act"] != "sign_off"


def _hashes(row: dict[str, str]) -> dict[str, str]:
    return {"plan": row["subject"], "before": row["before"], "policy": row["policy"]}


def test_another_owners_token_is_refused_with_the_line_of_the_catalog(home: Catalog, visitors: Visitors) -> None:
    propose(home)
    bob = visitors.of("bob", "owner")
    page = bob.get("/plans")  # eve has no members yet, so anybody may
    assert "eve has no members, so anybody may" in words(page.text)
    set_members(home, "eve", EVE)
    answer = bob.send("/plans/sign", page)
    assert answer.status_code == 409
    assert "sign-off of eve: needs eve (token:eve), and you are token:bob" in alerts(answer)
    with home.read() as now:
        assert "sign_off" not in now.ownership.acts()["act"].to_pylist()


def test_an_owner_without_members_is_signed_for_by_anybody(home: Catalog, visitors: Visitors) -> None:
    propose(home)
    bob = visitors.of("bob", "owner")
    assert bob.send("/plans/sign", "/plans").status_code == 303
    assert propose(home, commit=Plan.newest(home.home).commit)


def test_what_waits_ends_when_another_plan_is_made(home: Catalog, visitors: Visitors) -> None:
    set_members(home, "eve", EVE)
    propose(home)
    bob = visitors.of("bob", "owner")
    assert len(bob.get("/api/sign-offs").json()) == 1
    make_plan(home, policy_of(5), make_pack(home), draws=DRAWS, by=EVE)  # another plan: of newer labels
    assert bob.get("/api/sign-offs").json() == []
    assert "Waiting for a sign-off" not in bob.get("/plans").text


def test_a_plan_shows_who_pays_beside_the_plan_before(home: Catalog, visitors: Visitors) -> None:
    set_members(home, "eve", EVE)
    before = Plan.newest(home.home).hash
    after = draft_plan(home, policy_of(5), make_pack(home), draws=DRAWS).save(by=str(BOB)).hash
    bob = visitors.of("bob", "read")
    page = words(bob.get(f"/plans/{after[:8]}").text)
    assert f"beside plan {before[:12]}" in page
    assert "speed pays" in page
    assert "50% ▼ from" not in page
    assert "17% ▼ from 50%" in page
    facts = bob.get(f"/api/plans/{after[:8]}").json()
    assert (facts["row"]["plan"], facts["against"]) == (after, before)
    assert [(row["task"], bool(row["lowered"])) for row in facts["shifts"]] == [("color", False), ("speed", True)]
    assert [row["task"] for row in facts["outcomes"]] == ["color", "speed"]
    assert words(bob.get(f"/plans/{before}?against={after}").text).count("color pays") == 1
    assert [row["plan"] for row in bob.get("/api/plan-list").json()] == [after, before]
    bob.seen("/plans", "Tasks that lost under somebody")
    (line,) = bob.get("/api/accounts").json()
    assert (line["task"], line["by"], line["gained"], line["signed"]) == ("speed", "user:bob", ["color"], False)


@pytest.mark.parametrize("path", ["/plans/ffff", "/plans/x", "/api/plans/ffff"])
def test_an_unknown_plan_is_not_found(visitors: Visitors, path: str) -> None:
    answer = visitors.of("bob", "read").get(path)
    assert answer.status_code == 404
    assert "has no such plan" in answer.text


def test_a_withdrawn_plan_says_so(home: Catalog, visitors: Visitors) -> None:
    plan = Plan.newest(home.home)
    (plan.folder / "withdrawn.json").write_text(json.dumps({"at": "2026-11-30"}))
    bob = visitors.of("bob", "read")
    page = words(bob.get(f"/plans/{plan.hash}").text)
    assert "Withdrawn on 2026-11-30: an image that it used was forgotten" in page
    assert "What each task gets" not in page
    assert "There is no plan yet" in words(bob.get("/plans").text)
    assert bob.get(f"/api/plans/{plan.hash}").json()["outcomes"] == []


def test_the_exposure_of_a_run_is_shown_where_it_was_recorded(home: Catalog, visitors: Visitors) -> None:
    plan = Plan.newest(home.home)
    run = Run(id="r1", plan=plan.hash, commit=plan.commit, recipe=Recipe(), parent="", curve=[], alarm="tasks differ")
    run.save(home.home)
    rows = [{"kind": kind, "name": "color", "asked": 100.5, "drawn": 90} for kind in ("task", "stratum", "rank")]
    (home.home / "runs" / "r1" / "exposure.json").write_text(json.dumps(rows))
    with home.commit(author="ada", message="run") as change:
        change.add_run("r1", plan=plan.hash, predictions="none", sha256="0" * 64)
    bob = visitors.of("bob", "read")
    page = words(bob.get(f"/plans/{plan.hash}").text)
    assert "r1 tasks differ" in page
    assert "color 100.5 90 -10.5" in page
    (found,) = bob.get(f"/api/plans/{plan.hash}").json()["runs"]
    assert [row["kind"] for row in found["exposure"]] == ["task", "stratum"]


def test_tables_come_as_csv_and_arrow_too(home: Catalog, visitors: Visitors) -> None:
    import pyarrow as pa

    bob = visitors.of("bob", "read")
    text = bob.get("/api/plan-list?format=csv").text
    assert text.splitlines()[0].startswith('"plan","at"')
    assert '"[""color"", ""speed""]"' in text
    table = pa.ipc.open_stream(bob.get("/api/plan-list?format=arrow").content).read_all()
    assert table["plan"].to_pylist() == [Plan.newest(home.home).hash]
    assert bob.get("/api/sign-offs?format=csv").text.startswith('"what","owner"')
