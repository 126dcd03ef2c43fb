"""What a commit changes about people: instructions, assignments, who left, and settled disputes."""

import hashlib
from collections.abc import Mapping
from typing import Final
from unicodedata import category

import pyarrow as pa

from curation.catalog.acts import add_act
from curation.catalog.event_writer import Writer
from curation.catalog.ownership import Identity, SnapshotOwnership
from curation.catalog.people import Instructions, SnapshotPeople
from curation.catalog.task_definitions import definition_at
from curation.catalog.view import View
from curation.errors import BadInput

__all__ = ["LONGEST_TEXT", "PendingPeople"]

LONGEST_TEXT: Final = 100_000
"""Most characters of instructions."""
MOST_OPEN: Final = 2**31 - 1
"""Largest limit of open items."""


class PendingPeople:
    """`change.people`: what a commit changes about people; `now` are the people with its changes."""

    def __init__(self, writer: Writer, view: View) -> None:
        self._writer, self._view = writer, view
        self.now = SnapshotPeople(view)

    def set_instructions(self, task: str, text: str, *, by: Identity) -> Instructions:
        """Give a task other instructions, and return them with their version; repeating a text changes nothing.

        BadInput when there is no text or too much of it, when it holds control characters, and when the owner has
        members and `by` is none of them.
        """
        definition = definition_at(self._view, task)
        self._refuse_others(definition.task.owner, by, f"instructions of {task}")
        text = text.strip()
        if not text or len(text) > LONGEST_TEXT:
            raise BadInput(f"instructions of {task}: {len(text):,} characters, must be 1 to {LONGEST_TEXT:,}; rewrite")
        if odd := next((each for each in text if category(each) == "Cc" and each not in "\n\r\t"), ""):
            raise BadInput(f"instructions of {task}: hold the control character {odd!r}; pass a text")
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

        BadInput when the person left, when `most` is no limit, and when the task's owner has members and `by` is none
        of them.
        """
        definition = definition_at(self._view, task)
        self._refuse_others(definition.task.owner, by, f"assignment of {task}")
        if person in self.now.left():
            raise BadInput(f"{person}: left; assign to somebody else, or say `amber label people --back {person}`")
        if most is not None and not 0 <= most <= MOST_OPEN:
            raise BadInput(f"limit {most}: must be 0 to {MOST_OPEN:,} open items; correct it")
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

    def refuse_revert(self, commit: int, by: Identity | None) -> None:
        """BadInput when a commit instructs, assigns or settles for an owner with members, and `by` is none of them."""
        told = self._view.rows(
            """SELECT DISTINCT name FROM task_event JOIN (
                SELECT task_id FROM instruction_event WHERE commit_id = ?
                UNION SELECT task_id FROM assignment_event WHERE commit_id = ?
                UNION SELECT task_id FROM label_event JOIN annotator USING (annotator_id)
                WHERE commit_id = ? AND source = 'lead') USING (task_id) ORDER BY ALL""",
            [commit, commit, commit],
        )
        for (task,) in told:
            owner = definition_at(self._view, str(task)).task.owner
            self._refuse_others(owner, by, f"commit {commit}, which is about {task}")

    def _refuse_others(self, owner: str, by: Identity | None, what: str) -> None:
        SnapshotOwnership(self._view).refuse_others(owner, by, what)

    def _append(self, table: str, row: Mapping[str, object], types: Mapping[str, pa.DataType]) -> None:
        columns = {name: pa.array([value], types.get(name)) for name, value in row.items()}
        self._writer.append(table, pa.table(columns))
