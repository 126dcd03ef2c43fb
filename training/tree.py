"""The tree of a network: trunk -> branches -> heads. Which layers a task reads, and which it shares with others."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ConfigDict

from curation.errors import BadInput

__all__ = ["INPUT", "REST", "TRUNK", "Branch", "Node", "Tree", "path_of"]

TRUNK = "trunk"
"""The parent of a branch that reads the trunk's features; the node of heads that read them directly."""

INPUT = "input"
"""The parent of a branch that shares nothing: it has a copy of the whole trunk."""

REST = "*"
"""Among the tasks of a branch: every task that no other place of the tree names."""

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A hidden layer of `width` units (0: none) that some tasks read.

    `parent` is "trunk"; "trunk:STAGE", which leaves the trunk after that stage and continues with a copy of its later
    stages; "input", with a copy of the whole trunk; or another branch. With `each`, every task gets such a branch of
    its own.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    parent: str = TRUNK
    width: int = 128
    tasks: tuple[str, ...] = ()
    each: bool = False


@dataclass(frozen=True, kw_only=True)
class Node:
    """A place of a resolved tree at which heads may stand: the trunk's end, or one branch. `tasks` are its heads."""

    name: str
    parent: str
    width: int
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Branches by name, and the `tasks` whose heads read the trunk directly. "*" stands for all tasks not named.

    >>> tree = Tree(tasks=("weather",), branch={"vehicles": Branch(width=64, tasks=("*",))})
    >>> [(node.name, node.tasks) for node in tree.nodes(["car", "bike", "weather"])]
    [('trunk', ('weather',)), ('vehicles', ('car', 'bike'))]
    >>> tree.path("car", ["car", "weather"])
    ('trunk', 'vehicles')
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    tasks: tuple[str, ...] = ()
    branch: dict[str, Branch] = field(default_factory=dict)

    @classmethod
    def shared(cls, width: int = 128) -> "Tree":
        """One branch for all tasks; with width 0 all heads read the trunk."""
        return cls(branch={"shared": Branch(width=width, tasks=(REST,))}) if width else cls(tasks=(REST,))

    @classmethod
    def separate(cls, width: int = 128, *, parent: str = INPUT) -> "Tree":
        """A branch for each task, and from `parent` "input" a trunk too: tasks share nothing.

        >>> [node.name for node in Tree.separate(8).nodes(["car", "bike"]) if node.tasks]
        ['own_car', 'own_bike']
        """
        return cls(branch={"own": Branch(parent=parent, width=width, tasks=(REST,), each=True)})

    def __post_init__(self) -> None:
        for name, branch in self.branch.items():
            if not _NAME.match(name) or name in (TRUNK, INPUT):
                raise BadInput(f"tree: branch {name!r} is no name; take lower-case letters, digits and _")
            if branch.width < 0:
                raise BadInput(f"tree: branch {name} has width {branch.width}; take 0 (no layer of its own) or more")
            stem = branch.parent.partition(":")[0]
            if stem not in (TRUNK, INPUT) and stem not in self.branch:
                raise BadInput(f"tree: branch {name} has the parent {branch.parent!r}, which is no branch; name one")
            if stem in self.branch and self.branch[stem].each:
                raise BadInput(
                    f"tree: branch {name} has the parent {stem}, which each task has its own of; name another"
                )
        for name in self.branch:
            self._refuse_cycle(name)

    def nodes(self, tasks: Sequence[str]) -> list[Node]:
        """The nodes for these tasks, each after its parent, the trunk first. Branches without a task are left out.

        BadInput for a task of the tree that is none of `tasks`, and for one that the tree leaves out or names twice.
        """
        places = self._places(tasks)
        found = [Node(name=TRUNK, parent="", width=0, tasks=places.get(TRUNK, ()))]
        for name in self._in_order():
            branch, mine = self.branch[name], places.get(name, ())
            if branch.each:
                found += [Node(name=f"{name}_{t}", parent=branch.parent, width=branch.width, tasks=(t,)) for t in mine]
            else:
                found.append(Node(name=name, parent=branch.parent, width=branch.width, tasks=mine))
        return _needed(found)

    def path(self, task: str, tasks: Sequence[str]) -> tuple[str, ...]:
        """The names of what `task` reads, from the trunk (or the place where its branch leaves it) to its branch."""
        nodes = self.nodes(tasks)
        return path_of(nodes, next(node.name for node in nodes if task in node.tasks))

    def _places(self, tasks: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """The tasks at each place of the tree, by its name."""
        named: dict[str, str] = {}
        for place, task in self._named():
            if task not in (REST, *tasks):
                raise BadInput(f"tree: {place} names the task {task!r}, which the plan does not train; leave it out")
            if task in named:
                what = 'the rest ("*")' if task == REST else f"task {task}"
                raise BadInput(f"tree: {what} is at {named[task]} and at {place}; leave it at one")
            named[task] = place
        rest = named.pop(REST, None)
        missing = [task for task in tasks if task not in named]
        if missing and rest is None:
            raise BadInput(f'tree: task {missing[0]} has no place; add it to a branch, or give one the tasks ["*"]')
        everything = {**named, **dict.fromkeys(missing, str(rest))}
        return {
            place: tuple(task for task in tasks if everything[task] == place)
            for place in dict.fromkeys(everything.values())
        }

    def _named(self) -> Iterator[tuple[str, str]]:
        yield from ((TRUNK, task) for task in self.tasks)
        for name, branch in self.branch.items():
            yield from ((name, task) for task in branch.tasks)

    def _in_order(self) -> list[str]:
        """The names of the branches, each after its parent."""
        order: list[str] = []
        while len(order) < len(self.branch):
            order += [
                name for name, branch in self.branch.items()
                if name not in order and (branch.parent not in self.branch or branch.parent in order)
            ]  # fmt: skip
        return order

    def _refuse_cycle(self, name: str) -> None:
        seen = [name]
        while (parent := self.branch[seen[-1]].parent) in self.branch:
            if parent in seen:
                raise BadInput(f"tree: {' -> '.join([*seen, parent])} is a cycle; let one of them leave the trunk")
            seen.append(parent)


def path_of(nodes: Sequence[Node], name: str) -> tuple[str, ...]:
    """The places from the trunk (or where the path leaves it, or the input) to the node `name`."""
    parents = {node.name: node.parent for node in nodes}
    path = [name]
    while parents.get(path[0]):
        path.insert(0, parents[path[0]])
    return tuple(path)


def _needed(nodes: list[Node]) -> list[Node]:
    """The trunk, and the nodes that have a task or lead to one."""
    wanted = {TRUNK}
    for node in reversed(nodes):
        if node.tasks or node.name in wanted:
            wanted |= {node.name, node.parent}
    return [node for node in nodes if node.name in wanted]
