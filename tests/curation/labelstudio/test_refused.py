"""Bad arguments of the labelling and service verbs: one line, exit code 2, and no effect."""

from pathlib import Path

import pytest
from support.homes import make_home

from amber.cli import run

PUSH, PULL = ["label", "push"], ["label", "pull"]
LOOP = ["loop", "--label-studio", "local", "--author", "ada"]
REFUSED = {
    "nobody to ask": ([*PUSH, "--overlap", "0"], "overlap 0: at least 1 person"),
    "a share of nothing": ([*PUSH, "--overlap-share", "0"], "overlap share 0.0: must be above 0"),
    "mostly gold": ([*PUSH, "--gold", "0.6"], "gold 0.6: must lie in"),
    "no card": ([*PUSH, "--card", "nosuch.md"], "nosuch.md: no such file"),
    "a card without the tasks": (
        [*PUSH, "--card", "CONTRIBUTING.md"],
        "no section is named after a task; add one, such",
    ),
    "URLs that have ended": ([*PUSH, "--days", "0"], "days 0.0: must be above 0"),
    "URLs for ever": ([*PUSH, "--days", "inf"], "days inf: must be above 0"),
    "no server": (PUSH, "start one with `amber label start`"),
    "no token": ([*PUSH, "--url", "http://127.0.0.1:9"], "needs a token; pass --token"),
    "no address": ([*PULL, "--url", "studio", "--token", "t"], "studio: not a URL of a Label Studio"),
    "a third person before the second": ([*PULL, "--third", "-1"], "third -1.0: must be between"),
    "never a third person": ([*PULL, "--third", "nan"], "third nan: must be between"),
    "a loop without a third": ([*LOOP, "--third", "-1"], "third -1.0: must be between"),
    "a loop of ended URLs": ([*LOOP, "--days", "0"], "days 0.0: must be above 0"),
    "a loop without the card": ([*LOOP, "--card", "nosuch.md"], "nosuch.md: no such file"),
    "no pause": ([*PULL, "--follow", "--every", "0"], "every 0.0: must be above 0"),
    "nowhere to ask": (["label", "status"], "start one with `amber label start`"),
    "a host of a name": (["serve", "--host", "amber.test"], "host 'amber.test': must be an address"),
    "a token of no name": (["serve", "tokens", "add", " ", "read"], "token ' ': must be one line of text"),
    "a token of two lines": (
        ["serve", "tokens", "add", "a\nb", "read"],
        "must be one line of text that no other token has",
    ),
    "no such token": (["serve", "tokens", "remove", "nosuch"], "token 'nosuch': no such token"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("refused"), samples=40).home


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_one_line(home: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, why = REFUSED[case]
    assert run([*words, "--home", str(home)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), why in err) == ("", 1, True), err
    assert "Traceback" not in err
