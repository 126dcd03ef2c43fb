"""How many copies of the texts of a row a predicate holds at once.

DuckDB evaluates a predicate on 2,048 rows at a time and keeps the result of every function meanwhile, outside its own
limit of memory. So a predicate of copies, each as long as the texts themselves, takes a multiple of them: with the most
copies that are allowed, and texts of 1,000 characters, 130 MB for each thread.
"""

from collections.abc import Mapping
from typing import Final

from curation.catalog.predicate_tree import FAMILIES, Node, walk
from curation.catalog.slice_vocabulary import COPYING, SPLITTING

__all__ = ["MOST_COPIES", "copies", "copies_each_time"]

MOST_COPIES: Final = 64

JOINING: Final = {"||", "concat", "concat_ws", "list_value", "map", "row", "struct_pack"}
REPLACING: Final = {"regexp_replace": 2, "replace": 2}
"""Functions with the place of the text that they put in."""

TRANSFORMING: Final = {"list_apply", "list_transform"}
LETTER: Final = 16
"""Bytes of one letter in a list."""


def copies(expression: Node, attributes: Mapping[str, str]) -> int:
    """The number of copies of texts that an expression with qualified columns holds; `attributes` have these types."""
    return sum(_copies(node, attributes) for node in walk(expression) if node.get("class") == "FUNCTION")


def copies_each_time(expression: Node, attributes: Mapping[str, str]) -> bool:
    """Whether a function that makes a list names a text of the row for each entry, so that copies have no bound."""
    made = [node for node in walk(expression) if node.get("function_name") in TRANSFORMING]
    bodies = [child["expr"] for node in made for child in node["children"] if child.get("class") == "LAMBDA"]
    return any(_is_text(node, attributes, parameters=False) for body in bodies for node in walk(body))


def _copies(node: Node, attributes: Mapping[str, str]) -> int:
    name, children = node["function_name"], node["children"]
    if not any(_is_text(part, attributes, parameters=True) for child in children for part in walk(child)):
        return 0
    if name in REPLACING and len(children) > REPLACING[name]:
        put_in = children[REPLACING[name]]
        text = put_in["value"]["value"] if put_in.get("class") == "CONSTANT" else None
        return max(1, len(text)) if isinstance(text, str) else MOST_COPIES + 1
    if name in JOINING:
        return len(children)
    listed = any(part.get("function_name") in SPLITTING for child in children for part in walk(child))
    return LETTER if name in SPLITTING or (listed and name in COPYING) else int(name in COPYING)


def _is_text(node: Node, attributes: Mapping[str, str], *, parameters: bool) -> bool:
    """Whether a node names a text or a box of the row; or a parameter of a lambda, if `parameters`."""
    if node.get("class") not in ("COLUMN_REF", "LAMBDA_REF"):
        return False
    family, *rest = node.get("column_names") or [""]
    if family == "attr" and rest and "VARCHAR" not in attributes.get(rest[0], "VARCHAR"):
        return False  # numbers, truth values and times are short
    return family in ("attr", "boxes") or (parameters and family not in FAMILIES)
