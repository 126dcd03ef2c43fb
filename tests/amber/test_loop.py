"""The loop: killed at any moment and run again, it ends with the same result."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.killed import leave_half
from support.lamps import declare
from support.processes import ending

from amber.cli import run
from amber.loop import Loop, Round, run_loop
from curation import Catalog, Dataset
from curation.catalog.event_tables import LABELS
from curation.errors import BadInput, Busy, NotFound
from curation.files.atomic import whole
from curation.ingestion.ingest import ingest
from samplers import Policy, make_pack
from training.evaluation.features import embed
from training.recipe import Recipe
from training.run import Run

FAST = Loop(rounds=1, start=8, budget=4, draws=128, recipe=Recipe(size=(32, 32), threads=1))
ARGUMENTS = "--rounds 2 --start 8 --budget 4 --draws 128 --author ada"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the data set, its pack and its features, to copy."""
    folder = tmp_path_factory.mktemp("template")
    catalog = Catalog.create(folder / "home")
    ingest(catalog, Dataset.load(declare(folder / "data")), author="ada")
    embed(catalog.home, make_pack(catalog), FAST.recipe)
    return catalog.home


@pytest.fixture
def catalog(template: Path, tmp_path: Path) -> Catalog:
    shutil.copytree(template, tmp_path / "home")
    return Catalog.open(tmp_path / "home")


def go(catalog: Catalog, loop: Loop = FAST, **changed: Any) -> list[Round]:
    return list(run_loop(catalog, replace(loop, **changed), author="ada"))


def counts(catalog: Catalog) -> dict[str, int]:
    with catalog.read() as now:
        return now.counts()


def test_finished_rounds_are_not_run_again(catalog: Catalog) -> None:
    first, before = go(catalog), counts(catalog)
    written = times(catalog.home)
    assert go(catalog) == first
    assert counts(catalog) == before
    assert times(catalog.home) == written


def test_more_rounds_extend(catalog: Catalog) -> None:
    first = go(catalog)
    more = go(catalog, rounds=2)
    assert more[:2] == first
    assert [step.labels for step in more] == [8, 12, 16]


@pytest.mark.parametrize("step", ["0:ask", "0:answer", "0:evaluate", "1:answer", "1:evaluate"])
@pytest.mark.parametrize("labels_too", [True, False])
def test_a_step_that_another_commit_took_is_named(catalog: Catalog, step: str, labels_too: bool) -> None:
    with catalog.read() as now:
        key = now.samples()["key"][0].as_py()
        (task, *_) = now.tasks().values()
    with catalog.commit(author="eve", message="mine", batch=f"loop:{FAST.id}:{step}") as change:
        if labels_too:
            row = {"key": key, "task": task.name, "state": "unsure", "annotator": "eve"}
            change.add_labels(pa.Table.from_pylist([row], LABELS), source="human")
    with pytest.raises(BadInput, match=r"batch id .* the loop did not make it"):
        go(catalog)


def test_an_abandoned_loop_continues(catalog: Catalog) -> None:
    left = run_loop(catalog, FAST, author="ada")
    first = next(left)
    left.close()
    assert go(catalog)[0] == first


def test_other_settings_are_another_loop(catalog: Catalog) -> None:
    assert len(go(catalog, rounds=0)) == len(go(catalog, rounds=0, seed=1)) == 1
    with catalog.read() as now:
        assert len(now.requests()) == 16


@pytest.mark.parametrize(("share", "at_random"), [(1.0, 12), (0.5, 6), (0.0, 0)])
def test_the_random_arm_has_its_share(catalog: Catalog, share: float, at_random: int) -> None:
    steps = go(catalog, random_share=share, start_random_share=share)
    with catalog.read() as now:
        assert now.requests()["arm"].to_pylist().count("random") == at_random
    assert {step.arm for step in steps} == {"random" if share == 1 else "mined"}


def test_labels_are_requested_once_and_only_in_train(catalog: Catalog) -> None:
    steps = go(catalog, rounds=2)
    with catalog.read() as now:
        asked = now.requests("answered")["sample_id"].to_pylist()
        train = set(now.training_ids().tolist())
    assert len(set(asked)) == len(asked) == steps[-1].labels
    assert set(asked) <= train


def test_found_counts_the_requested_labels_of_a_rare_slice(catalog: Catalog) -> None:
    step = go(catalog, rounds=0, start=40)[0]
    with catalog.read() as now:
        labels = now.labels("color")
        bought = [row for row in labels.to_pylist() if row["source"] == "oracle"]
    assert step.found == {"yellow": sum(row["code"] == 1 for row in bought)}
    assert step.found["yellow"] > 0


def test_no_label_is_requested_once_all_are_known(catalog: Catalog) -> None:
    with catalog.read() as now:
        pool = len(now.training_ids())
    assert [step.labels for step in go(catalog, start=pool - 2, rounds=2)] == [pool - 2, pool, pool]


def test_figures_are_computed_on_the_evaluation_splits(catalog: Catalog) -> None:
    last = go(catalog)[-1]
    assert last.figure("color")["n"] > 0
    assert {row["split"] for row in last.figures} == {"validation", "test"}
    with pytest.raises(KeyError):
        last.figure("color", "nosuch")


def test_a_trunk_that_learns_from_pixels_starts_from_its_first_run(catalog: Catalog) -> None:
    settings = {"recipe": Recipe.of("small", size=(32, 32), global_batch=32, hidden=16), "first_draws": 320}
    begun = go(catalog, **settings, rounds=0)
    steps = go(catalog, **settings)
    assert steps[:1] == begun
    first, later = (Run.open(catalog.home, step.run) for step in steps)
    assert (first.parent, later.parent) == ("", first.id)
    assert later.recipe.learning_rate < first.recipe.learning_rate
    assert later.curve[0]["color"] < first.curve[0]["color"]
    assert go(catalog, **settings) == steps


WRONG = {
    "rounds": (-1, "rounds -1"),
    "start": (-1, "start -1"),
    "seed": (-1, "seed -1"),
    "budget": (0, "budget 0"),
    "draws": (63, "draws 63"),
}


@pytest.mark.parametrize(("field", "value", "why"), [(field, *pair) for field, pair in WRONG.items()])
def test_settings_are_checked_at_once(field: str, value: int, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        Loop(**{**vars(FAST), field: value})


def test_a_policy_is_checked_before_a_label_is_requested(catalog: Catalog) -> None:
    part = {"owner": "ada", "share": 1.0, "importance": 1.0}
    before = counts(catalog)
    with pytest.raises(NotFound, match="colour"):
        go(catalog, policy=Policy.model_validate({"task": {"colour": part}}))
    assert counts(catalog) == before


def test_one_loop_at_a_time(catalog: Catalog) -> None:
    first = run_loop(catalog, FAST, author="ada")
    next(first)
    with pytest.raises(Busy, match="runs a loop there"):
        go(catalog, seed=1)
    first.close()
    assert len(go(catalog, rounds=0)) == 1


def test_files_left_by_a_killed_process_are_removed(catalog: Catalog) -> None:
    (catalog.home / "plans").mkdir(exist_ok=True)
    left = leave_half(catalog.home / "plans" / "f00")
    with whole(catalog.home / "embeddings" / "e") as alive:
        alive.mkdir()
        go(catalog, rounds=0)
        assert (left.exists(), alive.exists()) == (False, True)


def test_without_an_oracle_it_names_the_option_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], catalog: Catalog
) -> None:
    (catalog.home / "oracle.parquet").unlink()
    assert run(["loop", *ARGUMENTS.split(), "--home", str(catalog.home)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("amber: ")
    assert "--label-studio" in line


# Killed at any moment


FORKS = """
import os, sys
import amber.verbs.ledger, amber.verbs.looping, curation.ingestion.ingest
import samplers.pack.pack_writer, samplers.plan.build
from training.evaluation import evaluation, features
from training.loop import trainer
from amber.cli import run
silence = os.open(os.devnull, os.O_WRONLY)
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(silence, 1)
        os._exit(max(run(command.split()) for command in line.split(";")))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports everything once, and forks a process for each line of commands, so that kills hit the work, not imports."""


class Forks:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin
        assert process.stdout
        self.lines, self.answers = process.stdin, process.stdout

    def killed(self, commands: list[str], after: float | None = None) -> int:
        """The exit code of a process that runs the commands, killed `after` seconds; -9 if that came first."""
        print(";".join(commands), file=self.lines, flush=True)
        child = int(self.answers.readline())
        if after is not None:
            time.sleep(after)
            subprocess.run(["kill", "-9", str(child)], capture_output=True, check=False)
        return int(self.answers.readline())


@contextmanager
def forks() -> Iterator[Forks]:
    words = [sys.executable, "-c", FORKS]
    pipe = subprocess.PIPE
    with ending(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)) as process:
        yield Forks(process)


def commands(data: Path, home: Path) -> list[str]:
    return [f"ingest {data} --author ada --home {home}", f"loop {ARGUMENTS} --home {home}"]


def times(home: Path) -> dict[Path, int]:
    """When each file was written, except for locks, which name their holder."""
    return {path: path.stat().st_mtime_ns for path in files(home) if path.suffix != ".lock" and path.name != ".lock"}


def files(home: Path) -> set[Path]:
    return {path for path in home.rglob("*") if path.is_file()}


def history(home: Path) -> dict[str, Any]:
    """The contents of a workspace: rows and digest of the catalog, and the names of all files."""
    with Catalog.open(home).read() as now:
        return {
            "counts": now.counts(),
            "digest": now.digest,
            "requests": now.requests().to_pylist(),
            "labels": now.labels("color").to_pylist(),
            "runs": now.runs().to_pylist(),
            "files": sorted(path.relative_to(home).as_posix() for path in files(home)),
        }


@pytest.mark.parametrize("kills", [10, pytest.param(300, marks=pytest.mark.soak)])
def test_kills_change_nothing(kills: int, tmp_path: Path) -> None:
    data = declare(tmp_path / "data")
    moments, done, homes = random.Random(kills), 0, 0
    with forks() as run:
        started = time.monotonic()
        assert run.killed(commands(data, tmp_path / "whole")) == 0
        span = time.monotonic() - started
        whole = history(tmp_path / "whole")
        while done < kills:
            home = tmp_path / f"killed-{homes}"
            while (code := run.killed(commands(data, home), moments.uniform(0, span / 2))) == -9:
                done += 1
            assert code == 0
            assert history(home) == whole
            homes += 1


def test_the_executable_is_killed(catalog: Catalog) -> None:
    words = [str(Path(sys.executable).with_name("amber")), "loop", *ARGUMENTS.split(), "--home", str(catalog.home)]
    with ending(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)):
        time.sleep(3)
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert counts(catalog)["run_event"] == 3
