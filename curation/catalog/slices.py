"""Slices: named predicates over `attr.NAME`, `label.TASK`, `state.TASK`, `instructions.TASK`, `pred.TASK`
and `boxes.TASK`.

`pred_before.TASK` and `pred_after.TASK` are what the run predicts for the frames beside an image (`slice_columns`).

The catalog stores the canonical text of a predicate, as `slice_vetting.vet` returns it: one boolean expression in which
every column has its family.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from threading import Lock
from typing import Final

import duckdb

from curation.catalog.arrow_query import scalar
from curation.catalog.predicate_tree import (
    FAMILIES,
    PREDICTED,
    Node,
    compared_tasks,
    constants,
    parse,
    quoted_name,
    sealed,
    walk,
    write,
)  # fmt: skip
from curation.errors import BadInput

__all__ = ["Column", "Slice", "Term", "columns_of", "never_breaks", "rename_classes", "terms_of"]

COMPARING: Final = {"BETWEEN", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "OPERATOR"}
"""Classes of the nodes of comparisons and logic."""

Column = tuple[str, str]
"""A qualified column: its family and its name, such as ("attr", "weather")."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A named predicate in its canonical text. `task` is empty when the slice is reported for every task."""

    name: str
    predicate: str
    task: str = ""
    rare: bool = False

    @property
    def reads_predictions(self) -> bool:
        """Whether the predicate reads predictions, so that its members depend on a run."""
        return any(family in PREDICTED for family, _ in columns_of(self.predicate))


@dataclass(frozen=True, kw_only=True)
class Term:
    """One of the conditions that AND connects. `text` reads `"FAMILY.NAME".value`, from a join of the columns.

    `strict`: the term reads exactly one column and is never true where that column is NULL, so it can be evaluated on
    the rows of that column only.
    """

    text: str
    columns: tuple[Column, ...]
    strict: bool


@lru_cache(maxsize=1024)
def columns_of(canonical: str) -> tuple[Column, ...]:
    """The qualified columns that a canonical predicate reads, sorted.

    >>> columns_of("((attr.speed > 30) AND label.night)")
    (('attr', 'speed'), ('label', 'night'))
    """
    with _parsing() as connection:
        nodes = walk(parse(connection, canonical))
        names = [node["column_names"] for node in nodes if node.get("class") == "COLUMN_REF"]
    return tuple(sorted({(parts[0], parts[1]) for parts in names if parts[0] in FAMILIES}))


@lru_cache(maxsize=1024)
def never_breaks(canonical: str) -> bool:
    """Whether a predicate only compares columns and constants, so that no value can make its evaluation fail.

    >>> never_breaks("(attr.speed > 30)"), never_breaks("(CAST(attr.key AS INTEGER) = 1)")
    (True, False)
    """
    with _parsing() as connection:
        nodes = [node for node in walk(parse(connection, canonical)) if "class" in node]
    return all(
        node["class"] in COMPARING or (node["class"] == "CAST" and node["child"]["class"] == "CONSTANT")
        for node in nodes
    )


@lru_cache(maxsize=1024)
def terms_of(canonical: str) -> tuple[Term, ...]:
    """The terms of a canonical predicate, which is true where all of them are."""
    with _parsing() as connection:
        return tuple(_term(connection, part) for part in _conjuncts(parse(connection, canonical)))


def rename_classes(canonical: str, task: str, names: Mapping[str, str | None]) -> str:
    """A canonical predicate with the classes of a task renamed (old -> new); BadInput when it names one without a new
    name (None)."""
    with sealed() as connection:
        expression = parse(connection, canonical)
        for node in walk(expression):
            for constant in constants(node) if task in compared_tasks(node) else []:
                old = constant["value"]
                if isinstance(old, str) and names.get(old, old) is None:
                    raise BadInput(
                        f"slice {canonical!r}: {task} has no class {old!r} any more; redeclare the slice first"
                    )
                constant["value"] = names.get(old, old) if isinstance(old, str) else old
        return write(connection, expression)


_TURN = Lock()


@contextmanager
def _parsing() -> Iterator[duckdb.DuckDBPyConnection]:
    """The DuckDB that parses canonical predicates, one thread at a time: starting it takes longer than parsing."""
    with _TURN:
        yield _parser()


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    return sealed()


def _conjuncts(expression: Node) -> list[Node]:
    if expression.get("type") != "CONJUNCTION_AND":
        return [expression]
    return [part for child in expression["children"] for part in _conjuncts(child)]


def _term(connection: duckdb.DuckDBPyConnection, expression: Node) -> Term:
    columns = set()
    for node in list(walk(expression)):
        if node.get("class") == "COLUMN_REF" and node["column_names"][0] in FAMILIES:
            family, name, *rest = node["column_names"]
            columns.add((family, name))
            node["column_names"] = [f"{family}.{name}", "value", *rest]
            if family == "state":  # a sample whose state is unknown has no row
                known = parse(connection, f"coalesce({quoted_name(f'state.{name}')}.value, 'unknown')")
                node.clear()
                node.update(known)
    text = write(connection, expression)
    return Term(text=text, columns=tuple(sorted(columns)), strict=_strict(connection, text, columns))


def _strict(connection: duckdb.DuckDBPyConnection, text: str, columns: set[Column]) -> bool:
    if len(columns) != 1:
        return False
    ((family, name),) = columns
    nothing = f"(SELECT NULL AS value) AS {quoted_name(f'{family}.{name}')}"
    try:
        return scalar(connection, f"SELECT coalesce({text}, false) FROM {nothing}") is False
    except duckdb.Error:  # it needs the column's type: evaluating it on every sample is slower, and also right
        return False
