"""People who label: the instructions that they get, the tasks whose items they are given, and who left."""

from dataclasses import dataclass

from curation.catalog.task_definitions import definition_at
from curation.catalog.view import View

__all__ = ["NO_INSTRUCTIONS", "Assignment", "Instructions", "SnapshotPeople"]


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
    """`now.people`: instructions, assignments, leads and people who left, as of one commit."""

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

    def leads(self) -> set[str]:
        """The names of those who have settled disputes: annotators of the source `lead`."""
        return {str(name) for (name,) in self._view.rows("SELECT name FROM annotator WHERE source = 'lead'", [])}


_NAMES = "SELECT DISTINCT task_id, name FROM task_event"
