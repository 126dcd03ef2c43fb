"""What each person wants to know, and where it is sent: `notices/choices.json`, with mode 0600.

Addresses are personal data, and the URL of a chat's webhook lets its holder write there. So choices are a file and not
events of the ledger, which forgets nothing: a removed choice is gone. Backups leave it out, with its secrets.
"""

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from amber.notices.notice import KINDS, Notice
from amber.service.secret_files import write_secret
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from curation.files.locks import locked
from curation.files.read_back import read_json

__all__ = ["CHANNELS", "FOLDER", "Channel", "Choice", "Choices"]

Channel = Literal["webhook", "mail"]
CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)

FOLDER: Final = "notices"
"""The folder in a workspace."""

LONGEST: Final = 2_000
"""Letters of a URL."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one person chose: notices of `kinds` go to `target`, a URL or an address, by its `channel`.

    `tasks` and `owners` limit them to notices that concern one of these (none: all); `mine` to those that concern an
    owner that the person is a member of. A notice that names no task concerns the whole team. Only what happens since
    it was `made` is sent (UTC; the newest commit was `commit`). `secret` signs what is posted ("" for mail).
    """

    id: str
    person: str
    channel: Channel
    target: str
    made: datetime
    commit: int
    kinds: tuple[str, ...] = KINDS
    tasks: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    mine: bool = False
    secret: str = ""

    def wants(self, notice: Notice) -> bool:
        """Whether the person chose to be sent this notice."""
        if notice.kind not in self.kinds or notice.at < self.made:
            return False
        if self.mine and self.person not in notice.persons:
            return False
        everybody = not notice.tasks and not notice.owners
        near = [(self.tasks, notice.tasks), (self.owners, notice.owners)]
        return everybody or all(not wanted or bool(set(wanted) & set(found)) for wanted, found in near)


class Choices:
    """The choices of a workspace's people."""

    def __init__(self, home: Path) -> None:
        self._path = home / FOLDER / "choices.json"

    def all(self, person: str | None = None) -> list[Choice]:
        """All choices, oldest first, or those of one person, such as "user:ann"."""
        if not self._path.is_file():
            return []
        found = read_json(self._path, "remove it, and choose again", lambda rows: [_choice(row) for row in rows])
        return [choice for choice in found if person in (None, choice.person)]

    def add(
        self, now: Snapshot, person: str, channel: Channel, target: str, *, kinds: Collection[str] = KINDS,
        tasks: Collection[str] = (), owners: Collection[str] = (), mine: bool = False,
    ) -> Choice:  # fmt: skip
        """Add what a person chooses, and return it with its new secret.

        The same person and target again replace the earlier choice, which keeps its id, secret and start. BadInput for
        a person that is neither user:NAME nor token:NAME, an unknown kind or owner, and a target that nothing can be
        sent to; NotFound for an unknown task.
        """
        if channel not in CHANNELS:
            raise BadInput(f"channel {channel!r}: must be one of {', '.join(CHANNELS)}; correct it")
        person = str(Identity.parse(person))
        target = (_url if channel == "webhook" else _address)(target)
        _check(now, kinds, tasks, owners)
        fresh = secrets.token_urlsafe(32) if channel == "webhook" else ""
        with self._alone():
            known = self.all()
            same = next((each for each in known if (each.person, each.target) == (person, target)), None)
            made = Choice(
                id=same.id if same else secrets.token_hex(4), person=person, channel=channel, target=target,
                made=same.made if same else datetime.now(UTC).replace(tzinfo=None),
                commit=same.commit if same else now.commit, secret=same.secret if same else fresh, mine=mine,
                kinds=tuple(kind for kind in KINDS if kind in kinds), tasks=tuple(tasks), owners=tuple(owners),
            )  # fmt: skip
            self._write([*(each for each in known if each is not same), made])
        return made

    def remove(self, person: str, id_: str) -> Choice:
        """End a choice of a person; NotFound where the person has none with this id."""
        with self._alone():
            known = self.all()
            found = next((each for each in known if (each.person, each.id) == (person, id_)), None)
            if found is None:
                raise NotFound(f"choice {id_!r}: {person} has no such choice; `amber notices choices` lists them")
            self._write([each for each in known if each is not found])
        return found

    def _alone(self) -> Any:
        self._path.parent.mkdir(exist_ok=True)
        busy = f"{self._path}: {{}} writes it; run the same again"
        return locked(self._path.with_name("choices.lock"), busy.format, patience=10)

    def _write(self, choices: Collection[Choice]) -> None:
        rows = [{**vars(each), "made": each.made.isoformat()} for each in choices]
        write_secret(self._path, json.dumps(rows, indent=1))


def _choice(row: dict[str, Any]) -> Choice:
    lists = {name: tuple(row[name]) for name in ("kinds", "tasks", "owners")}
    return Choice(**{**row, **lists, "made": datetime.fromisoformat(row["made"])})


def _check(now: Snapshot, kinds: Collection[str], tasks: Collection[str], owners: Collection[str]) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise BadInput(f"kind {kind!r}: must be one of {', '.join(KINDS)}; correct it")
    if not kinds:
        raise BadInput(f"kinds: none is named; name some of {', '.join(KINDS)}")
    for name in tasks:
        now.task(name)
    known = {*now.ownership.members(), *(task.owner for task in now.tasks().values())}
    for owner in owners:
        if owner not in known:
            raise BadInput(f"owner {owner!r}: owns no task; owners are {', '.join(sorted(known)) or 'not set'}")


def _url(text: str) -> str:
    """A URL that can be posted to. Addresses of the own network are allowed: a company's receivers are there."""
    rule = "must be http://HOST/PATH or https://HOST/PATH, without a name, a password or a #; correct it"
    wrong = BadInput(f"webhook {text[:80]!r}: {rule}")
    if len(text) > LONGEST or not text.isascii() or not re.fullmatch(r"[!-~]+", text):
        raise wrong
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise wrong
    return text


def _address(text: str) -> str:
    """One address in ASCII, such as ann@example.org."""
    wrong = BadInput(f"address {text[:80]!r}: must be one address in ASCII, such as ann@example.org; correct it")
    if not text.isascii() or not re.fullmatch(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]{1,255}", text):
        raise wrong
    try:
        found = Address(addr_spec=text)
    except (ValueError, IndexError):
        raise wrong from None
    if found.addr_spec != text:
        raise wrong
    return text
