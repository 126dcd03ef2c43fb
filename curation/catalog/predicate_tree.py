"""Predicates as trees: DuckDB parses the text into JSON, and writes the JSON back as canonical text.

All of this runs in an empty in-memory DuckDB without access to files, network or extensions.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import duckdb

from curation.catalog.arrow_query import scalar
from curation.errors import BadInput

__all__ = [
    "DEEPEST",
    "FAMILIES",
    "PREDICTED",
    "TOO_DEEP",
    "Node",
    "compared_tasks",
    "constants",
    "parse",
    "quoted_name",
    "sealed",
    "walk",
    "write",
]

Node = dict[str, Any]

PREDICTED: Final = ("pred", "pred_before", "pred_after", "pred_other")
"""What a run predicts for an image, for the frames before and after it, and what another run predicts for it."""

FAMILIES: Final = ("attr", "label", "looked", "state", "instructions", *PREDICTED, "boxes")
"""Families of columns that a predicate may name."""

MEMBERSHIP: Final = {"array_contains", "array_has", "list_contains", "list_has"}
"""Functions that test whether a multilabel holds a class."""

DEEPEST: Final = 100
TOO_DEEP: Final = f"is nested deeper than {DEEPEST} expressions; write it flatter"
"""Most levels of nested expressions. Python's JSON reader fails at about a thousand."""


def sealed() -> duckdb.DuckDBPyConnection:
    """An empty in-memory DuckDB without access to files, network or extensions, and with little memory."""
    return duckdb.connect(
        ":memory:", config={"enable_external_access": "false", "memory_limit": "256MB", "threads": "1"}
    )


def parse(connection: duckdb.DuckDBPyConnection, predicate: str) -> Node:
    """The expression of `SELECT predicate`; BadInput when the text holds anything else."""
    text = scalar(connection, "SELECT json_serialize_sql(?)", [f"SELECT {predicate}"])
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise BadInput(f"slice {predicate!r}: {TOO_DEEP}") from None
    if parsed["error"]:
        reason = str(parsed["error_message"]).splitlines()[0]
        raise BadInput(f"slice {predicate!r}: not one boolean expression ({reason}); correct it")
    node = parsed["statements"][0]["node"] if len(parsed["statements"]) == 1 else {}
    if not _is_plain(node):
        raise BadInput(f"slice {predicate!r}: must be one boolean expression and nothing else; take the rest out")
    expression: Node = node["select_list"][0]
    return expression


def write(connection: duckdb.DuckDBPyConnection, expression: Node) -> str:
    """The text of an expression, as DuckDB writes it."""
    statement = json.loads(scalar(connection, "SELECT json_serialize_sql('SELECT 1')"))
    statement["statements"][0]["node"]["select_list"] = [expression]
    text = scalar(connection, "SELECT json_deserialize_sql(?::JSON)", [json.dumps(statement)])
    return str(text).removeprefix("SELECT ").removesuffix(";")


def walk(node: Any) -> Iterator[Node]:
    """All nodes of a tree, parents first."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def compared_tasks(node: Node) -> list[str]:
    """Tasks whose label or predicted value this node compares with something."""
    columns = [side["column_names"] for side in _sides(node) if side.get("class") == "COLUMN_REF"]
    return [
        parts[1]
        for parts in columns
        if (parts[0] in ("label", "looked") and not parts[2:]) or (parts[0] in PREDICTED and parts[2:] == ["value"])
    ]


def constants(node: Node) -> list[Node]:
    """The constants that this node compares with something."""
    return [side["value"] for side in _sides(node) if side.get("class") == "CONSTANT"]


def quoted_name(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _is_plain(node: Node) -> bool:
    """Whether a statement is `SELECT expression` without any other clause."""
    return (
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


def _sides(node: Node) -> list[Node]:
    """The operands of a comparison, an IN or a membership test."""
    if node.get("class") == "FUNCTION" and node["function_name"] not in MEMBERSHIP:
        return []
    if node.get("class") not in ("COMPARISON", "OPERATOR", "FUNCTION"):
        return []
    return node["children"] if "children" in node else [node["left"], node["right"]]
