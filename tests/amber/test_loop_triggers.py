"""Triggers as arms of the loop's budgets and of requests through the service, and in the report of the loop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.homes import copy_home
from support.lamps import ingested
from support.refusals import refused
from support.served import served

from amber.loop import Loop, Round, rounds_of, run_loop
from amber.service.client import Client
from amber.service.models.ledger import AskedFor
from amber.service.tokens import Tokens
from curation import Catalog
from curation.errors import BadInput, NotFound
from training.judging.request_arms import arm_figures
from training.recipe import Recipe
from training.report import write_report

TRIGGER, ARM = "said_yellow", "trigger:said_yellow"
LOOP = Loop(
    rounds=2, start=12, budget=8, random_share=0.0, draws=128, recipe=Recipe(size=(32, 32), threads=1),
    triggers=(TRIGGER,),
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, list[Round]]:
    """A workspace of coloured pictures in which a loop with a trigger ended, and its rounds."""
    folder = tmp_path_factory.mktemp("loop")
    catalog = Catalog.open(ingested(folder, counts=(60, 30, 50)))
    with catalog.commit(author="ada", message="a trigger") as change:
        change.add_slice(TRIGGER, "pred.color = 'yellow'", task="color")
    return catalog, list(run_loop(catalog, LOOP, author="ada"))


def asked(catalog: Catalog) -> list[dict[str, Any]]:
    with catalog.read() as now:
        rows: list[dict[str, Any]] = now.requests().to_pylist()
    return [row for row in rows if row["arm"] == ARM]


def test_each_round_asks_what_fires_in_the_run_before(done: tuple[Catalog, list[Round]]) -> None:
    catalog, rounds = done
    assert [step.labels for step in rounds] == [12, 20, 28]
    rows = asked(catalog)
    assert {row["run"] for row in rows} == {step.run for step in rounds[:2]}
    with catalog.read() as now:
        yellow = now.task("color").classes.index("yellow")
        for step in rounds[:2]:
            file = str(now.runs.predictions_file(catalog.home, step.run))
            predicted = {row["sample_id"]: row["code"] for row in now.runs.predictions("color", file).to_pylist()}
            mine = [row for row in rows if row["run"] == step.run]
            assert mine
            assert {predicted[row["sample_id"]] for row in mine} == {yellow}
            assert all(row["reason"].startswith(TRIGGER) for row in mine)


def test_a_loop_that_is_run_again_repeats_nothing_and_extends(
    done: tuple[Catalog, list[Round]], tmp_path: Path
) -> None:
    catalog, rounds = copy_home(done[0], tmp_path), done[1]
    before = asked(catalog)
    assert list(run_loop(catalog, LOOP, author="ada")) == rounds
    assert asked(catalog) == before
    assert list(run_loop(catalog, replace(LOOP, rounds=1), author="ada")) == rounds[:2]


def test_its_report_says_what_each_arm_found(done: tuple[Catalog, list[Round]], tmp_path: Path) -> None:
    catalog, rounds = done
    with catalog.read() as now:
        figures = {part.arm: part for part in arm_figures(now, catalog.home)}
        told = [vars(step) for step in rounds_of(now, rounds[-1].run)]
    found = figures[ARM]
    assert found.requested == found.answered == found.wrong.n == len(asked(catalog))
    assert found.rare.value == pytest.approx(1 - found.wrong.value)  # of what is said to be yellow, what is not
    write_report(catalog, rounds[-1].run, tmp_path / "report.html", rounds=told)
    page = (tmp_path / "report.html").read_text()
    assert ARM in page[page.index('id="requests"') :]


def test_settings_without_triggers_keep_their_id() -> None:
    plain = replace(LOOP, triggers=())
    assert plain.id == "948a644086e7"
    assert len({plain.id, LOOP.id, replace(LOOP, against="r").id}) == 3


@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["--triggers", "blink"], "'blink'", "flicker"),
        (["--triggers", "disagree"], "'disagree'", "--against"),
        (["--triggers", "disagree", "--against", "nine"], "nine", "amber runs"),
        (["--triggers", "against_label"], "against_label", "amber triggers --ask"),
        (["--triggers", " , "], "' , '", "names no trigger"),
        (["--triggers", "flicker", "--random"], "flicker", "drawn at random"),
        (["--against", "nine"], "--against nine", "--triggers"),
    ],
)
def test_is_refused_before_any_work(
    done: tuple[Catalog, list[Round]], words: list[str], value: str, fix: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(done[0].home.parent)
    line = refused(capsys, "loop", "--author", "ada", "--home", "home", *words)
    assert value in line
    assert fix in line


def test_the_service_takes_triggers(done: tuple[Catalog, list[Round]], tmp_path: Path) -> None:
    catalog, rounds = copy_home(done[0], tmp_path), done[1]
    secret = Tokens(catalog.home).add("ann", "label")
    named: dict[str, Any] = {"budget": 8, "random_share": 0.0}
    with served(catalog.home) as service, Client(service.url, secret) as client:
        wanted = AskedFor(**named, triggers=[TRIGGER], batch="one")
        assert (client.ask(wanted).requests, client.ask(wanted).requests) == (8, 0)
        more = AskedFor(**named, triggers=["disagree"], run=rounds[-1].run[:6], against=rounds[0].run, batch="two")
        assert client.ask(more).requests == 8
        for wrong, said in (
            ({"triggers": ["blink"]}, "'blink'"), ({"triggers": ["disagree"]}, "second run"),
            ({"triggers": ["against_label"]}, "against_label"), ({"against": rounds[0].run}, "triggers alone"),
        ):  # fmt: skip
            with pytest.raises(BadInput, match=said):
                client.ask(AskedFor(**named, **wrong, batch=said))
        with pytest.raises(NotFound, match="nine"):
            client.ask(AskedFor(**named, run="nine", batch="three"))
    with catalog.read() as now:
        rows = now.requests("open").to_pylist()
    assert len(rows) == 16
    assert {row["run"] for row in rows} == {rounds[-1].run}
    assert any(row["arm"] == ARM for row in rows)
