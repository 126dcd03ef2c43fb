"""Definitions of tasks over time: which class a code of the ledger means by now."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from curation.catalog.tasks import Task
from curation.errors import BadInput

__all__ = ["Definition"]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A task as it is defined at some commit.

    The ledger's codes are places in `book`, which only grows: an entry for each class that the task ever had. `codes`
    says which of `task.classes` each entry means by now, None where its labels have become unknown.
    """

    task: Task
    task_id: int
    book: tuple[str, ...]
    codes: tuple[int | None, ...]

    @classmethod
    def first(cls, task: Task, task_id: int) -> "Definition":
        """The definition of a task that is new: every class means itself."""
        return cls(task=task, task_id=task_id, book=task.classes, codes=tuple(range(len(task.classes))))

    @property
    def places(self) -> list[int]:
        """The entry of the book under which a new label of each class is kept."""
        newest = {code: place for place, code in enumerate(self.codes)}
        return [newest[code] for code in range(len(self.task.classes))]

    def redefined(self, task: Task, moved: Mapping[str, str | None]) -> "Definition":
        """The same task with other classes: a class added, renamed, merged or split.

        `moved` says what the old classes are called by now, None for those whose labels become unknown; one that it
        does not name keeps its name. BadInput when that is no class of the new definition.
        """
        old = self.task
        if (task.name, task.kind, task.unit) != (old.name, old.kind, old.unit):
            raise BadInput(f"task {old.name}: name, kind and unit stay ({old.kind}); give another task another name")
        if strange := [name for name in moved if name not in old.classes]:
            raise BadInput(f"task {old.name}: has no class {strange[0]!r} to move; its classes are {_listed(old)}")
        means = {name: _place(task, name, moved.get(name, name)) for name in old.classes}
        codes = [None if code is None else means[old.classes[code]] for code in self.codes]
        fresh = [code for code in range(len(task.classes)) if code not in codes]
        return replace(
            self,
            task=task,
            book=(*self.book, *(task.classes[code] for code in fresh)),
            codes=(*codes, *fresh),
        )

    def restored(self, newest: "Definition") -> "Definition":
        """This definition once more, after `newest`: entries of the book that came since mean nothing."""
        return replace(newest, task=self.task, codes=self.codes + (None,) * (len(newest.book) - len(self.book)))


def _place(task: Task, name: str, now: str | None) -> int | None:
    if now is None:
        return None
    if now not in task.classes:
        raise BadInput(
            f"task {task.name}: {name!r} would become {now!r}, which is no class of it; say which of {_listed(task)} "
            "its labels become, or that they become unknown"
        )
    return task.classes.index(now)


def _listed(task: Task) -> str:
    return ", ".join(task.classes) or "none"
