"""Signed webhooks: a notice is posted as JSON, with a signature by which the receiver knows who sent it, and when."""

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import time
from typing import Any, Final
from urllib.parse import urlsplit

from amber.notices.conversation import Refused, cut_after
from amber.notices.notice import Notice
from amber.notices.settings import Settings
from curation.errors import Failed
from curation.files.read_back import one_line

__all__ = ["ID", "SIGNATURE", "post", "signature_of", "verify_signature"]

SIGNATURE: Final = "Amber-Signature"
ID: Final = "Amber-Notice"
"""Header with the id of a notice: the same one, if it is posted again, by which a receiver drops repeats."""

TIMEOUT: Final = 10.0
"""Seconds for a connection, and for each read of the answer."""
LONGEST: Final = 30.0
"""Seconds for all of it."""
GONE: Final = 410


def verify_signature(
    secret: str, header: str, body: bytes, *, tolerance: float = 300.0, at: float | None = None
) -> bool:
    """Whether `header` is the signature of `body` by who knows `secret`, not older or newer than `tolerance` seconds.

    `header` is what came as Amber-Signature, `body` the bytes as they came, and `at` the time (seconds since 1970;
    default: now). A receiver also drops ids (Amber-Notice) that it has seen.

    >>> body = b'{"kind": "dry"}'
    >>> header = signature_of("secret", body, at=1_000)
    >>> header
    't=1000,v1=47ff4e550a5395771e4c8374dedf7cbaec57ca67605d856479e6ffc0f6af916b'
    >>> verify_signature("secret", header, body, at=1_010)
    True
    >>> verify_signature("secret", header, body + b" ", at=1_010), verify_signature("secret", header, body, at=9_999)
    (False, False)
    """
    parts = [part.strip().partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in parts if name == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) <= 15):
        return False
    if abs((time.time() if at is None else at) - int(times[0])) > tolerance:
        return False
    expected = _mac(secret, times[0], body).encode()
    given = [value.encode("utf-8", "replace") for name, value in parts if name == "v1"]
    return sum(hmac.compare_digest(expected, each) for each in given) > 0


def signature_of(secret: str, body: bytes, *, at: float) -> str:
    """The header for a body sent at a time: "t=SECONDS,v1=" and the HMAC-SHA256 of "SECONDS." and the body, in hex."""
    seconds = str(int(at))
    return f"t={seconds},v1={_mac(secret, seconds, body)}"


def post(notice: Notice, url: str, secret: str, settings: Settings) -> None:
    """Post a notice. An answer from 200 to 299 ends it well; redirects are not followed.

    Failed, in one line, where the server cannot be reached, answers otherwise, or takes more than 30 s; Refused where
    it answers that it is gone for good (410). A URL is shown without its path, which may be secret.
    """
    body = json.dumps(_payload(notice, settings), sort_keys=True).encode()
    headers = {
        "Content-Type": "application/json", "User-Agent": "amber", ID: notice.id, "Connection": "close",
        SIGNATURE: signature_of(secret, body, at=time.time()),
    }  # fmt: skip
    parts = urlsplit(url)
    where = f"webhook {parts.scheme}://{parts.netloc}"
    host = str(parts.hostname)
    connection = (
        http.client.HTTPSConnection(host, parts.port or 443, timeout=TIMEOUT, context=ssl.create_default_context())
        if parts.scheme == "https" else http.client.HTTPConnection(host, parts.port or 80, timeout=TIMEOUT)
    )  # fmt: skip
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    status = _status(connection, path, body, headers, where)
    if status == GONE:
        raise Refused(f"{where}: answers 410, it is gone for good; choose another receiver")
    if not 200 <= status < 300:
        hint = " (redirects are not followed)" if 300 <= status < 400 else ""
        raise Failed(f"{where}: answers {status}{hint}; see why there, it is tried again")


def _payload(notice: Notice, settings: Settings) -> dict[str, Any]:
    words = {**notice.as_json(), "workspace": settings.name, "link": settings.link_to(notice.link) or notice.link}
    return {**words, "version": 1}


def _status(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str], where: str) -> int:
    """The status of the answer; its text is not read."""
    try:
        with cut_after(LONGEST, lambda: connection.sock):
            connection.request("POST", path, body, headers)
            return connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        raise Failed(f"{where}: its certificate is not valid ({error.verify_message}); fix it there") from None
    except TimeoutError:
        raise Failed(f"{where}: did not answer within {TIMEOUT:g} s; see whether it is up") from None
    except (OSError, http.client.HTTPException) as error:
        why = error.strerror if isinstance(error, socket.gaierror) and error.strerror else one_line(error)
        raise Failed(f"{where}: cannot be reached ({why}); see whether it is up") from None
    finally:
        connection.close()


def _mac(secret: str, seconds: str, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
