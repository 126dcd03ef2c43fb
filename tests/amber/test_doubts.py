"""`amber doubts`: labels of a run's training set, of later ones and of boxes, asked again one image a burst."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.homes import label, labels, work_in
from support.learned import make_features, planned, recipe
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from training import evaluate, train
from training.loop import held_out

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads on made features; three whole groups were labelled wrong before the training, one after it."""
    folder = tmp_path_factory.mktemp("doubted")
    catalog = make_features(folder, samples=480)
    _turn(catalog, wrong(catalog)[:3])
    found = train(recipe(heads="exact", hidden=0), planned(catalog), catalog)
    evaluate(found, catalog, author="ada")
    _turn(catalog, wrong(catalog)[3:])
    return folder


def wrong(catalog: Catalog) -> list[str]:
    """The first four groups of train with at least three known colours."""
    with catalog.read() as now:
        known = {row["sample_id"] for row in now.labels("color").to_pylist() if row["state"] == 1}
        rows = [row for row in now.samples().to_pylist() if row["split"] == "train" and row["sample_id"] in known]
    counts = Counter(row["group"] for row in rows)
    return [group for group, count in counts.items() if count >= 3][:4]


def _turn(catalog: Catalog, groups: list[str]) -> None:
    """Label every known colour of these groups as another one."""
    with catalog.commit(author="bob", message="wrong") as change:
        known = {row["sample_id"]: row["code"] for row in change.now.labels("color").to_pylist() if row["state"] == 1}
        inside = [
            row for row in change.now.samples().to_pylist() if row["group"] in groups and row["sample_id"] in known
        ]
        names = ("red", "yellow", "green")
        rows = [label(row["key"], "color", names[(known[row["sample_id"]] + 1) % 3], "bob") for row in inside]
        change.add_labels(labels(rows), source="human")


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(made, monkeypatch)


def doubts(capsys: Capture, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["doubts", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def groups_of(found: dict[str, Any], task: str = "color") -> list[str]:
    with Catalog.open("home").read() as now:
        group = {row["key"]: row["group"] for row in now.samples().to_pylist()}
    return [group[part["keys"][0]] for part in found["doubts"] if part["task"] == task]


def test_labels_that_the_run_was_trained_on_are_judged_by_heads_that_did_not_see_them(capsys: Capture) -> None:
    found = groups_of(doubts(capsys, "--task", "color"))
    assert len(set(wrong(Catalog.open("home"))) & set(found[:4])) >= 3


def test_a_label_that_nothing_unseen_predicts_is_not_doubted(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "held_out", lambda *_, **__: {})
    assert doubts(capsys)["doubts"] == []


def test_one_image_a_burst_is_asked_again_and_never_twice(capsys: Capture) -> None:
    before = doubts(capsys, "--task", "color")
    asked = doubts(capsys, "--task", "color", "--ask", "2")
    assert asked["requested"] == 2
    with Catalog.open("home").read() as now:
        rows = [row for row in now.requests("open").to_pylist() if row["arm"] == "doubt"]
    assert [row["key"] for row in rows] == [part["keys"][0] for part in before["doubts"][:2]]
    assert "is predicted" in rows[0]["reason"]
    left = len(before["doubts"]) - 2
    line = refused(capsys, "doubts", "--task", "color", "--ask", str(left + 1))
    assert f"{left} doubts of train can be asked about" in line


def test_evaluation_labels_are_judged_by_the_run(capsys: Capture) -> None:
    with Catalog.open("home").read() as now:
        splits = {row["key"]: row["split"] for row in now.samples().to_pylist()}
    found = doubts(capsys, "--split", "validation")["doubts"]
    assert all(splits[key] == "validation" for part in found for key in part["keys"])


def test_the_table_names_the_class_that_is_predicted(capsys: Capture) -> None:
    assert run(["doubts", "--task", "color"]) == 0
    out = capsys.readouterr().out
    assert "doubts of labels of train by run" in out
    assert "label" in out


@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["nine"], "'nine'", "amber runs"),
        (["--task", "none"], "none", "amber tasks"),
        (["--ask", "0", "--task", "color"], "--ask 0", "ask for"),
    ],
)
def test_is_refused_in_one_line(words: list[str], value: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, "doubts", *words)
    assert value in line
    assert fix in line


def test_boxes_of_a_foreign_model_are_doubted(made: Path, capsys: Capture) -> None:
    with Catalog.open("home").read() as now:
        first = now.samples().to_pylist()[0]
    rows = [f"{first['key']},light,30,5,9,9,0.9", f"{first['key']},light,2,2,5,8,0.8"]
    (made / "boxes.csv").write_text("key,class,x,y,w,h,score\n" + "\n".join(rows) + "\n")
    if run(["predictions", "import", "boxes.csv", "--name", "theirs"]) != 0:
        pytest.fail(capsys.readouterr().err)
    split = str(first["split"])
    found = doubts(capsys, "--split", split)
    assert [(part["what"], part["suggested"]) for part in found["doubts"]] == [("missing", "light at 30, 5, 9, 9")]
    assert run(["doubts", "--split", split]) == 0
    assert "unknown what the model was trained on" in capsys.readouterr().err
