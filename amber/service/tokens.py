"""Tokens of the service: each has a scope, and only the hash of its secret is stored."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args

from amber.service.secret_files import write_secret
from curation.errors import BadInput, NotFound
from curation.files.read_back import read_json

__all__ = ["SCOPES", "Scope", "Token", "Tokens"]

Scope = Literal["read", "label", "owner", "admin"]
"""read: read the catalog. label: request labels and give one's own. owner: both, and act for the owners of whom the
token is a member (`amber owners`). admin: read metrics, give labels of others, and in the pages lead people, revert and
release. Every token may look at the pages."""

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@dataclass(frozen=True, kw_only=True)
class Token:
    """A stored token: name, scope, SHA-256 of its secret, creation time and end (ISO 8601, UTC; "" for never)."""

    name: str
    scope: Scope
    sha256: str
    made: str
    expires: str = ""

    @property
    def valid(self) -> bool:
        """Whether it has not expired."""
        return not self.expires or datetime.now(UTC).isoformat() < self.expires


class Tokens:
    """The tokens of one workspace, in its `service.json` (mode 0600)."""

    def __init__(self, home: Path) -> None:
        self._path = home / "service.json"
        self._seen = (0, 0)
        self._known: dict[str, Token] = {}

    def all(self) -> dict[str, Token]:
        """Tokens by name; the file is read again when it has changed."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        if (stamp := (status.st_mtime_ns, status.st_size)) != self._seen:
            fix = "remove it and make the tokens again"
            self._known = read_json(self._path, fix, lambda rows: {row["name"]: Token(**row) for row in rows})
            self._seen = stamp
        return self._known

    def add(self, name: str, scope: Scope, *, expires: str = "") -> str:
        """Create a token and return its secret, which is stored nowhere.

        BadInput when the name is taken or not one printable line: labels carry it as their annotator.
        """
        known = self.all()
        if not name.strip() or not name.isprintable() or name in known:
            raise BadInput(f"token {name!r}: must be one line of text that no other token has; choose another")
        if scope not in SCOPES:
            raise BadInput(f"scope {scope!r}: must be one of {', '.join(SCOPES)}; correct it")
        secret = f"amber_{secrets.token_urlsafe(32)}"
        made = datetime.now(UTC).isoformat(timespec="seconds")
        self._write({**known, name: Token(name=name, scope=scope, sha256=_hash(secret), made=made, expires=expires)})
        return secret

    def remove(self, name: str) -> None:
        """End a token; NotFound when no token has that name."""
        known = dict(self.all())
        if name not in known:
            raise NotFound(f"token {name!r}: no such token; `amber serve tokens` lists them")
        del known[name]
        self._write(known)

    def holder(self, secret: str) -> Token | None:
        """The valid token with this secret. All are compared, in constant time, so timing reveals nothing."""
        asked = _hash(secret)
        found = [token for token in self.all().values() if hmac.compare_digest(token.sha256, asked)]
        return found[0] if found and found[0].valid else None

    def _write(self, known: Mapping[str, Token]) -> None:
        write_secret(self._path, json.dumps([asdict(token) for token in known.values()], indent=1))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
