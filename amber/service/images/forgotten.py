"""Locations that the service refuses because `amber forget` removed their images.

`amber forget` leaves the user's own image file in place, and a signed URL from before carries its location. So the
workspace keeps a keyed hash of each forgotten location in `service.forgotten`: a location cannot be read back from it.
"""

import hashlib
import hmac
from pathlib import Path

from amber.service.images.signed_urls import Signer
from amber.service.secret_files import write_secret

__all__ = ["Forgotten"]


class Forgotten:
    """The forgotten locations of one workspace, read again whenever their file changes."""

    def __init__(self, home: Path, signer: Signer) -> None:
        self._path = home / "service.forgotten"
        self._signer = signer
        self._stamp = (0, 0)
        self._marks: frozenset[str] = frozenset()

    def add(self, location: str) -> None:
        """Refuse `location` from now on, in running services too."""
        marks = sorted({*self._read(), self._mark(location)})
        write_secret(self._path, "".join(f"{mark}\n" for mark in marks))

    def holds(self, location: str) -> bool:
        """Whether `location` was forgotten."""
        marks = self._read()
        return bool(marks) and self._mark(location) in marks

    def _read(self) -> frozenset[str]:
        try:
            facts = self._path.stat()
        except FileNotFoundError:
            return frozenset()
        if (stamp := (facts.st_mtime_ns, facts.st_ino)) != self._stamp:
            self._marks, self._stamp = frozenset(self._path.read_text().split()), stamp
        return self._marks

    def _mark(self, location: str) -> str:
        return hmac.new(self._signer.secret(), b"forgotten " + location.encode(), hashlib.sha256).hexdigest()
