"""`amber notices`: what is listed, chosen, dropped, tried and sent; and every bad input in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.homes import copy_home, make_home, work_in
from support.receivers import hooked
from support.refusals import refused
from support.served import free_port

from amber.cli import run
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity, os_user

Capture = pytest.CaptureFixture[str]
ME = str(os_user())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("notices"), samples=40)


@pytest.fixture
def home(made: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    work_in(tmp_path, monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    return copy_home(made, tmp_path)


def block(catalog: Catalog, run_: str) -> None:
    with catalog.commit(author="ann", message=f"gate {run_}: block (color)") as change:
        change.record_gate(run_, against="first", evaluation_set="0", by=Identity(name="ann", via="user"))


def read(capsys: Capture, *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["notices", *words, "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_from_a_choice_to_its_delivery(home: Catalog, capsys: Capture) -> None:
    with hooked() as hook:
        chosen = read(capsys, "choose", "--webhook", hook.url, "--kind", "blocked", "--task", "color")
        assert (chosen["person"], chosen["kinds"], len(chosen["secret"]) > 30) == (ME, ["blocked"], True)
        (listed,) = read(capsys, "choices")
        assert listed == {name: value for name, value in chosen.items() if name != "secret"}
        assert [row["error"] for row in read(capsys, "test")] == [""]
        block(home, "r1")
        (notice,) = read(capsys, "--since", "1")["notices"]
        assert read(capsys, "--since", "1", "--kind", "dry")["notices"] == []
        done = read(capsys, "send")
        assert [(row["id"], row["state"]) for row in done["tried"]] == [(notice["id"], "sent")]
        assert [row["id"] for row in read(capsys, "sent")] == [notice["id"]]
        assert read(capsys, "send")["tried"] == []
        assert [json.loads(body)["kind"] for _, _, body in hook.posts] == ["test", "blocked"]
        assert read(capsys, "drop", chosen["id"]) == {"dropped": chosen["id"]}
        assert (read(capsys, "choices"), read(capsys, "sent")) == ([], [])
        assert len(read(capsys, "sent", "--all")) == 1


def test_exit_codes_say_what_was_not_sent(home: Catalog, capsys: Capture) -> None:
    url = f"http://127.0.0.1:{free_port()}/in"
    read(capsys, "choose", "--webhook", url)
    block(home, "r1")
    assert run(["notices", "send"]) == 1
    out, err = capsys.readouterr()
    assert out == "0 sent, 1 not sent\n"
    (line,) = err.splitlines()
    assert line.startswith("note: the gate blocks run r1 in place of run first: webhook http://127.0.0.1:")
    (row,) = read(capsys, "test", code=1)
    assert "cannot be reached" in row["error"]


def test_each_person_chooses_alone(home: Catalog, capsys: Capture) -> None:
    secret = Tokens(home.home).add("eve", "read")
    mine = read(capsys, "choose", "--mail", "me@example.org")
    hers = read(capsys, "choose", "--mail", "eve@example.org", "--mine", "--token", secret)
    assert (hers["person"], hers["mine"]) == ("token:eve", True)
    assert [row["id"] for row in read(capsys, "choices")] == [mine["id"]]
    assert len(read(capsys, "choices", "--all")) == 2
    assert "has no such choice" in refused(capsys, "notices", "drop", hers["id"])
    assert read(capsys, "drop", hers["id"], "--token", secret)["dropped"] == hers["id"]


def test_as_text(home: Catalog, capsys: Capture) -> None:
    block(home, "r1")
    assert run(["notices", "--since", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Notices after commit 1" in shown
    assert "color: drop by more than is allowed; the gate was run by user:ann\n  amber compare first r1" in shown
    assert run(["notices", "choose", "--mail", "me@example.org", "--kind", "dry"]) == 0
    assert f"of {ME}: dry to me@example.org" in capsys.readouterr().out
    assert run(["notices", "choices"]) == 0
    assert "me@example.org" in capsys.readouterr().out
    assert run(["notices", "sent"]) == 0
    assert "(none)" in capsys.readouterr().out


BAD = {
    "no target": (["choose"], "needs --webhook URL or --mail ADDRESS"),
    "two targets": (["choose", "--webhook", "http://a", "--mail", "a@b.c"], "one of the two"),
    "no URL": (["choose", "--webhook", "a.b"], "must be http://HOST/PATH"),
    "an address with a newline": (["choose", "--mail", "a@b.c\nBcc: e@f.g"], "must be one address"),
    "an unknown kind": (["choose", "--mail", "a@b.c", "--kind", "regresed"], "'regresed' is not one of"),
    "an unknown task": (["choose", "--mail", "a@b.c", "--task", "colour"], "'colour'"),
    "an unknown owner": (["choose", "--mail", "a@b.c", "--owner", "adda"], "owner 'adda': owns no task"),
    "a token that is none": (["choose", "--mail", "a@b.c", "--token", "x"], "missing or expired"),
    "no such choice": (["drop", "0"], "has no such choice"),
    "no choice to test": (["test"], "has chosen nothing; `amber notices choose` makes one"),
    "no such choice to test": (["test", "0"], "has no such choice"),
    "no such moment": (["--since", "yesterday"], "'yesterday': must be a commit, a date"),
    "a kind that is none": (["--kind", "x"], "'x' is not one of"),
}  # fmt: skip


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("words", "line"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(words: list[str], line: str, capsys: Capture) -> None:
    assert line in refused(capsys, "notices", *words)
    assert not Path("home/notices/choices.json").exists()


def test_settings_that_break_a_rule_send_nothing(home: Catalog, capsys: Capture, tmp_path: Path) -> None:
    read(capsys, "choose", "--mail", "me@example.org")
    (home.home / "notices" / "settings.toml").write_text("[mail]\nhost = 'h'\n")
    assert "mail.sender is missing" in refused(capsys, "notices", "send")
    assert "mail.sender is missing" in read(capsys, "test", code=1)[0]["error"]


def test_a_backup_holds_no_addresses(home: Catalog, capsys: Capture) -> None:
    read(capsys, "choose", "--mail", "me@example.org")
    capsys.readouterr()
    assert run(["backup", "copy", "--json"]) == 0
    assert "notices/" in json.loads(capsys.readouterr().out)["left_out"]
    assert [path for path in Path("copy").rglob("*") if path.is_file() and b"me@example.org" in path.read_bytes()] == []
