"""Tables of samples, labels and boxes, read column by column: a million rows take seconds."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.event_tables import LABELS, as_labels
from curation.catalog.tasks import Kind, Task
from curation.errors import BadInput
from curation.files.locations import is_url
from curation.ingestion.readers.arrow_types import cast_column
from curation.ingestion.readers.box_rows import boxes_of
from curation.ingestion.readers.cells import (
    VALUE_COLUMNS,
    as_text,
    attribute,
    label_columns,
    looked_column,
    numbers,
    where_true,
)  # fmt: skip
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import plain_name
from curation.ingestion.readers.declared_tables import BoxTable, LabelTable, SampleTable, Tables
from curation.ingestion.readers.findings import Findings
from curation.ingestion.readers.image_paths import SPLITS
from curation.ingestion.readers.sample_rows import join_samples
from curation.ingestion.readers.table_files import SourceTable, read_source_table
from curation.ingestion.readers.table_rows import rows_of
from curation.ingestion.readers.times import to_utc

__all__ = ["read_tables"]

_EMBEDDING = "embedding:"
_STATE_WORDS: tuple[Literal["unsure", "inapplicable"], ...] = ("unsure", "inapplicable")
_KINDS: dict[str, Kind] = {"text": "categorical", "number": "regression", "names": "multilabel", "boxes": "detection"}


def read_tables(folder: Path, declared: Tables, *, dataset: str, tasks: Sequence[Task], findings: Findings) -> Content:
    """Read the declared tables from `folder`; `tasks` are the data set's.

    A row belongs to the sample of its key, or of the key made from its path (`dataset`/path without extension). A row
    with a path adds an image; a row without one adds attributes and labels to a sample that the catalog holds. NotFound
    and BadInput name the file and the line.
    """
    parts = [_Part(folder, table, declared, dataset, tasks, findings) for table in declared.table]
    if not any(part.rows for part in parts):
        raise BadInput(f"{', '.join(table.file for table in declared.table)}: hold no row; fill or replace them")
    samples = join_samples([part.samples() for part in parts], findings)
    labels = [part.labels() for part in parts]
    labels += [part.without_boxes(samples, rows["key"]) for part, (rows, _) in zip(parts, labels, strict=True)]
    _note_near_columns(parts, tasks, findings)
    return Content.of(
        samples,
        pa.concat_tables([table for table, _ in labels]),
        held_back=declared.held_back,
        embeddings={model: vectors for part in parts for model, vectors in part.embeddings().items()},
        box_origins=pa.concat_arrays([origins for _, origins in labels]),
        fractions=bool(declared.fractions),
    )


def _note_near_columns(parts: Sequence["_Part"], tasks: Sequence[Task], findings: Findings) -> None:
    """Note each task without a column for which a column of samples has a similar name."""
    labelled = {task for part in parts for task in part.labelled()}
    for task in tasks:
        for part in parts if task.name not in labelled else ():
            near = difflib.get_close_matches(task.name, [plain_name(name) for name in part.unlabelled()], 1, 0.75)
            column = next((name for name in part.unlabelled() if [plain_name(name)] == near), None)
            if column is not None:
                findings.note(
                    f"{part.name}: no column holds labels of the task {task.name!r}; the column {column!r} is near: "
                    f"if it holds them, set tasks = {{ {column!r} = {task.name!r} }} in [[reader.table]]"
                )


class _Part:
    """One table, read, with the key of each row."""

    def __init__(
        self, folder: Path, table: SampleTable | LabelTable | BoxTable, declared: Tables, dataset: str,
        tasks: Sequence[Task], findings: Findings,
    ) -> None:  # fmt: skip
        self._table, self._declared, self._tasks = table, declared, {task.name: task for task in tasks}
        self._findings, self.name = findings, table.file
        source = read_source_table(
            folder, table.file, delimiter=table.delimiter, unknown=table.unknown, findings=findings
        )
        root = declared.images if is_url(declared.images) else str((folder / declared.images).absolute())
        rows = rows_of(source, table, dataset, root, findings)
        self._source, self._keys, self._locations = rows.source, rows.keys, rows.locations
        self._key, self._location = rows.key_column, rows.path_column
        self.rows = len(source)

    def samples(self) -> pa.Table:
        """Key, location (null if the catalog holds the image) and attributes; several rows may have one key."""
        table = self._table
        columns = {"key": self._keys, "location": self._locations or pa.nulls(len(self._source), pa.string())}
        if isinstance(table, SampleTable):
            columns |= self._attributes(self._attribute_columns(table)) | self._group(table.group)
        elif isinstance(table, BoxTable):
            columns |= self._attributes(table.of_image) | self._group(table.group)
        elif self._locations is None:
            return pa.table(columns).slice(0, 0)
        return pa.table(columns)

    def labels(self) -> tuple[pa.Table, pa.Array]:
        """All labels of the table, in the columns of `LABELS`, and the origins of their boxes."""
        table = self._table
        match table:
            case SampleTable():
                found = [
                    self._labels_of_column(self._source, self._keys, column, task)
                    for column, task in self._task_columns(table).items()
                ]
                return _without_origins(pa.concat_tables(found) if found else LABELS.empty_table())
            case LabelTable():
                return _without_origins(self._long(table))
            case BoxTable():
                labels, origins = boxes_of(self._source, self._keys, table, self._findings)
                return self._with_annotator(labels), origins

    def labelled(self) -> set[str]:
        """The tasks that the table labels."""
        match self._table:
            case SampleTable():
                return set(self._task_columns(self._table).values())
            case BoxTable():
                return {self._table.task}
        return set(self._tasks)

    def unlabelled(self) -> Sequence[str]:
        """The columns of samples that are attributes."""
        return self._attribute_columns(self._table) if isinstance(self._table, SampleTable) else ()

    def without_boxes(self, samples: pa.Table, boxed: pa.ChunkedArray) -> tuple[pa.Table, pa.Array]:
        """Labels without boxes for samples without a row, if a table of boxes declares `missing = "none"`."""
        if not isinstance(self._table, BoxTable) or self._table.missing == "unknown":
            return _without_origins(LABELS.empty_table())
        keys = samples["key"].filter(pc.invert(pc.is_in(samples["key"], value_set=boxed.combine_chunks())))
        rows = {
            "key": keys,
            "task": [self._table.task] * len(keys),
            "boxes": pa.array([[]] * len(keys), LABELS.field("boxes").type),
            "origin": [f"{self._source.name} (no line)"] * len(keys),
        }
        return _without_origins(self._with_annotator(pa.table(rows)))

    def embeddings(self) -> dict[str, pa.Table]:
        """Vectors by model."""
        if not isinstance(self._table, SampleTable):
            return {}
        return {model: self._vectors(column) for column, model in self._vector_columns(self._table).items()}

    def _vectors(self, name: str) -> pa.Table:
        column = self._source.column(name)
        if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
            raise BadInput(
                f"{self._source.name}: column {name!r} holds {column.type} and no vectors; write them to Parquet"
            )
        filled = pc.is_valid(column)
        vectors = cast_column(column.filter(filled), pa.list_(pa.float32()), name, self._source.name)
        return pa.table({"key": self._keys.filter(filled), "vector": vectors})

    def _vector_columns(self, table: SampleTable) -> dict[str, str]:
        named = {
            name: name.removeprefix(_EMBEDDING)
            for name in self._source.table.column_names
            if name.startswith(_EMBEDDING)
        }
        return named | table.embeddings

    def _task_columns(self, table: SampleTable) -> dict[str, str]:
        """Columns that are labels, with their task: as declared, or named like a task but for case and punctuation."""
        names = [name for name in self._source.table.column_names if name not in table.leave_out]
        found = dict(table.tasks)
        for name in names:
            if name in self._tasks and name not in found and name not in table.tasks.values():
                found[name] = name
        free = [name for name in names if name not in (*found, *(table.attributes or ()), self._key, self._location)]
        for task in self._tasks:
            near = [name for name in free if plain_name(name) == task] if task not in found.values() else []
            if len(near) > 1:
                raise BadInput(
                    f"{self.name}: the columns {near[0]!r} and {near[1]!r} are both near the task {task!r}; set tasks "
                    "or leave_out in [[reader.table]]"
                )
            if near:
                self._findings.note(f"{self.name}: the column {near[0]!r} is read as labels of the task {task!r}")
                found[near[0]] = task
        return found

    def _group(self, group: str | Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """The attribute `group` from the columns that are declared for it, joined by /."""
        names = [group] if isinstance(group, str) else list(group)
        if not any(names):
            return {}
        texts = [as_text(self._source.column(name), name, self._source.where) for name in names]
        return {"group": texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "/")}

    def _attribute_columns(self, table: SampleTable) -> Sequence[str]:
        if table.attributes is not None:
            return table.attributes
        for name in table.leave_out:
            self._source.column(name)
        other = {self._key, self._location, *self._task_columns(table), *self._vector_columns(table), *table.leave_out}
        return [name for name in self._source.table.column_names if name not in other]

    def _attributes(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        found: dict[str, pa.ChunkedArray] = {}
        for name in names:
            column, plain = self._source.column(name), plain_name(name)
            if plain in found or plain in ("key", "location", "excluded"):
                raise BadInput(
                    f"{self._source.name}: column {name!r} would be a second {plain}; rename it or leave it out"
                )
            if column.null_count == len(column):
                continue
            made = attribute(
                plain, column, self._table.types.get(name), self._declared.timezone, self._source.where, self._findings
            )
            found[plain] = _splits(made) if plain == "split" else made
        return found

    def _labels_of_column(self, source: SourceTable, keys: pa.ChunkedArray, name: str, task: str) -> pa.Table:
        """The labels of one task in the column `name`; null is unknown."""
        assert isinstance(self._table, SampleTable | LabelTable)
        column = source.column(name)
        filled = pc.is_valid(column)
        source, keys, column = source.filter(filled), keys.filter(filled), column.filter(filled)
        states = self._states(column, pa.repeat("known", len(column)))
        kind = self._tasks[task].kind if task in self._tasks else "categorical"
        values = where_true(pc.equal(states, "known"), column, name, source.where)
        rows = {"key": keys, "task": pa.array([task] * len(keys), pa.string()), "origin": source.origins()}
        rows |= label_columns(kind, values, name, self._table.separator, source.where, self._findings)
        rows["state"] = states
        return self._table_of(rows, source, values, kind)

    def _table_of(
        self, rows: dict[str, pa.Array], source: SourceTable, values: pa.ChunkedArray, kind: Kind
    ) -> pa.Table:
        """The labels `rows` with what the table says of them; an object of flags says itself what was looked for."""
        details = self._details(source, kind)
        if "looked" in rows and "looked" in details:
            details["looked"] = pc.coalesce(rows["looked"], details["looked"])
        return self._without_refused(self._with_annotator(pa.table(rows | details)), values, kind)

    def _details(self, source: SourceTable, kind: Kind) -> dict[str, pa.ChunkedArray]:
        """What a long table says of its labels: annotator, confidence, time, and the classes that were looked for."""
        found: dict[str, pa.ChunkedArray] = {}
        if not isinstance(self._table, LabelTable):
            return found
        names = source.table.column_names
        if "looked" in names and kind == "multilabel":
            found |= looked_column(source.column("looked"), self._table.separator, source.where, self._findings)
        if "annotator" in names:
            annotators = as_text(source.column("annotator"), "annotator", source.where)
            found["annotator"] = pc.fill_null(annotators, self._declared.annotator)
        if "confidence" in names:
            found["confidence"] = numbers(source.column("confidence"), "confidence", source.where, self._findings).cast(
                pa.float32()
            )
        if "labelled_at" in names:
            found["labelled_at"] = to_utc(source.column("labelled_at"), self._declared.timezone, source.where)
        return found

    def _long(self, table: LabelTable) -> pa.Table:
        source, names = self._source, self._source.table.column_names
        named = pa.array([table.task] * len(source)) if table.task else self._named_tasks(source)
        state = pa.array(["known"] * len(source))
        if "state" in names:
            state = pc.fill_null(as_text(source.column("state"), "state", source.where), "known")
        value = source.first_of(["value", *_KINDS])
        if not value:
            source.column("value")
        found = []
        for task in pc.unique(named).to_pylist():
            of = pc.fill_null(pc.equal(named, task), False) if task is not None else pc.is_null(named)
            part, keys, states = source.filter(of), self._keys.filter(of), state.filter(of)
            found.append(self._of_task(part, keys, states, task or "", value))
        return pa.concat_tables(found)

    def _named_tasks(self, source: SourceTable) -> pa.ChunkedArray:
        """The column of tasks; a name that differs from a task's in case and punctuation alone is that task."""
        named = as_text(source.column("task"), "task", source.where)
        near = {
            name: plain_name(name) for name in pc.unique(named).drop_null().to_pylist()
            if name not in self._tasks and plain_name(name) in self._tasks
        }  # fmt: skip
        for name, task in near.items():
            self._findings.note(f"{self.name}: the task {name!r} is read as {task!r}")
        row = pc.index_in(named, value_set=pa.array(list(near), pa.string()))
        return pc.coalesce(pa.array(list(near.values()), pa.string()).take(row), named)

    def _of_task(self, source: SourceTable, keys: pa.ChunkedArray, states: pa.Array, task: str, value: str) -> pa.Table:
        """The rows of one task of a long table: rows with a value, and rows whose state needs none."""
        kind = self._tasks[task].kind if task in self._tasks else "categorical"
        name = value if value == "value" else next(
            (column for column, other in _KINDS.items() if other == kind), "text"
        )  # fmt: skip
        if kind == "binary":
            name = value if value == "value" else "text"
        column = source.column(name)
        states = self._states(column, states)
        named = pc.or_(_among(column, self._words("unsure")), _among(column, self._words("inapplicable")))
        rows = {"key": keys, "task": pa.array([task] * len(source), pa.string()), "origin": source.origins()}
        values = where_true(pc.invert(named), column, name, source.where)
        rows |= label_columns(kind, values, name, self._separator(), source.where, self._findings)
        rows["state"] = states
        return self._table_of(rows, source, values, kind)

    def _without_refused(self, labels: pa.Table, values: pa.ChunkedArray, kind: Kind) -> pa.Table:
        """The labels without the ones whose cell was refused and is null now."""
        if not self._findings.quarantine:
            return labels
        return labels.filter(pc.or_(pc.is_null(values), pc.is_valid(labels[VALUE_COLUMNS[kind]])))

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


def _among(column: pa.ChunkedArray, words: Sequence[str]) -> pa.ChunkedArray:
    if not words or not pa.types.is_string(column.type):
        return pa.chunked_array([pa.repeat(False, len(column))])
    return pc.is_in(pc.utf8_trim_whitespace(column), value_set=pa.array(words, pa.string()))


def _splits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Splits by our names."""
    if not pa.types.is_string(column.type):
        return column
    row = pc.index_in(pc.utf8_lower(column), value_set=pa.array(list(SPLITS)))
    return pc.coalesce(pa.array(list(SPLITS.values())).take(row), column)


def _without_origins(labels: pa.Table) -> tuple[pa.Table, pa.Array]:
    """Labels whose boxes have the origin of their label."""
    return labels, pa.nulls(len(labels), pa.list_(pa.string()))
