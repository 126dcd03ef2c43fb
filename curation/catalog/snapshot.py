"""The catalog as of one commit. SQL only selects and counts, so results do not depend on the order of threads."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from curation.arrays import Ints
from curation.catalog import training_samples
from curation.catalog.arrow_query import first, limited, scalar
from curation.catalog.current_labels import instructions_at
from curation.catalog.ownership import SnapshotOwnership
from curation.catalog.pages import RANGE, Page, Position, page_by_id
from curation.catalog.people import SnapshotPeople
from curation.catalog.predicate_tree import PREDICTED, quoted_name
from curation.catalog.sample_rows import forgotten_images, forgotten_keys, samples_sql
from curation.catalog.schema import GROWING
from curation.catalog.slice_columns import (
    NEIGHBOUR,
    Assumed,
    assumed,
    frame_of,
    labelled,
    predicted,
    predicted_beside,
    predicted_instead,
)  # fmt: skip
from curation.catalog.slice_membership import members_sql, truths_sql
from curation.catalog.slice_vetting import Frame, vet
from curation.catalog.slices import Column, Slice, columns_of, never_breaks
from curation.catalog.snapshot_labels import SnapshotLabels
from curation.catalog.snapshot_log import SnapshotLog
from curation.catalog.snapshot_requests import SnapshotRequests
from curation.catalog.snapshot_runs import SnapshotRuns
from curation.catalog.task_definitions import Definition, definition_at, definitions_at
from curation.catalog.tasks import Task
from curation.catalog.view import View
from curation.errors import BadInput, NotFound
from curation.rows import html_table

__all__ = ["RUN_SECONDS", "Snapshot"]

RUN_SECONDS = 120.0
"""Longest time to find the members of a slice: ten conditions on 10 million samples take about 10 s."""
TOGETHER = 64
"""Predicates that are evaluated in one pass."""


class Snapshot:
    """What the catalog holds at one commit. It is valid inside `with catalog.read()`.

    `labels`, `requests`, `runs`, `log`, `ownership` and `people` are objects with methods of their own, and the first
    four are called for their main table:
    `now.labels("color")`, `now.labels.by_annotator("color")`, `now.requests("open")`, `now.runs()`, `now.log()`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, commit: int, digest: str) -> None:
        self.view = View(connection, commit)
        self.commit = commit
        self.digest = digest
        self.labels = SnapshotLabels(self.view)
        self.requests = SnapshotRequests(self.view)
        self.runs = SnapshotRuns(self.view)
        self.ownership = SnapshotOwnership(self.view)
        self.people = SnapshotPeople(self.view)
        self.log = SnapshotLog(self.view)

    def __repr__(self) -> str:
        return f"Snapshot of commit {self.commit}, digest {self.digest[:12]}"

    def _repr_html_(self) -> str:
        """What it holds; only its commit after its `with` block has ended."""
        with suppress(duckdb.Error):
            return html_table(repr(self), [], self.overview())
        return html_table(repr(self), [], [])

    @classmethod
    def at(cls, connection: duckdb.DuckDBPyConnection, commit: int | None) -> "Snapshot":
        """The snapshot at `commit` (default: the newest); NotFound when there is no such commit."""
        head = scalar(connection, "SELECT id FROM head")
        if commit is not None and not 0 <= commit <= head:
            raise NotFound(f"commit {commit}: the catalog has commits 0 to {head}; `amber log` lists them")
        at = head if commit is None else commit
        row = first(connection, "SELECT digest FROM commits WHERE id = ?", [at])
        return cls(connection, at, row[0] if row else "")

    def earlier(self, commit: int) -> "Snapshot":
        """The snapshot at another commit, valid as long as this one; NotFound when there is no such commit."""
        return Snapshot.at(self.view.connection, commit)

    def has(self, batch: str) -> bool:
        """Whether a commit with this batch id has landed."""
        return self.batch(batch) is not None

    def batch(self, batch: str) -> int | None:
        """The id of the commit that landed this batch, or None."""
        rows = self.view.rows("SELECT id FROM commits WHERE batch = ? AND id <= ?", [batch, self.commit])
        return int(rows[0][0]) if rows else None

    def tasks(self) -> dict[str, Task]:
        """Tasks by name, in the order of declaration, each by its newest definition."""
        return {name: definition.task for name, definition in self.definitions().items()}

    def task(self, name: str) -> Task:
        """One task by name; NotFound suggests the nearest name."""
        return self.definition(name).task

    def task_ids(self) -> dict[str, int]:
        """Ids of tasks by name."""
        return {name: definition.task_id for name, definition in self.definitions().items()}

    def definitions(self) -> dict[str, Definition]:
        """Definitions of tasks by name, in the order of declaration."""
        return definitions_at(self.view)

    def definition(self, name: str) -> Definition:
        """The definition of one task; NotFound suggests the nearest name."""
        return definition_at(self.view, name)

    def attributes(self) -> dict[str, str]:
        """Types of attributes by name: text, number, flag, time or integer."""
        return self.view.attributes()

    def attribute(self, name: str) -> pa.Table:
        """Current values of one attribute: sample_id, value; NotFound when the catalog has no such attribute."""
        return self.view.table(f"SELECT * FROM ({self.view.attribute_sql(name)}) ORDER BY sample_id")

    def attributes_of(self, sample_id: int) -> dict[str, Any]:
        """The current attributes of one sample by name, those without a value left out."""
        types = self.attributes()
        rows = self.view.table(
            """SELECT name, text, number, flag, time, "integer" FROM attribute_event
            WHERE sample_id = ? AND commit_id <= ?
            QUALIFY row_number() OVER (PARTITION BY name ORDER BY commit_id DESC) = 1 ORDER BY name""",
            [sample_id, self.commit],
        ).to_pylist()
        return {row["name"]: value for row in rows if (value := row[types[row["name"]]]) is not None}

    def samples(self, *columns: str) -> pa.Table:
        """All samples by key: sample_id, key, location, dataset, sha256, format, width, height, bytes, group, split
        ("" for none yet), excluded, captured_at; or these columns of them, which takes less time and memory."""
        wanted = ", ".join(f'"{name}"' for name in columns) or "*"
        return self.view.table(f"SELECT {wanted} FROM ({samples_sql(self.view, columns)}) ORDER BY key")

    def sample(self, key: str, *, among: Ints | None = None) -> dict[str, Any]:
        """One sample (`among` a few ids, sorted), as a row of `samples`; NotFound when there is none with this key."""
        view = self.view if among is None else self.view.of(among)
        found = view.rows(f"SELECT sample_id FROM sample WHERE key = ? AND {view.within} AND commit_id <= ?",
                          [key, view.commit])  # fmt: skip
        if not found:
            raise NotFound(f"key {key!r}: the catalog has no such sample; check it")
        return dict(self.view.table(samples_sql(self.view.between(found[0][0] - 1, found[0][0]))).to_pylist()[0])

    def samples_of(self, keys: Sequence[str]) -> pa.Table:
        """The samples with these keys, by `sample_id`, as rows of `samples`, for a few keys; without unknown ones."""
        wanted = pa.table({"key": pa.array(dict.fromkeys(keys), pa.string())})
        query = "SELECT sample_id FROM sample SEMI JOIN wanted USING (key) WHERE commit_id <= ? ORDER BY sample_id"
        ids = self.view.table(query, [self.commit], wanted=wanted)["sample_id"]
        return self.view.table(f"FROM ({samples_sql(self.view.of(np.asarray(ids.to_numpy())))}) ORDER BY sample_id")

    def near_duplicates(self, key: str, distance: int, *, among: Ints | None = None) -> pa.Table:
        """Images whose perceptual hash differs from that of a sample in at most `distance` of 64 bits, the nearest
        first: key, location, width, height, distance; only `among` some ids (a few, sorted, the sample's too)."""
        view = self.view if among is None else self.view.of(among)
        own = view.rows(f"SELECT phash FROM ({view.samples_sql}) WHERE key = ?", [key])
        bits = f"CAST(bit_count(xor(phash, CAST({own[0][0] if own else 'NULL'} AS UBIGINT))) AS BIGINT)"
        near = view.first_ids(f"SELECT sample_id FROM ({view.samples_sql}) WHERE {bits} <= {distance}", 2**31)
        rows = f"SELECT key, location, width, height, {bits} AS distance FROM ({self.view.of(near).samples_sql})"
        return self.view.table(f"{rows} WHERE key <> ? ORDER BY distance, key", [key])

    def sample_page(
        self, after: Position = (), *, limit: int = 100, predicate: str = "", predictions: str | None = None
    ) -> Page:
        """The next `limit` samples after a position, by `sample_id`: the columns of `samples` but sha256, format, bytes
        and captured_at, which take twice as long to read.

        With a canonical `predicate` only those for which it is true; then a page may be shorter, see `page_by_id`.
        `predictions` is the Parquet file of the run that it reads.
        """

        def find(view: View, left: int) -> Ints:
            if not predicate:
                return view.first_ids(view.samples_sql, left)
            column = partial(self._column, view, predictions=predictions, assume={})
            return self._members(view, predicate, column)[:left]

        def rows(view: View) -> str:
            return f"SELECT * EXCLUDE (sha256, format, bytes, captured_at) FROM ({samples_sql(view)})"

        return page_by_id(self.view, after, limit, find, rows, width=RANGE if predicate else limit)

    def training_ids(self, *, before_split: bool = False) -> Ints:
        """Ids of the samples that may be trained on, sorted: all of the train split that are not excluded. With
        `before_split`, while none is in train: those without a split that are not excluded."""
        return training_samples.training_ids(self.view, before_split=before_split)

    def split_ids(self, split: str) -> Ints:
        """Ids of the samples of a split, excluded ones too, sorted."""
        return training_samples.split_ids(self.view, split)

    def groups_across(self, trained: pa.Array | None = None) -> pa.Table:
        """Groups with both training and evaluation samples, by name: group, train, evaluation (how many of each).
        The training samples are the keys `trained`, or else all samples of `training_ids`."""
        return training_samples.groups_across(self.view, trained)

    def forgotten(self, keys: pa.Array | pa.ChunkedArray) -> list[str]:
        """Those of `keys` that `amber forget` removed, sorted. The catalog keeps only their hashes."""
        return forgotten_keys(self.view, pa.table({"key": keys}))

    def forgotten_images(self, samples: pa.Table) -> list[str]:
        """Keys of those of `samples` (key, sha256) that are new and whose image was forgotten, sorted."""
        return forgotten_images(self.view, samples)

    def hashes(self) -> pa.Table:
        """Perceptual hashes of all samples, by key: key, phash (uint64)."""
        return self.view.table("SELECT key, phash FROM sample WHERE commit_id <= ? ORDER BY key", [self.commit])

    def touched(self, since: int) -> Ints:
        """Ids of samples that are new, or have new events, in commits after `since` up to this one; sorted."""
        events = ("sample", "label_event", "attribute_event", "request_event")
        query = " UNION ".join(
            f"SELECT sample_id FROM {name} WHERE commit_id > {since} AND commit_id <= {self.commit}" for name in events
        )
        return np.asarray(self.view.table(f"SELECT sample_id FROM ({query}) ORDER BY 1")["sample_id"].to_numpy())

    def slices(self) -> dict[str, Slice]:
        """Declared slices by name, each by its newest declaration."""
        rows = self.view.rows(
            "SELECT name, task, predicate, rare FROM slice_event WHERE commit_id <= ? "
            "QUALIFY row_number() OVER (PARTITION BY name ORDER BY commit_id DESC) = 1 ORDER BY min(commit_id) "
            "OVER (PARTITION BY name), name",
            [self.commit],
        )
        return {
            name: Slice(name=name, task=task, predicate=predicate, rare=rare)
            for name, task, predicate, rare in rows
            if predicate
        }

    def slice(self, name: str) -> Slice:
        """One declared slice by name; NotFound when there is none."""
        slices = self.slices()
        if name not in slices:
            raise NotFound(f"slice {name!r}: the catalog has no such slice; `amber slices` lists them")
        return slices[name]

    def frame(self, *, other: bool = False) -> Frame:
        """The columns that a slice may name; with `other`, also those of a second run."""
        return frame_of(self.tasks(), self.attributes(), other=other)

    def column(self, family: str, name: str, *, predictions: str | None = None) -> pa.Table:
        """The column that a slice reads as FAMILY.NAME: sample_id, value. Samples without a value are left out.

        `predictions` is the Parquet file of the run whose predictions are read.
        """
        query = self._column(self.view, family, name, predictions, {})
        return self.view.table(f"SELECT sample_id, value FROM ({query}) ORDER BY sample_id")

    def members(
        self, predicate: str, *, predictions: str | None = None, assume: Assumed | None = None, fill: bool = False,
        other: str | None = None, seconds: float = RUN_SECONDS, among: Ints | None = None,
    ) -> Ints:  # fmt: skip
        """Ids of the samples for which a canonical predicate is true, sorted.

        `predictions` is the Parquet file of the run that `pred.*` reads, `other` that of `pred_other.*`. `assume`
        replaces the label of a task on every sample by one value, whether or not it is known: so mining finds samples
        that would join a slice. With `fill`, the run's predictions stand in for labels that are not known. It may take
        `seconds` at most. Only the samples `among` (a few, sorted) are looked at, if they are given.
        """
        view = self.view if among is None else self.view.of(among)
        return self._members(
            view, predicate,
            lambda family, name: self._column(
                view, family, name, other if family == "pred_other" else predictions, assume or {}, fill=fill
            ),
            seconds,
        )  # fmt: skip

    def members_of(self, predicates: Mapping[str, str], *, predictions: str | None = None) -> dict[str, Ints]:
        """Ids of the samples for which each of several canonical predicates, by name, is true, sorted.

        Those that read the same columns, and that no value can break, are evaluated in one pass over these.
        """
        found, together = dict[str, Ints](), dict[tuple[Column, ...], list[str]]()
        for name, predicate in predicates.items():
            if never_breaks(predicate):
                together.setdefault(columns_of(predicate), []).append(name)
        for names in together.values():
            for start in range(0, len(names), TOGETHER):
                part = names[start : start + TOGETHER]
                found |= dict(zip(part, self._true_for([predicates[name] for name in part], predictions), strict=True))
        return {
            name: found[name] if name in found else self.members(predicate, predictions=predictions)
            for name, predicate in predicates.items()
        }

    def _true_for(self, predicates: list[str], predictions: str | None) -> list[Ints]:
        """Ids of the samples for which each of some predicates is true, found in one pass."""
        if len(predicates) == 1:
            return [self.members(predicates[0], predictions=predictions)]
        query = truths_sql(
            predicates,
            lambda family, name: self._column(self.view, family, name, predictions, {}),
            f"SELECT sample_id FROM ({self.view.samples_sql})",
        )
        with limited(self.view.connection, RUN_SECONDS, f"slices {predicates[0]!r} to {predicates[-1]!r}"):
            table = self.view.table(query)
        ids = table["sample_id"]
        found = (ids.filter(table[str(at)]).to_numpy() for at in range(len(predicates)))
        return [np.sort(np.asarray(part, np.int64)) for part in found]

    def _members(
        self, view: View, predicate: str, column: Callable[[str, str], str] | None = None, seconds: float = RUN_SECONDS
    ) -> Ints:
        """Ids of the samples of `view` for which a predicate is true, sorted; `column` is the SQL of its columns."""
        column = column or (lambda family, name: self._column(view, family, name, None, {}))
        query = members_sql(predicate, column, f"SELECT sample_id FROM ({view.samples_sql})")
        try:
            with limited(view.connection, seconds, f"slice {predicate!r}"):
                found = view.table(query)
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            raise BadInput(f"slice {predicate!r}: {str(error).splitlines()[0]}; correct it, or use TRY_CAST") from None
        return np.asarray(found["sample_id"].to_numpy(), dtype=np.int64)

    def slice_history(self, name: str) -> pa.Table:
        """Every declaration of a slice, the newest first: commit_id, committed_at, author, task, predicate ("" where it
        was removed), rare."""
        return self.view.table(
            """SELECT commit_id, committed_at, author, task, predicate, rare FROM slice_event
            JOIN commits ON commits.id = commit_id WHERE name = ? AND commit_id <= ? ORDER BY commit_id DESC""",
            [name, self.commit],
        )

    def check_slice(self, predicate: str, *, seconds: float = RUN_SECONDS) -> str:
        """The canonical text of a predicate, after it was vetted and run; BadInput when it is not sound, or takes more
        than `seconds` to run.

        Call it before a commit that adds the slice, so that no writer waits for it.
        """
        canonical = vet(predicate, self.frame())
        if not any(family in PREDICTED for family, _ in columns_of(canonical)):
            self.members(canonical, seconds=seconds)
        return canonical

    def decided_by(self, predicate: str, task: Task) -> list[bool]:
        """For each class of `task`, whether a canonical predicate that reads nothing but its label is true for it."""
        type_ = "BOOLEAN" if task.kind == "binary" else "VARCHAR"
        rows = self.view.rows(
            f"""SELECT coalesce({predicate}, false) FROM (
                SELECT place, struct_pack({quoted_name(task.name)} := CAST(value AS {type_})) AS "label"
                FROM (SELECT unnest(?) AS value, unnest(range(len(?))) AS place)) ORDER BY place""",
            [list(task.classes), list(task.classes)],
        )
        return [inside for (inside,) in rows]

    def quarantine(self) -> pa.Table:
        """Files that ingest refused: dataset, location, reason."""
        query = "SELECT dataset, location, reason FROM quarantine_event WHERE commit_id <= ? ORDER BY ALL"
        return self.view.table(query, [self.commit])

    def overview(self) -> list[tuple[str, Any]]:
        """What it holds, as pairs of a name and a count or names: commit, samples, label events, tasks, slices."""
        counts = self.counts()
        return [
            ("commit", self.commit), ("samples", counts["sample"]), ("label events", counts["label_event"]),
            ("tasks", ", ".join(self.tasks())), ("slices", ", ".join(self.slices())),
        ]  # fmt: skip

    def counts(self) -> dict[str, int]:
        """Rows up to this commit of every table that only grows: equal for two catalogs with the same history."""
        return {
            name: int(scalar(self.view.connection, f"SELECT count(*) FROM {name} WHERE {column} <= {self.commit}"))
            for name, column in GROWING.items()
        }

    def _column(
        self, view: View, family: str, name: str, predictions: str | None, assume: Assumed, *, fill: bool = False
    ) -> str:
        """SQL of one column of a slice's frame on the samples of `view`: sample_id, value."""
        if family == "attr" and name == "key":
            return f"SELECT sample_id, key AS value FROM ({view.samples_sql})"
        if family == "attr":
            return view.attribute_sql(name)
        task = self.task(name)
        if family in ("label", "state") and name in assume:
            return assumed(family, task, assume[name], self.commit)
        if family == "instructions":
            return instructions_at(self.commit, self.definition(name).task_id, view.within)
        if family in NEIGHBOUR:
            return predicted_beside(family, task, predictions, self.view)
        if family in PREDICTED:
            return predicted(task, predictions, self.commit, view.within, view.span())
        known = labelled(family, task, SnapshotLabels(view).sql([name]))
        if fill and family == "label" and task.outputs:
            return f"{known} UNION ALL {predicted_instead(task, predictions, self.commit, known)}"
        return known
