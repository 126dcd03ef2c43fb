"""Two owners from the command line: queue, retrain (killed midway), gate, release, and back."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.homes import make_home, work_in
from support.processes import ending
from support.queued import answer_colors, hide_colors
from support.refusals import amber

from amber.cli import run
from training import Run
from training.dynamics.retraining import FILE

GATE = '[[judge]]\ntask = "{}"\nmargin = "{}"\nfloor = "{}"\n'
RULES = {
    "color": ("90 points", "1 point"), "car": ("90 points", "1 point"), "bike": ("90 points", "1 point"),
    "speed": ("400 km/h", "900 km/h"),
}  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*words, "--json"]) == 0, words
    return dict(json.loads(capsys.readouterr().out))


def test_from_the_queue_to_a_release_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work_in(tmp_path, monkeypatch)
    catalog = make_home(tmp_path)
    hide_colors(catalog)
    Path("gate.toml").write_text("".join(GATE.format(task, *words) for task, words in RULES.items()))
    assert run(["tasks", "redefine", "color", "--owner", "cleo"]) == 0
    said(capsys, "plan", "--draws", "640")
    base = said(capsys, "train", "--heads", "exact", "--size", "64", "64")["run"]
    assert said(capsys, "release", base, "--gate", "gate.toml")["released"]["run"] == base

    answer_colors(catalog)
    rows = {row["change"]["task"]: row for row in said(capsys, "queue")["tasks"]}
    assert rows["color"]["action"] == "head"

    with ending(amber("retrain", "--gate", "gate.toml", "--task", "color")):
        deadline = time.monotonic() + 60
        while not Path("home", FILE).is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
    found = said(capsys, "retrain", "--gate", "gate.toml", "--task", "color")
    assert (found["base"], found["outcome"], found["attempts"][0]["tasks"]) == (base, "pass", ["color"])
    new = found["candidate"]
    assert Run.open(catalog.home, new).parent == base
    owners = {row["owner"]: row["verdict"] for row in found["tasks"] if row["figure"]}
    assert owners["cleo"] != "equal to the bit"
    assert {verdict for owner, verdict in owners.items() if owner != "cleo"} == {"equal to the bit"}

    assert said(capsys, "gate", new, "--against", base, "--gate", "gate.toml")["outcome"] == "pass"
    said(capsys, "release", new, "--gate", "gate.toml")
    assert json.loads(Path("home/releases/current.json").read_text())["run"] == new
    said(capsys, "release", "--back")
    assert json.loads(Path("home/releases/current.json").read_text())["run"] == base
