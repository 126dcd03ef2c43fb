"""What a shell completes, asked as bash, zsh and fish ask, and through a real bash."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lamps import ingested
from support.manual import leaves

from amber.cli import VERBS, cli, run
from amber.completion import SHELLS
from curation import Catalog

ROOT = Path(__file__).parents[2]
PATHS = [" ".join(words) for words, _ in leaves(cli)]
RUN_ID, PLAN_HASH, WITHDRAWN = "0123456789abcdef", "ab" * 16, "cd" * 16

Complete = Callable[..., list[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one task, one slice, and the folders of a run and of two plans."""
    made = ingested(tmp_path_factory.mktemp("completed"), counts=(4, 2, 3))
    for folder in (f"runs/{RUN_ID}/run.json", f"plans/{PLAN_HASH}/plan.json", f"plans/{WITHDRAWN}/plan.json"):
        (made / folder).parent.mkdir(parents=True)
        (made / folder).write_text("{}")
    (made / f"plans/{WITHDRAWN}/withdrawn.json").write_text("{}")
    return made


@pytest.fixture
def complete(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Complete:
    """What bash is offered after `words`, of which the last is incomplete, in a folder without a workspace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMBER_AUTHOR", raising=False)
    monkeypatch.setenv("AMBER_HOME", str(home))

    def ask(*words: str) -> list[str]:
        typed = " ".join(["amber", *(word or "''" for word in words)])
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setenv("_AMBER_COMPLETE", "bash_complete")
        with pytest.raises(SystemExit) as ended:
            run([])
        assert ended.value.code == 0
        out, err = capsys.readouterr()
        assert err == ""
        return [line.partition(",")[2] for line in out.splitlines() if line]

    return ask


@pytest.mark.parametrize("verb", PATHS)
def test_every_option_is_completed_without_an_author(verb: str, complete: Complete) -> None:
    assert {"--home", "--json"} <= set(complete(*verb.split(), "--"))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("comp",), ["compare", "compare-trees", "completion"]),
        (("slices", "re"), ["remove"]),
        (("completion", ""), list(SHELLS)),
        (("coverage", "--split", "te"), ["test"]),
        (("report", "--run", ""), [RUN_ID]),
        (("report", "--run", "f"), []),
        (("compare", "01"), [RUN_ID]),
        (("compare", RUN_ID, ""), [RUN_ID]),
        (("plan", "show", ""), [PLAN_HASH]),
        (("forecast", "--task", "co"), ["color"]),
        (("prevalence", ""), ["color"]),
        (("tasks", "redefine", ""), ["color"]),
        (("slices", "show", ""), ["yellow"]),
        (("slices", "add", ""), []),
        (("runs", "--slice", "y"), ["yellow"]),
        (("runs", "--home", "nowhere", "--slice", "y"), []),
    ],
)
def test_names_are_completed(words: tuple[str, ...], offered: list[str], complete: Complete) -> None:
    assert complete(*words) == offered


def test_the_home_that_was_typed_is_read(complete: Complete, tmp_path: Path) -> None:
    Catalog.create("other")
    assert complete("slices", "show", "--home", "other", "") == []


def test_a_catalog_that_cannot_be_read_completes_nothing(home: Path, complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "amber-home").mkdir()
    (tmp_path / "amber-home" / "catalog.duckdb").write_text("not a catalog")
    assert complete("slices", "show", "--home", "amber-home", "") == []
    with Catalog.open(home).commit(author="ada", message="takes long"):
        assert complete("slices", "show", "") == []


def test_a_real_bash(home: Path) -> None:
    script = """
        eval "$("$0" -m amber completion bash)"
        COMP_WORDS=(amber slices show '') COMP_CWORD=3
        _amber_completion amber
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "AMBER_HOME": str(home)}
    words = ["bash", "--norc", "-c", script, sys.executable]
    done = subprocess.run(words, env=environment, cwd=home, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("yellow\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script_and_the_line_that_installs_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_AMBER_COMPLETE={shell}_complete" in script
    assert run(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "shell": shell,
        "install": SHELLS[shell],
        "script": script[:-1],
    }
    assert run(["completion", "--help"]) == 0
    assert SHELLS[shell] in capsys.readouterr().out


def test_no_other_shell_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


def test_completing_a_verb_imports_no_verb(home: Path) -> None:
    code = """import sys
from amber.cli import run
try:
    run([])
finally:
    print([name for name in sys.modules if "amber.verbs" in name], file=sys.stderr)
"""
    asked = {"COMP_WORDS": "amber ''", "COMP_CWORD": "1", "_AMBER_COMPLETE": "bash_complete", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"plain,{verb}" for verb in VERBS]
    assert done.stderr == "[]\n"
