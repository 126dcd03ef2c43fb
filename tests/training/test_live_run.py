"""The note of a training that goes on: what it holds, how often it is written, and how the training ended."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support.chains import SMALL
from support.homes import make_home

from curation.catalog.catalog import Catalog
from curation.errors import Failed
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.policy.policy import Policy
from training import live_run as module
from training.live_run import NAME, LiveRun, Stopped, live_run, live_runs
from training.loop.trainer import train
from training.recipe import Recipe


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def begun(tmp_path: Path) -> tuple[LiveRun, Clock]:
    clock = Clock()
    live = LiveRun.begin(tmp_path / "runs" / "r", plan="p", parent="", solved=False)
    return LiveRun(tmp_path / "runs" / "r", live.now, clock=clock), clock


def test_a_step_is_noted_once_a_second_and_losses_are_read_only_then(
    begun: tuple[LiveRun, Clock], tmp_path: Path
) -> None:
    (live, clock), read = begun, []

    def losses() -> dict[str, float]:
        read.append(clock.now)
        return {"car": 0.5}

    with live.watched():
        for step in range(1, 41):
            clock.now += 0.1
            live.step(10 * step, 1_000, losses)
        found = live_run(tmp_path, "r")
    assert found
    assert len(read) == 4
    assert found.state == "training"
    assert (found.done, found.total, found.losses) == (400, 1_000, {"car": 0.5})
    assert found.rate == pytest.approx(100)
    assert found.left == pytest.approx(6)


ENDS = {
    "stopped": (Stopped("stopped after step 3 of 9"), "stopped", "step 3"),
    "failed": (Failed("disk: full"), "failed", "disk: full"),
    "named alike": (Failed("stopped after step 3"), "failed", "step 3"),
    "broken": (ValueError("a\nb"), "failed", "ValueError a b"),
    "interrupted": (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "state", "line"), ENDS.values(), ids=ENDS)
def test_it_says_how_the_training_ended(
    begun: tuple[LiveRun, Clock], tmp_path: Path, error: BaseException, state: str, line: str
) -> None:
    live, clock = begun
    with pytest.raises(type(error)), live.watched():  # noqa: PT012
        clock.now += 2
        live.step(3, 9)
        raise error
    found = live_run(tmp_path, "r")
    assert found
    assert found.state == state
    assert line in found.line


def test_a_training_refused_before_its_first_step_leaves_nothing(begun: tuple[LiveRun, Clock], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refused"), begun[0].watched():
        raise ValueError("refused")
    assert not (tmp_path / "runs" / "r").exists()


def test_a_killed_training_is_told_by_its_process(tmp_path: Path) -> None:
    words = "import os, sys; from pathlib import Path; from training.live_run import LiveRun\n" \
            "live = LiveRun.begin(Path(sys.argv[1]), plan='p', parent='', solved=True)\n" \
            "live.__class__.step(live, 1, 2); print('on', flush=True); sys.stdin.read()"  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-c", words, str(tmp_path / "runs" / "r")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout
    child.stdout.readline()
    found = live_run(tmp_path, "r")
    assert found
    running = found.state
    child.kill()
    child.communicate()
    assert (running, found.state) == ("training", "killed")


def test_a_silent_training_of_another_machine_counts_as_lost(begun: tuple[LiveRun, Clock]) -> None:
    at = time.time()
    elsewhere = replace(begun[0].now, machine="0" * 12, process=1)
    assert replace(elsewhere, at=at).state == "training"
    assert replace(elsewhere, at=at - module.SILENT - 1).state == "killed"


def test_notes_that_cannot_be_read_are_no_trainings(tmp_path: Path, begun: tuple[LiveRun, Clock]) -> None:
    good = {"format": 1, **asdict(begun[0].now)}
    texts = {
        "a": "{",
        "b": json.dumps({**good, "format": 2}),
        "c": json.dumps({**good, "more": 1}),
        "d": json.dumps(good),
    }
    for name, text in texts.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / NAME).write_text(text)
    assert len(live_runs(tmp_path)) == 1
    assert live_run(tmp_path, "../x") is None


def test_the_trainer_notes_steps_losses_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)
    catalog: Catalog = make_home(tmp_path, samples=60)
    with catalog.read() as now:
        policy = Policy.even([now.task("color"), now.task("car")])
    plan = make_plan(catalog, policy, make_pack(catalog), draws=64)
    seen = []

    def look(done: int, total: int, loss: float) -> None:
        seen.extend(live_runs(catalog.home))

    run = train(Recipe.parse(SMALL), plan, catalog, progress=look)
    assert {each.run for each in seen} == {run.id}
    assert {each.state for each in seen} == {"training"}
    assert seen[-1].process == os.getpid()
    assert seen[-1].total == 64
    assert set(seen[-1].losses) == {"color", "car"}
    assert [row["Draws"] for row in seen[-1].points] == [row["Draws"] for row in run.curve][: len(seen[-1].points)]
    end = live_run(catalog.home, run.id)
    assert end
    assert (end.state, end.done) == ("trained", 64)
    assert live_runs(catalog.home) == []  # it is in the list of runs
