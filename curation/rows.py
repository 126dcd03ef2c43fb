"""Tables that come out of functions: a list of rows that a notebook shows, and that becomes Arrow or pandas."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from functools import wraps
from importlib.util import find_spec
from types import NoneType, UnionType
from typing import (
    Any,
    Final,
    ParamSpec,
    SupportsIndex,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)  # fmt: skip

import pyarrow as pa

from curation.errors import NotFound

__all__ = ["LONGEST_REPR", "SHOWN", "Rows", "html_table", "shortened", "tabled"]

Row = TypeVar("Row")
Parameters = ParamSpec("Parameters")

SHOWN: Final = 20
"""Rows that a notebook shows."""

LONGEST_CELL: Final = 80
"""Letters of a cell in a notebook."""

LONGEST_REPR: Final = 200
"""Letters of a `repr`."""

ARROW: Final = {
    str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), datetime: pa.timestamp("us", tz="UTC"),
}  # fmt: skip
"""The Arrow type of a field; those of other fields follow from their values."""


class Rows(list[Row]):
    """A list of dataclasses, or of dictionaries with the same names, that is also a table.

    `kind` is the dataclass, which gives the columns their names and types, or the columns of dictionaries. A notebook
    shows the first 20 rows.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Count:
    ...     task: str
    ...     labels: int | None
    >>> rows = Rows([Count("color", 3), Count("car", None)], Count)
    >>> rows
    2 rows of Count: task, labels
    >>> rows.to_arrow().to_pydict()
    {'task': ['color', 'car'], 'labels': [3, None]}
    >>> Rows([], Count).to_arrow().schema.types
    [DataType(string), DataType(int64)]
    """

    def __init__(self, rows: Iterable[Row], kind: type[Row] | Sequence[str]) -> None:
        super().__init__(rows)
        self._kind = kind

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        kind: Any = self._kind
        return [field.name for field in fields(kind)] if isinstance(kind, type) else list(kind)

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table; nested dataclasses become structs."""
        types = self._types()
        plain = [_plain(row) for row in self]
        return pa.table({name: _column([row.get(name) for row in plain], types.get(name)) for name in self.columns})

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame; NotFound where pandas is not installed, which Amber does not need."""
        if find_spec("pandas") is None:
            raise NotFound("pandas: is not installed; run pip install pandas, or use to_arrow()")
        return self.to_arrow().to_pandas()

    @overload
    def __getitem__(self, at: SupportsIndex) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> "Rows[Row]": ...

    def __getitem__(self, at: SupportsIndex | slice) -> "Row | Rows[Row]":
        """One row, or a part of the rows as `Rows`."""
        return Rows(super().__getitem__(at), self._kind) if isinstance(at, slice) else super().__getitem__(at)

    def __repr__(self) -> str:
        name = f" of {self._kind.__name__}" if isinstance(self._kind, type) else ""
        return shortened(f"{len(self):,} rows{name}: {', '.join(self.columns)}")

    def _repr_html_(self) -> str:
        plain = [_plain(row) for row in self[:SHOWN]]
        left = f"{len(self):,} rows" + (f", of which the first {SHOWN} are shown" if len(self) > SHOWN else "")
        return html_table(left, self.columns, [[row.get(name) for name in self.columns] for row in plain])

    def _types(self) -> dict[str, pa.DataType]:
        """The Arrow types that the fields of the dataclass declare."""
        try:
            hints = get_type_hints(self._kind) if isinstance(self._kind, type) else {}
        except NameError:  # a name that only type checkers import
            return {}
        return {name: ARROW[bare] for name, hint in hints.items() if (bare := _bare(hint)) in ARROW}


def tabled(kind: type[Row]) -> Callable[[Callable[Parameters, Iterable[Row]]], Callable[Parameters, Rows[Row]]]:
    """Let a function return its rows, of the dataclass `kind`, as `Rows`."""

    def decorate(function: Callable[Parameters, Iterable[Row]]) -> Callable[Parameters, Rows[Row]]:
        @wraps(function)
        def with_rows(*arguments: Parameters.args, **named: Parameters.kwargs) -> Rows[Row]:
            return Rows(function(*arguments, **named), kind)

        return with_rows

    return decorate


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of HTML with a caption; every text in it is escaped.

    >>> html_table("one <b>", [], [[1200]])
    '<table><caption>one &lt;b&gt;</caption><tbody><tr><td>1,200</td></tr></tbody></table>'
    """
    from html import escape  # no verb needs it

    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row)}</tr>" for row in rows)
    thead = f"<thead><tr>{head}</tr></thead>" if columns else ""
    return f"<table><caption>{escape(title)}</caption>{thead}<tbody>{body}</tbody></table>"


def shortened(text: str, longest: int = LONGEST_REPR) -> str:
    """A text of at most `longest` letters: where it is longer, its middle is left out.

    >>> shortened("abcdefghij", 7)
    'abc...j'
    """
    if len(text) <= longest:
        return text
    tail = (longest - 3) // 4
    return f"{text[: longest - 3 - tail]}...{text[len(text) - tail :]}"


def _plain(row: Any) -> Mapping[str, Any]:
    return row if isinstance(row, Mapping) else asdict(row)


def _bare(hint: Any) -> Any:
    """The type of a hint without `| None`."""
    if get_origin(hint) in (Union, UnionType):
        others = [part for part in get_args(hint) if part is not NoneType]
        return others[0] if len(others) == 1 else None
    return hint


def _column(values: list[Any], declared: pa.DataType | None) -> pa.Array:
    """An Arrow array of the declared type, else of the type of its values; as texts where these have no common type."""
    for type_ in (declared, None):
        try:
            return pa.array(values, type_)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            continue
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {_cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        value = ", ".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else shortened(str(value), LONGEST_CELL)
