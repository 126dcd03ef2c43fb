"""One notice: something that happened at a commit, and whom it concerns."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from curation.catalog.snapshot import Snapshot

__all__ = ["KINDS", "TEST", "Notice", "Team"]

KINDS: Final = ("regressed", "share", "blocked", "waiting", "dry")
"""A run is worse on a slice; a plan gives a task less; a gate blocks; a sign-off waits; nobody is asked for labels."""

TEST: Final = "test"
"""The kind of a notice that is only sent to try a channel."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What happened at a `commit`, at the time `at` (UTC).

    `subject` is one line that no other notice of its kind and commit has, `text` says more, `command` shows it in a
    terminal, and `link` is its path on the pages, such as "runs/3f2a". It concerns `tasks` (none: the whole team),
    their `owners`, and the `persons` who are members of these, such as "user:ann".
    """

    kind: str
    subject: str
    text: str
    link: str
    command: str
    commit: int
    at: datetime
    tasks: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """32 hex digits of kind, subject and commit.

        >>> happened = {"text": "", "link": "", "command": "", "at": datetime(2026, 11, 30)}
        >>> Notice(kind="dry", subject="no open request of color", commit=7, **happened).id
        '1bcc2ee897e16afafc21e6e8f1191dd0'
        """
        return hashlib.sha256("\n".join((self.kind, self.subject, str(self.commit))).encode()).hexdigest()[:32]

    def as_json(self) -> dict[str, Any]:
        """The notice as plain values, with its id."""
        return {"id": self.id, **vars(self), "at": self.at.isoformat()}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Self:
        """The notice that `as_json` wrote."""
        lists = {name: tuple(data[name]) for name in ("tasks", "owners", "persons")}
        values = {name: value for name, value in data.items() if name != "id"}
        return cls(**{**values, **lists, "at": datetime.fromisoformat(data["at"])})


@dataclass(frozen=True, kw_only=True)
class Team:
    """The owner of each task, and the members of each owner."""

    owner_of: Mapping[str, str]
    members: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, now: Snapshot) -> Self:
        """The team at one commit."""
        members = {owner: tuple(map(str, each)) for owner, each in now.ownership.members().items()}
        return cls(owner_of={name: task.owner for name, task in now.tasks().items()}, members=members)

    def concerned(self, tasks: Iterable[str], owners: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
        """The fields `tasks`, `owners` (of these tasks, and `owners`) and `persons` of a notice."""
        tasks = tuple(dict.fromkeys(tasks))
        found = tuple(dict.fromkeys([*owners, *(self.owner_of[name] for name in tasks if name in self.owner_of)]))
        persons = dict.fromkeys(person for owner in found for person in self.members.get(owner, ()))
        return {"tasks": tasks, "owners": found, "persons": tuple(persons)}
