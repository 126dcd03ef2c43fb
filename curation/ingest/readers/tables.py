"""Tables of samples, labels and boxes. No row is touched by Python: a million of them are read in seconds."""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.event_tables import LABELS, as_labels
from curation.catalog.tasks import Kind, Task
from curation.errors import BadInput
from curation.files.locations import is_url
from curation.ingest.readers.box_rows import boxes_of
from curation.ingest.readers.cells import attribute, numbers, said
from curation.ingest.readers.content import Content
from curation.ingest.readers.content_builder import plain_name
from curation.ingest.readers.declared import BoxTable, LabelTable, SampleTable, Tables
from curation.ingest.readers.image_paths import EXTENSIONS, SPLITS, key_of, located
from curation.ingest.readers.table_files import Sheet, read_sheet
from curation.ingest.readers.times import to_utc

__all__ = ["read_tables"]

_LOCATIONS = ("location", "path", "filepath", "file", "filename", "file_name", "image", "url")
_EMBEDDING = "embedding:"
_STATE_WORDS: tuple[Literal["unsure", "inapplicable"], ...] = ("unsure", "inapplicable")
_KINDS: dict[str, Kind] = {"text": "categorical", "number": "regression", "names": "multilabel", "boxes": "detection"}


def read_tables(folder: Path, declared: Tables, *, dataset: str, tasks: Sequence[Task]) -> Content:
    """Read the tables that are declared, from `folder`; `tasks` are the data set's.

    A row is about the sample of its key, or of the key that its path gives (`dataset`/path without extension). An image
    that a table locates is a sample; without a location it is one that the catalog holds, and what is said of it is
    added. NotFound and BadInput name the file and the line.
    """
    parts = [_Part(folder, table, declared, dataset, tasks) for table in declared.table]
    if not any(part.rows for part in parts):
        raise BadInput(f"{', '.join(table.file for table in declared.table)}: hold no row; fill or replace them")
    samples = _joined([part.samples() for part in parts])
    labels = [part.labels() for part in parts]
    labels += [part.without_boxes(samples, rows["key"]) for part, rows in zip(parts, labels, strict=True)]
    embeddings = reduce(lambda one, other: one | other, [part.embeddings() for part in parts])
    return Content.of(samples, pa.concat_tables(labels), held_back=declared.held_back, embeddings=embeddings)


class _Part:
    """One table, read, with the key of each row."""

    def __init__(
        self, folder: Path, table: SampleTable | LabelTable | BoxTable, declared: Tables, dataset: str,
        tasks: Sequence[Task],
    ) -> None:  # fmt: skip
        self._table, self._declared, self._tasks = table, declared, {task.name: task for task in tasks}
        self._sheet = read_sheet(folder, table.file, delimiter=table.delimiter, unknown=table.unknown)
        self.rows = len(self._sheet)
        self._key = table.key or self._sheet.first_of(["key"])
        self._location = table.location or self._sheet.first_of(_LOCATIONS)
        if not self._key and not self._location:
            self._sheet.column("key")
        root = declared.images if is_url(declared.images) else str((folder / declared.images).absolute())
        self._places = self._filled(self._location) if self._location else None
        if self._key:
            self._keys = self._filled(self._key)
        else:
            assert self._places is not None
            self._keys = _keys(dataset, self._places)
        self._located = _located(root, self._places, self._sheet) if self._places is not None else None

    def _filled(self, name: str) -> pa.ChunkedArray:
        """A column of names, each of which is there."""
        column = self._sheet.column(name)
        column = column if pa.types.is_string(column.type) else column.cast(pa.string())
        empty = pc.index(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True), True).as_py()
        if empty >= 0 and not (name == self._location and self._key):
            raise BadInput(f"{self._sheet.where(empty)}: {name} is empty; say which image the row is about")
        return column

    def samples(self) -> pa.Table:
        """Key, location (null where the catalog holds the image) and attributes; a key may stand in many rows."""
        table = self._table
        columns = {"key": self._keys, "location": self._located or pa.nulls(len(self._sheet), pa.string())}
        if isinstance(table, SampleTable):
            self._check_once()
            columns |= self._attributes(self._attribute_columns(table))
        elif isinstance(table, BoxTable):
            columns |= self._attributes(table.of_image)
        elif self._located is None:
            return pa.table(columns).slice(0, 0)
        return pa.table(columns)

    def labels(self) -> pa.Table:
        """All labels of the table, in the columns of `LABELS`."""
        table = self._table
        match table:
            case SampleTable():
                found = [
                    self._said(self._sheet, self._keys, column, task)
                    for column, task in self._task_columns(table).items()
                ]
                return pa.concat_tables(found) if found else LABELS.empty_table()
            case LabelTable():
                return self._long(table)
            case BoxTable():
                return self._with_annotator(boxes_of(self._sheet, self._keys, table))

    def without_boxes(self, samples: pa.Table, boxed: pa.ChunkedArray) -> pa.Table:
        """Labels that say "none" of the samples without a row, where a table of boxes declares that."""
        if not isinstance(self._table, BoxTable) or self._table.missing == "unknown":
            return LABELS.empty_table()
        keys = samples["key"].filter(pc.invert(pc.is_in(samples["key"], value_set=boxed.combine_chunks())))
        rows = {
            "key": keys,
            "task": [self._table.task] * len(keys),
            "boxes": pa.array([[]] * len(keys), LABELS.field("boxes").type),
            "origin": [f"{self._sheet.name} (no line)"] * len(keys),
        }
        return self._with_annotator(pa.table(rows))

    def embeddings(self) -> dict[str, pa.Table]:
        """Vectors by model."""
        if not isinstance(self._table, SampleTable):
            return {}
        return {model: self._vectors(column) for column, model in self._vector_columns(self._table).items()}

    def _vectors(self, name: str) -> pa.Table:
        column = self._sheet.column(name)
        if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
            raise BadInput(
                f"{self._sheet.name}: column {name!r} holds {column.type} and no vectors; write them to Parquet"
            )
        there = pc.is_valid(column)
        vectors = column.filter(there).cast(pa.list_(pa.float32()))
        return pa.table({"key": self._keys.filter(there), "vector": vectors})

    def _vector_columns(self, table: SampleTable) -> dict[str, str]:
        named = {
            name: name.removeprefix(_EMBEDDING)
            for name in self._sheet.table.column_names
            if name.startswith(_EMBEDDING)
        }
        return named | table.embeddings

    def _task_columns(self, table: SampleTable) -> dict[str, str]:
        """Columns that are labels, with their task."""
        names = self._sheet.table.column_names
        same = {name: name for name in names if name in self._tasks and name not in table.leave_out}
        return {name: task for name, task in same.items() if task not in table.tasks.values()} | table.tasks

    def _attribute_columns(self, table: SampleTable) -> Sequence[str]:
        if table.attributes is not None:
            return table.attributes
        for name in table.leave_out:
            self._sheet.column(name)
        other = {self._key, self._location, *self._task_columns(table), *self._vector_columns(table), *table.leave_out}
        return [name for name in self._sheet.table.column_names if name not in other]

    def _attributes(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        found: dict[str, pa.ChunkedArray] = {}
        for name in names:
            column, plain = self._sheet.column(name), plain_name(name)
            if plain in found or plain in ("key", "location", "excluded"):
                raise BadInput(
                    f"{self._sheet.name}: column {name!r} would be a second {plain}; rename it or leave it out"
                )
            if column.null_count == len(column):
                continue
            made = attribute(plain, column, self._table.types.get(name), self._declared.timezone, self._sheet.where)
            found[plain] = _splits(made) if plain == "split" else made
        return found

    def _said(self, sheet: Sheet, keys: pa.ChunkedArray, name: str, task: str) -> pa.Table:
        """The labels of one task that the column `name` holds; null is unknown."""
        assert isinstance(self._table, SampleTable | LabelTable)
        column = sheet.column(name)
        there = pc.is_valid(column)
        sheet, keys, column = sheet.filter(there), keys.filter(there), column.filter(there)
        states = self._states(column, pa.repeat("known", len(column)))
        kind = self._tasks[task].kind if task in self._tasks else "categorical"
        values = pc.if_else(pc.equal(states, "known"), column, pa.scalar(None, column.type))
        rows = {"key": keys, "task": pa.array([task] * len(keys), pa.string()), "origin": sheet.origins()}
        rows |= said(kind, values, name, self._table.separator, sheet.where)
        rows["state"] = states
        return self._with_annotator(pa.table(rows | self._asides(sheet)))

    def _asides(self, sheet: Sheet) -> dict[str, pa.ChunkedArray]:
        """State, annotator, confidence and time of the labels of a long table."""
        found: dict[str, pa.ChunkedArray] = {}
        if not isinstance(self._table, LabelTable):
            return found
        names = sheet.table.column_names
        if "annotator" in names:
            found["annotator"] = pc.fill_null(sheet.column("annotator").cast(pa.string()), self._declared.annotator)
        if "confidence" in names:
            found["confidence"] = numbers(sheet.column("confidence"), "confidence", sheet.where).cast(pa.float32())
        if "labelled_at" in names:
            found["labelled_at"] = to_utc(sheet.column("labelled_at"), self._declared.timezone, sheet.where)
        return found

    def _long(self, table: LabelTable) -> pa.Table:
        sheet, names = self._sheet, self._sheet.table.column_names
        asked = pa.array([table.task] * len(sheet)) if table.task else sheet.column("task").cast(pa.string())
        state = pc.fill_null(sheet.column("state"), "known") if "state" in names else pa.array(["known"] * len(sheet))
        value = sheet.first_of(["value", *_KINDS])
        if not value:
            sheet.column("value")
        found = []
        for task in pc.unique(asked).to_pylist():
            of = pc.fill_null(pc.equal(asked, task), False) if task is not None else pc.is_null(asked)
            part, keys, states = sheet.filter(of), self._keys.filter(of), state.filter(of)
            found.append(self._of_task(part, keys, states, task or "", value))
        return pa.concat_tables(found)

    def _of_task(self, sheet: Sheet, keys: pa.ChunkedArray, states: pa.Array, task: str, value: str) -> pa.Table:
        """The rows of one task of a long table: those with a value, and those whose state needs none."""
        kind = self._tasks[task].kind if task in self._tasks else "categorical"
        name = value if value == "value" else next(
            (column for column, other in _KINDS.items() if other == kind), "text"
        )  # fmt: skip
        if kind == "binary":
            name = value if value == "value" else "text"
        column = sheet.column(name)
        states = self._states(column, states)
        rows = {"key": keys, "task": pa.array([task] * len(sheet), pa.string()), "origin": sheet.origins()}
        named = pc.or_(_among(column, self._words("unsure")), _among(column, self._words("inapplicable")))
        values = pc.if_else(named, pa.scalar(None, column.type), column)
        rows |= said(kind, values, name, self._separator(), sheet.where)
        rows["state"] = states
        return self._with_annotator(pa.table(rows | self._asides(sheet)))

    def _states(self, column: pa.ChunkedArray, given: pa.Array) -> pa.Array:
        """The state of each cell: `given`, or what a word of the declaration says in the place of a known value."""
        known = pc.equal(given, "known")
        for state in _STATE_WORDS:
            given = pc.if_else(pc.and_(_among(column, self._words(state)), known), state, given)
        return given

    def _words(self, state: Literal["unsure", "inapplicable"]) -> Sequence[str]:
        """The words by which a cell says that its label has this state."""
        return getattr(self._table, state) if isinstance(self._table, SampleTable | LabelTable) else ()

    def _separator(self) -> str:
        return self._table.separator if isinstance(self._table, SampleTable | LabelTable) else ";"

    def _with_annotator(self, table: pa.Table) -> pa.Table:
        if "annotator" not in table.column_names:
            table = table.append_column("annotator", pa.array([self._declared.annotator] * len(table), pa.string()))
        if "state" not in table.column_names:
            table = table.append_column("state", pa.array(["known"] * len(table), pa.string()))
        return as_labels(table)

    def _check_once(self) -> None:
        codes = self._keys.combine_chunks().dictionary_encode()
        if len(codes.dictionary) < len(codes):
            counts = pc.value_counts(codes.indices)
            twice = next(part["values"].as_py() for part in counts if part["counts"].as_py() > 1)
            first, second, *_ = pc.indices_nonzero(pc.equal(codes.indices, twice)).to_pylist()
            key = codes.dictionary[twice].as_py()
            raise BadInput(f"{self._sheet.where(second)}: {key!r} stands in {self._sheet.where(first)} too; keep one")


def _joined(parts: Sequence[pa.Table]) -> pa.Table:
    """One row a sample, with what all tables say of it, in the order in which they first name it."""
    table = pa.concat_tables(parts, promote_options="permissive")
    if len(pc.unique(table["key"])) == len(table):
        return table
    names = [name for name in table.column_names if name != "key"]
    grouped = table.group_by("key", use_threads=False)
    counts = grouped.aggregate([(name, "count_distinct") for name in names])
    for name in names:
        several = pc.index(pc.greater(counts[f"{name}_count_distinct"], 1), True).as_py()
        if several >= 0:
            key = counts["key"][several].as_py()
            values = pc.unique(table[name].filter(pc.equal(table["key"], key))).drop_null().to_pylist()
            raise BadInput(f"{key!r}: {name} is {values[0]!r} in one row and {values[1]!r} in another; mend one")
    first = grouped.aggregate([(name, "first") for name in names])
    return pa.table({"key": first["key"], **{name: first[f"{name}_first"] for name in names}})


def _keys(dataset: str, names: pa.ChunkedArray) -> pa.ChunkedArray:
    """`key_of` for a column: what has nothing odd in it without a look at each."""
    form = "|".join(extension[1:] for extension in EXTENSIONS)
    stems = pc.replace_substring_regex(names, rf"(?i)([^/])\.({form})$", r"\1")
    odd = pc.or_(pc.match_substring_regex(stems, "[^A-Za-z0-9_/-]"), pc.starts_with(stems, "/"))
    keys = pc.binary_join_element_wise(dataset, stems, "/")
    if not pc.any(odd).as_py():
        return keys
    made = pa.array([key_of(dataset, name) for name in names.filter(odd).to_pylist()], pa.string())
    return pa.chunked_array([pc.replace_with_mask(keys.combine_chunks(), odd.combine_chunks(), made)])


def _located(root: str, names: pa.ChunkedArray, sheet: Sheet) -> pa.ChunkedArray:
    """`located` for a column; nulls stay."""
    odd = pc.fill_null(pc.match_substring_regex(names, r"^\s*$|^/|//|\\|(^|/)\.\.?(/|$)|:|/$"), False)
    places = pc.binary_join_element_wise(root.rstrip("/"), names, "/")
    if not pc.any(odd).as_py():
        return places
    rows = pc.indices_nonzero(odd).to_pylist()
    made = pa.array([located(root, names[row].as_py(), sheet.where(row)) for row in rows], pa.string())
    return pa.chunked_array([pc.replace_with_mask(places.combine_chunks(), odd.combine_chunks(), made)])


def _among(column: pa.ChunkedArray, words: Sequence[str]) -> pa.ChunkedArray:
    if not words or not pa.types.is_string(column.type):
        return pa.chunked_array([pa.repeat(False, len(column))])
    return pc.is_in(pc.utf8_trim_whitespace(column), value_set=pa.array(words, pa.string()))


def _splits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Splits under our words."""
    if not pa.types.is_string(column.type):
        return column
    place = pc.index_in(pc.utf8_lower(column), value_set=pa.array(list(SPLITS)))
    return pc.coalesce(pa.array(list(SPLITS.values())).take(place), column)
