"""Assigning: which people an item is given to, and each person's queue.

The open edition of Label Studio knows no assignment and no roles: everybody may open every item. So an item names its
people in its data, each person has a view of their own items in every project (by priority, as in the project's queue),
and a pull counts the answers of others.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from curation.catalog.people import Assignment
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.item_cache import Item
from curation.labelstudio.label_config import ASSIGNED

__all__ = ["Assigner", "add_views", "shown_people"]


class Assigner:
    """Chooses people for items: of those that the lead named for a task, the ones with the fewest open items.

    `items` are those on the server, `names` the e-mail addresses by user id.
    """

    def __init__(self, assignments: Iterable[Assignment], items: Iterable[Item], names: Mapping[int, str]) -> None:
        self._most: dict[str, dict[str, int | None]] = defaultdict(dict)
        for part in assignments:
            self._most[part.task][part.person] = part.most
        self._names = names
        self._open: Counter[tuple[str, str]] = Counter()
        for item in items:
            for person in self._asked(item) if item.unfinished else ():
                self._count(item.tasks, person)

    def people(self, task: str) -> frozenset[str]:
        """The people who are given items of a task; none: everybody."""
        return frozenset(self._most.get(task, ()))

    def choose(
        self, tasks: Collection[str], wanted: int, *, without: Collection[str] = (), beyond: bool = False
    ) -> tuple[str, ...] | None:
        """At most `wanted` people for an item that asks for `tasks`, those with the fewest open items first.

        Empty where everybody is asked; None where nobody has room for one item more. With `beyond` limits are ignored.
        """
        named = [self._most[task] for task in tasks if task in self._most]
        if not named:
            return ()
        fit = {person for people in named for person in people} - set(without)
        room = [person for person in fit if beyond or all(self._room(task, person) for task in tasks)]
        chosen = sorted(room, key=lambda person: (self._load(person), person))[:wanted]
        for person in chosen:
            self._count(tasks, person)
        return tuple(sorted(chosen)) or None

    def again(self, item: Item) -> tuple[str, ...]:
        """The people of an unfinished item: those who answered or may still do so, and as many more as it needs."""
        answered = self._answered(item)
        named = [self.people(task) for task in item.tasks if self.people(task)]
        if not named:
            return ()
        fit = frozenset.union(*named)
        asked = [person for person in self._asked(item) if person in fit]
        wanted = item.overlap - len(item.people) - len(asked)
        more = self.choose(item.tasks, wanted, without={*answered, *asked}) if wanted > 0 else ()
        return tuple(sorted({*(person for person in item.assigned if person in answered), *asked, *(more or ())}))

    def _asked(self, item: Item) -> list[str]:
        """The people of an item who have not answered."""
        answered = self._answered(item)
        return [person for person in item.assigned if person not in answered]

    def _answered(self, item: Item) -> set[str]:
        return {self._names.get(id_ or 0, "") for id_ in item.people}

    def _room(self, task: str, person: str) -> bool:
        most = self._most.get(task, {}).get(person)
        return most is None or self._open[task, person] < most

    def _load(self, person: str) -> int:
        return sum(count for (_, who), count in self._open.items() if who == person)

    def _count(self, tasks: Iterable[str], person: str) -> None:
        self._open.update((task, person) for task in tasks)


def shown_people(people: Sequence[str]) -> str:
    """The text of the field `ASSIGNED`: no name may be a part of another one.

    >>> shown_people(["ann@example.org", "bob@example.org"])
    '<ann@example.org> <bob@example.org>'
    """
    return " ".join(f"<{person}>" for person in people)


def add_views(server: LabelStudioClient, project: int, people: Iterable[str]) -> None:
    """Give each of `people` a view of their items in a project, by priority, unless they have one."""
    missing = sorted(set(people))
    if missing:
        present = server.views(project)
        for person in (person for person in missing if person not in present):
            server.add_view(project, person, ASSIGNED, shown_people([person]))
