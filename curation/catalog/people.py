"""People who label: the instructions that they get, the tasks whose items they are given, and who left."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from curation.catalog.acts import add_act
from curation.catalog.event_writer import Writer
from curation.catalog.ownership import Identity, SnapshotOwnership
from curation.catalog.task_definitions import definition_at
from curation.catalog.view import View
from curation.errors import BadInput

__all__ = ["LONGEST_TEXT", "NO_INSTRUCTIONS", "Assignment", "Instructions", "PendingPeople", "SnapshotPeople"]

LONGEST_TEXT = 100_000
"""Most characters of instructions."""


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """A task's instructions for people: `text`, and its `version`, 1 for the first text. Equal texts of a task have one
    version. Version 0 is no text."""

    version: int
    text: str


NO_INSTRUCTIONS = Instructions(version=0, text="")


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Items of `task` are given to `person`, at most `most` open ones at a time (None: any number)."""

    task: str
    person: str
    most: int | None


class SnapshotPeople:
    """`now.people`: instructions, assignments and people who left, as of one commit."""

    def __init__(self, view: View) -> None:
        self._view = view

    def instructions(self) -> dict[str, Instructions]:
        """The current instructions by task; a task without any is left out."""
        rows = self._view.rows(
            f"SELECT name, version, text FROM instruction_event JOIN ({_NAMES}) USING (task_id) WHERE commit_id <= ? "
            "QUALIFY row_number() OVER (PARTITION BY task_id ORDER BY commit_id DESC) = 1 ORDER BY task_id",
            [self._view.commit],
        )
        return {name: Instructions(version=version, text=text) for name, version, text in rows if version}

    def versions(self, task: str) -> dict[str, int]:
        """The version of each text that was ever a task's instructions."""
        rows = self._view.rows(
            "SELECT DISTINCT text, version FROM instruction_event WHERE commit_id <= ? AND task_id = ? AND version > 0",
            [self._view.commit, definition_at(self._view, task).task_id],
        )
        return {str(text): int(version) for text, version in rows}

    def assignments(self) -> list[Assignment]:
        """Who is given items of which task, by task and name; people who left are given none."""
        rows = self._view.rows(
            f"""SELECT name, person, most FROM (
                SELECT * FROM assignment_event WHERE commit_id <= ?
                QUALIFY row_number() OVER (PARTITION BY task_id, person ORDER BY commit_id DESC) = 1)
            JOIN ({_NAMES}) USING (task_id) WHERE active ORDER BY task_id, person""",
            [self._view.commit],
        )
        gone = self.left()
        return [Assignment(task=task, person=who, most=most) for task, who, most in rows if who not in gone]

    def left(self) -> set[str]:
        """People who left."""
        rows = self._view.rows(
            'SELECT person, "left" FROM person_event WHERE commit_id <= ? '
            "QUALIFY row_number() OVER (PARTITION BY person ORDER BY commit_id DESC) = 1",
            [self._view.commit],
        )
        return {str(person) for person, left in rows if left}


class PendingPeople:
    """`change.people`: what a commit changes about people; `now` are the people with its changes."""

    def __init__(self, writer: Writer, view: View) -> None:
        self._writer, self._view = writer, view
        self.now = SnapshotPeople(view)

    def set_instructions(self, task: str, text: str, *, by: Identity) -> Instructions:
        """Give a task other instructions, and return them with their version; repeating a text changes nothing.

        BadInput when there is no text or too much of it, and when the owner has members and `by` is none of them.
        """
        definition = definition_at(self._view, task)
        self._refuse_others(definition.task.owner, by, f"instructions of {task}")
        text = text.strip()
        if not text or len(text) > LONGEST_TEXT:
            raise BadInput(f"instructions of {task}: {len(text):,} characters, must be 1 to {LONGEST_TEXT:,}; rewrite")
        known = self.now.versions(task)
        made = Instructions(version=known.get(text, 1 + max(known.values(), default=0)), text=text)
        if made != self.now.instructions().get(task) and not self._writer.repeated:
            row = {"task_id": definition.task_id, "version": made.version, "text": text}
            self._append("instruction_event", row, {"task_id": pa.int32(), "version": pa.int32()})
            digest = hashlib.sha256(text.encode()).hexdigest()
            add_act(self._writer, "instructions", definition.task.owner, by, subject=task, policy=digest)
        return made

    def assign(self, task: str, person: str, *, most: int | None, by: Identity) -> None:
        """Give items of a task to a person, at most `most` open ones at a time; 0 gives no more.

        BadInput when the person left, when `most` is negative, and when the task's owner has members and `by` is none
        of them.
        """
        definition = definition_at(self._view, task)
        self._refuse_others(definition.task.owner, by, f"assignment of {task}")
        if person in self.now.left():
            raise BadInput(f"{person}: left; assign to somebody else, or say `amber label people --back {person}`")
        if most is not None and most < 0:
            raise BadInput(f"limit {most}: must be 0 or more open items; correct it")
        row = {"task_id": definition.task_id, "person": person, "active": most != 0, "most": most}
        self._append("assignment_event", row, {"task_id": pa.int32(), "most": pa.int32()})

    def mark_left(self, person: str, *, left: bool) -> None:
        """Record that a person left, or came back. BadInput when that is known already."""
        if (person in self.now.left()) == left:
            raise BadInput(f"{person}: {'left already' if left else 'is here'}; `amber label people` lists who is here")
        self._append("person_event", {"person": person, "left": left}, {})

    def record_settled(self, task: str, key: str, *, by: Identity) -> None:
        """Record that `by` settles a dispute about the label of a sample. BadInput when the owner of the task has
        members, and `by` is none of them."""
        owner = definition_at(self._view, task).task.owner
        self._refuse_others(owner, by, f"dispute about {task}")
        if not self._writer.repeated:
            hashed = hashlib.sha256(key.encode()).hexdigest()
            add_act(self._writer, "settle", owner, by, subject=task, before=hashed)

    def _refuse_others(self, owner: str, by: Identity, what: str) -> None:
        SnapshotOwnership(self._view).refuse_others(owner, by, what)

    def _append(self, table: str, row: Mapping[str, object], types: Mapping[str, pa.DataType]) -> None:
        columns = {name: pa.array([value], types.get(name)) for name, value in row.items()}
        self._writer.append(table, pa.table(columns))


_NAMES = "SELECT DISTINCT task_id, name FROM task_event"
