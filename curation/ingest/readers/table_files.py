"""Tables in files: CSV, Parquet and Arrow, each row with the place where it stands.

pyarrow reads all three. A CSV is read as text alone, so that what a column holds is decided once for the whole of it,
and on one thread, so that lines can be counted: empty ones too, and those inside of quotes.
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

from curation.catalog.attributes import EXACT
from curation.errors import BadInput, NotFound

__all__ = ["Sheet", "read_sheet"]

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table of the file `name`, whose rows stand in the lines (or rows, from 1 on) `numbers`."""

    name: str
    table: pa.Table
    word: Literal["line", "row"]
    numbers: pa.Array

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def where(self, row: int) -> str:
        """Where a row stands, for people."""
        return f"{self.name} {self.word} {self.numbers[row]}"

    def origins(self) -> pa.Array:
        """Where each row stands."""
        return pc.binary_join_element_wise(f"{self.name} {self.word}", self.numbers.cast(pa.string()), " ")

    def filter(self, mask: pa.Array | pa.ChunkedArray) -> "Sheet":
        """The rows where `mask` is true."""
        mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
        return Sheet(name=self.name, table=self.table.filter(mask), word=self.word, numbers=self.numbers.filter(mask))

    def column(self, name: str) -> pa.ChunkedArray:
        """A column; BadInput when there is none of that name."""
        if name not in self.table.column_names:
            near = difflib.get_close_matches(name, self.table.column_names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(self.table.column_names)}"
            raise BadInput(f"{self.name}: has no column {name!r}; {hint}")
        return self.table[name]

    def first_of(self, names: Iterable[str]) -> str:
        """The first of these columns that there is, or nothing."""
        return next((name for name in names if name in self.table.column_names), "")


def read_sheet(folder: Path, file: str, *, delimiter: str = "", unknown: Iterable[str] = ("",)) -> Sheet:
    """The table in a file: .csv, .tsv or .txt, .parquet, or .arrow, .ipc and .feather, told by its name.

    In a CSV the words in `unknown` are nulls; `delimiter` is a comma, or a tab in a .tsv. NotFound and BadInput name
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
    return _checked(Sheet(name=file, table=table, word="row", numbers=pa.array(np.arange(1, len(table) + 1))))


def _read_arrow(path: Path) -> pa.Table:
    try:
        return ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid:  # what was written as a stream has no footer
        return ipc.open_stream(pa.memory_map(str(path))).read_all()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    type_ = column.type
    if pa.types.is_dictionary(type_):
        column, type_ = column.cast(type_.value_type), type_.value_type
    if pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return column.cast(pa.string())
    return column.cast(_number_type(column)) if pa.types.is_decimal(type_) else column


def _number_type(decimals: pa.ChunkedArray) -> pa.DataType:
    """int64 for decimals that are all whole and fit into it; float64 for others, unless it could round a whole one."""
    try:
        decimals.cast(pa.int64())
    except pa.ArrowInvalid:  # a fraction, or beyond int64
        far = pc.greater(pc.abs(decimals.cast(pa.float64(), safe=False)), float(EXACT))
        return decimals.type if pc.any(far).as_py() else pa.float64()
    return pa.int64()


def _read_csv(path: Path, file: str, delimiter: str, unknown: list[str]) -> Sheet:
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
        raise BadInput(f"{file}: cannot be read as CSV ({_line(error)}); mend it") from None
    begins = _begins(table)
    if wrong:
        row, columns = wrong[0]
        line = begins[row - 2]  # the header is row 1, and all rows before this one are in the table
        raise BadInput(
            f"{file} line {line}: has {columns} values, and there are {len(names)} columns; mend it, or quote what "
            f"holds a {delimiter!r}"
        )
    numbers = begins.slice(0, len(table))
    _check_quotes(data, table, numbers, file)
    sheet = Sheet(name=file, table=table, word="line", numbers=numbers)
    filled = [pc.is_valid(column) for column in table.columns]
    some = filled[0]
    for other in filled[1:]:
        some = pc.or_(some, other)
    return _checked(sheet if pc.all(some).as_py() in (True, None) else sheet.filter(some))


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
        raise BadInput(f"{file} line 1: names one column, {names[0][:60]!r}; say what parts it: delimiter = {other!r}")
    return names


def _begins(table: pa.Table) -> pa.Array:
    """The line that each row begins in, and the one behind the last row, when the first is the header's."""
    inside = np.zeros(len(table), np.int64)
    for column in table.columns:
        breaks = pc.fill_null(pc.count_substring(column, "\n"), 0)
        if pc.any(pc.greater(breaks, 0)).as_py():
            inside += np.asarray(breaks, np.int64)
    return pa.array(np.arange(2, len(table) + 3) + np.concatenate([[0], np.cumsum(inside)]))


def _check_quotes(data: bytes, table: pa.Table, numbers: pa.Array, file: str) -> None:
    """A quote without a partner takes in all that follows, and pyarrow calls that a value."""
    if data.count(b'"') % 2 and len(table):
        last = table.slice(len(table) - 1).to_pylist()[0]
        if any(text and "\n" in text for text in last.values()):
            raise BadInput(f"{file} line {numbers[-1]}: a quote opens and is never closed; close it or double it")


def _checked(sheet: Sheet) -> Sheet:
    names = sheet.table.column_names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"{sheet.name}: has two columns {twice!r}; rename one of them")
    return sheet


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
