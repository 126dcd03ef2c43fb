"""Findings of a reader: entries that it refuses, and notes about entries that it passed over or changed."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from curation.errors import BadInput

__all__ = ["Aside", "BadEntry", "Findings"]

_ENTRY = re.compile(r"^(.*?) ((?:entry|line|row|image|category|annotation|frame|item|sample|object)\b.*)$")


class BadEntry(BadInput):
    """An entry of a file with a `value` that breaks a `rule`; `fix` says how to correct it."""

    def __init__(self, origin: str, value: str, rule: str, fix: str) -> None:
        super().__init__(f"{origin}: {f'{value} ' if value else ''}{rule}; {fix}")
        self.origin, self.value, self.rule = origin, value, rule


@dataclass(frozen=True, kw_only=True)
class Aside:
    """An entry that was quarantined: its file, the entry (such as "line 3"), its value, and the rule that it breaks.

    `reason` is the whole message.
    """

    file: str
    entry: str
    value: str
    rule: str
    reason: str

    @classmethod
    def of(cls, error: BadInput) -> "Aside":
        """The entry that an error names."""
        if isinstance(error, BadEntry):
            file, entry = _split(error.origin)
            return cls(file=file, entry=entry, value=error.value, rule=error.rule, reason=str(error))
        return cls.read(str(error))

    @classmethod
    def read(cls, message: str) -> "Aside":
        """The entry that a message of the form "FILE ENTRY: RULE; FIX" names.

        >>> Aside.read("t.csv line 3: 'blue' is no class of color; correct it").entry
        'line 3'
        """
        origin, _, rest = message.partition(": ")
        file, entry = _split(origin)
        value = re.match(r"('(?:[^'\\]|\\.)*'|\S+ = (?:'[^']*'|\S+)|boxes|number \S+|classes \[.*?\])", rest)
        return cls(
            file=file, entry=entry, value=value[0] if value else "", rule=rest.rpartition("; ")[0] or rest,
            reason=message,
        )  # fmt: skip

    @property
    def location(self) -> str:
        """File and entry."""
        return f"{self.file} {self.entry}".strip()


class Findings:
    """Entries that a reader refuses, and notes for the user.

    The first refused entry is raised; with `quarantine` each is recorded in `aside`, its origin in
    `origins`, and the reader goes on.
    """

    def __init__(self, *, quarantine: bool = False) -> None:
        self.quarantine = quarantine
        self.aside: list[Aside] = []
        self.notes: list[str] = []
        self.origins: set[str] = set()

    @contextmanager
    def entry(self) -> Iterator[None]:
        """Refuse the entry that the block reads if the block raises BadInput."""
        try:
            yield
        except BadInput as error:
            self.refuse(error)

    def refuse(self, error: BadInput) -> None:
        """Raise `error`, or record the entry that it names."""
        if not self.quarantine:
            raise error
        self.aside.append(Aside.of(error))
        if isinstance(error, BadEntry):
            self.origins.add(error.origin)

    def note(self, text: str) -> None:
        """Add a note, one line; the same note twice is one."""
        if text not in self.notes:
            self.notes.append(text)

    def note_several(self, entries: Sequence[str], text: str) -> None:
        """Add one note about several entries: `text`, with their number and the first of them."""
        if entries:
            more = f" and {len(entries) - 1:,} more" if len(entries) > 1 else ""
            self.note(f"{entries[0]}{more}: {text}")

    def note_missing(self, entry: str, what: str, wanted: Iterable[str], seen: Collection[str]) -> None:
        """Add one note for each of `wanted` (such as fields) that no entry has, with those that were seen."""
        for name in wanted:
            if name not in seen:
                listed = ", ".join(sorted(seen)[:8]) or "none"
                self.note(f"no {entry} has the {what} {name!r}; there are {listed}")

    def note_passed_over(self, where: str, passed: "Counter[str]") -> None:
        """Add one note about files that were passed over, by reason."""
        if passed:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in passed.most_common())
            total = passed.total()
            self.note(f"{where}: passed over {total:,} file{'s' if total > 1 else ''}: {reasons}")


def _split(origin: str) -> tuple[str, str]:
    match = _ENTRY.match(origin)
    return (match[1], match[2]) if match else (origin, "")
