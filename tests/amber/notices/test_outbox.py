"""The outbox: who is sent what, once; what fails is tried again later; what a killed process sends again."""

import json
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.homes import copy_home, make_home
from support.receivers import Hook, hooked, mailing

from amber.notices.background import sending
from amber.notices.choices import Choice, Choices
from amber.notices.conversation import Refused
from amber.notices.notice import KINDS, Notice
from amber.notices.outbox import LONGEST, Outbox, Sent, send, send_test
from amber.notices.settings import Settings
from amber.notices.webhook import ID, SIGNATURE, verify_signature
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.errors import BadInput, Busy, Damaged, Failed, NotFound
from curation.files.locks import locked

ANN = Identity(name="ann", via="user")
AT = datetime(2026, 11, 30, 12)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("outbox"), samples=40)


@pytest.fixture
def home(made: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(made, tmp_path)


def choose(catalog: Catalog, target: str, person: str = "user:ann", **words: object) -> Choice:
    with catalog.read() as now:
        channel = "webhook" if target.startswith("http") else "mail"
        return Choices(catalog.home).add(now, person, channel, target, **words)  # type: ignore[arg-type]


def block(catalog: Catalog, *runs: str) -> None:
    """A decision of a gate that blocks each of these runs."""
    for run in runs:
        with catalog.commit(author="ann", message=f"gate {run}: block (color)") as change:
            change.record_gate(run, against="first", evaluation_set="0", by=ANN)


class Channel:
    """A channel that keeps what it is given, and fails where `fails` has an error for the target."""

    def __init__(self, **fails: Exception) -> None:
        self.sent: list[tuple[str, list[str]]] = []
        self.fails = fails

    def __call__(self, notices: Sequence[Notice], choice: Choice, settings: Settings) -> None:
        name = choice.target.rpartition("/")[2]
        if name in self.fails:
            raise self.fails[name]
        self.sent.append((choice.target, [each.subject.split()[4] for each in notices]))


def call(catalog: Catalog, channel: Channel, hours: float = 0.0) -> Sent:
    return send(catalog, sending=channel, at=AT + timedelta(hours=hours))


# Choices


def test_a_choice_is_kept_replaced_and_dropped(home: Catalog) -> None:
    choices = Choices(home.home)
    first = choose(home, "https://a.b/c", kinds=["dry", "blocked"], tasks=["color"], owners=["bob"], mine=True)
    path = home.home / "notices" / "choices.json"
    assert (stat.S_IMODE(path.stat().st_mode), choices.all()) == (0o600, [first])
    assert (first.kinds, len(first.secret) > 30) == (("blocked", "dry"), True)
    block(home, "r1")
    again = choose(home, "https://a.b/c")
    assert again == replace(first, kinds=KINDS, tasks=(), owners=(), mine=False)
    other = choose(home, "https://a.b/c", person="user:bob")
    assert other.secret != first.secret
    with pytest.raises(NotFound, match=r"user:bob has no such choice"):
        choices.remove("user:bob", first.id)
    assert choices.remove("user:ann", first.id) == again
    assert (choices.all(), choices.all("user:ann")) == ([other], [])
    assert choose(home, "ann@example.org").secret == ""


@pytest.mark.parametrize("target", [
    "http://", "ftp://a/b", "https://a b/", "https://u:p@a/", "https://a/#x", "http://a:99999/", "http://a:0/",
    "http://a/\nb", "http://[::1", "http://é.example/", "http://a/" + "x" * 3_000,
])  # fmt: skip
def test_what_is_no_url_of_a_receiver(target: str, home: Catalog) -> None:
    with home.read() as now, pytest.raises(BadInput, match="must be http://HOST/PATH") as caught:
        Choices(home.home).add(now, "user:ann", "webhook", target)
    assert len(str(caught.value).splitlines()) == 1
    assert Choices(home.home).all() == []


@pytest.mark.parametrize("target", [
    "ann", "ann@", "@b.c", "a@b@c", "ann@b.c\nBcc: eve@b.c", "Ann <ann@b.c>", "a@b.c,d@e.f", "é@b.c", " a@b.c",
    "a@b.c;d", '"a b"@c.d', "a..b@c.d", "",
])  # fmt: skip
def test_what_is_no_address(target: str, home: Catalog) -> None:
    with home.read() as now, pytest.raises(BadInput, match="must be one address") as caught:
        Choices(home.home).add(now, "user:ann", "mail", target)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("words", "line"), [
    ({"kinds": ["regresed"]}, "kind 'regresed'"), ({"kinds": []}, "none is named"), ({"tasks": ["colour"]}, "colour"),
    ({"owners": ["adda"]}, "owner 'adda': owns no task; owners are ada, bob, eve"),
])  # fmt: skip
def test_an_unknown_kind_task_or_owner(words: dict[str, list[str]], line: str, home: Catalog) -> None:
    with pytest.raises((BadInput, NotFound), match=line):
        choose(home, "https://a.b/c", **words)
    with pytest.raises(BadInput, match="'mail:ann': must be user:NAME or token:NAME"):
        choose(home, "https://a.b/c", person="mail:ann")
    with home.read() as now, pytest.raises(BadInput, match="channel 'fax'"):
        Choices(home.home).add(now, "user:ann", "fax", "1")  # type: ignore[arg-type]


def test_whom_a_notice_reaches() -> None:
    words = {"text": "", "link": "", "command": "", "commit": 3, "at": AT}
    color = Notice(kind="dry", subject="", tasks=("color",), owners=("ada",), persons=("user:ann",), **words)
    team = Notice(kind="dry", subject="", **words)
    choice = Choice(id="1", person="user:ann", channel="mail", target="a@b.c", made=AT, commit=1)
    changes: list[tuple[dict[str, object], bool, bool]] = [
        ({}, True, True), ({"kinds": ("share",)}, False, False), ({"tasks": ("car",)}, False, True),
        ({"tasks": ("car", "color")}, True, True), ({"owners": ("bob",)}, False, True), ({"mine": True}, True, False),
        ({"mine": True, "person": "user:bob"}, False, False), ({"made": AT + timedelta(seconds=1)}, False, False),
        ({"tasks": ("color",), "owners": ("bob",)}, False, True),
    ]  # fmt: skip
    for change, near, everybody in changes:
        wants = replace(choice, **change)  # type: ignore[arg-type]
        assert (wants.wants(color), wants.wants(team)) == (near, everybody), change


# The outbox


def test_a_notice_goes_to_each_target_once(home: Catalog) -> None:
    channel = Channel()
    assert call(home, channel) == Sent(tried=(), notes=())  # nobody chose anything
    block(home, "before")
    choose(home, "https://x/all")
    choose(home, "https://x/all", person="user:bob")
    choose(home, "https://x/car", tasks=["car"])
    block(home, "r1", "r2")
    done = call(home, channel)
    assert channel.sent == [("https://x/all", ["r1"]), ("https://x/all", ["r2"])]
    assert done.well
    assert call(home, channel).tried == ()
    block(home, "r3")
    call(home, channel)
    assert channel.sent[2:] == [("https://x/all", ["r3"])]


def test_mails_to_one_address_are_one(home: Catalog) -> None:
    choose(home, "ann@example.org")
    block(home, "r1", "r2")
    channel = Channel()
    assert len(call(home, channel).tried) == 2
    assert channel.sent == [("ann@example.org", ["r1", "r2"])]


def test_what_fails_is_tried_again_later_and_stops_nothing_else(home: Catalog) -> None:
    for name in ("down", "gone", "well"):
        choose(home, f"https://x/{name}")
    block(home, "r1")
    channel = Channel(down=Failed("down: cannot be reached"), gone=Refused("gone: for good"))
    first = call(home, channel)
    assert [(each.target[-4:], each.state, each.tries) for each in first.tried] == [
        ("down", "open", 1), ("gone", "failed", 1), ("well", "sent", 1),
    ]  # fmt: skip
    assert not first.well
    assert first.failures[0].error == "down: cannot be reached"
    assert call(home, channel, 0.01).tried == ()  # not due
    waits, hours = [], 0.0
    while len(waits) < 100 and (open_ := [each for each in Outbox(home.home).all() if each.state == "open"]):
        waits.append((open_[0].due - AT).total_seconds() / 3600 - hours)
        hours += waits[-1]
        call(home, channel, hours)
    assert waits[:4] == pytest.approx([1 / 60, 2 / 60, 4 / 60, 8 / 60])
    assert max(waits) == pytest.approx(6)
    assert timedelta(hours=hours) >= LONGEST
    assert [each.state for each in Outbox(home.home).all()] == ["failed", "failed", "sent"]
    assert len(channel.sent) == 1


def test_a_target_that_comes_back_gets_what_it_missed(home: Catalog) -> None:
    choose(home, "https://x/down")
    block(home, "r1")
    call(home, Channel(down=Failed("down")))
    block(home, "r2")
    channel = Channel()
    call(home, channel, 1)
    assert [runs for _, runs in channel.sent] == [["r1"], ["r2"]]


def test_a_dropped_choice_gets_nothing_more(home: Catalog) -> None:
    first, _ = choose(home, "https://x/down"), choose(home, "https://x/down", person="user:bob", kinds=["dry"])
    block(home, "r1")
    call(home, Channel(down=Failed("down")))
    Choices(home.home).remove("user:ann", first.id)
    assert call(home, Channel(), 1).tried == ()


def test_another_choice_of_the_target_takes_over(home: Catalog) -> None:
    first, other = (choose(home, "https://x/down", person=f"user:{name}") for name in ("ann", "bob"))
    block(home, "r1")
    call(home, Channel(down=Failed("down")))
    Choices(home.home).remove("user:ann", first.id)
    assert [each.choice for each in call(home, Channel(), 1).tried] == [other.id]


def test_an_error_of_one_part_does_not_hold_up_what_is_due(home: Catalog) -> None:
    choose(home, "https://x/down")
    block(home, "r1")
    call(home, Channel(down=Failed("down")))
    seen = Outbox(home.home).seen
    block(home, "r2")
    (home.home / "waiting").mkdir()
    (home.home / "waiting" / "x.json").write_text("{")
    channel = Channel()
    done = call(home, channel, 1)
    assert done.error.startswith("new notices were not looked for: ")
    assert (done.well, channel.sent, Outbox(home.home).seen) == (False, [("https://x/down", ["r1"])], seen)
    (home.home / "waiting" / "x.json").unlink()
    call(home, channel, 2)
    assert [runs for _, runs in channel.sent] == [["r1"], ["r2"]]


def test_one_process_sends_at_a_time_and_a_damaged_outbox_is_one_line(home: Catalog) -> None:
    choose(home, "https://x/all")
    with locked(home.home / "notices" / "send.lock", str), pytest.raises(Busy, match="sends its notices"):
        send(home)
    (home.home / "notices" / "outbox.json").write_text("[]")
    with pytest.raises(Damaged, match=r"outbox.json: cannot be read .*; remove it"):
        send(home)


def test_old_deliveries_are_forgotten_and_the_newest_are_not_sent_again(
    home: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amber.notices.outbox.KEPT", 2)
    choose(home, "https://x/all")
    channel = Channel()
    for number in range(5):
        block(home, f"r{number}")
        call(home, channel)
    call(home, channel)
    assert [runs for _, runs in channel.sent] == [[f"r{number}"] for number in range(5)]
    assert len(Outbox(home.home).all()) <= 3


# A real receiver


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hooked() as found:
        yield found


KILLED = """
import os, signal, sys
import amber.notices.outbox as outbox
from curation.catalog.catalog import Catalog
number, step = 0, sys.argv[2]
real = outbox.send_by
def kill(notices, choice, settings):
    global number
    number += 1
    if number == 3 and step == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(notices, choice, settings)
    if number == 3 and step == "after":
        os.kill(os.getpid(), signal.SIGKILL)
outbox.send(Catalog.open(sys.argv[1]), sending=kill)
"""


@pytest.mark.parametrize(("step", "posts"), [("before", 5), ("after", 6)])
def test_a_killed_process_repeats_at_most_what_it_had_not_recorded(
    step: str, posts: int, home: Catalog, hook: Hook
) -> None:
    choice = choose(home, f"{hook.url}/in")
    block(home, *(f"r{number}" for number in range(5)))
    words = [sys.executable, "-c", KILLED, str(home.home), step]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert send(home).well
    ids = [headers[ID] for _, headers, _ in hook.posts]
    assert (len(ids), len(set(ids))) == (posts, 5)
    assert all(verify_signature(choice.secret, headers[SIGNATURE], body) for _, headers, body in hook.posts)
    assert send(home).tried == ()


def test_the_service_sends_beside_its_work(home: Catalog, hook: Hook) -> None:
    choose(home, f"{hook.url}/in")
    with sending(home.home, every=0.05):
        block(home, "r1")
        deadline = time.monotonic() + 30
        while not hook.posts and time.monotonic() < deadline:
            time.sleep(0.02)
    ((path, _, body),) = hook.posts
    assert (path, json.loads(body)["subject"]) == ("/in", "the gate blocks run r1 in place of run first")


def test_a_test_is_sent_and_not_recorded(home: Catalog, hook: Hook) -> None:
    choice = choose(home, hook.url)
    send_test(home, choice)
    assert json.loads(hook.posts[0][2])["kind"] == "test"
    assert Outbox(home.home).all() == []


def test_mail_goes_by_the_server_of_the_settings(home: Catalog) -> None:
    choose(home, "ann@example.org")
    block(home, "r1")
    assert "no server is named" in call_real(home).failures[0].error
    with mailing() as box:
        text = f'[mail]\nhost = "127.0.0.1"\nport = {box.port}\nsender = "a@b.c"\nencryption = "none"\n'
        (home.home / "notices" / "settings.toml").write_text(text)
        assert call_real(home, 1).well
    ((to, mail),) = box.mails
    assert (to, mail["Subject"]) == (["ann@example.org"], "[amber home] the gate blocks run r1 in place of run first")


def call_real(catalog: Catalog, hours: float = 0.0) -> Sent:
    return send(catalog, at=datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=hours))
