"""Webhooks and mail on real servers of this machine: what arrives, how it is signed, what is refused in one line."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.receivers import Hook, Mailbox, certificate, hooked, mailing
from support.served import free_port

from amber.notices import webhook
from amber.notices.choices import FOLDER
from amber.notices.conversation import Refused
from amber.notices.mail import mail_of, send_mail
from amber.notices.notice import Notice
from amber.notices.settings import Settings
from amber.notices.webhook import ID, SIGNATURE, post, signature_of, verify_signature
from curation.errors import AmberError, BadInput, Failed

SECRET, PLAIN = "of-ann", Settings(name="home")


def notice(number: int = 0, text: str = "yellow: -9.1 points") -> Notice:
    return Notice(
        kind="regressed", subject=f"color got worse in run {number}", text=text, link="runs/3f2a", commit=7,
        command="amber compare a b", at=datetime(2026, 11, 30), tasks=("color",), owners=("ada",), persons=("user:a",),
    )  # fmt: skip


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hooked() as found:
        yield found


def settings(box: Mailbox, **more: str) -> Settings:
    words = {"host": "127.0.0.1", "port": box.port, "sender": "amber@example.org", "encryption": "none", **more}
    return loaded("[mail]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in words.items()))


def loaded(text: str) -> Settings:
    with TemporaryDirectory() as name:
        folder = Path(name) / "home" / FOLDER
        folder.mkdir(parents=True)
        (folder / "settings.toml").write_text(text)
        return Settings.load(folder.parent)


# Webhooks


def test_a_notice_arrives_signed(hook: Hook) -> None:
    post(notice(), f"{hook.url}/in?team=a", SECRET, loaded('pages = "https://amber.example/"'))
    ((path, headers, body),) = hook.posts
    assert path == "/in?team=a"
    assert verify_signature(SECRET, headers[SIGNATURE], body)
    assert not verify_signature("of-bob", headers[SIGNATURE], body)
    data = json.loads(body)
    assert headers[ID] == data["id"] == notice().id
    assert (
        Notice.of_json({name: data[name] for name in notice().as_json() if name != "link"} | {"link": "runs/3f2a"})
        == notice()
    )
    assert (data["link"], data["workspace"]) == ("https://amber.example/runs/3f2a", "home")


@pytest.mark.parametrize(
    "header",
    ["", "t=,v1=", "v1=0", "t=x,v1=0", "t=10", "t=10,t=10,v1={mac}", "t=11,v1={mac}", "t=10,v0={mac}", "t=10,v1={mac}0",
     "t=10,v1=é", "t=²,v1={mac}", "t=-10,v1={mac}", f"t={'9' * 400},v1={{mac}}"],
)  # fmt: skip
def test_no_other_header_is_a_signature(header: str) -> None:
    mac = signature_of(SECRET, b"{}", at=10).partition("v1=")[2]
    assert verify_signature(SECRET, f"t=10, v1=0,v1={mac}", b"{}", at=10)  # a secret that is replaced signs twice
    assert not verify_signature(SECRET, header.format(mac=mac), b"{}", at=10)


@pytest.mark.parametrize("late", [-301, 301])
def test_an_old_signature_does_not_count(late: int) -> None:
    header = signature_of(SECRET, b"{}", at=1_000)
    assert not verify_signature(SECRET, header, b"{}", at=1_000 + late)
    assert verify_signature(SECRET, header, b"{}", at=1_000 + late, tolerance=400)


@pytest.mark.parametrize(("status", "error", "words"), [
    (301, Failed, "answers 301 (redirects are not followed)"), (307, Failed, "redirects"), (404, Failed, "answers 404"),
    (500, Failed, "answers 500"), (410, Refused, "gone for good"), (429, Failed, "answers 429"),
])  # fmt: skip
def test_an_answer_that_is_no_success_is_one_line(hook: Hook, status: int, error: type[AmberError], words: str) -> None:
    hook.answers = [status]
    with pytest.raises(error) as caught:
        post(notice(), f"{hook.url}/secret-path", SECRET, PLAIN)
    assert words in str(caught.value)
    assert "secret-path" not in str(caught.value)
    assert len(hook.posts) == 1


def test_a_server_that_sends_byte_by_byte_is_cut(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "LONGEST", 0.5)
    hook.delay = 0.05
    began = time.monotonic()
    with pytest.raises(Failed, match="cannot be reached"):
        post(notice(), hook.url, SECRET, PLAIN)
    assert time.monotonic() - began < 3


def test_a_server_that_is_silent_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.2)
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
        pytest.raises(Failed, match=r"not answer within 0.2"),
    ):
        post(notice(), f"http://127.0.0.1:{silent.getsockname()[1]}", SECRET, PLAIN)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there(host: str) -> None:
    with pytest.raises(Failed, match="cannot be reached") as caught:
        post(notice(), f"http://{host}:{free_port()}", SECRET, PLAIN)
    assert len(str(caught.value).splitlines()) == 1


def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, trusted = certificate(tmp_path)
    with hooked(context) as hook:
        with pytest.raises(Failed, match="certificate is not valid"):
            post(notice(), hook.url, SECRET, PLAIN)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        post(notice(), hook.url, SECRET, PLAIN)
    assert len(hook.posts) == 1


# Mail


def test_mail_arrives_with_one_line_of_subject_and_the_ids() -> None:
    with mailing() as box:
        send_mail([notice(1), notice(2)], "ann@example.org", settings(box))
    ((to, mail),) = box.mails
    assert to == ["ann@example.org"]
    assert mail["Subject"] == "[amber home] color got worse in run 1 and 1 more"
    assert mail.get_all(ID) == [notice(1).id, notice(2).id]
    text = mail.get_content().replace("\r\n", "\n")  # type: ignore[attr-defined]
    assert (
        "color got worse in run 2\nyellow: -9.1 points\n2026-11-30 00:00 UTC, commit 7\n  amber compare a b\n" in text
    )
    assert mail.get_content_type() == "text/plain"


def test_the_same_mail_has_the_same_message_id() -> None:
    found = [mail_of(notices, to, settings(Mailbox()))["Message-ID"] for notices, to in (
        ([notice(1)], "a@b.c"), ([notice(1)], "a@b.c"), ([notice(2)], "a@b.c"), ([notice(1)], "b@b.c"),
    )]  # fmt: skip
    assert (found[0] == found[1], len(set(found))) == (True, 3)


def test_nothing_in_a_notice_becomes_a_header() -> None:
    evil = Notice(
        **{**vars(notice()), "subject": "x\r\nBcc: eve@example.org\r\n\r\nbody", "text": "a\r\n.\r\nQUIT\r\n"}
    )
    with mailing() as box:
        send_mail([evil], "ann@example.org", settings(box))
    ((to, mail),) = box.mails
    assert (to, mail["Bcc"]) == (["ann@example.org"], None)
    assert mail["Subject"] == "[amber home] x Bcc: eve@example.org body"
    assert "QUIT" in mail.get_content()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("answer", "error"), [("550 no such user", Refused), ("451 try later", Failed)])
def test_an_address_that_the_server_refuses(answer: str, error: type[AmberError]) -> None:
    with mailing() as box:
        box.refusals = [answer]
        with pytest.raises(error, match=rf"refuses mail to ann@example.org.*\({answer}\)"):
            send_mail([notice()], "ann@example.org", settings(box))
    assert box.mails == []


@pytest.mark.parametrize("starttls", [True, False])
def test_encryption_a_password_and_the_certificate(
    starttls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = certificate(tmp_path)
    kind = "starttls" if starttls else "tls"
    with mailing(context, starttls=starttls, password="right") as box:
        monkeypatch.setenv("MAIL_PASSWORD", "right")
        known = {"encryption": kind, "user": "amber", "password_env": "MAIL_PASSWORD"}
        with pytest.raises(Failed, match="certificate is not valid"):
            send_mail([notice()], "ann@example.org", settings(box, **known))
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        send_mail([notice()], "ann@example.org", settings(box, **known))
        monkeypatch.setenv("MAIL_PASSWORD", "wrong")
        with pytest.raises(BadInput, match="refuses the user or the password"):
            send_mail([notice()], "ann@example.org", settings(box, **known))
        monkeypatch.delenv("MAIL_PASSWORD")
        with pytest.raises(BadInput, match="variable MAIL_PASSWORD holds no password"):
            send_mail([notice()], "ann@example.org", settings(box, **known))
    assert len(box.mails) == 1


def test_a_server_without_starttls_gets_nothing() -> None:
    with mailing() as box, pytest.raises(BadInput, match="STARTTLS"):
        send_mail([notice()], "ann@example.org", settings(box, encryption="starttls"))
    assert box.mails == []


def test_no_mail_server_or_none_that_answers() -> None:
    with pytest.raises(BadInput, match="no server is named"):
        send_mail([notice()], "ann@example.org", PLAIN)
    with pytest.raises(Failed, match="cannot be reached"):
        send_mail([notice()], "ann@example.org", settings(Mailbox(port=free_port())))


MAIL = '[mail]\nhost = "h"\nsender = "a@b.c"\n'


USER = MAIL + "user = 'a'\n"


@pytest.mark.parametrize(("text", "words"), [
    ("x = [", "not valid TOML"), ("mial = 1", "mial"), ("pages = 'ftp://x'", "pages"), ('name = "a\\nb"', "name"),
    ("[mail]", "host is missing"), (MAIL + "port = 70000", "mail.port"), (MAIL + "encryption = 'ssl'", "encryption"),
    (USER, "go together"), (MAIL + "password_env = 'A'", "go together"),
    (USER + "password_env = 'A'\npassword_file = 'b'", "keep one"),
    (USER + "password_env = 'A'\nencryption = 'none'", "in clear"), (MAIL.replace('"h"', '""'), "host"),
    (MAIL.replace("a@b.c", "Ann <a@b.c>"), "sender"), (MAIL.replace("a@b.c", "a@b.c\\nBcc: e@x.y"), "sender"),
])  # fmt: skip
def test_settings_that_break_a_rule(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        loaded(text)
    assert len(str(caught.value).splitlines()) == 1


def test_a_password_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("right\n")
    found = loaded(MAIL + f"user = 'a'\npassword_file = '{tmp_path / 'password'}'").mail
    assert found is not None
    assert (found.password(), found.at) == ("right", ("h", 587))
    (tmp_path / "password").unlink()
    with pytest.raises(BadInput, match="holds no password"):
        found.password()
