"""Vetting of slice predicates: only listed kinds of expressions, functions, types and known columns are let through."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, NoReturn

import duckdb

from curation.catalog.predicate_tree import (
    DEEPEST,
    FAMILIES,
    PREDICTED,
    TOO_DEEP,
    Node,
    compared_tasks,
    constants,
    parse,
    quoted_name,
    sealed,
    walk,
    write,
)  # fmt: skip
from curation.catalog.slice_copies import MOST_COPIES, copies, copies_each_time
from curation.catalog.slice_vocabulary import FUNCTIONS, GROWING, PATTERNS, QUADRATIC, REGULAR, TYPES
from curation.catalog.vetting_process import serve, vet_in_child
from curation.errors import BadInput

__all__ = ["Frame", "vet", "vet_requests"]

ALLOWED: Final = {
    "BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "LAMBDA",
    "LAMBDA_REF", "OPERATOR",
}  # fmt: skip
"""Classes of expressions that a predicate may hold: no subquery, star, parameter, window, default or collation."""

SYNTAX: Final = {
    "date_part", "ilike_escape", "like_escape", "list_apply", "list_filter", "list_value", "map", "not_ilike_escape",
    "not_like_escape", "position", "row", "struct_extract", "struct_pack", "substring", "trim",
}  # fmt: skip
"""Functions that DuckDB's parser writes, with their schema, for brackets, braces, EXTRACT, ESCAPE and the like."""

EXTRACTS: Final = ("ARRAY_EXTRACT", "STRUCT_EXTRACT")
"""Operators of brackets and dots, which take a field. Anywhere else `pred.TASK` is its value."""

LONGEST: Final = 10_000
LONGEST_GROWING: Final = 2_000
"""Most characters of a predicate, and of one with a `GROWING` function."""

SEARCHED: Final = ("~~", "!~~")
"""LIKE and NOT LIKE: DuckDB searches for the parts of a pattern one after the other, unless it holds _. All other
matchers try every place of the first part with every place of the second."""

LONGEST_DISTANCE: Final = 200
MOST_WILDCARDS: Final = 3
"""Most characters of one of the texts whose distance is taken, and most wildcards (runs of them) of a pattern: a
matcher tries length^wildcards ways."""

MOST_LAMBDAS: Final = 2
MOST_GROWTH: Final = 2
"""Most nested lambdas, and the largest sum of `GROWING` weights on the path to one expression."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The columns that a predicate may name: family -> name -> DuckDB type; and the classes of categorical tasks."""

    families: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def resolve(self, parts: list[str], predicate: str) -> list[str]:
        """`parts` with its family in front; BadInput unless exactly one column fits."""
        if parts[0] in self.families and len(parts) > 1:
            if parts[1] not in self.families[parts[0]]:
                raise BadInput(
                    f"slice {predicate!r}: there is no {parts[0]}.{parts[1]}{self._hint(parts[1])}; correct the name"
                )
            return parts
        fits = [name for name in ("attr", "label") if parts[0] in self.families.get(name, {})]
        if len(fits) != 1:
            why = "fits more than one column" if fits else f"is not a column{self._hint(parts[0])}"
            raise BadInput(f"slice {predicate!r}: {parts[0]!r} {why}; write attr.NAME or label.TASK")
        return [fits[0], *parts]

    def _hint(self, name: str) -> str:
        known = [f"{family}.{column}" for family, columns in self.families.items() for column in columns]
        near = difflib.get_close_matches(name, [column.partition(".")[2] for column in known], 1)
        return f" (did you mean {near[0]!r}?)" if near else ""


def vet(predicate: str, frame: Frame) -> str:
    """The canonical text of `predicate`, which must be one boolean expression over columns of `frame`; else BadInput.

    It is vetted in a child process, under limits of time and memory, once for each frame.

    >>> vet("speed>30 and not night", Frame(families={"attr": {"speed": "DOUBLE", "night": "BOOLEAN"}}))
    '((attr.speed > 30) AND (NOT attr.night))'
    """
    if len(predicate) > LONGEST:
        raise BadInput(f"slice of {len(predicate)} characters: must have at most {LONGEST}; write it shorter")
    if "\0" in predicate:
        raise BadInput(f"slice {predicate!r}: holds a NUL, where DuckDB stops to read; take it out")
    families = tuple((name, tuple(sorted(columns.items()))) for name, columns in sorted(frame.families.items()))
    return _vetted(predicate, families, tuple(sorted(frame.classes.items())))


@lru_cache(maxsize=1024)
def _vetted(predicate: str, families: Any, classes: Any) -> str:
    frame = {"families": {name: dict(columns) for name, columns in families}, "classes": dict(classes)}
    return vet_in_child(predicate, frame)


def vet_requests() -> None:
    """What the child process of `vetting_process` runs: it vets what comes in on standard input."""
    serve(lambda predicate, frame: _vet(predicate, Frame(families=frame["families"], classes=frame["classes"])))


def _vet(predicate: str, frame: Frame) -> str:
    with sealed() as connection:
        connection.execute("SET lock_configuration = true")
        expression = parse(connection, predicate)
        vetting = _Vetting(predicate, frame)
        vetting.check(expression, _Path())
        vetting.check_copies(expression)
        try:
            canonical = write(connection, expression)
            canonical = write(connection, parse(connection, canonical))  # some constants settle at the second writing
            type_ = _bind(connection, canonical, frame)
        except duckdb.OutOfMemoryException:
            raise MemoryError from None
        except duckdb.Error as error:
            raise BadInput(f"slice {predicate!r}: {str(error).splitlines()[0]}; correct it") from None
    if type_ != "BOOLEAN":
        raise BadInput(f"slice {predicate!r}: gives {type_}, must be true or false; compare it with a value")
    return canonical


@dataclass(frozen=True, kw_only=True)
class _Path:
    """What is above a node: the parameters of lambdas, the numbers of lambdas, expressions and growth weights, and
    whether a field is taken of it."""

    bound: frozenset[str] = frozenset()
    lambdas: int = 0
    depth: int = 0
    growth: int = 0
    field_of: bool = False


@dataclass(frozen=True)
class _Vetting:
    """One predicate under check. The methods named after a class of nodes check one such node, and return the path of
    the nodes below it."""

    predicate: str
    frame: Frame

    def check(self, node: Any, path: _Path) -> None:
        """Refuse whatever is not allowed in a tree, and qualify bare columns in place."""
        if isinstance(node, list):
            for child in node:
                self.check(child, path)
        if isinstance(node, dict):
            below = self._enter(node, path)
            for child in [node["expr"]] if node.get("class") == "LAMBDA" else node.values():
                self.check(child, below)
            self._check_classes(node)

    def check_copies(self, expression: Node) -> None:
        """Refuse what copies the texts of a row too often: no limit of DuckDB counts their memory."""
        attributes = self.frame.families.get("attr", {})
        if copies_each_time(expression, attributes):
            self._refuse("names a column for each entry of a list that it makes; use list_filter, or compare outside")
        if copies(expression, attributes) > MOST_COPIES:
            self._refuse(
                f"copies texts more than {MOST_COPIES} times (by joins, replacements, splits); write it shorter"
            )

    def _enter(self, node: Node, path: _Path) -> _Path:
        kind = node.get("class")
        if kind is None:
            return path
        path = replace(path, depth=path.depth + 1, field_of=path.field_of and kind == "COLUMN_REF")
        if path.depth > DEEPEST:
            self._refuse(TOO_DEEP)
        if kind not in ALLOWED:
            self._refuse(f"holds a {kind.lower()}, which slices may not; write it without")
        check_one = _CHECKS.get(kind)
        return check_one(self, node, path) if check_one else path

    def operator(self, node: Node, path: _Path) -> _Path:
        if "SUBQUERY" in str(node.get("type")):
            self._refuse("holds a subquery, which slices may not; write it without")
        return replace(path, field_of=node.get("type") in EXTRACTS)

    def column(self, node: Node, path: _Path) -> _Path:
        if node["column_names"][0] not in path.bound:
            parts = self.frame.resolve(node["column_names"], self.predicate)
            whole = parts[0] in PREDICTED and len(parts) == 2 and not path.field_of
            node["column_names"] = [*parts, "value"] if whole else parts
        return path

    def cast(self, node: Node, path: _Path) -> _Path:
        """Refuse a cast to a type that depends on the session, an extension or the catalog."""
        types = [part for part in walk(node["cast_type"]) if "id" in part]
        names = {part["id"] if part["id"] != "UNBOUND" else part["type_info"]["name"] for part in types}
        if unknown := sorted(names - TYPES):
            self._refuse(f"casts to {unknown[0]}, which slices may not; compare without")
        return path

    def function(self, node: Node, path: _Path) -> _Path:
        """Refuse a function that is not on the list, aggregates, or could grow without bound."""
        name = node["function_name"]
        qualified = node.get("catalog") or (node.get("schema") and name not in SYNTAX)
        if name not in FUNCTIONS or qualified:
            self._refuse(f"{name}() is not a function that slices may use (same short result always); write it without")
        if node.get("filter") or node.get("distinct") or (node.get("order_bys") or {}).get("orders"):
            self._refuse(f"{name}() aggregates, which slices may not; write it without")
        self._check_cost(node, name)
        growth = path.growth + GROWING.get(name, 0)
        if name in GROWING and (growth > MOST_GROWTH or path.lambdas or len(self.predicate) > LONGEST_GROWING):
            self._refuse(
                f"{name}() could grow beyond any memory here; take it out of the lambda or the other function, and "
                f"write at most {LONGEST_GROWING} characters"
            )
        return replace(path, growth=growth, field_of=name.upper() in EXTRACTS)

    def _check_cost(self, node: Node, name: str) -> None:
        """Refuse a distance between two long texts, and patterns that a matcher tries in very many ways."""
        texts = [_text(child) for child in node["children"]]
        if name in QUADRATIC and not any(text is not None and len(text) <= LONGEST_DISTANCE for text in texts):
            self._refuse(f"{name}() needs a text of at most {LONGEST_DISTANCE} characters as one argument; compare one")
        pattern = texts[1] if len(texts) > 1 else None
        if pattern is None and (name in PATTERNS or name in REGULAR):
            self._refuse(f"{name} compares with a pattern that is not a text; write the pattern out")
        if pattern is not None and (wildcards := PATTERNS.get(name)):
            if len(re.findall(f"[{re.escape(wildcards)}]+", pattern)) > MOST_WILDCARDS:
                self._refuse(f"pattern {pattern[:60]!r} has more than {MOST_WILDCARDS} wildcards; use regexp_matches")
            searched = re.findall(f"[{re.escape(wildcards)}]+[^{re.escape(wildcards)}]", pattern)
            if len(searched) > 1 and (name not in SEARCHED or "_" in pattern):
                self._refuse(
                    f"pattern {pattern[:60]!r} searches twice, which takes the square of the length; use LIKE without "
                    "_, two patterns with AND, or regexp_matches"
                )

    def lambda_(self, node: Node, path: _Path) -> _Path:
        names = {part for child in walk(node["lhs"]) for part in child.get("column_names", [])}
        if any(name.lower() in FAMILIES or not name.isidentifier() for name in names):
            self._refuse("a lambda's parameter hides a column; give it another name")
        if path.lambdas == MOST_LAMBDAS:
            self._refuse(f"nests lambdas deeper than {MOST_LAMBDAS}; write it flatter")
        return replace(path, bound=path.bound | names, lambdas=path.lambdas + 1)

    def _check_classes(self, node: Node) -> None:
        """Refuse a label compared with a word that is not a class of its task: the slice would always be empty."""
        words = [constant["value"] for constant in constants(node)]
        for task in compared_tasks(node):
            classes = self.frame.classes.get(task)
            for word in words:
                if classes is not None and isinstance(word, str) and word not in classes:
                    near = ", ".join(difflib.get_close_matches(word, classes, 1) or classes)
                    self._refuse(f"{task} has no class {word!r}; did you mean {near}?")

    def _refuse(self, why: str) -> NoReturn:
        raise BadInput(f"slice {self.predicate!r}: {why}")


def _text(node: Node) -> str | None:
    """The text of a constant, else None."""
    value = node["value"]["value"] if node.get("class") == "CONSTANT" and not node["value"]["is_null"] else None
    return value if isinstance(value, str) else None


_CHECKS: Final[dict[str, Callable[[_Vetting, Node, _Path], _Path]]] = {
    "OPERATOR": _Vetting.operator,
    "COLUMN_REF": _Vetting.column,
    "CAST": _Vetting.cast,
    "FUNCTION": _Vetting.function,
    "LAMBDA": _Vetting.lambda_,
}


def _bind(connection: duckdb.DuckDBPyConnection, canonical: str, frame: Frame) -> str:
    """The type of an expression, after a run on a frame of one row without values."""
    structs = [
        f'"{family}" STRUCT({", ".join(f"{quoted_name(name)} {type_}" for name, type_ in columns.items())})'
        for family, columns in frame.families.items()
        if columns
    ]
    connection.execute(f"CREATE TABLE frame ({', '.join(['sample_id BIGINT', *structs])})")
    connection.execute("INSERT INTO frame DEFAULT VALUES")
    ((_, type_, *_),) = connection.execute(f"DESCRIBE SELECT {canonical} FROM frame").fetchall()
    connection.execute(f"SELECT {canonical} FROM frame").fetchall()
    return str(type_)
