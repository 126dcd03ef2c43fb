"""Notices as mail, in plain text, by an SMTP server."""

import hashlib
import smtplib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from amber.notices.conversation import Refused
from amber.notices.notice import Notice
from amber.notices.settings import MailServer, Settings
from amber.notices.webhook import ID
from curation.errors import BadInput, Failed
from curation.files.read_back import one_line

__all__ = ["mail_of", "send_mail"]

TIMEOUT: Final = 20.0
"""Seconds for a connection, and for each answer of the server."""
NO_SUCH_ADDRESS: Final = (550, 551, 553)
"""Codes by which a server refuses an address for good (RFC 5321)."""
SUBJECT: Final = 150
"""Letters of a subject."""


def send_mail(notices: Sequence[Notice], to: str, settings: Settings) -> None:
    """Send one mail with these notices (at least one).

    Failed, in one line, where the server cannot be reached, refuses for now, or takes more than 20 s for an answer;
    BadInput where no server is named, or its settings are wrong; Refused where it refuses the address for good.
    """
    server = settings.mail
    if server is None:
        raise BadInput("mail: no server is named; write [mail] with host and sender into notices/settings.toml")
    message, where = mail_of(notices, to, settings), f"mail server {server.at[0]}:{server.at[1]}"
    password = server.password() if server.user else ""
    try:
        _converse(server, password, message)
    except ssl.SSLCertVerificationError as error:
        raise Failed(f"{where}: its certificate is not valid ({error.verify_message}); fix it there") from None
    except smtplib.SMTPAuthenticationError:
        raise BadInput(f"{where}: refuses the user or the password; correct notices/settings.toml") from None
    except smtplib.SMTPNotSupportedError as error:
        raise BadInput(f"{where}: {one_line(error)}; correct `encryption` or `user` in notices/settings.toml") from None
    except smtplib.SMTPRecipientsRefused as error:
        code, text = next(iter(error.recipients.values()))
        line = f"{where}: refuses mail to {to} ({code} {_text(text)})"
        if code in NO_SUCH_ADDRESS:
            raise Refused(f"{line}; choose another address") from None
        raise Failed(f"{line}; see why there, it is tried again") from None
    except smtplib.SMTPResponseException as error:
        line = f"{where}: refuses mail of {server.sender} ({error.smtp_code} {_text(error.smtp_error)})"
        raise Failed(f"{line}; see why there, it is tried again") from None
    except TimeoutError:
        raise Failed(f"{where}: did not answer within {TIMEOUT:g} s; see whether it is up") from None
    except (OSError, smtplib.SMTPException) as error:
        raise Failed(f"{where}: cannot be reached ({one_line(error)}); see whether it is up") from None


def mail_of(notices: Sequence[Notice], to: str, settings: Settings) -> EmailMessage:
    """The mail: one line of subject, a paragraph for each notice, and in the headers the id of each.

    The same notices to the same address give the same Message-ID, by which servers drop a repeated mail.
    """
    assert settings.mail is not None
    first, more = notices[0].subject, f" and {len(notices) - 1} more" if len(notices) > 1 else ""
    line = " ".join(f"[amber {settings.name}] {first}{more}".split())
    names = hashlib.sha256(" ".join([to, *(notice.id for notice in notices)]).encode()).hexdigest()[:32]
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = line if len(line) <= SUBJECT else line[: SUBJECT - 3] + "..."
    mail["From"], mail["To"] = settings.mail.sender, to
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{names}@{settings.mail.sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    for notice in notices:
        mail[ID] = notice.id
    mail.set_content("\n\n".join(_paragraph(notice, settings) for notice in notices) + FOOT)
    return mail


FOOT: Final = "\n\n-- \nYou chose these notices; `amber notices choices` lists what you chose, and `drop` ends it.\n"


def _paragraph(notice: Notice, settings: Settings) -> str:
    at = f"{notice.at:%Y-%m-%d %H:%M} UTC, commit {notice.commit}"
    lines = [notice.subject, notice.text, at, notice.command and f"  {notice.command}", settings.link_to(notice.link)]
    return "\n".join(line for line in lines if line)


def _converse(server: MailServer, password: str, message: EmailMessage) -> None:
    context = ssl.create_default_context()
    client = (
        smtplib.SMTP_SSL(*server.at, timeout=TIMEOUT, context=context) if server.encryption == "tls"
        else smtplib.SMTP(*server.at, timeout=TIMEOUT)
    )  # fmt: skip
    try:
        if server.encryption == "starttls":
            client.starttls(context=context)
        if server.user:
            client.login(server.user, password)
        client.send_message(message)
    finally:
        with suppress(OSError, smtplib.SMTPException):  # what was accepted is sent, whatever comes of the good-bye
            client.quit()
        client.close()


def _text(answer: bytes | str) -> str:
    """What a server answered, as one short line."""
    return one_line(ValueError(answer.decode(errors="replace") if isinstance(answer, bytes) else answer))
