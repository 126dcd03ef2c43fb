"""Signed URLs of images: whoever holds one may read that image until it expires.

The URL carries the image's location, so that serving it needs no catalog. Deleting `service.key` ends every URL at
once, in a running service too.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amber.service.secret_files import write_secret
from curation.errors import BadInput, Damaged

__all__ = ["SERVICE", "Grant", "Signer", "url_for"]

SERVICE: Final = "http://127.0.0.1:8460"
"""The default address of `amber serve`."""

KEY_BYTES: Final = 32
"""Bytes of the secret key, and of a signature."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a signed URL allows: the image at `location`, until `expires` (seconds since 1970)."""

    location: str
    expires: int


class Signer:
    """Signs with the secret key in the file `path`: 64 hexadecimal digits. The key is created when it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0, 0)
        self._key = b""

    @classmethod
    def of(cls, home: Path) -> "Signer":
        """The signer of a workspace, with the key in its `service.key`."""
        signer = cls(home / "service.key")
        signer.secret()
        return signer

    def secret(self) -> bytes:
        """The key, read again whenever its file changes; Damaged unless it is 32 bytes."""
        try:
            facts = self._path.stat()
        except FileNotFoundError:
            write_secret(self._path, secrets.token_hex(KEY_BYTES))
            facts = self._path.stat()
        if (stamp := (facts.st_mtime_ns, facts.st_size, facts.st_ino)) != self._stamp:
            self._key, self._stamp = _read_key(self._path), stamp
        return self._key

    def seal(self, purpose: str, value: Any) -> str:
        """A word that holds `value` (as JSON) for `purpose`: readable, and refused by `unseal` when it was altered."""
        return self._word(json.dumps(value, separators=(",", ":")).encode(), f"{purpose} ")

    def unseal(self, purpose: str, word: str) -> Any:
        """What `seal` put into a word for the same purpose; ValueError for any other word."""
        return json.loads(self._text(word, f"{purpose} "))

    def sign(self, location: str, *, seconds: float, now: float | None = None) -> str:
        """The last part of a URL that allows the image at `location` for so many `seconds`."""
        expires = int((time.time() if now is None else now) + seconds)
        return self._word(json.dumps([location, expires], separators=(",", ":")).encode())

    def read(self, word: str, *, now: float | None = None) -> Grant:
        """What the last part of a URL allows; BadInput when it was altered or has expired."""
        try:
            location, expires = json.loads(self._text(word))
        except (ValueError, TypeError):
            raise BadInput("image URL: was not signed here; request a new one") from None
        if expires < (time.time() if now is None else now):
            raise BadInput("image URL: has expired; request a new one")
        return Grant(location=str(location), expires=int(expires))

    def _word(self, text: bytes, prefix: str = "") -> str:
        return f"{_coded(text)}.{_coded(self._signature(prefix.encode() + text))}"

    def _text(self, word: str, prefix: str = "") -> bytes:
        """The text of a word; ValueError unless it was signed with the same prefix."""
        body, _, signature = word.partition(".")
        text = _decoded(body)
        if not hmac.compare_digest(self._signature(prefix.encode() + text), _decoded(signature)):
            raise ValueError("was not signed here")
        return text

    def _signature(self, text: bytes) -> bytes:
        return hmac.new(self.secret(), text, hashlib.sha256).digest()


def url_for(home: Path, base: str, *, seconds: float) -> Callable[[Mapping[str, Any]], str]:
    """A function from a sample (a row of `Snapshot.samples`) to its image's URL at the service with address `base`."""
    signer, root = Signer.of(home), base.rstrip("/")
    return lambda sample: f"{root}/images/{signer.sign(str(sample['location']), seconds=seconds)}"


def _read_key(path: Path) -> bytes:
    text = path.read_text(errors="replace").strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise Damaged(f"{path}: must hold {2 * KEY_BYTES} hexadecimal digits; delete it, which ends every image URL")
    return key


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _coded(data) != text:  # another word for the same bytes
        raise ValueError("is not written as it was signed")
    return data
