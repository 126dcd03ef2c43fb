"""`amber gate --ask`: labels only where two runs disagree, and the gate that counts them."""

import json
from pathlib import Path

import pytest
from support.homes import copy_home, work_in
from support.judged import answer, judged_home, truth_of
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog

Capture = pytest.CaptureFixture[str]
RULES = '[[judge]]\ntask = "color"\nmetric = "accuracy"\nmargin = "2 points"\n'


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return judged_home(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def catalog(planted: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A copy in the current folder, with rules for a gate."""
    work_in(tmp_path, monkeypatch)
    Path("gate.toml").write_text(RULES)
    return copy_home(planted, tmp_path)


def gate(capsys: Capture, run_: str, against: str) -> tuple[int, dict[str, object]]:
    code = run(["gate", run_, "--against", against, "--gate", "gate.toml", "--json"])
    return code, json.loads(capsys.readouterr().out)["figures"][0]


def test_few_labels_where_the_runs_disagree_decide(catalog: Catalog, capsys: Capture) -> None:
    code, before = gate(capsys, "new", "old")
    assert code == 11
    assert run(["gate", "new", "--against", "old", "--gate", "gate.toml", "--ask", "70", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == {"color": 70}
    assert gate(capsys, "new", "old") == (11, before)  # nobody has answered
    answer(catalog, truth_of(catalog))
    code, after = gate(capsys, "new", "old")
    assert (code, after["n"]) == (0, before["n"] + 70)  # type: ignore[operator]
    assert gate(capsys, "old", "new")[0] == 10
    assert run(["gate", "new", "--against", "old", "--gate", "gate.toml"]) == 0
    assert "color: on these images the run is better by +" in capsys.readouterr().out


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["new", "--against", "old"], "needs --gate FILE", "--ask N"),
        (["new", "--against", "old", "--ask", "0"], "--ask 0", "ask for 1 to"),
        (["new", "--against", "old", "--ask", "99999"], "--ask 99999", "ask for 1 to"),
        (["new", "--against", "new", "--ask", "4"], "'new'", "another run"),
        (["nine", "--against", "new", "--ask", "4"], "'nine'", "amber runs"),
        (["new", "--ask", "4", "--gate", "none.toml"], "none.toml", "check the path"),
    ],
)
def test_is_refused_in_one_line(words: list[str], value: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, "gate", *words)
    assert value in line
    assert fix in line
