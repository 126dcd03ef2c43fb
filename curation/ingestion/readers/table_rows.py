"""The rows of a table with the key and the location of each; rows that name no image are refused."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput
from curation.ingestion.readers.arrow_types import cast_column
from curation.ingestion.readers.declared_tables import BoxTable, LabelTable, SampleTable
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import EXTENSIONS, NAMELESS, key_of, located
from curation.ingestion.readers.table_files import SourceTable

__all__ = ["TableRows", "keys_of", "rows_of"]

_LOCATIONS = ("location", "path", "filepath", "file", "filename", "file_name", "image", "url")


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """The rows of a table: their keys, their locations (None if no column holds paths), and the columns of both."""

    source: SourceTable
    keys: pa.ChunkedArray
    locations: pa.ChunkedArray | None
    key_column: str
    path_column: str


def rows_of(
    source: SourceTable, table: SampleTable | LabelTable | BoxTable, dataset: str, root: str, findings: Findings
) -> TableRows:
    """The rows of a table; rows without an image, with a path outside `root` or with a known key are refused."""
    key, path = table.key or source.first_of(["key"]), table.location or source.first_of(_LOCATIONS)
    if not key and not path:
        raise _no_name(source)
    names = None
    if path:
        source, names = _named(source, path, findings, empty=bool(key))
        source, names, locations = _located(root, names, source, findings)
    if key:
        source, keys = _named(source, key, findings, empty=False)
        if names is not None:  # rows without a key are gone
            names = _text(source, path)
            source, names, locations = _located(root, names, source, findings)
            keys = _text(source, key)
    else:
        assert names is not None
        keys = keys_of(dataset, names, root)
    rows = TableRows(
        source=source, keys=keys, locations=locations if names is not None else None, key_column=key, path_column=path
    )
    return _once(rows, findings) if isinstance(table, SampleTable) else rows


def keys_of(dataset: str, names: pa.ChunkedArray, root: str = "") -> pa.ChunkedArray:
    """`key_of` for a column; only unusual names are handled one by one."""
    form = "|".join(extension[1:] for extension in NAMELESS)
    stems = pc.replace_substring_regex(names, rf"(?i)([^/])\.({form})$", r"\1")
    odd = pc.match_substring_regex(stems, "[^A-Za-z0-9_/-]|^/|//|/$|^$")
    keys = pc.binary_join_element_wise(dataset, stems, "/")
    if not pc.any(odd).as_py():
        return keys
    made = pa.array([key_of(dataset, name, root) for name in names.filter(odd).to_pylist()], pa.string())
    return pa.chunked_array([pc.replace_with_mask(keys.combine_chunks(), odd.combine_chunks(), made)])


def _no_name(source: SourceTable) -> BadInput:
    names = source.table.column_names
    if source.word == "line" and any(_is_cell(name) for name in names):
        shown = ", ".join(names)[:60]
        return BadInput(
            f"{source.name} line 1: has no column 'key' or of a path, and looks like a row ({shown}); write the names "
            "of the columns into the first line"
        )
    return BadInput(
        f"{source.name}: has no column 'key' or of a path ({', '.join(_LOCATIONS)}); set key or location in "
        f"[[reader.table]] to one of {', '.join(names)}"
    )


def _is_cell(name: str) -> bool:
    """Whether the name of a column looks like a value: a number or an image."""
    try:
        float(name)
    except ValueError:
        return name.lower().endswith(EXTENSIONS)
    return True


def _named(source: SourceTable, column: str, findings: Findings, *, empty: bool) -> tuple[SourceTable, pa.ChunkedArray]:
    """The rows with a name in `column`, and the names; rows without one are refused unless they may be `empty`."""
    names = _text(source, column)
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(names), ""), True)
    if empty or not pc.any(blank).as_py():
        return source, names
    rows = pc.indices_nonzero(blank).to_pylist()
    for row in rows:
        bytes_only = pa.types.is_struct(source.column(column).type)
        rule = "holds image bytes without a path" if bytes_only else f"{column} is empty"
        fix = "write the images to files" if bytes_only else "name the image of the row"
        findings.refuse(BadEntry(source.where(row), f"{column}:" if bytes_only else "", rule, fix))
    source = source.without(rows)
    return source, _text(source, column)


def _text(source: SourceTable, column: str) -> pa.ChunkedArray:
    """A column of names as text; of a struct (bytes, path), as Hugging Face writes images, the path."""
    found = source.column(column)
    if pa.types.is_struct(found.type) and "path" in [field.name for field in found.type]:
        found = pc.struct_field(found, "path")
    if pa.types.is_nested(found.type):
        raise BadInput(
            f"{source.name}: column {column!r} holds {found.type} and no paths; write the path of each image"
        )
    return found if pa.types.is_string(found.type) else cast_column(found, pa.string(), column, source.name)


def _located(
    root: str, names: pa.ChunkedArray, source: SourceTable, findings: Findings
) -> tuple[SourceTable, pa.ChunkedArray, pa.ChunkedArray]:
    """The rows whose path is sound, their names, and `located` for each; nulls stay."""
    form = "|".join(extension[1:] for extension in EXTENSIONS)
    odd = pc.fill_null(pc.match_substring_regex(names, r"^\s*$|^/|//|\\|(^|/)\.\.?(/|$)|:|/$"), False)
    plain = pc.fill_null(pc.match_substring_regex(names, rf"(?i)\.({form})$"), True)
    odd = pc.or_(odd, pc.invert(plain))
    locations = pc.binary_join_element_wise(root.rstrip("/"), names, "/")
    if not pc.any(odd).as_py():
        return source, names, locations
    rows, wrong = pc.indices_nonzero(odd).to_pylist(), []
    made: list[str | None] = []
    for row in rows:
        made.append(None)
        try:
            made[-1] = located(root, names[row].as_py(), source.where(row))
        except BadInput as error:
            findings.refuse(error)
            wrong.append(row)
    placed = pc.replace_with_mask(locations.combine_chunks(), odd.combine_chunks(), pa.array(made, pa.string()))
    if not wrong:
        return source, names, pa.chunked_array([placed])
    dropped = set(wrong)
    kept = pa.array([row not in dropped for row in range(len(names))])
    return source.without(wrong), names.filter(kept), pa.chunked_array([placed.filter(kept)])


def _once(rows: TableRows, findings: Findings) -> TableRows:
    """The first row of each key; further rows are refused."""
    codes = rows.keys.combine_chunks().dictionary_encode()
    if len(codes.dictionary) == len(codes):
        return rows
    first: dict[int, int] = {}
    wrong = []
    for row, code in enumerate(codes.indices.to_pylist()):
        if first.setdefault(code, row) != row:
            key, before = codes.dictionary[code].as_py(), rows.source.where(first[code])
            findings.refuse(BadInput(f"{rows.source.where(row)}: {key!r} is in {before} too; keep one"))
            wrong.append(row)
    dropped = set(wrong)
    kept = pa.array([row not in dropped for row in range(len(codes))])
    return TableRows(
        source=rows.source.without(wrong), keys=rows.keys.filter(kept),
        locations=None if rows.locations is None else rows.locations.filter(kept),
        key_column=rows.key_column, path_column=rows.path_column,
    )  # fmt: skip
