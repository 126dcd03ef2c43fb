"""`amber gate` on planted runs: three outcomes with their exit codes, the team's rules, the record, and bad input."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.homes import copy_home, label, labels
from support.planted_runs import noisy, plant_run, planted_home

from amber.cli import run
from amber.findings import verdict_findings
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import os_user
from samplers.plan.plan import Plan
from training.judging.gate import decide
from training.judging.gate_rules import GateRules
from training.judging.paired_runs import PairedRuns

WIDE = '[[judge]]\ntask = "color"\nmargin = "40 points"\n[[judge]]\ntask = "speed"\nmargin = "9 km/h"\n'
TIGHT = '[[judge]]\ntask = "color"\nslices = ["everything", "*"]\nmargin = "2 points"\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan]:
    """`good` and `again` are equally good; `bad` knows less about the color; `part` predicts part of the images."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("gated"))
    plant_run(catalog, plan, "good", lambda task: noisy(catalog, task, signal=6.0))
    plant_run(catalog, plan, "again", lambda task: noisy(catalog, task, signal=6.0, seed=1), parent="good")
    plant_run(catalog, plan, "bad", lambda task: noisy(catalog, task, signal=0.5 if task.name == "color" else 6.0))
    plant_run(catalog, plan, "part", lambda task: noisy(catalog, task, signal=6.0))
    path = catalog.home / "runs" / "part" / "predictions.parquet"
    table = pq.read_table(path)
    without = pc.and_(pc.equal(table["task"], "color"), pc.greater(table["key"], "pictures/00400"))
    pq.write_table(table.filter(pc.invert(pc.or_(without, pc.equal(table["task"], "car")))), path)
    with catalog.commit(author="ada", message="evaluate part again") as change:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        change.add_run("part", plan=plan.hash, predictions="runs/part/predictions.parquet", sha256=sha256)
        change.add_slice("tiny", "attr.key = 'nothing'", task="car")
    return catalog, plan


@pytest.fixture
def shared(made: tuple[Catalog, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """The workspace of all tests, from an empty folder: decisions add up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBER_AUTHOR", "ada")
    monkeypatch.setenv("AMBER_HOME", str(made[0].home))
    return made[0]


@pytest.fixture
def own(shared: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A copy of the workspace."""
    catalog = copy_home(shared, tmp_path)
    monkeypatch.setenv("AMBER_HOME", str(catalog.home))
    return catalog


def gate(capsys: pytest.CaptureFixture[str], rules: str, *words: str) -> tuple[int, dict[str, Any]]:
    Path("gate.toml").write_text(rules)
    code = run(["gate", *words, "--gate", "gate.toml", "--json"])
    view: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return code, view


@pytest.mark.usefixtures("shared")
def test_three_outcomes_with_their_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code, passed = gate(capsys, WIDE, "again")
    assert (code, passed["outcome"], passed["against"]) == (0, "pass", "good")  # its parent
    assert all(row["high"] < row["margin"] and row["groups_needed"] is None for row in passed["figures"])
    code, few = gate(capsys, TIGHT, "again")
    assert (code, few["outcome"]) == (11, "not enough data")
    assert {row["slice"] for row in few["figures"]} == {"", "yellow", "yellow_at_night", "night"}
    assert all(row["groups_needed"] > row["groups"] for row in few["figures"])
    code, blocked = gate(capsys, TIGHT, "bad", "--against", "good")
    assert (code, blocked["outcome"]) == (10, "block")
    assert blocked["next"][0].startswith("amber compare good bad --sheet flips.html --home ")
    everything = blocked["figures"][0]
    assert everything["outcome"] == "block"
    assert everything["p"] <= 0.05
    assert everything["drop"] > 20
    assert everything["base"] - everything["run"] == pytest.approx(everything["drop"])
    assert gate(capsys, WIDE.replace("40", "99"), "bad", "--against", "good")[1]["outcome"] == "pass"


def test_the_decision_is_recorded_and_counted(own: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    rules = judged(margin='"47 points"')
    before = decisions(own)
    first = gate(capsys, rules, "again", "--against", "good")[1]["evaluation_set"]
    repeated = gate(capsys, rules, "again", "--against", "good")[1]["evaluation_set"]
    assert repeated == first  # the same decision
    other = gate(capsys, judged(margin='"48 points"'), "again", "--against", "good")[1]["evaluation_set"]
    assert (other["digest"], other["used"]) == (first["digest"], first["used"] + 1)
    with own.read() as now:
        acts = [act for act in now.ownership.acts().to_pylist() if act["act"] == "gate"]
        key = now.samples().filter(pc.equal(now.samples()["split"], "test"))["key"][0].as_py()
    assert len(acts) == before + 2
    assert {"act": "gate", "subject": "again", "before": "good", "policy": first["digest"], "owner": "",
            "member": os_user().name}.items() <= acts[-1].items()  # fmt: skip
    with own.commit(author="ada", message="a label") as change:
        change.add_labels(labels([label(key, "color", "green", "bob")]), source="human")
    later = gate(capsys, judged(margin='"47 points"'), "again", "--against", "good")[1]["evaluation_set"]
    assert later["digest"] != first["digest"]
    assert (later["used"], later["used_before"]) == (0, before + 2)


@pytest.mark.usefixtures("shared")
def test_the_report_is_written_for_people_and_for_machines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    Path("gate.toml").write_text(TIGHT)
    assert run(["gate", "again", "--gate", "gate.toml", "--out", "reports/judged.md"]) == 11
    shown = capsys.readouterr().out
    text, view = Path("reports/judged.md").read_text(), json.loads(Path("reports/judged.json").read_text())
    assert text.startswith("# Gate: not enough data\n")
    assert view["evaluation_set"]["digest"] in text
    assert re.search(r"It was used for \d+ earlier decisions?, other versions of it for \d", text)
    assert "groups would do, instead of" in text
    assert text.count("| color on ") == 4
    assert re.search(r"\n    amber gate again --against good --ask 50 --home \S+\n", text)
    assert "Gate of again against good: not enough data" in shown
    assert "report reports/judged.md" in shown
    assert view["rules"]["judge"][0]["margin"] == "2 points"


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    ("team", "words", "outcome"),
    [
        ('rule = "weighted_mean"\nweights = {color = 2, car = 1}\nmargin = "40 points"', ["again"], "pass"),
        ('rule = "weighted_mean"\nweights = {color = 2, speed = 0.1}\nmargin = "1 point"', ["bad"], "block"),
        ('rule = "metric"\nmetric = "map"\ntasks = ["color"]\nmargin = "1 point"', ["bad"], "block"),
        ('rule = "metric"\nmetric = "macro_f1"\nmargin = "50 points"', ["again"], "pass"),
        ('rule = "one_better"\noptimise = "color"', ["again"], "not enough data"),
        ('rule = "one_better"\noptimise = "color"\nmargin = "5 points"', ["good", "--against", "bad"], "pass"),
        ('rule = "one_better"\noptimise = "color"\nmargin = "90 points"', ["good", "--against", "bad"], "block"),
    ],
)
def test_the_team_has_three_rules(
    team: str, words: list[str], outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    against = [] if "--against" in words else ["--against", "good"]
    rules = '[[judge]]\ntask = "car"\nmargin = "90 points"\n[team]\n'
    code, view = gate(capsys, rules + team, *words, *against)
    assert view["team"]["outcome"] == view["outcome"] == outcome, view["team"]
    assert code == {"pass": 0, "block": 10, "not enough data": 11}[outcome]
    assert [row["outcome"] for row in view["figures"]] == ["pass"]
    assert np.isfinite([view["team"]["base"], view["team"]["run"], view["team"]["high"]]).all()


def judged(**words: str) -> str:
    given = {"task": '"color"', "margin": '"2 points"', **words}
    return "[[judge]]\n" + "".join(f"{name} = {value}\n" for name, value in given.items())


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        (judged(margin='"2 km/h"'), "accuracy is measured in points; write it as '2 points'"),
        (judged(task='"speed"'), "margin '2 points' of speed: mae is measured in km/h; write it as '2 km/h'"),
        (judged(margin="2"), "judge.0.margin = 2"),
        (judged(margin='"0 points"'), "must be a positive number and its unit"),
        (judged(margin='"200 points"'), "must be below 100 points"),
        (judged(task='"car"', slices='["tiny"]'), "on tiny: is not defined, because no label is known"),
        (judged(slices='["nothing"]'), "slice 'nothing': the catalog has no such slice"),
        (judged(task='"car"', slices='["yellow"]'), "slice yellow is one of color, not of car"),
        (judged(slices='["yellow"]', metric='"map"'), "map of color on yellow: is not defined, because all labels are"),
        (judged(metric='"f1:blue"'), "'blue' is none of its classes"),
        (judged(task='"nobody"'), "nobody"),
        (judged(task='"things"'), "does not predict things"),
        (judged() + judged(), "is judged twice"),
        (judged() + '[team]\nrule = "weighted_mean"\nmargin = "1 point"\n', "weighted_mean needs weights"),
        (judged() + '[team]\nrule = "metric"\nmetric = "map"\nmargin = "1 km/h"\n', "the team's figure is in points"),
        ("split = 'train'\n" + judged(), "split = 'train'"),
        ("", "judge is missing"),
    ],
)
def test_bad_rules_are_one_line_and_nothing_is_written(
    rules: str, line: str, shared: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(shared, rules, line, capsys, "again", "--against", "good")


def refused(catalog: Catalog, rules: str, line: str, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    Path("gate.toml").write_text(rules)
    before = decisions(catalog)
    assert run(["gate", *words, "--gate", "gate.toml"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert line in err
    assert not Path("gate.md").exists()
    assert not Path("gate.json").exists()
    assert decisions(catalog) == before


def decisions(catalog: Catalog) -> int:
    with catalog.read() as now:
        return now.ownership.acts()["act"].to_pylist().count("gate")


def test_runs_of_other_tasks_or_other_images_are_refused(shared: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    refused(shared, judged(task='"car"'), "run part: does not predict car", capsys, "part", "--against", "good")
    refused(
        shared,
        judged(),
        "not judged by the same evaluation set: of the test labels of color",
        capsys,
        "part",
        "--against",
        "good",
    )


def test_a_balanced_accuracy_of_one_class_is_refused(own: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    with own.commit(author="ada", message="all red") as change:
        now = change.now
        inside = now.samples().filter(pc.equal(now.samples()["split"], "test"))["key"].to_pylist()
        change.add_labels(labels([label(key, "color", "red", "bob") for key in inside]), source="human")
    refused(
        own, judged(), "all labels are red; label others, or judge recall:red", capsys, "again", "--against", "good"
    )
    assert gate(capsys, judged(metric='"recall:red"', margin='"90 points"'), "again", "--against", "good")[0] == 0


def test_the_app_gets_a_view_of_each_verdict(shared: Catalog) -> None:
    Path("gate.toml").write_text(TIGHT)
    rules = GateRules.load(Path("gate.toml"))
    with shared.read() as now:
        runs = PairedRuns.load(now, shared.home, "good", "bad", split=rules.split, tasks=rules.tasks)
        figures = decide(runs, rules, where="gate.toml").figures
        views = verdict_findings(runs, figures)
        test = {row["key"] for row in now.samples().to_pylist() if row["split"] == "test"}
    assert len({view.name for view in views}) == len(views) == len(figures)
    assert views[0].name == "verdict 1: block, color on everything"
    assert (views[0].bad, set(views[0].keys) <= test, len(views[0].keys) > 100) == (True, True, True)
    assert [view.bad for view in views] == sorted((view.bad for view in views), reverse=True)
