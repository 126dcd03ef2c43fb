"""Every verb of the command line: help, results as text and as JSON, exit codes, and the reference in docs/cli.md."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.homes import work_in
from support.lamps import ingested
from support.learned import make_features, planned
from support.manual import leaves, manual
from support.studio import installed

from amber.cli import cli, run
from curation.labelstudio.local_server import stop

ROOT = Path(__file__).parents[2]
AMBER = Path(sys.executable).with_name("amber")
VERBS = {" ".join(words): command for words, command in leaves(cli)}

POLICY = '[task.color]\nowner = "signals"\nshare = 1.0\nimportance = 1.0\nrule = "balanced"\n'

SEARCHED = ["--home", "searched/home", "--size", "32", "32"]
"""A workspace of several tasks with cached features."""

SESSION = {
    "init": [],
    "ingest": ["data"],
    "completion": ["zsh"],
    "tasks": [],
    "trunks": ["small"],
    "coverage": ["--split", "test"],
    "slices add": ["dim_red", "label.color = 'red'", "--task", "color"],
    "slices": [],
    "slices overlap": [],
    "slices remove": ["dim_red"],
    "revert": ["2"],
    "tasks redefine": ["color", "--tolerance", "0.5"],
    "tasks instructions": ["color", "policy.toml"],
    "slices show": ["yellow"],
    "duplicates": ["--apply"],
    "request": ["--budget", "12", "--random-share", "0.5"],
    "label start": [],
    "label push": [],
    "label pull": [],
    "label status": [],
    "label assign": ["--task", "color", "--to", "amber", "--limit", "5"],
    "label people": [],
    "label disputes": [],
    "label stop": [],
    "serve tokens add": ["ann", "read"],
    "serve tokens": [],
    "serve tokens remove": ["ann"],
    "oracle": [],
    "prevalence": ["color"],
    "policy check": ["policy.toml"],
    "policy suggest": [],
    "policy set": ["policy.toml"],
    "owners": [],
    "owners set": ["somebody", "user:somebody"],
    "pack": ["--verify"],
    "plan": ["--draws", "256", "--policy", "policy.toml"],
    "plan show": [],
    "plan why": ["lamps/yellow/002"],
    "plan exposure": ["--upto", "100"],
    "plan replan": ["64"],
    "plan materialize": ["draws"],
    "train": ["--batch", "32"],
    "predictions import": ["theirs.csv", "--name", "theirs"],
    "compare-trees": ["--seeds", "1", "--batch", "32", "--turns", "2"],
    "search tree": [*SEARCHED, "--seeds", "2", "--turns", "2"],
    "search weights": [*SEARCHED, "--budget", "0.5"],
    "search recipe": [*SEARCHED, "--budget", "0.5"],
    "evaluate": [],
    "report": ["--out", "report.html"],
    "loop": ["--rounds", "1", "--budget", "4", "--start", "8", "--draws", "128"],
    "similar": ["lamps/red/003", "--tag", "alike", "--out", "alike.html"],
    "doubts": [],
    "discover": ["--split", "test", "--out", "found.html"],
    "triggers": ["--trigger", "against_label"],
    "forecast": ["--task", "color", "--target", "0.99"],
    "queue": [],
    "advise": [],
    "drift": ["lamps/red/", "lamps/green/"],
    "log": ["-n", "3"],
    "runs": [],
    "diff": ["0"],
    "compare": ["--sheet", "flips.html"],
    "gate": ["--gate", "gate.toml"],
    "retrain": ["--gate", "gate.toml", "--up-to", "head"],
    "lineage": ["--out", "lineage.html"],
    "replay": [],
    "release": ["--list"],
    "accounts": [],
    "notices": [],
    "notices choose": ["--webhook", "http://127.0.0.1:9/", "--kind", "waiting"],
    "notices choices": [],
    "notices send": [],
    "notices sent": [],
    "write": ["parquet", "known.parquet"],
    "forget": ["lamps/red/006", "--yes"],
    "catalog verify": [],
    "catalog compact": [],
    "catalog export": ["backup"],
    "catalog import": ["backup", "--home", "restored"],
    "catalog copy": ["copied"],
    "catalog migrate": [],
    "backup": ["whole"],
    "restore": ["whole", "--home", "whole-again"],
    "prune": [],
}
"""Arguments of every verb, in the order of a user's session."""

ONCE = {
    "plan materialize": ["draws"], "catalog export": ["backup"], "catalog import": ["restored"],
    "catalog copy": ["copied"], "backup": ["whole"], "restore": ["whole-again"],
}  # fmt: skip
"""Folders that a verb creates, and refuses to overwrite."""

AGAIN = {"forget": ["lamps/red/009", "--yes"], "owners set": ["another", "user:somebody"]}
"""Arguments of a second call, for verbs that cannot be repeated."""


@pytest.fixture(scope="module")
def label_studio() -> Iterator[None]:
    with installed():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, label_studio: None) -> Iterator[Path]:
    """A folder in which every verb has been called once."""
    here = tmp_path_factory.mktemp("session")
    ingested(here)
    (here / "searched").mkdir()
    planned(make_features(here / "searched"))
    (here / "policy.toml").write_text(POLICY)
    (here / "gate.toml").write_text('[[judge]]\ntask = "color"\nmargin = "99 points"\n')
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, here)
        counts = {"red": 40, "yellow": 8, "green": 32}
        keys = [(color, number) for color, count in counts.items() for number in range(count)]
        rows = [f"lamps/{color}/{number:03d},{color}" for color, number in keys if (color, number) != ("red", 6)]
        Path("theirs.csv").write_text("\n".join(["key,color", *rows]))
        for verb, arguments in SESSION.items():
            assert run([*verb.split(), *arguments]) == 0, verb
    yield here
    stop(here / "home")


@pytest.fixture
def session(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(monkeypatch, folder)
    return folder


def enter(patch: pytest.MonkeyPatch, folder: Path) -> None:
    work_in(folder, patch)


def test_the_session_calls_every_verb() -> None:
    # serve and browse run until they are stopped, simulate makes workspaces of its own, affinity and group need two
    # tasks, notices drop and test the id of a choice and a receiver, the others a network
    elsewhere = {"serve", "browse", "simulate", "affinity", "group", "export-model", "predict"}
    elsewhere |= {"notices drop", "notices test"}
    assert set(SESSION) == set(VERBS) - elsewhere


@pytest.mark.parametrize("verb", [*VERBS, "policy"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_has_help(verb: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), flag]) == 0
    assert f"Usage: amber {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_home_and_json_and_every_option_has_help(verb: str) -> None:
    options = [part for part in VERBS[verb].params if isinstance(part, click.Option)]
    assert {"home", "as_json"} <= {option.name for option in options}
    assert [option.name for option in options if not option.help] == []


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("verb", SESSION)
def test_json_is_the_only_output(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for made in ONCE.get(verb, []):
        shutil.rmtree(made)
    assert run([*verb.split(), *AGAIN.get(verb, SESSION[verb]), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out, parse_constant=pytest.fail) is not None
    assert err == ""


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("verb", "expected"),
    {
        "init": r"workspace .*/home",
        "ingest": r"lamps: 7\d samples \(0 new\)",
        "tasks": r"color +│ categorical +│ red,",
        "coverage": r"color +│ +│ +2\d │",
        "slices": r"yellow +│ color +│ +yes",
        "slices overlap": r"yellow +│ dim_red|\(none\)",
        "slices remove": r"slice dim_red is removed",
        "duplicates": r"groups of near-duplicates|no near-duplicates",
        "slices show": r"^lamps/yellow/\d+$",
        "request": r"open requests",
        "label start": r"http://127\.0\.0\.1:\d+  user \S+  password \S+  pid \d+",
        "label push": r"\d+ requests in \d+ items",
        "label pull": r"0 labels.*\n0 requests done",
        "label status": r"color +│ \(all\) +│ +\d+ │",
        "label assign": r"at most 5 open items of color",
        "label people": r"color \(at most 5\)",
        "label disputes": r"",
        "label stop": r"stopped",
        "oracle": r"\d+ labels",
        "policy check": r"policy.toml: sound",
        "pack": r"pack [0-9a-f]{64}: \d+ images in 1 shards",
        "plan": r"Plan [0-9a-f]{32} at commit \d+: 256 draws",
        "train": r"color +│ \(all\) +│ test +│ +2\d │",
        "report": r"report .*report.html",
        "loop": r"yellow \(mined\)",
        "log": r"ada",
        "runs": r"ada +│ [0-9a-f]{12} +│",
        "compare": r"compared with .* on test",
        "gate": r"^report gate.md",
        "lineage": r"Lineage of run [0-9a-f]{16}",
        "replay": r"Replay of run [0-9a-f]{16}: equal",
        "release": r"\(none\)",
        "accounts": r"no alarm",
        "notices": r"Notices after commit 0",
        "notices send": r"0 sent, 0 not sent",
        "diff": r"color +│ yellow +│",
        "evaluate": r"color +│ \(all\) +│ test +│",
        "revert": r"commit \d+ undoes nothing",
        "tasks redefine": r"task color: red, yellow, green",
        "write": r"known.parquet: 7\d rows",
    }.items(),
)
def test_results_as_text(verb: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), *SESSION[verb]]) == 0
    assert re.search(expected, capsys.readouterr().out, re.MULTILINE)


@pytest.mark.usefixtures("session")
def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest", "data"]) == 0
    out, err = capsys.readouterr()
    assert "inspect" in err
    assert "inspect" not in out


@pytest.mark.usefixtures("session")
def test_plans_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in Path("home/plans").iterdir()) == sorted(row["plan"] for row in listed)
    assert {row["by"].partition(":")[0] for row in listed} == {"user"}


@pytest.mark.usefixtures("session")
def test_a_slice_is_shown_as_of_a_commit(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for options in (["--commit", "1"], []):
        assert run(["slices", "show", "yellow", *options, "--json"]) == 0
        sizes.append(len(json.loads(capsys.readouterr().out)))
    assert sizes[0] < sizes[1]


@pytest.mark.usefixtures("session")
def test_coverage_shows_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["coverage", "--annotators"]) == 0
    assert re.search(r"color +│ \w+ +│ oracle +│ +\d+ │", capsys.readouterr().out)
    assert run(["coverage", "--annotators", "--json"]) == 0
    (task,) = json.loads(capsys.readouterr().out)["agreement"]
    assert (task["task"], [circle["name"] for circle in task["circles"]]) == ("color", ["everyone"])


@pytest.mark.usefixtures("session")
def test_coverage_as_json_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["coverage", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        "commit", "cells", "annotators", "overlap", "missing", "attributes"
    }  # fmt: skip


@pytest.mark.usefixtures("session")
def test_log_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "-n", "2", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["id"] == second["id"] + 1


def test_without_a_verb_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_the_executable(session: Path) -> None:
    def amber(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([AMBER, *words], cwd=session, capture_output=True, text=True, check=False)

    assert re.fullmatch(r"amber [\d.]+, Python [\d.]+, DuckDB [\d.]+, torch [\d.+a-z]+\n", amber("--version").stdout)
    assert json.loads(amber("tasks", "--json").stdout)[0]["name"] == "color"
    wrong = amber("tasks", "--home", "nowhere")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


def test_a_reader_may_close_the_pipe(session: Path) -> None:
    command = f"'{AMBER}' slices show yellow --json > /dev/full"
    done = subprocess.run(["bash", "-c", command], cwd=session, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    head = f"set -o pipefail; '{AMBER}' coverage | true"
    done = subprocess.run(["bash", "-c", head], cwd=session, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_reference_matches_the_commands() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()
    assert written == manual(), "run: python tests/support/manual.py > docs/cli.md"


def test_every_verb_that_is_mentioned_exists() -> None:
    mentioned = {}
    for path in [*ROOT.glob("*.md"), ROOT / "docs" / "cli.md", *sources()]:
        for verb in re.findall(r"(?:`|^ *(?:\$ )?)amber (-?[a-z{][a-z{}_-]*)", path.read_text(), re.MULTILINE):
            mentioned[verb] = path.relative_to(ROOT).as_posix()
    assert {verb: place for verb, place in mentioned.items() if verb not in cli.commands} == {}


def sources() -> list[Path]:
    packages = ("amber", "curation", "datasets", "samplers", "training")
    return [path for name in packages for path in (ROOT / name).rglob("*") if path.suffix in (".py", ".md", ".html")]
