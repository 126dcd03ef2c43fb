"""The policy edited in a page: faults with their lines, who gains and pays, two writers, and a session that ends."""

import html
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import copy_home
from support.shared_plans import policy_of, shared_home
from support.visitors import Visitors, alerts, forms, words

from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from samplers import Policy
from samplers.plan.policy_text import policy_text

EDIT = "/plans/policy"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return shared_home(tmp_path_factory.mktemp("policies"))[0]


@pytest.fixture
def home(made: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(made, tmp_path)


@pytest.fixture
def visitors(home: Catalog) -> Iterator[Visitors]:
    with Visitors(home.home) as visitors:
        yield visitors


def in_force(catalog: Catalog) -> Policy | None:
    with catalog.read() as now:
        stored = now.ownership.policy()
    return Policy.model_validate_json(stored) if stored else None


def typed(client_page: str) -> str:
    return str(next(fields["text"] for _, fields in forms(client_page) if "text" in fields))


def test_a_policy_is_checked_then_saved_by_an_owner(home: Catalog, visitors: Visitors) -> None:
    ada = visitors.of("ada", "owner")
    page = ada.get(EDIT)
    assert typed(page.text) == policy_text(policy_of(1))  # that of the newest plan
    text = policy_text(policy_of(3)).replace("\n", "\r\n")  # as browsers send it
    checked = ada.send(f"{EDIT}/check", page, text=text)
    shown = words(checked.text)
    assert "color ada 75% ▲ from 50%" in shown
    assert "speed eve 25% ▼ from 50% 50% pays" in shown
    assert "speed: " not in shown
    assert "share 0.5 -> 0.25" in html.unescape(checked.text)
    assert in_force(home) is None
    saved = ada.send(EDIT, checked)
    assert saved.status_code == 303
    assert in_force(home) == policy_of(3)
    assert "set by token:ada" in ada.get(saved.headers["location"]).text
    with home.read() as now:
        assert (now.log()["author"][0].as_py(), len(now.ownership.acts())) == ("ada", 1)
    ada.send(EDIT, checked)  # a double click
    with home.read() as now:
        assert len(now.ownership.acts()) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            policy_text(policy_of(3)).replace("share = 0.75", "share = 0.7"),
            "lines 4, 10 : the tasks' shares sum to 0.95",
        ),
        (policy_text(policy_of(3)).replace("task.speed", "task.sped"), "line 8 : task 'sped': the catalog has no such"),
        ("[task", "line 1 : not valid TOML"),
        ("", "task is missing"),
        (
            '[task.color]\nowner = "<script>alert(1)"\nshare = 2\nimportance = 1',
            "line 3 : task.color.share = 2",
        ),
    ],
)
@pytest.mark.parametrize("action", [EDIT, f"{EDIT}/check"])
def test_a_wrong_policy_is_refused_with_its_lines(
    home: Catalog, visitors: Visitors, text: str, why: str, action: str
) -> None:
    ada = visitors.of("ada", "owner")
    answer = ada.send(action, EDIT, text=text)
    assert why in alerts(answer), alerts(answer)
    assert typed(answer.text).strip("\n") == text.strip("\n")
    assert "<script>alert" not in answer.text
    assert answer.status_code == (409 if action == EDIT else 200)
    assert in_force(home) is None


def test_two_people_edit_one_policy_and_nothing_is_lost(home: Catalog, visitors: Visitors) -> None:
    ada, eve = visitors.of("ada", "owner"), visitors.of("eve", "owner")
    pages = [client.get(EDIT) for client in (ada, eve)]
    assert ada.send(EDIT, pages[0], text=policy_text(policy_of(3))).status_code == 303
    mine = policy_text(policy_of(2))
    refused = eve.send(EDIT, pages[1], text=mine)
    assert refused.status_code == 409
    assert f"{policy_of(3).sha256[:12]} is in force by now" in alerts(refused)
    both = html.unescape(refused.text)
    assert policy_text(policy_of(3)).strip() in both
    assert mine.strip() in both
    assert "token:ada set" in words(refused.text)
    assert typed(refused.text) == mine
    assert in_force(home) == policy_of(3)
    assert eve.send(EDIT, refused).status_code == 303  # she saw both
    assert in_force(home) == policy_of(2)


@pytest.mark.parametrize("scope", ["read", "label", "admin"])
def test_only_an_owner_puts_a_policy_in_force(home: Catalog, visitors: Visitors, scope: str) -> None:
    other = visitors.of("amy", scope)  # type: ignore[arg-type]
    page = other.get(EDIT)
    assert "Put it in force" not in page.text
    assert other.send(f"{EDIT}/check", page).status_code == 200
    assert other.send(EDIT, page).status_code == 403
    assert in_force(home) is None


def test_a_token_that_ends_in_mid_edit_loses_nothing(home: Catalog, visitors: Visitors) -> None:
    eve = visitors.of("eve", "owner")
    page, text = eve.get(EDIT), policy_text(policy_of(4)) + '# "quoted" & <kept>\n'
    Tokens(home.home).remove("eve")
    asked = eve.send(EDIT, page, text=text)
    assert asked.status_code == 401
    assert "Nothing that you typed is lost" in asked.text
    assert in_force(home) is None
    secret = Tokens(home.home).add("eve", "owner")
    again = eve.send("/sign-in", asked, token=secret)
    assert typed(again.text).strip() == text.strip()
    assert eve.send(EDIT, again).status_code == 303
    assert in_force(home) == policy_of(4)


def test_the_routes_do_as_the_page(home: Catalog, visitors: Visitors) -> None:
    ada = visitors.of("ada", "owner")
    assert ada.get("/api/policy").json()["policy"] == ""
    text = policy_text(policy_of(3))
    checked = ada.client.post("/api/policy/check", json={"text": text}).json()
    assert [(row["task"], row["verdict"]) for row in checked["shifts"]] == [("color", "gains"), ("speed", "pays")]
    assert [row["lowered"][0] for row in checked["drawn"] if row["lowered"]] == ["share 0.5 -> 0.25"]
    assert ada.client.post("/api/policy/check", json={"text": "x"}).json()["faults"][0]["lines"] == [1]
    body = {"text": text, "read": "", "batch": "b"}
    saved = [ada.client.post("/api/policy", json=body) for _ in range(2)]
    assert {each.json()["commit"] for each in saved} == {saved[0].json()["commit"]}
    assert "is in force by now" in ada.client.post("/api/policy", json={**body, "batch": "c"}).json()["detail"]
    assert ada.client.post("/api/policy", json={**body, "text": "x", "batch": "d"}).status_code == 409
    facts = ada.get("/api/policy").json()
    assert (facts["policy"], facts["by"], facts["text"]) == (policy_of(3).sha256, "token:ada", text)


def test_a_policy_is_not_drawn_where_that_takes_long(
    home: Catalog, visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amber.service.facts.policy_changes.MOST_SAMPLES", 10)
    ada = visitors.of("ada", "owner")
    checked = ada.client.post("/api/policy/check", json={"text": policy_text(policy_of(3))}).json()
    assert (checked["drawn"], len(checked["shifts"])) == ([], 2)
    assert "take too long here; `amber plan` tells" in checked["not_drawn"]
