"""Slices: named predicates, vetted before anything runs them.

A predicate is one boolean expression over `attr.NAME`, `label.TASK`, `state.TASK`, `pred.TASK` and `boxes.TASK`, bare
names where only one of them fits. DuckDB parses it; what is not on the list of allowed nodes is refused; the bare names
are qualified; DuckDB writes it back, and that canonical text is what the catalog keeps. The text is bound in an empty
in-memory DuckDB without access to files, network or extensions.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

import duckdb

from curation.catalog.arrow_query import scalar
from curation.catalog.slice_vocabulary import FUNCTIONS, GROWING, TYPES
from curation.errors import BadInput

__all__ = ["Column", "Frame", "Slice", "Term", "columns_of", "rename_classes", "terms_of", "vet"]

ALLOWED: Final = {
    "BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "LAMBDA",
    "LAMBDA_REF", "OPERATOR",
}  # fmt: skip
"""Classes of expression that a predicate may hold: no subquery, star, parameter, window, default or collation."""

FAMILIES: Final = ("attr", "label", "state", "pred", "boxes")

SYNTAX: Final = {
    "date_part", "ilike_escape", "like_escape", "list_apply", "list_filter", "list_value", "map", "not_ilike_escape",
    "not_like_escape", "position", "row", "struct_extract", "struct_pack", "substring", "trim",
}  # fmt: skip
"""Functions that DuckDB's parser writes, with their schema, for brackets, braces, EXTRACT, ESCAPE and the like."""

MEMBERSHIP: Final = {"array_contains", "array_has", "list_contains", "list_has"}
"""Functions by which a predicate asks whether a multilabel holds a class."""

LONGEST: Final = 10_000
LONGEST_GROWING: Final = 2_000
DEEPEST: Final = 100
"""Characters of a predicate, of one with a function that multiplies, and how deep its expressions may be nested."""

MOST_LAMBDAS: Final = 2
MOST_GROWTH: Final = 2
"""Lambdas inside one another, and what functions that multiply may add up to on the way to one expression."""

TOO_DEEP: Final = f"is nested deeper than {DEEPEST} expressions; write it flatter"

Column = tuple[str, str]
"""A qualified column: its family and its name, such as ("attr", "weather")."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A named predicate in its canonical text; `task` is empty when the slice is reported for every task."""

    name: str
    predicate: str
    task: str = ""
    rare: bool = False

    @property
    def reads_predictions(self) -> bool:
        """Whether it is over predictions, and so has members only in the light of a run."""
        return any(family == "pred" for family, _ in columns_of(self.predicate))


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The columns that a predicate may name: family -> name -> DuckDB type; and the classes of categorical tasks."""

    families: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def resolve(self, parts: list[str], predicate: str) -> list[str]:
        """`parts` with its family in front; BadInput when no column, or more than one, fits."""
        if parts[0] in self.families and len(parts) > 1:
            if parts[1] not in self.families[parts[0]]:
                raise BadInput(
                    f"slice {predicate!r}: there is no {parts[0]}.{parts[1]}{self._hint(parts[1])}; correct the name"
                )
            return parts
        fits = [name for name in ("attr", "label") if parts[0] in self.families.get(name, {})]
        if len(fits) != 1:
            why = "stands for more than one column" if fits else f"is no column{self._hint(parts[0])}"
            raise BadInput(f"slice {predicate!r}: {parts[0]!r} {why}; write attr.NAME or label.TASK")
        return [fits[0], *parts]

    def _hint(self, name: str) -> str:
        known = [f"{family}.{column}" for family, columns in self.families.items() for column in columns]
        near = difflib.get_close_matches(name, [column.partition(".")[2] for column in known], 1)
        return f" (did you mean {near[0]!r}?)" if near else ""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One of the conditions that AND links. `text` reads `"FAMILY.NAME".value`, from a join of the columns.

    `strict` says that it reads one column alone and never holds where that is NULL: then it may be asked of the rows
    that the column has.
    """

    text: str
    columns: tuple[Column, ...]
    strict: bool


@dataclass(frozen=True, kw_only=True)
class _Path:
    """What stands above a node: the parameters of lambdas, how many lambdas, expressions, and multiplications."""

    bound: frozenset[str] = frozenset()
    lambdas: int = 0
    depth: int = 0
    growth: int = 0


def vet(predicate: str, frame: Frame) -> str:
    """The canonical text of `predicate`, or BadInput: one boolean expression, nothing else, over columns of `frame`."""
    if len(predicate) > LONGEST:
        raise BadInput(f"slice of {len(predicate)} characters: at most {LONGEST} are taken; write it shorter")
    if "\0" in predicate:
        raise BadInput(f"slice {predicate!r}: holds a NUL, where DuckDB stops to read; take it out")
    with _sealed() as connection:
        connection.execute("SET lock_configuration = true")
        expression = _parse(connection, predicate)
        _check(expression, predicate, frame, _Path())
        try:
            canonical = _write(connection, expression)
            canonical = _write(connection, _parse(connection, canonical))  # some constants settle at the second writing
            type_ = _bind(connection, canonical, frame)
        except duckdb.Error as error:
            raise BadInput(f"slice {predicate!r}: {str(error).splitlines()[0]}; correct it") from None
    if type_ != "BOOLEAN":
        raise BadInput(f"slice {predicate!r}: gives {type_}, must be true or false; compare it with a value")
    return canonical


@lru_cache(maxsize=1024)
def columns_of(canonical: str) -> tuple[Column, ...]:
    """The qualified columns that a canonical predicate reads, sorted."""
    with _sealed() as connection:
        nodes = _walk(_parse(connection, canonical))
        names = [node["column_names"] for node in nodes if node.get("class") == "COLUMN_REF"]
    return tuple(sorted({(parts[0], parts[1]) for parts in names if parts[0] in FAMILIES}))


@lru_cache(maxsize=1024)
def terms_of(canonical: str) -> tuple[Term, ...]:
    """The terms of a canonical predicate: all of them hold for a member, and for nothing else."""
    with _sealed() as connection:
        return tuple(_term(connection, part) for part in _conjuncts(_parse(connection, canonical)))


def rename_classes(canonical: str, task: str, names: Mapping[str, str | None]) -> str:
    """A canonical predicate that says for each class of a task what it is called by now; BadInput where it is gone."""
    with _sealed() as connection:
        expression = _parse(connection, canonical)
        for node in _walk(expression):
            words = _words(node) if task in _compared(node) else []
            for word in words:
                old = word["value"]
                if isinstance(old, str) and names.get(old, old) is None:
                    raise BadInput(
                        f"slice {canonical!r}: {task} has no class {old!r} any more; redeclare the slice first"
                    )
                word["value"] = names.get(old, old) if isinstance(old, str) else old
        return _write(connection, expression)


def _parse(connection: duckdb.DuckDBPyConnection, predicate: str) -> dict[str, Any]:
    """The one expression of `SELECT predicate`, refused when that text holds anything beside it."""
    tree = scalar(connection, "SELECT json_serialize_sql(?)", [f"SELECT {predicate}"])
    try:
        parsed = json.loads(tree)
    except RecursionError:
        raise BadInput(f"slice {predicate!r}: {TOO_DEEP}") from None
    if parsed["error"]:
        reason = str(parsed["error_message"]).splitlines()[0]
        raise BadInput(f"slice {predicate!r}: not one boolean expression ({reason}); correct it")
    node = parsed["statements"][0]["node"] if len(parsed["statements"]) == 1 else {}
    plain = (
        node.get("type") == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["from_table"]["type"] == "EMPTY"
        and not any(node.get(part) for part in ("where_clause", "having", "qualify", "sample", "modifiers"))
        and not node["group_expressions"]
        and not node["group_sets"]
        and node["aggregate_handling"] == "STANDARD_HANDLING"
        and not node["cte_map"]["map"]
        and not node["select_list"][0]["alias"]
    )
    if not plain:
        raise BadInput(f"slice {predicate!r}: must be one boolean expression and nothing else; take the rest out")
    expression: dict[str, Any] = node["select_list"][0]
    return expression


def _check(node: Any, predicate: str, frame: Frame, path: _Path) -> None:
    """Walk the tree: refuse what is not allowed, and qualify bare columns in place."""
    if isinstance(node, list):
        for child in node:
            _check(child, predicate, frame, path)
    if not isinstance(node, dict):
        return
    kind = node.get("class")
    path = replace(path, depth=path.depth + (kind is not None))
    if path.depth > DEEPEST:
        raise BadInput(f"slice {predicate!r}: {TOO_DEEP}")
    if kind is not None and kind not in ALLOWED:
        raise BadInput(f"slice {predicate!r}: holds a {kind.lower()}, which slices may not; write it without")
    if kind == "OPERATOR" and "SUBQUERY" in str(node.get("type")):
        raise BadInput(f"slice {predicate!r}: holds a subquery, which slices may not; write it without")
    if kind == "CAST":
        _check_type(node["cast_type"], predicate)
    if kind == "FUNCTION":
        path = _check_function(node, predicate, path)
    if kind == "LAMBDA":
        _check(node["expr"], predicate, frame, _inside_lambda(node, predicate, path))
        return
    if kind == "COLUMN_REF" and node["column_names"][0] not in path.bound:
        node["column_names"] = frame.resolve(node["column_names"], predicate)
    for value in node.values():
        _check(value, predicate, frame, path)
    if kind in ("COMPARISON", "OPERATOR", "FUNCTION"):
        _check_classes(node, predicate, frame)


def _inside_lambda(node: dict[str, Any], predicate: str, path: _Path) -> _Path:
    names = {part for child in _walk(node["lhs"]) for part in child.get("column_names", [])}
    if any(name.lower() in FAMILIES or not name.isidentifier() for name in names):
        raise BadInput(f"slice {predicate!r}: a lambda's parameter hides a column; give it another name")
    if path.lambdas == MOST_LAMBDAS:
        raise BadInput(f"slice {predicate!r}: nests lambdas deeper than {MOST_LAMBDAS}; write it flatter")
    return replace(path, bound=path.bound | names, lambdas=path.lambdas + 1)


def _check_type(type_: dict[str, Any], predicate: str) -> None:
    """Refuse a cast to, or over, a type that hangs on the session, an extension or the catalog."""
    names = {part["id"] if part["id"] != "UNBOUND" else part["type_info"]["name"] for part in _types(type_)}
    if strange := sorted(names - TYPES):
        raise BadInput(f"slice {predicate!r}: casts to {strange[0]}, which slices may not; compare without")


def _types(type_: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in _walk(type_) if "id" in part]


def _check_classes(node: dict[str, Any], predicate: str, frame: Frame) -> None:
    """Refuse a label compared with what is no class of its task: the slice would be empty for ever."""
    for task in _compared(node):
        for word in (word["value"] for word in _words(node)):
            if task in frame.classes and isinstance(word, str) and word not in frame.classes[task]:
                near = ", ".join(difflib.get_close_matches(word, frame.classes[task], 1) or frame.classes[task])
                raise BadInput(f"slice {predicate!r}: {task} has no class {word!r}; did you mean {near}?")


def _sides(node: dict[str, Any]) -> list[dict[str, Any]]:
    """What a comparison, an IN or a test of a list's content holds against each other."""
    if node.get("class") == "FUNCTION" and node["function_name"] not in MEMBERSHIP:
        return []
    if node.get("class") not in ("COMPARISON", "OPERATOR", "FUNCTION"):
        return []
    return node["children"] if "children" in node else [node["left"], node["right"]]


def _compared(node: dict[str, Any]) -> list[str]:
    """Tasks whose label or predicted value a node compares."""
    columns = [side["column_names"] for side in _sides(node) if side.get("class") == "COLUMN_REF"]
    return [parts[1] for parts in columns if (parts[0], parts[2:]) in (("label", []), ("pred", ["value"]))]


def _words(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The constants that a node compares with."""
    return [side["value"] for side in _sides(node) if side.get("class") == "CONSTANT"]


def _check_function(node: dict[str, Any], predicate: str, path: _Path) -> _Path:
    """The path below a call; BadInput where it calls what is not on the list, or multiplies once too often."""
    name = node["function_name"]
    qualified = node.get("catalog") or (node.get("schema") and name not in SYNTAX)
    if name not in FUNCTIONS or qualified:
        raise BadInput(
            f"slice {predicate!r}: {name}() is no function that gives the same short answer always; write it without"
        )
    if node.get("filter") or node.get("distinct") or (node.get("order_bys") or {}).get("orders"):
        raise BadInput(f"slice {predicate!r}: {name}() aggregates, which slices may not; write it without")
    growth = path.growth + GROWING.get(name, 0)
    if name in GROWING and (growth > MOST_GROWTH or path.lambdas or len(predicate) > LONGEST_GROWING):
        raise BadInput(
            f"slice {predicate!r}: {name}() could grow beyond any memory here; take it out of the lambda or the other "
            f"function, and write at most {LONGEST_GROWING} characters"
        )
    return replace(path, growth=growth)


def _conjuncts(expression: dict[str, Any]) -> list[dict[str, Any]]:
    if expression.get("type") != "CONJUNCTION_AND":
        return [expression]
    return [part for child in expression["children"] for part in _conjuncts(child)]


def _term(connection: duckdb.DuckDBPyConnection, expression: dict[str, Any]) -> Term:
    columns = set()
    for node in list(_walk(expression)):
        if node.get("class") == "COLUMN_REF" and node["column_names"][0] in FAMILIES:
            family, name, *rest = node["column_names"]
            columns.add((family, name))
            node["column_names"] = [f"{family}.{name}", "value", *rest]
            if family == "state":  # nothing is written of a sample whose state is unknown
                known = _parse(connection, f"coalesce({_quoted(f'state.{name}')}.value, 'unknown')")
                node.clear()
                node.update(known)
    text = _write(connection, expression)
    return Term(text=text, columns=tuple(sorted(columns)), strict=_strict(connection, text, columns))


def _strict(connection: duckdb.DuckDBPyConnection, text: str, columns: set[Column]) -> bool:
    if len(columns) != 1:
        return False
    ((family, name),) = columns
    nothing = f"(SELECT NULL AS value) AS {_quoted(f'{family}.{name}')}"
    try:
        return scalar(connection, f"SELECT coalesce({text}, false) FROM {nothing}") is False
    except duckdb.Error:  # it needs the column's type: then it is asked of every sample, which is slower, and right too
        return False


def _sealed() -> duckdb.DuckDBPyConnection:
    """An empty in-memory DuckDB without access to files, network or extensions, and with little memory."""
    return duckdb.connect(
        ":memory:", config={"enable_external_access": "false", "memory_limit": "256MB", "threads": "1"}
    )


def _write(connection: duckdb.DuckDBPyConnection, expression: dict[str, Any]) -> str:
    whole = json.loads(scalar(connection, "SELECT json_serialize_sql('SELECT 1')"))
    whole["statements"][0]["node"]["select_list"] = [expression]
    text = scalar(connection, "SELECT json_deserialize_sql(?::JSON)", [json.dumps(whole)])
    return str(text).removeprefix("SELECT ").removesuffix(";")


def _bind(connection: duckdb.DuckDBPyConnection, canonical: str, frame: Frame) -> str:
    """The type of the expression, once it ran over a frame of one row that knows nothing."""
    structs = [
        f'"{family}" STRUCT({", ".join(f"{_quoted(name)} {type_}" for name, type_ in columns.items())})'
        for family, columns in frame.families.items()
        if columns
    ]
    connection.execute(f"CREATE TABLE frame ({', '.join(['sample_id BIGINT', *structs])})")
    connection.execute("INSERT INTO frame DEFAULT VALUES")
    ((_, type_, *_),) = connection.execute(f"DESCRIBE SELECT {canonical} FROM frame").fetchall()
    connection.execute(f"SELECT {canonical} FROM frame").fetchall()
    return str(type_)


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _walk(child)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
