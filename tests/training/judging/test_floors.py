"""Floors of a gate: planted runs above, below and near them, and the same floors beside a comparison."""

import pytest
from support.planted_runs import noisy, plant_run, planted_home

from curation.catalog.catalog import Catalog
from curation.errors import AmberError
from training.judging.gate import GateResult, decide, decide_by_floors
from training.judging.gate_rules import GateRules, Judged
from training.judging.paired_runs import PairedRuns


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog, plan = planted_home(tmp_path_factory.mktemp("floors"))
    for name, signal in (("good", 6.0), ("bad", 0.5)):
        plant_run(catalog, plan, name, lambda task, signal=signal: noisy(catalog, task, signal=signal))  # type: ignore[misc]
    return catalog


def rules(**words: object) -> GateRules:
    return GateRules(judge=(Judged.model_validate({"task": "color", "margin": "99 points", **words}),))


def judged(catalog: Catalog, run: str, **words: object) -> GateResult:
    with catalog.read() as now:
        runs = PairedRuns.alone(now, catalog.home, run, tasks=("color", "speed"))
        return decide_by_floors(runs, rules(**words), where="gate.toml")


def test_three_outcomes_of_a_floor(catalog: Catalog) -> None:
    for run, floor, outcome in (("good", "70 points", "pass"), ("bad", "90 points", "block")):
        result = judged(catalog, run, floor=floor)
        (figure,) = result.figures
        assert (result.outcome, figure.outcome, figure.base) == (outcome, outcome, float(floor.split()[0]))
        assert figure.drop == pytest.approx(figure.base - figure.run)
        assert (figure.high < 0) == (outcome == "pass")
    (figure,) = judged(catalog, "good", floor="70 points").figures
    near = judged(catalog, "good", floor=f"{figure.run - 0.01:.2f} points")
    assert (near.outcome, near.figures[0].p > 0.4) == ("not enough data", True)


def test_a_floor_of_numbers_is_an_upper_bound(catalog: Catalog) -> None:
    words = {"task": "speed", "margin": "9 km/h"}
    assert judged(catalog, "good", floor="200 km/h", **words).outcome == "pass"
    (figure,) = judged(catalog, "good", floor="2 km/h", **words).figures
    assert (figure.outcome, figure.drop > 0) == ("block", True)


def test_floors_count_in_a_comparison_too(catalog: Catalog) -> None:
    with catalog.read() as now:
        runs = PairedRuns.load(now, catalog.home, "good", "bad", tasks=("color",))
        assert decide(runs, rules()).outcome == "pass"  # within its margin of 99 points
        result = decide(runs, rules(floor="90 points"))
    assert result.outcome == "block"
    assert [figure.what for figure in result.figures] == ["color on everything", "color on everything, floor"]


def test_bad_floors_are_refused_and_old_rules_keep_their_hash(catalog: Catalog) -> None:
    for words, line in (
        ({}, "has no floor, and there is no run to compare with"),
        ({"floor": "3 km/h"}, "floor '3 km/h' of color: balanced_accuracy is measured in points"),
        ({"floor": "100 points"}, "must be below 100 points"),
        ({"floor": "3 points", "metric": "f1:red"}, "has no interval of its own; declare it on balanced_accuracy"),
        ({"floor": "3 points", "slices": ("nothing",)}, "the catalog has no such slice"),
        ({"floor": "3 points", "margin": "9 km/h"}, "margin '9 km/h' of color: balanced_accuracy is measured in"),
        ({"floor": "3 points", "slices": ("everything",) * 2}, "color on everything is judged twice"),
    ):
        with pytest.raises(AmberError, match=line):
            judged(catalog, "good", **words)
    assert rules(floor="3 points").sha256 != rules().sha256
    assert rules().sha256[:16] == "b5890709402c7d49"
