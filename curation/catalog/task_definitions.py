"""Definitions of tasks over time: which class a code of the ledger means at some commit."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from curation.catalog.tasks import Task
from curation.catalog.view import View
from curation.errors import BadInput, NotFound

__all__ = ["Definition", "definition_at", "definitions_at"]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """The definition of a task at some commit.

    Stored codes are indices into `book`, which only grows: one entry for each class that the task ever had. `codes`
    maps each entry to its index in `task.classes`, or to None where its labels have become unknown.
    """

    task: Task
    task_id: int
    book: tuple[str, ...]
    codes: tuple[int | None, ...]

    @classmethod
    def first(cls, task: Task, task_id: int) -> "Definition":
        """The definition of a new task: every class means itself."""
        return cls(task=task, task_id=task_id, book=task.classes, codes=tuple(range(len(task.classes))))

    @property
    def entries(self) -> list[int]:
        """For each class, the entry of the book under which new labels are stored."""
        newest = {code: entry for entry, code in enumerate(self.codes)}
        return [newest[code] for code in range(len(self.task.classes))]

    def redefined(self, task: Task, moved: Mapping[str, str | None]) -> "Definition":
        """The same task with other classes: a class added, renamed, merged or split.

        `moved` maps old classes to new names, or to None where their labels become unknown; a class that it lacks keeps
        its name. BadInput when a new name is not a class of `task`.
        """
        old = self.task
        if (task.name, task.kind, task.unit) != (old.name, old.kind, old.unit):
            raise BadInput(f"task {old.name}: name, kind and unit cannot change ({old.kind}); declare another task")
        if strange := [name for name in moved if name not in old.classes]:
            raise BadInput(f"task {old.name}: has no class {strange[0]!r} to move; its classes are {_listed(old)}")
        means = {name: _new_code(task, name, moved.get(name, name)) for name in old.classes}
        codes = [None if code is None else means[old.classes[code]] for code in self.codes]
        fresh = [code for code in range(len(task.classes)) if code not in codes]
        return replace(
            self,
            task=task,
            book=(*self.book, *(task.classes[code] for code in fresh)),
            codes=(*codes, *fresh),
        )

    def restored(self, newest: "Definition") -> "Definition":
        """This definition again, after `newest`: newer entries of the book mean no class."""
        return replace(newest, task=self.task, codes=self.codes + (None,) * (len(newest.book) - len(self.book)))


def definitions_at(view: View, name: str = "") -> dict[str, Definition]:
    """Newest definitions of tasks by name, in the order of declaration: of all tasks, or of the one called `name`."""
    rows = view.rows(
        "SELECT task_id, definition, book, codes FROM task_event WHERE commit_id <= ? AND ? IN ('', name) "
        "QUALIFY row_number() OVER (PARTITION BY task_id ORDER BY commit_id DESC) = 1 ORDER BY task_id",
        [view.commit, name],
    )
    found = [
        Definition(task=Task.model_validate_json(text), task_id=task_id, book=tuple(book), codes=tuple(codes))
        for task_id, text, book, codes in rows
    ]
    return {definition.task.name: definition for definition in found}


def definition_at(view: View, name: str) -> Definition:
    """The newest definition of one task; NotFound suggests the nearest name."""
    found = definitions_at(view, name)
    if name not in found:
        near = difflib.get_close_matches(name, definitions_at(view), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise NotFound(f"task {name!r}: the catalog has no such task{hint}; `amber tasks` lists them")
    return found[name]


def _new_code(task: Task, name: str, now: str | None) -> int | None:
    if now is None:
        return None
    if now not in task.classes:
        raise BadInput(
            f"task {task.name}: {name!r} would become {now!r}, which is not one of its classes; choose one of "
            f"{_listed(task)}, or let its labels become unknown"
        )
    return task.classes.index(now)


def _listed(task: Task) -> str:
    return ", ".join(task.classes) or "none"
