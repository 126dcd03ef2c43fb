"""`amber accounts`: losses in plans and figures under somebody else's change are found, and null data are silent."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.homes import copy_home, work_in
from support.planted_runs import noisy, plant_run, planted_home
from support.refusals import one_line

from amber.cli import run
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import Plan
from samplers.plan.plan_list import list_plans
from samplers.policy.policy import Policy
from training.dynamics.accounts import Accounts, accounts

Capture = pytest.CaptureFixture[str]
BOB = Identity(name="bob", via="user")
EVE = Identity(name="eve", via="user")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan]:
    """A workspace with one plan, made by nobody in particular, and the run `first`."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("accounts"))
    plant_run(catalog, plan, "first", lambda task: noisy(catalog, task, signal=3.0))
    return catalog, plan


@pytest.fixture
def home(planted: tuple[Catalog, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    work_in(tmp_path, monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    catalog = copy_home(planted[0], tmp_path)
    with catalog.commit(author="ada", message="members") as change:
        for owner, member in (("bob", BOB), ("eve", EVE)):
            change.set_members(owner, [member], by=member)
    return catalog


def plan_of(catalog: Catalog, by: Identity, shares: Mapping[str, float] = {}, draws: int = 400) -> Plan:
    """A plan that gives each task of `shares` so much, and the rest evenly to the others."""
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    rest = (1 - sum(shares.values())) / (len(policy.task) - len(shares))
    tasks = {
        name: part.model_copy(update={"share": shares.get(name, rest), "importance": shares.get(name, rest)})
        for name, part in policy.task.items()
    }
    draft = draft_plan(catalog, policy.model_copy(update={"task": tasks}), make_pack(catalog), draws=draws)
    return draft.save(by=str(by))


def signal(**changed: float) -> Mapping[str, float]:
    return {"color": 3.0, "car": 3.0, "bike": 3.0} | changed


def add_run(catalog: Catalog, plan: Plan, name: str, signals: Mapping[str, float], seed: int = 0) -> None:
    plant_run(catalog, plan, name, lambda task: noisy(catalog, task, signal=signals[task.name], seed=seed))


def found(catalog: Catalog) -> Accounts:
    with catalog.read() as now:
        return accounts(now, catalog.home)


def test_a_loss_in_a_plan_of_somebody_else_is_an_alarm(home: Catalog) -> None:
    plan_of(home, BOB, {"speed": 0.1})
    (alarm,) = [row for row in found(home).alarms if row.task == "speed"]
    assert (alarm.kind, alarm.owner, alarm.by, alarm.signed) == ("plan", "eve", "user:bob", False)
    assert "share 0.25 -> 0.1" in alarm.what
    assert set(alarm.gained) == {"color", "car", "bike"}


def test_plans_of_one_second_stand_in_the_order_in_which_they_were_made(home: Catalog) -> None:
    plans = [plan_of(home, BOB, draws=400 + 40 * number).hash for number in range(1, 5)]
    made = sorted(plans)[::2] + sorted(plans)[1::2]  # neither the order of their hashes nor its reverse
    for number, plan in enumerate(made):
        os.utime(home.home / "plans" / plan / "plan.json", (1e9 + 0.2 * number,) * 2)
    with home.read() as now:
        entries = [entry for entry in list_plans(home.home, now) if entry.plan in plans]
    assert [entry.plan for entry in entries] == made[::-1]
    assert {entry.at.microsecond for entry in entries} == {0}


def test_ones_own_change_is_none(home: Catalog) -> None:
    plan_of(home, EVE, {"speed": 0.1})
    assert found(home).alarms == ()


def test_a_figure_that_fell_in_a_run_of_somebody_else_is_an_alarm(home: Catalog) -> None:
    add_run(home, plan_of(home, BOB, draws=600), "second", signal(color=0.0))
    with home.commit(author="ada", message="members of ada") as change:
        change.set_members("ada", [Identity(name="ann", via="user")], by=Identity(name="ann", via="user"))
    account = found(home)
    (alarm,) = [row for row in account.alarms if row.kind == "figure"]
    assert (alarm.task, alarm.owner, alarm.subject, alarm.by) == ("color", "ada", "second", "user:bob")
    assert alarm.what.startswith("balanced_accuracy -")
    (step,) = [row for row in account.figures if row.fell]
    assert step.figure.high is not None
    assert step.figure.high < 0
    add_run(home, plan_of(home, BOB, draws=800), "third", signal(color=0.0, car=0.0))
    assert [row.task for row in found(home).alarms if row.kind == "figure"] == ["color"]  # the car is bob's own


def test_equal_runs_and_plans_are_silent(home: Catalog) -> None:
    for seed in range(1, 7):
        add_run(home, plan_of(home, BOB, draws=400 + 40 * seed), f"equal{seed}", signal(), seed=seed)
    account = found(home)
    assert account.alarms == ()
    assert len({row.run for row in account.figures}) == 6
    assert all(row.p == 1 or row.p > 0.05 for row in account.figures if row.p is not None)


def test_text_and_json(home: Catalog, capsys: Capture) -> None:
    add_run(home, plan_of(home, BOB, {"speed": 0.1}), "second", signal())
    assert run(["accounts"]) == 0
    shown = capsys.readouterr().out
    assert "alarm: speed (eve): share 0.25 -> 0.1" in shown
    assert "eve did not sign" in shown
    assert "Figures on test, from run to run" in shown
    assert run(["accounts", "-n", "1", "--json"]) == 0
    view: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (len(view["plans"]), view["alarms"], view["figures"]) == (1, [], [])


def test_without_a_plan_there_is_nothing_to_account_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    work_in(tmp_path, monkeypatch)
    assert run(["init"]) == 0
    capsys.readouterr()
    assert run(["accounts"]) == 2
    assert "has no plan to account for" in one_line(capsys.readouterr().err)
