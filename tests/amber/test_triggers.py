"""`amber triggers`: each fires where its formula holds, and nowhere else; requests of training images alone; triggers
as arms of a budget; and bad input in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from support.bare_samples import bare_samples
from support.homes import copy_home, label, labels, work_in
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from curation.catalog.slice_vetting import vet
from curation.catalog.tasks import Task
from curation.requests.candidates import Candidates
from curation.requests.outcomes import Outcomes
from curation.requests.proposals import Proposal, propose
from curation.requests.trigger_arms import TriggerArms
from curation.requests.triggers import Triggers
from training.judging.request_arms import arm_figures

Capture = pytest.CaptureFixture[str]
DRIVES, FRAMES = 240, 5
N = DRIVES * FRAMES
DRIVE, FRAME = np.arange(N) // FRAMES, np.arange(N) % FRAMES
COLORS = ("none", "red", "green")
TRUE_COLOR = DRIVE % 3
BLIP = (FRAME == 2) & (DRIVE % 10 == 0)
"""Frames between two others whose color, and speed, the model gets wrong."""
CLASH = (DRIVE % 15 == 1) & (FRAME == 0)
"""Frames on which the model sees no light and a color: their drives have red ones."""
SWITCH = (DRIVE == 3) & (FRAME >= 2)
"""The end of a drive in which the color changes once: no flicker."""
WRONG = (DRIVE == 7) & (FRAME == 1)
"""A label of car that is wrong."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drives of five frames, in an order of keys that is not that of time, every seventh of them for validation."""
    folder = tmp_path_factory.mktemp("triggers")
    catalog, generator = Catalog.create(folder / "home"), np.random.default_rng(0)
    keys = [f"fleet/{DRIVE[at]:03d}-{(FRAME[at] * 3) % FRAMES}" for at in range(N)]
    with catalog.commit(author="ada", message="fleet") as change:
        change.add_tasks([
            Task(name="light", kind="binary", owner="ada"), Task(name="car", kind="binary", owner="ada"),
            Task(name="color", kind="categorical", classes=COLORS, owner="ada"),
            Task(name="speed", kind="regression", unit="km/h", metric="mae", owner="ada"),
        ])  # fmt: skip
        change.add_samples(bare_samples(keys), dataset="fleet")
        times = np.datetime64("2026-01-01", "us") + (DRIVE * 1000 + FRAME) * np.timedelta64(1_000_000, "us")
        split = np.where(DRIVE % 7 == 5, "validation", "train")
        change.add_attributes(pa.table({
            "key": keys, "group": [f"drive-{number}" for number in DRIVE], "split": split.tolist(),
            "captured_at": pa.array(times, pa.timestamp("us")),
        }))  # fmt: skip
        known = (DRIVE % 4 < 2) | (split == "validation")
        rows = [label(keys[at], "color", COLORS[TRUE_COLOR[at]]) for at in np.flatnonzero(known)]
        rows += [label(keys[at], "light", bool(TRUE_COLOR[at])) for at in np.flatnonzero(known)]
        rows += [label(keys[at], "car", bool((DRIVE[at] % 2 == 0) != WRONG[at])) for at in range(N)]
        change.add_labels(labels(rows), source="import")
        change.add_slice("green", "label.color = 'green'", task="color", rare=True)
        change.add_slice("gone", "pred_before.car AND NOT pred.car", task="car")
    color = np.where(BLIP | SWITCH, (TRUE_COLOR + 1) % 3, TRUE_COLOR)
    speed = 20.0 + DRIVE + generator.normal(size=N) + 30 * BLIP
    columns = {
        "key": keys, "color": [COLORS[code] for code in color], "car": (DRIVE % 2 == 0).tolist(),
        "light": (TRUE_COLOR.astype(bool) & ~CLASH).tolist(), "speed": speed.tolist(),
    }  # fmt: skip
    light, tops = np.where(CLASH, 0.4, TRUE_COLOR > 0), np.where(DRIVE % 30 == 1, 0.45, 0.39)
    unsure = {"key": keys, "light.true": light.tolist()}
    unsure |= {f"color.{name}": np.where(code == TRUE_COLOR, tops, (1 - tops) / 2) for code, name in enumerate(COLORS)}
    other = {**columns, "color": [COLORS[code] for code in TRUE_COLOR], "speed": (speed - 30 * BLIP).tolist()}
    for name, table in (("unsure", unsure), ("other", other), ("theirs", columns)):
        pa.csv.write_csv(pa.table(table), folder / f"{name}.csv")
        words = ["predictions", "import", str(folder / f"{name}.csv"), "--name", name, "--author", "ada"]
        assert run([*words, "--home", str(folder / "home")]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(made, monkeypatch)


def named(words: list[str]) -> list[str]:
    """The words with the id of a run in place of the name of its model."""
    with Catalog.open("home").read() as now:
        ids = dict(zip(("unsure", "other", "theirs"), now.runs()["run"].to_pylist(), strict=True))
    return [ids.get(word, word) for word in words]


def fired(capsys: Capture, *words: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What fires, by trigger and task."""
    capsys.readouterr()
    assert run(["triggers", *named(list(words)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {(part["trigger"], part["task"]): part for part in found["triggers"]}


def frames(part: dict[str, Any]) -> list[int]:
    """The frames that fire, in order of time; each at most once."""
    place = {(3 * frame) % FRAMES: frame for frame in range(FRAMES)}
    found = [(int(key[6:9]), place[int(key[10:])]) for key in part["keys"]]
    assert len(set(found)) == part["fired"] <= part["could"]
    return sorted(drive * FRAMES + frame for drive, frame in found)


PREDICTED_COLOR = np.where(BLIP | SWITCH, (TRUE_COLOR + 1) % 3, TRUE_COLOR)
PREDICTED_LIGHT = (TRUE_COLOR > 0) & ~CLASH
KNOWN = (DRIVE % 4 < 2) | (DRIVE % 7 == 5)
CONTRADICTS = (PREDICTED_COLOR > 0) != PREDICTED_LIGHT
FIRES = {
    ("flicker", "color"): BLIP, ("flicker", "speed"): BLIP, ("flicker", "car"): np.zeros(N, np.bool_),
    ("disagree", "color"): BLIP | SWITCH, ("disagree", "speed"): BLIP, ("disagree", "light"): np.zeros(N, np.bool_),
    ("contradiction", "color"): CONTRADICTS, ("contradiction", "light"): CONTRADICTS,
    ("against_label", "color"): (BLIP | SWITCH) & KNOWN, ("against_label", "car"): WRONG,
    ("gone", "car"): np.zeros(N, np.bool_),
}  # fmt: skip


def test_each_fires_where_its_formula_holds_and_nowhere_else(capsys: Capture) -> None:
    found = fired(capsys, "theirs", "--against", "other")
    for cell, expected in FIRES.items():
        assert frames(found[cell]) == np.flatnonzero(expected).tolist(), cell
    inner = ((FRAME > 0) & (FRAME < FRAMES - 1)).sum()
    assert found["flicker", "color"]["could"] == inner
    assert found["against_label", "color"]["could"] == KNOWN.sum()


def test_heads_contradict_each_other_where_their_probabilities_cannot_both_hold(capsys: Capture) -> None:
    found = fired(capsys, "unsure", "--trigger", "contradiction")["contradiction", "color"]
    assert frames(found) == np.flatnonzero(CLASH & (DRIVE % 30 == 1)).tolist()  # 0.6 + 0.45, and not 0.6 + 0.39


@pytest.mark.parametrize(("hits", "share"), [(0, 1), (4, 4), (8, 6)])
def test_the_share_of_a_trigger_follows_what_it_found(hits: int, share: int) -> None:
    catalog = Catalog.open("home")
    with catalog.read() as now:
        id_ = str(now.runs()["run"].to_pylist()[-1])
        triggers, speed = Triggers.open(now, catalog.home, id_), now.task("speed")
        found = np.array(["trigger:flicker"] * 8, dtype=object), np.array(["speed"] * 8, dtype=object)
        wrong = (np.arange(8) < hits).astype(np.float64)
        outcomes = Outcomes(
            arms=found[0], tasks=found[1], groups=found[1], answered=np.ones(8, np.bool_), wrong=wrong,
            rare=np.full(8, np.nan),
        )  # fmt: skip
        candidates = Candidates(now, catalog.home, run=id_)
        arms = TriggerArms(
            candidates=candidates, triggers=triggers, chosen=triggers.named(["flicker"]), outcomes=outcomes
        )  # fmt: skip
        picks = arms.picks(speed, None, 16)
    assert len(picks) == share
    assert len({candidates.groups[pick.row] for pick in picks}) == share


def test_a_condition_that_is_not_declared_reads_neighbours_in_order_of_time(capsys: Capture) -> None:
    words = ["theirs", "--where", "pred_before.color = 'none' AND pred.color = 'red'", "--name", "came"]
    same = np.r_[False, np.diff(DRIVE) == 0]
    came = same & (np.r_[0, PREDICTED_COLOR[:-1]] == 0) & (PREDICTED_COLOR == 1)
    assert frames(fired(capsys, *words)["came", "color"]) == np.flatnonzero(came).tolist()


def test_errors_stand_beside_those_of_all_others(capsys: Capture) -> None:
    part = fired(capsys, "theirs", "--trigger", "flicker", "--task", "color")["flicker", "color"]
    inner = KNOWN & (FRAME > 0) & (FRAME < FRAMES - 1)
    assert part["error"]["value"] == 1.0
    assert part["others"]["value"] == pytest.approx((SWITCH & inner).sum() / (inner & ~BLIP).sum())
    assert part["known"] == part["error"]["n"] == (BLIP & KNOWN).sum()


def open_rows(arm: str) -> list[dict[str, Any]]:
    with Catalog.open("home").read() as now:
        return [row for row in now.requests("open").to_pylist() if row["arm"] == arm]


def test_training_images_are_requested_one_of_each_group_first_and_never_twice(capsys: Capture) -> None:
    with Catalog.open("home").read() as now:
        train = set(now.training_ids().tolist())
        known = set(now.labels("color")["sample_id"].to_pylist())
        groups = dict(zip(*(now.samples()[name].to_pylist() for name in ("sample_id", "group")), strict=True))
    words = ["triggers", "theirs", "--where", "pred.color = 'green'", "--name", "green", "--task", "color"]
    assert run([*named(words), "--ask", "30"]) == 0
    rows = open_rows("trigger:green")
    assert len({groups[row["sample_id"]] for row in rows}) == len(rows) == 30
    assert {row["sample_id"] for row in rows} <= train - known
    assert rows[0]["reason"].startswith("green: ")
    capsys.readouterr()
    assert "can be requested" in refused(capsys, *named(words), "--ask", "9999")
    assert run([*named(words), "--ask", "10"]) == 0
    assert len({row["sample_id"] for row in open_rows("trigger:green")}) == 40


def test_a_label_that_the_run_contradicts_is_asked_again_once(capsys: Capture) -> None:
    words = ["triggers", "theirs", "--trigger", "against_label", "--task", "car", "--ask", "1"]
    assert run(named(words)) == 0
    assert [row["task"] for row in open_rows("trigger:against_label")] == ["car"]
    capsys.readouterr()
    assert "nothing to ask" in refused(capsys, *named(words))


def test_a_budget_is_shared_and_each_arm_says_what_it_found(capsys: Capture) -> None:
    catalog = Catalog.open("home")
    with catalog.read() as now:
        id_ = str(now.runs()["run"].to_pylist()[-1])
    asked = Proposal(
        budget=40, seed=0, run=id_, random_share=0.2, importance={"color": 1.0}, triggers=("flicker",)
    )  # fmt: skip
    assert propose(catalog, asked, author="ada", batch="shared") == 40
    first = open_rows("trigger:flicker")
    assert 5 <= len(first) <= 8  # a quarter of what is not random, as far as so much fires
    assert len(open_rows("random")) == 8
    with catalog.commit(author="ada", message="answers") as change:
        rows = [row for row in change.now.requests("open").to_pylist() if row["task"] == "color"]
        truth = {key: COLORS[int(key[6:9]) % 3] for key in (row["key"] for row in rows)}
        change.add_labels(labels([label(key, "color", value) for key, value in truth.items()]), source="human")
        change.close_requests([row["request_id"] for row in rows], state="answered")
    with catalog.read() as now:
        hits, made = Outcomes.at(now, catalog.home).hits("color", "trigger:flicker")
        figures = {part.arm: part for part in arm_figures(now, catalog.home)}
    assert hits == made == len(first)
    assert figures["trigger:flicker"].wrong.value == 1.0
    assert figures["random"].requested == 8
    assert figures["random"].answered == figures["random"].rare.n
    unread = next(iter((catalog.home / "runs").glob(f"{named(['unsure'])[0]}/*.parquet")))
    unread.write_bytes(unread.read_bytes() + b"x")  # no request names this run, so nothing of it is read
    capsys.readouterr()
    assert run(["request", "--arms", "--json"]) == 0
    unread.write_bytes(unread.read_bytes()[:-1])
    assert "trigger:flicker" in [part["arm"] for part in json.loads(capsys.readouterr().out)]


def test_pictures_and_tables_name_what_fires(made: Path, capsys: Capture) -> None:
    assert run(["triggers", "--trigger", "flicker", "--trigger", "contradiction", "--out", "fires.html"]) == 0
    out = capsys.readouterr()
    assert "flicker of color" in out.out
    assert "trained on: unknown" in out.err


def test_a_slice_with_the_name_of_a_built_in_trigger_is_named(
    made: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_home(Catalog.open(made / "home"), tmp_path)
    monkeypatch.setenv("AMBER_HOME", str(tmp_path / "home"))
    assert run(["slices", "add", "contradiction", "pred.car", "--task", "car"]) == 0
    assert run(["triggers", "--trigger", "contradiction"]) == 0
    out = capsys.readouterr()
    assert "slice contradiction: a built-in trigger has its name" in out.err
    assert "contradiction of car" not in out.out


def test_neighbours_are_predictions_of_any_run_in_slices() -> None:
    with Catalog.open("home").read() as now:
        assert now.slices()["gone"].reads_predictions
        assert vet("pred_after.speed > 3", now.frame()) == '(pred_after.speed."value" > 3)'


@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["nine"], "'nine'", "amber runs"),
        (["theirs", "--trigger", "blink"], "'blink'", "flicker"),
        (["theirs", "--trigger", "green"], "'green'", "slice"),
        (["theirs", "--trigger", "disagree"], "'disagree'", "--against"),
        (["theirs", "--against", "theirs"], "the run itself", "another"),
        (["theirs", "--task", "none"], "'none'", "amber tasks"),
        (["theirs", "--where", "unnest([pred.color, 'x']) = 'red'"], "unnest", "without"),
        (["theirs", "--where", "pred.color IN (SELECT 'red' FROM range(9))"], "subquery", "without"),
        (["theirs", "--where", "pred.color = 'red', true"], "one boolean expression", "take the rest out"),
        (["theirs", "--where", "pred.color = lag(pred.color) OVER ()"], "window", "without"),
        (["theirs", "--where", "pred.color = 'rde'"], "'rde'", "red"),
        (["theirs", "--where", "label.car"], "'label.car'", "pred.TASK"),
        (["theirs", "--where", "pred_other.car"], "'where'", "--against"),
        (["theirs", "--where", "pred.car", "--name", ""], "trigger ''", "lower-case"),
        (["theirs", "--where", "pred.car", "--name", "flicker"], "'flicker'", "another trigger"),
        (["theirs", "--where", "pred.car", "--name", "gone"], "'gone'", "another trigger"),
        (["theirs", "--where", "pred.car AND"], "trigger 'where'", "boolean"),
        (["theirs", "--name", "came"], "--name came", "--where"),
        (["theirs", "--where", "pred_other.car", "--against", "unsure"], "--against does not predict car", "another"),
        (["theirs", "--split", "test", "--ask", "3"], "not of test", "leave --split out"),
        (["theirs", "--trigger", "flicker", "--task", "speed", "--ask", "0"], "--ask 0", "ask for"),
        (["theirs", "--trigger", "flicker", "--task", "speed", "--ask", "-3"], "--ask -3", "ask for"),
    ],
)
def test_is_refused_in_one_line(words: list[str], value: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, "triggers", *named(words))
    assert value in line
    assert fix in line


@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["--triggers", "flicker"], "flicker", "--budget"),
        (["--budget", "4", "--against", "other"], "--against", "--triggers"),
        (["--budget", "4", "--triggers", " , "], "' , '", "names no trigger"),
        (["--budget", "4", "--arms"], "--budget 4", "leave one out"),
        (["--budget", "4", "--run", "theirs", "--triggers", "flicker, blink"], "'blink'", "flicker"),
        (["--budget", "4", "--run", "theirs", "--triggers", "blink"], "'blink'", "flicker"),
        (["--budget", "4", "--run", "theirs", "--triggers", "disagree"], "'disagree'", "--against"),
        (["--budget", "4", "--run", "theirs", "--triggers", "against_label"], "against_label", "amber triggers --ask"),
    ],
)
def test_arms_are_refused_in_one_line(words: list[str], value: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, "request", *named(words))
    assert value in line
    assert fix in line
