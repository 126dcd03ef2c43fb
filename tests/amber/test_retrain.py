"""`amber retrain`: from what changed to the cheapest training that the gate accepts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.homes import copy_home, work_in
from support.learned import recipe
from support.queued import answer_colors, hide_colors, make_queued
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import os_user
from curation.files.locks import locked
from curation.files.read_back import sealed, unsealed
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.policy.policy import Policy
from training import Run, evaluate, train
from training.dynamics.retraining import FILE
from training.run_list import newest_run

Capture = pytest.CaptureFixture[str]
GATE = '[[judge]]\ntask = "color"\nmargin = "20 points"\n[[judge]]\ntask = "car"\nmargin = "1 points"\n'


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_queued(tmp_path_factory.mktemp("retrained"))


@pytest.fixture
def catalog(template: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    work_in(tmp_path, monkeypatch)
    Path("gate.toml").write_text(GATE)
    return copy_home(template, tmp_path)


def base(catalog: Catalog) -> str:
    with catalog.read() as now:
        return newest_run(catalog.home, now)


def retrained(capsys: Capture, *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["retrain", *words, "--gate", "gate.toml", "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    return dict(json.loads(out))


def test_new_labels_of_one_task_train_its_head_alone(catalog: Catalog, capsys: Capture) -> None:
    before = base(catalog)
    answer_colors(catalog)
    found = retrained(capsys, before)
    (attempt,) = found["attempts"]
    assert (found["outcome"], attempt["rung"], attempt["tasks"]) == ("pass", "head", ["color"])
    assert Run.open(catalog.home, found["candidate"]).parent == before
    tasks = {row["task"]: row for row in found["tasks"]}
    assert tasks["color"]["trained"] == "head"
    assert tasks["color"]["figure"]["difference"] > 0
    others = {row["verdict"] for name, row in tasks.items() if name != "color" and row["figure"]}
    assert others == {"equal to the bit"}
    assert found["next"] == [f"amber release {found['candidate']} --gate gate.toml --home home"]


def test_nothing_new_trains_nothing(catalog: Catalog, capsys: Capture) -> None:
    before = base(catalog)
    assert (retrained(capsys, before)["outcome"], base(catalog)) == ("nothing", before)


def test_it_shows_the_last_outcome_until_something_changes(catalog: Catalog, capsys: Capture) -> None:
    before = base(catalog)
    answer_colors(catalog)
    first = retrained(capsys, before)
    with catalog.read() as now:
        commit = now.commit
    again = retrained(capsys, before)
    assert (first["earlier"], again["earlier"], again["candidate"]) == (False, True, first["candidate"])
    with catalog.read() as now:
        assert now.commit == commit
    assert run(["retrain", before, "--gate", "gate.toml"]) == 0
    out = capsys.readouterr().out
    assert "nothing changed since this was found" in out
    assert "Who gained and who paid" in out


def test_whoever_was_killed_before_the_outcome_was_seen_is_shown_it(catalog: Catalog, capsys: Capture) -> None:
    """Without a RUN, the newest run is the candidate itself by then."""
    before = base(catalog)
    answer_colors(catalog)
    first = retrained(capsys)
    again = retrained(capsys)
    assert (first["base"], first["outcome"], first["earlier"]) == (before, "pass", False)
    assert again == first | {"earlier": True}
    Path("gate.toml").write_text(GATE.replace("20 points", "30 points"))
    assert retrained(capsys)["base"] == first["candidate"]  # other rules begin another one
    Path("gate.toml").write_text(GATE)
    hide_colors(catalog)
    assert retrained(capsys)["base"] == first["candidate"]


@pytest.mark.parametrize("step", ["trained", "evaluated", "judged"])
def test_one_that_was_killed_comes_to_the_same(catalog: Catalog, capsys: Capture, step: str, tmp_path: Path) -> None:
    """The state of a workspace after each step, with the file as it was before that step was recorded."""
    before = base(catalog)
    answer_colors(catalog)
    shutil.copytree("home", tmp_path / "copy")
    whole = retrained(capsys, before)
    begun = sealed(unsealed(json.loads(Path("home", FILE).read_text())) | {"attempts": [], "outcome": ""})
    if step == "judged":
        Path("home", FILE).write_text(json.dumps(begun))
        assert retrained(capsys)["candidate"] == whole["candidate"]
        return
    runs = Path("home", "runs", whole["candidate"])
    shutil.copytree(runs, Path("copy", "runs", whole["candidate"]))
    if step == "trained":
        Path("copy", "runs", whole["candidate"], "predictions.parquet").unlink()
    Path("copy", FILE).write_text(json.dumps(begun))
    for plan in Path("home", "plans").iterdir():
        if not Path("copy", "plans", plan.name).exists():
            shutil.copytree(plan, Path("copy", "plans", plan.name))
    shutil.rmtree("home")
    shutil.copytree("copy", "home")
    found = retrained(capsys, before)
    assert (found["candidate"], found["commit"]) == (whole["candidate"], whole["commit"])


def test_a_task_whose_owner_the_gate_holds_up_is_left_out(catalog: Catalog, capsys: Capture) -> None:
    """Two owners' heads are tried together, then without the one whose figure the gate does not accept."""
    before = without_car(catalog)
    answer_colors(catalog)
    assert run(["tasks", "redefine", "color", "--owner", "cleo"]) == 0
    Path("gate.toml").write_text('[[judge]]\ntask = "color"\nmargin = "0.001 points"\n')
    found = retrained(capsys, before, "--up-to", "head")
    tried = [(attempt["tasks"], attempt["outcome"], attempt["failing"]) for attempt in found["attempts"]]
    assert tried == [(["color", "car"], "not enough data", ["color"]), (["car"], "pass", [])]
    tasks = {row["task"]: row for row in found["tasks"]}
    assert (tasks["color"]["verdict"], tasks["color"]["trained"], tasks["car"]["trained"]) == (
        "equal to the bit", "", "head",
    )  # fmt: skip


def test_what_the_gate_holds_up_goes_up_a_rung(catalog: Catalog, capsys: Capture) -> None:
    answer_colors(catalog)
    Path("gate.toml").write_text('[[judge]]\ntask = "color"\nmargin = "0.001 points"\n')
    before = base(catalog)
    found = retrained(capsys, before, code=11)
    assert [(attempt["rung"], attempt["tasks"]) for attempt in found["attempts"]] == [
        ("head", ["color"]), ("branch", []),
    ]  # fmt: skip
    assert found["candidate"] == ""
    assert f"amber gate {found['attempts'][-1]['run']} --against {before} --ask 50 --home home" in found["next"]
    assert base(catalog) != before
    again = retrained(capsys, code=11)
    assert (again["base"], again["earlier"]) == (before, True), "the newest run is one that the gate held up"


def without_car(catalog: Catalog) -> str:
    """A run of all tasks but car, which the policy in force draws for."""
    with catalog.read() as now:
        tasks = [task for task in now.tasks().values() if task.name in ("color", "car", "bike", "speed")]
    policy = Policy.even([task for task in tasks if task.name != "car"])
    made = train(recipe(heads="exact", hidden=0), make_plan(catalog, policy, make_pack(catalog), draws=640), catalog)
    evaluate(made, catalog, author="ada")
    with catalog.commit(author="ada", message="policy") as change:
        whole = Policy.even(tasks)
        change.set_policy(whole.model_dump_json(), whole.sha256, by=os_user())
    return made.id


def test_a_trunk_that_is_due_trains_everything(catalog: Catalog, capsys: Capture) -> None:
    before = base(catalog)
    answer_colors(catalog)
    found = retrained(capsys, before, "--trunk-every", "0.0000001")
    assert [attempt["rung"] for attempt in found["attempts"]][-1] == "branch"
    assert found["attempts"][-1]["tasks"] == []
    again = retrained(capsys, before, "--trunk-every", "0.0000001")
    assert (again["earlier"], again["candidate"]) == (True, found["candidate"])


def test_a_workspace_without_a_run_has_none_to_begin_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    work_in(tmp_path, monkeypatch)
    Path("gate.toml").write_text(GATE)
    Catalog.create(tmp_path / "home")
    assert "no run that no gate held up; train one" in refused(capsys, "retrain", "--gate", "gate.toml")


def test_two_at_once_are_refused(catalog: Catalog, capsys: Capture) -> None:
    with locked(catalog.home / "retrain.lock", lambda holder: holder):
        line = refused(capsys, "retrain", base(catalog), "--gate", "gate.toml", code=3)
    assert "retrains there; wait for it, or end it" in line


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (("nosuch",), "nosuch", 2),
        (("--task", "boat"), "boat", 2),
    ],
)
def test_bad_input_is_one_line(catalog: Catalog, capsys: Capture, words: tuple[str, ...], says: str, code: int) -> None:
    if words and words[0] == "--task":
        words = (base(catalog), *words)
    assert says in refused(capsys, "retrain", *words, "--gate", "gate.toml", code=code)
    assert not Path("home", FILE).exists()


def test_a_damaged_record_is_one_line(catalog: Catalog, capsys: Capture) -> None:
    Path("home", FILE).write_text("{")
    line = refused(capsys, "retrain", base(catalog), "--gate", "gate.toml", code=4)
    assert FILE in line
