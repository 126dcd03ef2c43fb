"""Wrong arguments, predicates, policies and declarations: one line, an exit code, and an unchanged catalog."""

import os
from pathlib import Path

import pytest
from support.lamps import DECLARATION, declare
from support.refusals import refused

Capture = pytest.CaptureFixture[str]

POLICY = '[task.color]\nowner = "signals"\nshare = {share}\nimportance = {share}\nrule = "balanced"\n'

REFUSED = {
    "no such verb": (["lop"], "'lop'", "Did you mean"),
    "no such option": (["loop", "--round", "3"], "--round", "--rounds"),
    "no such folder": (["ingest", "nowhere"], "nowhere", "dataset.toml"),
    "a folder that is no data set": (["ingest", "home"], "home", "dataset.toml"),
    "images of a data set that draws none": (["ingest", "data", "--images", "9"], "images", "leave it out"),
    "no author": (["ingest", "data", "--author", " "], "author ' '", "AMBER_AUTHOR"),
    "no workspace": (["tasks", "--home", "nowhere"], "nowhere", "amber init --home nowhere"),
    "a file as home": (["init", "--home", "data/dataset.toml"], "data/dataset.toml", "--home"),
    "an empty home": (["init", "--home", ""], "home ''", "AMBER_HOME"),
    "a split that is none": (["coverage", "--split", "tset"], "'tset'", "'test'"),
    "no such slice": (["slices", "show", "yelow"], "'yelow'", "amber slices"),
    "a commit to come": (["slices", "show", "yellow", "--commit", "99"], "commit 99", "0 to 1"),
    "a commit below zero": (["plan", "--commit", "-1"], "commit -1", "0 to 1"),
    "a commit that is a word": (["plan", "--commit", "HEAD"], "'HEAD'", "integer"),
    "a slice of no task": (["slices", "add", "a", "true", "--task", "colour"], "'colour'", "amber tasks"),
    "a slice of a bad name": (["slices", "add", "a b", "true"], "'a b'", "name"),
    "options before a subcommand": (["slices", "--home", "home", "add", "a", "true"], "'add'", "behind"),
    "no labels yet": (["plan"], "no label", "label"),
    "no draws": (["plan", "--draws", "0"], "--draws", "x>=1"),
    "a seed below zero": (["request", "--budget", "4", "--seed", "-1"], "-1", "x>=0"),
    "a budget below one": (["request", "--budget", "-4"], "budget -4", "raise"),
    "a random share above one": (["request", "--budget", "4", "--random-share", "3"], "3.0", "[0, 1]"),
    "no such run": (["request", "--budget", "4", "--run", "f00"], "'f00'", "no such"),
    "no run yet": (["report"], "no run", "amber train"),
    "no plan yet": (["train"], "no plan", "amber plan"),
    "no such plan": (["train", "--plan", "f00"], "'f00'", "amber plan --list"),
    "a trunk that is none": (["train", "--trunk", "resnet"], "'resnet'", "'small'"),
    "rounds below zero": (["loop", "--rounds", "-1"], "rounds -1", "negative"),
    "a trunk that nobody knows": (["trunks", "nosuch"], "trunk = nosuch", "`amber trunks`"),
    "a trunk of one's own that is not there": (["trunks", "no.such:trunk"], "no.such:trunk", "module or function"),
    "a budget of nothing": (["loop", "--budget", "0"], "budget 0", "raise"),
    "a start below zero": (["loop", "--start", "-1"], "start -1", "negative"),
    "fewer draws than a batch": (["loop", "--draws", "63"], "draws 63", "64"),
    "a loop without an author": (["loop", "--author", ""], "author ''", "--author"),
    "a negative count": (["log", "-n", "-3"], "-3", "x>=0"),
    "no policy": (["policy", "check", "nowhere.toml"], "nowhere.toml", "check the path"),
    "a folder as policy": (["loop", "--policy", "home"], "home", "check the path"),
}  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("words", "value", "fix"), REFUSED.values(), ids=REFUSED)
def test_is_refused_in_one_line(words: list[str], value: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, *words)
    assert value in line
    assert fix in line


PREDICATES = {
    "; DROP TABLE sample": "boolean expression",
    "label.color = 'red'; DROP TABLE sample": "boolean expression",
    "true) OR (DELETE FROM sample": "boolean expression",
    "(DELETE FROM sample RETURNING true)": "boolean expression",
    "EXISTS (INSERT INTO sample SELECT * FROM sample)": "boolean expression",
    "(SELECT count(*) FROM sample) > 0": "subquery",
    "true FROM sample": "nothing else",
    "length(read_text('/etc/passwd').content) > 0": "read_text",
    "random() > 0.5": "random",
    "getenv('HOME') = '/'": "getenv",
    "attr.colour = 'red'": "attr.colour",
    "label.colour = 'red'": "did you mean 'color'",
    "nope = 1": "'nope'",
    "label.color": "true or false",
    "label.color = 'red": "unterminated",
    "": "boolean expression",
    "count(*) > 1": "count",
    "label.color = $1": "parameter",
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("predicate", "why"), PREDICATES.items())
def test_a_predicate_must_be_one_boolean_expression(predicate: str, why: str, capsys: Capture) -> None:
    line = refused(capsys, "slices", "add", "bad", "--", predicate)
    assert repr(predicate) in line
    assert why in line


POLICIES = {
    "shares that do not sum to 1": (POLICY.format(share=0.9), "sum to 0.9, must sum to 1"),
    "a share that is a word": (POLICY.format(share='"half"'), "task.color.share = 'half'"),
    "a task that is unknown": (POLICY.format(share=1).replace("color", "colour"), "did you mean 'color'"),
    "a boost of a slice that is unknown": (POLICY.format(share=1) + "boost = { yelow = 2.0 }", "'yelow'"),
    "a field that is unknown": (POLICY.format(share=1) + "gama = 0.5", "task.color.gama"),
    "a rule that is unknown": (POLICY.format(share=1).replace("balanced", "fair"), "'fair'"),
    "no TOML": ("[task.color", "not valid TOML"),
    "nothing": ("", "task"),
}


@pytest.mark.parametrize("words", [["policy", "check"], ["plan", "--policy"], ["loop", "--policy"]], ids=" ".join)
@pytest.mark.parametrize(("text", "why"), POLICIES.values(), ids=POLICIES)
def test_a_policy_is_refused(words: list[str], text: str, why: str, folder: Path, capsys: Capture) -> None:
    (folder / "policy.toml").write_text(text)
    line = refused(capsys, *words, "policy.toml")
    assert why in line


def test_every_fault_of_a_declaration_is_named(folder: Path, capsys: Capture) -> None:
    faults = {"class_folders": "folders", '["red"': '["green"', "0.3": "1.3", 'owner = "signals"': ""}
    text = DECLARATION
    for right, wrong in faults.items():
        text = text.replace(right, wrong)
    (folder / "wrong").mkdir()
    (folder / "wrong" / "dataset.toml").write_text(text)
    line = refused(capsys, "ingest", "wrong")
    for named in ("wrong/dataset.toml", "'folders'", "owner", "split.test = 1.3"):
        assert named in line


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("home", "code"), [("data/dataset.toml/home", 2), ("/dev/null/home", 2), ("/proc/home", 1)])
def test_a_home_that_cannot_be_made(home: str, code: int, capsys: Capture) -> None:
    assert home in refused(capsys, "init", "--home", home, code=code)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_without_rights(folder: Path, capsys: Capture) -> None:
    (folder / "home").chmod(0o500)
    assert "home" in refused(capsys, "ingest", "data", code=1)


def test_a_class_that_the_task_does_not_have(folder: Path, capsys: Capture) -> None:
    (folder / "data").unlink()
    declare(folder / "data")
    text = (folder / "data" / "dataset.toml").read_text()
    (folder / "data" / "dataset.toml").write_text(text.replace('"yellow"', '"amber"', 1))
    assert "'yellow'" in refused(capsys, "ingest", "data", "--home", "new")
    assert not (folder / "new" / "oracle.parquet").exists()
