"""Tables in files: CSV, Parquet and Arrow, each row with its line or row number.

pyarrow reads all three. A CSV is read as text, so that the type of a column is decided once for all its cells. It is
read on one thread, so that lines can be counted: empty lines too, and those inside quotes.
"""

import difflib
import glob
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from curation.errors import BadInput, NotFound
from curation.ingestion.readers.arrow_types import plain_column
from curation.ingestion.readers.content_builder import plain_name
from curation.ingestion.readers.findings import BadEntry, Findings

__all__ = ["SourceTable", "read_source_table"]

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """The table of the file `name`; `numbers` holds the line (or row from 1, or entry) of each
    row.

    `files` holds the file of each row, where `name` is a folder or a pattern.
    """

    name: str
    table: pa.Table
    word: Literal["line", "row", "entry"]
    numbers: pa.Array
    files: pa.Array | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def where(self, row: int) -> str:
        """The file and line (or row) of a row, for messages."""
        if row >= len(self):  # a table without rows
            return self.name
        name = self.name if self.files is None else self.files[row].as_py()
        return f"{name} {self.word} {self.numbers[row]}"

    def origins(self) -> pa.Array:
        """The file and line (or row) of each row."""
        numbers = self.numbers.cast(pa.string())
        if self.files is None:
            return pc.binary_join_element_wise(f"{self.name} {self.word}", numbers, " ")
        return pc.binary_join_element_wise(self.files, self.word, numbers, " ")

    def filter(self, mask: pa.Array | pa.ChunkedArray) -> "SourceTable":
        """The rows where `mask` is true."""
        mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
        files = None if self.files is None else self.files.filter(mask)
        return replace(self, table=self.table.filter(mask), numbers=self.numbers.filter(mask), files=files)

    def without(self, rows: Sequence[int]) -> "SourceTable":
        """The table without these rows."""
        if not rows:
            return self
        kept = np.ones(len(self), np.bool_)
        kept[list(rows)] = False
        return self.filter(pa.array(kept))

    def column(self, name: str) -> pa.ChunkedArray:
        """The column `name`; BadInput if it does not exist."""
        if name not in self.table.column_names:
            near = difflib.get_close_matches(name, self.table.column_names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(self.table.column_names)}"
            raise BadInput(f"{self.name}: has no column {name!r}; {hint}")
        return self.table[name]

    def first_of(self, names: Iterable[str]) -> str:
        """The first of these columns that exists, or an empty text; case, blanks and punctuation may differ."""
        wanted = list(names)
        exact = next((name for name in wanted if name in self.table.column_names), "")
        by_plain = {plain_name(name): name for name in reversed(self.table.column_names)}
        return exact or next((by_plain[name] for name in wanted if name in by_plain), "")


def read_source_table(
    folder: Path, file: str, *, delimiter: str = "", unknown: Iterable[str] = ("",), findings: Findings | None = None
) -> SourceTable:
    """The table in a file; its extension is .csv, .tsv, .txt, .parquet, .arrow, .ipc or .feather.

    `file` may be a folder of such files, or a pattern (parts/*.parquet); folders named column=value add that column.
    The words in `unknown` are nulls in a CSV; `delimiter` is a comma, or a tab in a .tsv. NotFound and BadInput name
    the file and, in a CSV, the line.
    """
    path, unknown, findings = folder / file, list(unknown), findings or Findings()
    if path.is_file():
        return _read_one(folder, file, delimiter, unknown, findings)
    if path.is_dir():
        inside = [part for part in sorted(path.rglob("*")) if part.is_file()]
        files = [part for part in inside if not part.name.startswith((".", "_"))]
        findings.note_passed_over(file, Counter(["hidden or a marker"] * (len(inside) - len(files))))
        names = [part.relative_to(folder).as_posix() for part in files]
    else:
        names = sorted(glob.glob(file, root_dir=folder, recursive=True)) if glob.has_magic(file) else []
    if not names:
        raise NotFound(f"{path}: there is no such file; check the path")
    parts = []
    for name in names:
        with findings.entry():
            parts.append((name, _read_one(folder, name, delimiter, unknown, findings)))
    if not parts:
        raise BadInput(f"{file}: none of its {len(names):,} files can be read; write them again")
    return _joined(file, parts)


def _joined(file: str, parts: Sequence[tuple[str, SourceTable]]) -> SourceTable:
    """The tables of several files as one; each row keeps its file."""
    words = {part.word for _, part in parts}
    if len(words) > 1:
        raise BadInput(f"{file}: holds both CSV and other tables; name one format, such as {file}/*.parquet")
    tables = []
    for name, part in parts:
        table = part.table
        for pair in PurePosixPath(name).parent.parts:
            column, equals, value = pair.partition("=")
            if equals and column not in table.column_names:
                table = table.append_column(column, pa.array([unquote(value)] * len(table), pa.string()))
        tables.append(table)
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise BadInput(
            f"{file}: its files have other columns than each other ({_line(error)}); write them again"
        ) from None
    files = pa.array([name for name, part in parts for _ in range(len(part))], pa.string())
    numbers = pa.concat_arrays([part.numbers.cast(pa.int64()) for _, part in parts])
    return SourceTable(name=file, table=table, word=parts[0][1].word, numbers=numbers, files=files)


def _read_one(folder: Path, file: str, delimiter: str, unknown: list[str], findings: Findings) -> SourceTable:
    path = folder / file
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        return _read_csv(path, file, delimiter or ("\t" if suffix == ".tsv" else ","), unknown, findings)
    if suffix not in (".parquet", ".pq", ".arrow", ".ipc", ".feather"):
        raise BadInput(f"{path}: must be .csv, .tsv, .parquet, .arrow or .feather; convert it or rename it")
    try:
        table = pq.read_table(path, partitioning=None) if suffix in (".parquet", ".pq") else _read_arrow(path)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: cannot be read as a {suffix} file ({_line(error)}); write it again") from None
    _check_names(table.column_names, file)
    table = pa.table({name: plain_column(table[name], name, file) for name in table.column_names})
    return SourceTable(name=file, table=table, word="row", numbers=pa.array(np.arange(1, len(table) + 1)))


def _read_arrow(path: Path) -> pa.Table:
    try:
        return ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid:  # a stream has no footer
        return ipc.open_stream(pa.memory_map(str(path))).read_all()


def _read_csv(path: Path, file: str, delimiter: str, unknown: list[str], findings: Findings) -> SourceTable:
    data = _text(path.read_bytes().removeprefix(_BOM), file, findings)
    names = _names(data, delimiter, file)
    wrong: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        wrong.append(row)
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
    numbers = begins.slice(0, len(table))
    if wrong:
        numbers = _refuse_rows(wrong, begins, len(names), delimiter, file, findings)
    if _is_open(data, table):
        rule = "a quote opens and is never closed"
        findings.refuse(BadEntry(f"{file} line {numbers[-1]}", "", rule, "close it or double it"))
        table, numbers = table.slice(0, len(table) - 1), numbers.slice(0, len(table) - 1)
    source = SourceTable(name=file, table=table, word="line", numbers=numbers)
    _check_names(names, file)
    filled = [pc.is_valid(column) for column in table.columns]
    some = filled[0]
    for other in filled[1:]:
        some = pc.or_(some, other)
    return source if pc.all(some).as_py() in (True, None) else source.filter(some)


def _refuse_rows(
    wrong: list[csv.InvalidRow], begins: pa.Array, columns: int, delimiter: str, file: str, findings: Findings
) -> pa.Array:
    """Refuse the rows with a wrong number of values; the lines of the other rows, with these counted."""
    lines = np.asarray(begins, np.int64).copy()
    for before, row in enumerate(wrong):
        at = row.number - 2 - before  # the header is row 1, and refused rows are not in the table
        line = lines[at]
        fix = f"correct it, or quote values with a {delimiter!r}"
        rule = f"has {row.actual_columns} values, and there are {columns} columns"
        findings.refuse(BadEntry(f"{file} line {line}", "", rule, fix))
        lines[at:] += 1 + (row.text or "").count("\n")
    return pa.array(lines[:-1])


def _text(data: bytes, file: str, findings: Findings) -> bytes:
    """The bytes of a CSV as UTF-8: lines that are not are refused, and empty where they are quarantined."""
    if not data.strip():
        raise BadInput(f"{file}: is empty; its first line names the columns")
    if _is_utf8(data):
        return data
    lines = data.split(b"\n")
    for row, line in enumerate(lines):
        if not _is_utf8(line):
            error = BadEntry(f"{file} line {row + 1}", "", "is not UTF-8", "save the file as UTF-8")
            if row == 0:
                raise error
            findings.refuse(error)
            lines[row] = b""
    return b"\n".join(lines)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _names(data: bytes, delimiter: str, file: str) -> list[str]:
    head, options = data.partition(b"\n")[0] + b"\n", csv.ParseOptions(delimiter=delimiter)
    try:
        names = list(csv.read_csv(pa.BufferReader(head), csv.ReadOptions(use_threads=False), options).column_names)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{file} line 1: names no columns ({_line(error)}); it must name them") from None
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


def _is_open(data: bytes, table: pa.Table) -> bool:
    """Whether a quote is never closed: pyarrow reads it and all text after it as one value."""
    last = table.slice(len(table) - 1).to_pylist() if data.count(b'"') % 2 and len(table) else []
    return any(text and "\n" in text for row in last for text in row.values())


def _check_names(names: Sequence[str], file: str) -> None:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"{file}: has two columns {twice!r}; rename one of them")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
