"""Tokens of the service: each has a scope, and only its hash is kept."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args

from curation.errors import BadInput, NotFound
from curation.files.atomic import whole

__all__ = ["SCOPES", "Scope", "Token", "Tokens"]

Scope = Literal["read", "label", "admin"]
"""What a token may do: read what is known; ask for labels and give one's own; say how the service does, and bring in
labels of others."""

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token as it is kept: its name, scope, the sha256 of its secret, and when it was made and ends (ISO, UTC)."""

    name: str
    scope: Scope
    sha256: str
    made: str
    expires: str = ""

    @property
    def valid(self) -> bool:
        """Whether it holds now."""
        return not self.expires or datetime.now(UTC).isoformat() < self.expires


class Tokens:
    """The tokens of one workspace, in `service.json`, which only its owner reads."""

    def __init__(self, home: Path) -> None:
        self._path = home / "service.json"
        self._seen = (0, 0)
        self._known: dict[str, Token] = {}

    def all(self) -> dict[str, Token]:
        """Tokens by name, read anew when the file has changed."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        if (stamp := (status.st_mtime_ns, status.st_size)) != self._seen:
            rows = json.loads(self._path.read_text())
            self._known, self._seen = {row["name"]: Token(**row) for row in rows}, stamp
        return self._known

    def add(self, name: str, scope: Scope, *, expires: str = "") -> str:
        """Make a token; returns its secret, which nobody can find out later. BadInput when the name is taken, or no
        line: its owner's labels bear it."""
        known = self.all()
        if not name.strip() or not name.isprintable() or name in known:
            raise BadInput(f"token {name!r}: the name is taken, or is no line of text; choose another")
        if scope not in SCOPES:
            raise BadInput(f"scope {scope!r}: must be one of {', '.join(SCOPES)}; correct it")
        secret = f"amber_{secrets.token_urlsafe(32)}"
        made = datetime.now(UTC).isoformat(timespec="seconds")
        self._write({**known, name: Token(name=name, scope=scope, sha256=_hash(secret), made=made, expires=expires)})
        return secret

    def remove(self, name: str) -> None:
        """End a token; NotFound when there is none of that name."""
        known = dict(self.all())
        if name not in known:
            raise NotFound(f"token {name!r}: there is none; `amber serve tokens` lists them")
        del known[name]
        self._write(known)

    def holder(self, secret: str) -> Token | None:
        """The token with this secret, if it holds; every one is compared, so that time tells nothing."""
        asked = _hash(secret)
        found = [token for token in self.all().values() if hmac.compare_digest(token.sha256, asked)]
        return found[0] if found and found[0].valid else None

    def _write(self, known: Mapping[str, Token]) -> None:
        with whole(self._path) as part:
            part.touch(mode=0o600)
            part.write_text(json.dumps([asdict(token) for token in known.values()], indent=1))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
