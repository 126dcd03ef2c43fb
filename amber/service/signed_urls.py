"""Signed URLs of images: whoever holds one may read that one image, until it expires.

The URL carries the image's location, so that serving it needs no catalog.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from curation.errors import BadInput
from curation.files.atomic import whole

__all__ = ["SERVICE", "Grant", "Signer", "url_for"]

SERVICE: Final = "http://127.0.0.1:8460"
"""Where `amber serve` is reached unless it is told otherwise."""

WORD: Final = 32
"""Bytes of the secret, and of a signature."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a signed URL allows: the image at `location`, until `expires` (seconds since 1970)."""

    location: str
    expires: int


class Signer:
    """Signs with the secret of one workspace."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, home: Path) -> "Signer":
        """The signer of a workspace, whose secret is made on first use; deleting `service.key` ends every URL."""
        path = home / "service.key"
        if not path.exists():
            with whole(path) as part:
                part.touch(mode=0o600)
                part.write_text(secrets.token_hex(WORD))
        return cls(bytes.fromhex(path.read_text()))

    def sign(self, location: str, *, seconds: float, now: float | None = None) -> str:
        """The last part of a URL that allows the image at `location` for so many `seconds`."""
        expires = int((time.time() if now is None else now) + seconds)
        text = json.dumps([location, expires], separators=(",", ":")).encode()
        return f"{_coded(text)}.{_coded(self._mark(text))}"

    def read(self, word: str, *, now: float | None = None) -> Grant:
        """What a URL's last part allows; BadInput when it was altered, or has expired."""
        body, _, mark = word.partition(".")
        try:
            text = _decoded(body)
            if not hmac.compare_digest(self._mark(text), _decoded(mark)):
                raise ValueError
            location, expires = json.loads(text)
        except (ValueError, binascii.Error, TypeError):
            raise BadInput("image URL: was not signed here; ask for a new one") from None
        if expires < (time.time() if now is None else now):
            raise BadInput("image URL: has expired; ask for a new one")
        return Grant(location=str(location), expires=int(expires))

    def _mark(self, text: bytes) -> bytes:
        return hmac.new(self._secret, text, hashlib.sha256).digest()


def url_for(home: Path, base: str, *, seconds: float) -> Callable[[Mapping[str, Any]], str]:
    """Gives the URL of a sample (a row of `Snapshot.samples`) at the service that runs at `base`."""
    signer, root = Signer.of(home), base.rstrip("/")
    return lambda sample: f"{root}/images/{signer.sign(str(sample['location']), seconds=seconds)}"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
