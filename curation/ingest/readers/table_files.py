"""Tables in files: CSV, Parquet and Arrow, each row with its line or row number.

pyarrow reads all three. A CSV is read as text, so that the type of a column is decided once for all its cells. It is
read on one thread, so that lines can be counted: empty lines too, and those inside quotes.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from curation.errors import BadInput, NotFound

__all__ = ["SourceTable", "read_source_table"]

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """The table of the file `name`; `numbers` holds the line (or row, from 1) of each row."""

    name: str
    table: pa.Table
    word: Literal["line", "row"]
    numbers: pa.Array

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def where(self, row: int) -> str:
        """The file and line (or row) of a row, for messages."""
        return f"{self.name} {self.word} {self.numbers[row]}"

    def origins(self) -> pa.Array:
        """The file and line (or row) of each row."""
        return pc.binary_join_element_wise(f"{self.name} {self.word}", self.numbers.cast(pa.string()), " ")

    def filter(self, mask: pa.Array | pa.ChunkedArray) -> "SourceTable":
        """The rows where `mask` is true."""
        mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
        return SourceTable(
            name=self.name, table=self.table.filter(mask), word=self.word, numbers=self.numbers.filter(mask)
        )

    def column(self, name: str) -> pa.ChunkedArray:
        """The column `name`; BadInput if it does not exist."""
        if name not in self.table.column_names:
            near = difflib.get_close_matches(name, self.table.column_names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(self.table.column_names)}"
            raise BadInput(f"{self.name}: has no column {name!r}; {hint}")
        return self.table[name]

    def first_of(self, names: Iterable[str]) -> str:
        """The first of these columns that exists, or an empty text."""
        return next((name for name in names if name in self.table.column_names), "")


def read_source_table(folder: Path, file: str, *, delimiter: str = "", unknown: Iterable[str] = ("",)) -> SourceTable:
    """The table in a file; its extension is .csv, .tsv, .txt, .parquet, .arrow, .ipc or .feather.

    The words in `unknown` are nulls in a CSV; `delimiter` is a comma, or a tab in a .tsv. NotFound and BadInput name
    the file and, in a CSV, the line.
    """
    path = folder / file
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file; check the path")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        return _read_csv(path, file, delimiter or ("\t" if suffix == ".tsv" else ","), list(unknown))
    if suffix not in (".parquet", ".pq", ".arrow", ".ipc", ".feather"):
        raise BadInput(f"{path}: must be .csv, .tsv, .parquet, .arrow or .feather; convert it or rename it")
    try:
        table = pq.read_table(path) if suffix in (".parquet", ".pq") else _read_arrow(path)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: cannot be read as a {suffix} file ({_line(error)}); write it again") from None
    table = pa.table({name: _plain(table[name]) for name in table.column_names})
    return _checked(SourceTable(name=file, table=table, word="row", numbers=pa.array(np.arange(1, len(table) + 1))))


def _read_arrow(path: Path) -> pa.Table:
    try:
        return ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid:  # a stream has no footer
        return ipc.open_stream(pa.memory_map(str(path))).read_all()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    type_ = column.type
    if pa.types.is_dictionary(type_):
        column, type_ = column.cast(type_.value_type), type_.value_type
    if pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return column.cast(pa.string())
    return column.cast(pa.float64()) if pa.types.is_decimal(type_) else column


def _read_csv(path: Path, file: str, delimiter: str, unknown: list[str]) -> SourceTable:
    data = path.read_bytes().removeprefix(_BOM)
    _check_text(data, file)
    names = _names(data, delimiter, file)
    wrong: list[tuple[int, int]] = []

    def note(row: csv.InvalidRow) -> str:
        wrong.append((row.number, row.actual_columns))
        return "skip"

    parsing = csv.ParseOptions(
        delimiter=delimiter, newlines_in_values=b'"' in data, ignore_empty_lines=False, invalid_row_handler=note
    )
    converting = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=unknown
    )
    try:
        reading = csv.ReadOptions(use_threads=False, block_size=1 << 24)
        table = csv.read_csv(pa.BufferReader(data), reading, parsing, converting)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{file}: cannot be read as CSV ({_line(error)}); correct it") from None
    begins = _begins(table)
    if wrong:
        row, columns = wrong[0]
        line = begins[row - 2]  # the header is row 1, and all rows before this one are in the table
        raise BadInput(
            f"{file} line {line}: has {columns} values, and there are {len(names)} columns; correct it, or quote "
            f"values with a {delimiter!r}"
        )
    numbers = begins.slice(0, len(table))
    _check_quotes(data, table, numbers, file)
    source = SourceTable(name=file, table=table, word="line", numbers=numbers)
    filled = [pc.is_valid(column) for column in table.columns]
    some = filled[0]
    for other in filled[1:]:
        some = pc.or_(some, other)
    return _checked(source if pc.all(some).as_py() in (True, None) else source.filter(some))


def _check_text(data: bytes, file: str) -> None:
    if not data.strip():
        raise BadInput(f"{file}: is empty; its first line names the columns")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{file} line {line}: is not UTF-8; save the file as UTF-8") from None


def _names(data: bytes, delimiter: str, file: str) -> list[str]:
    head = data[: data.find(b"\n") + 1 or len(data)]
    options = csv.ParseOptions(delimiter=delimiter)
    names = list(csv.read_csv(pa.BufferReader(head), csv.ReadOptions(use_threads=False), options).column_names)
    other = next((mark for mark in ",;\t|" if mark != delimiter and mark in names[0]), None)
    if len(names) == 1 and other:
        raise BadInput(f"{file} line 1: names one column, {names[0][:60]!r}; set the delimiter: delimiter = {other!r}")
    return names


def _begins(table: pa.Table) -> pa.Array:
    """The line in which each row begins, and the line after the last row; the header is line 1."""
    inside = np.zeros(len(table), np.int64)
    for column in table.columns:
        breaks = pc.fill_null(pc.count_substring(column, "\n"), 0)
        if pc.any(pc.greater(breaks, 0)).as_py():
            inside += np.asarray(breaks, np.int64)
    return pa.array(np.arange(2, len(table) + 3) + np.concatenate([[0], np.cumsum(inside)]))


def _check_quotes(data: bytes, table: pa.Table, numbers: pa.Array, file: str) -> None:
    """pyarrow reads an unclosed quote and all text after it as one value."""
    if data.count(b'"') % 2 and len(table):
        last = table.slice(len(table) - 1).to_pylist()[0]
        if any(text and "\n" in text for text in last.values()):
            raise BadInput(f"{file} line {numbers[-1]}: a quote opens and is never closed; close it or double it")


def _checked(source: SourceTable) -> SourceTable:
    names = source.table.column_names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"{source.name}: has two columns {twice!r}; rename one of them")
    return source


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
