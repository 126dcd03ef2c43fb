"""What an answer takes people: measured by task, and what it changes in the spreading of a budget."""

from collections import Counter
from pathlib import Path

import pytest
from support.homes import make_home, work_in
from support.label_requests import answer
from support.refusals import refused

from amber.cli import run
from curation import Catalog
from curation.requests.answer_seconds import median_seconds, relative_costs
from curation.requests.proposals import Proposal, choose_requests

SKIPPED = 7.0
"""The seconds of pages that are skipped."""


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    work_in(tmp_path, monkeypatch)
    return make_home(tmp_path, samples=200)


def answered(catalog: Catalog, tasks: list[str], seconds: list[float], *, first: int = 0) -> None:
    """Pages that ask for all of `tasks`, one for each of `seconds`."""
    outcomes = ["skipped" if took == SKIPPED else "known" for took in seconds]
    pages = enumerate(zip(outcomes, seconds, strict=True))
    answer(catalog, *((page, task, "ann", *given, first + page) for page, given in pages for task in tasks))


def test_seconds_are_medians_of_enough_timed_answers(catalog: Catalog) -> None:
    answered(catalog, ["car"], [2.0] * 6 + [3.0] * 5 + [900.0] + [0.0] * 9 + [SKIPPED] * 9)
    answered(catalog, ["bike"], [4.0] * 9, first=100)
    with catalog.read() as now:
        assert median_seconds(now) == {"car": 2.5}


def test_a_page_of_several_tasks_divides_its_seconds(catalog: Catalog) -> None:
    answered(catalog, ["car", "color"], [6.0] * 10)
    with catalog.read() as now:
        assert median_seconds(now) == {"car": 3.0, "color": 3.0}
        assert relative_costs({}, ["car", "bike"]) == {"car": 1.0, "bike": 1.0}


def test_a_task_whose_answers_take_longer_gets_fewer_labels(catalog: Catalog) -> None:
    def counts() -> Counter[object]:
        with catalog.read() as now:
            proposal = Proposal(budget=60, seed=0, random_share=0.0, importance={"bike": 1.0, "speed": 1.0})
            names = {id_: name for name, id_ in now.task_ids().items()}
            rows = choose_requests(now, proposal, catalog.home)
            costs.update({names[int(str(row["task_id"]))]: float(str(row["cost"])) for row in rows})
            return Counter(names[int(str(row["task_id"]))] for row in rows)

    costs: dict[str, float] = {}
    before = counts()
    assert set(costs.values()) == {1.0}
    answered(catalog, ["bike"], [4.0] * 10)
    answered(catalog, ["speed"], [12.0] * 10, first=100)
    after = counts()
    assert costs == {"bike": 0.5, "speed": 1.5}
    odds = (before["bike"] / before["speed"], after["bike"] / after["speed"])
    assert odds[1] / odds[0] == pytest.approx(3, rel=0.25)


def test_the_verb_shows_seconds_and_refuses_a_budget_above_the_pool(
    catalog: Catalog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    answered(catalog, ["car"], [36.0] * 10)
    why = refused(capsys, "request", "--budget", "5000")
    assert "budget 5,000: only " in why
    assert "car: no sample left" in why
    assert run(["request", "--budget", "20"]) == 0
    shown = capsys.readouterr().out
    assert "20 of 20 labels requested" in shown
    assert "36.0" in shown
    assert "hours of the tasks whose answers were timed" in shown


@pytest.mark.parametrize(("strategy", "why"), [("margin", "predictions of a run"), ("typiclust", "needs features")])
def test_a_strategy_without_what_it_ranks_by_is_refused(
    strategy: str, why: str, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    assert why in refused(capsys, "request", "--budget", "5", "--strategy", strategy)
