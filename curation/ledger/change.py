"""One commit in the making: events are added, checked, and become durable together."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from curation.digest import digest
from curation.errors import BadInput, NotFound
from curation.ledger import schema, statements
from curation.ledger.columns import SQL_TYPES
from curation.ledger.definitions import Definition
from curation.ledger.frames import over
from curation.ledger.snapshot import Snapshot
from curation.ledger.undo import undoing
from curation.readers.content import as_labels
from curation.slices import Slice, rename_classes, vet
from curation.tasks import Task

__all__ = ["Change"]

RESERVED = {"group": "text", "split": "text", "source": "text", "captured_at": "time", "excluded": "flag"}
"""Attributes that Amber itself reads, with their types; `key` lies in the sample."""

SAMPLED = (
    "sample", "attribute_event", "attribute_interval", "label_event", "label_interval", "request_event",
)  # fmt: skip
"""Tables that say something of a sample."""

NAME = r"[a-z][a-z0-9_]{0,62}"
"""Names of attributes, which stand in SQL and in slices: DuckDB does not tell upper from lower case."""


class Change:
    """Events that are added together, or not at all.

    When the batch id was seen before, `repeated` is true, `id` is the commit that landed it, and adding does nothing.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, id: int, repeated: bool) -> None:
        self._connection = connection
        self.id = id
        self.repeated = repeated
        self.now = Snapshot.at(connection, id if not repeated else None)
        self._at = datetime.now(UTC).replace(tzinfo=None)
        self._content = hashlib.sha256()
        self._labelled = False

    @classmethod
    def begin(cls, connection: duckdb.DuckDBPyConnection, *, author: str, message: str, batch: str) -> "Change":
        """Take the next commit id first, so that two writers collide, and only then look for the batch id."""
        connection.execute("UPDATE head SET id = id + 1")
        seen = connection.execute("SELECT id FROM commits WHERE batch = ?", [batch]).fetchone()
        if seen:
            connection.execute("UPDATE head SET id = id - 1")
            return cls(connection, id=seen[0], repeated=True)
        (id,) = _row(connection.execute("SELECT id FROM head"))
        change = cls(connection, id=id, repeated=False)
        change._header = (author, message, batch)
        change._digest(author, message, batch)
        return change

    _header: tuple[str, str, str] = ("", "", "")

    def finish(self) -> None:
        """Write the commit's own row: its digest chains the parent's with all that was added, times aside."""
        if self.repeated:
            return
        parent = self._connection.execute("SELECT digest FROM commits WHERE id = ?", [self.id - 1]).fetchone()
        self._digest(parent[0] if parent else "")
        author, message, batch = self._header
        self._connection.execute(
            "INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?)",
            [self.id, self.id - 1, self._content.hexdigest(), author, message, batch, self._at],
        )

    def add_tasks(self, tasks: Iterable[Task]) -> None:
        """Declare tasks. The same definition again changes nothing; another one under a known name is refused."""
        known = self.now.definitions()
        for task in tasks:
            if self.repeated or (task.name in known and known[task.name].task == task):
                continue
            if task.name in known:
                raise BadInput(
                    f"task {task.name}: defined before in another way; redefine it, or name the new one anew"
                )
            known[task.name] = Definition.first(task, len(known))
            self._define(known[task.name])

    def redefine_task(self, task: Task, moved: Mapping[str, str | None] | None = None) -> None:
        """Give a task another definition: `moved` says what its old classes are called by now, None for unknown.

        Labels follow their class, and so do the slices that name one; one that names a class which is gone is refused.
        """
        old = self.now.definition(task.name)
        new = old.redefined(task, moved or {})
        if self.repeated or new == old:
            return
        if self._connection.execute(
            "SELECT 1 FROM task_event WHERE task_id = ? AND commit_id = ?", [old.task_id, self.id]
        ).fetchone():
            raise BadInput(f"task {task.name}: was defined in this commit; redefine it in another")
        self._define(new)
        names = {name: (moved or {}).get(name, name) for name in old.task.classes}
        for part in self.now.slices().values():
            renamed = rename_classes(part.predicate, task.name, names)
            self.add_slice(part.name, renamed, task=part.task, rare=part.rare)

    def add_slice(self, name: str, predicate: str, *, task: str = "", rare: bool = False) -> Slice:
        """Declare a slice, vetted and in its canonical text; the same name again gives it a new predicate."""
        if not re.fullmatch(NAME, name):
            raise BadInput(
                f"slice {name!r}: a name is lower-case letters, digits and _, a letter first; choose another"
            )
        if task and task not in self.now.tasks():
            raise NotFound(f"slice {name}: there is no task {task!r}; `amber tasks` lists them")
        made = Slice(name=name, task=task, predicate=vet(predicate, self.now.frame()), rare=rare)
        if not made.reads_predictions:
            self.now.members(made.predicate)
        if not self.repeated and self.now.slices().get(name) != made:
            self._write_slice(made)
        return made

    def add_samples(self, samples: pa.Table, *, dataset: str) -> int:
        """Add samples (key, location, sha256, phash, format, width, height, bytes); returns how many are new.

        A key that is there with the same bytes is left as it is; with other bytes it is refused.
        """
        if self.repeated:
            return 0
        _refuse(self._sql(samples, "SELECT key FROM incoming GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"),
                "key {0!r}: stands twice in this batch; keys are unique")  # fmt: skip
        _refuse(
            self._sql(
                samples,
                "SELECT key FROM incoming JOIN sample USING (key) WHERE sample.sha256 <> incoming.sha256 ORDER BY key",
            ),
            "key {0!r}: the catalog holds another image under it; give the new image another key",
        )
        fresh = self._sql(
            samples,
            "SELECT key, location, ? AS dataset, sha256, phash, format, width, height, bytes FROM incoming "
            "ANTI JOIN sample USING (key) ORDER BY key",
            [dataset],
        )
        (first,) = _row(
            self._connection.execute(
                "SELECT coalesce(max(sample_id), -1) + 1 FROM "
                "(SELECT sample_id FROM sample UNION ALL SELECT sample_id FROM forgotten)"
            )
        )
        ids = pa.array(range(first, first + len(fresh)), pa.int64())
        self._insert("sample", fresh.append_column("sample_id", ids))
        return len(fresh)

    def add_attributes(self, attributes: pa.Table) -> None:
        """Add attributes: a column `key` and one column (string, bool, number or timestamp) for each attribute.

        Nulls say nothing. An attribute keeps the type that it had first. One commit sets it once for each sample.
        """
        self._check_keys(attributes)
        _refuse(self._sql(attributes, "SELECT key FROM incoming GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"),
                "key {0!r}: stands twice in this batch; give each attribute one value")  # fmt: skip
        for name in attributes.column_names:
            if name != "key":
                self._add_attribute(name, attributes.select(["key", name]))

    def add_labels(self, labels: pa.Table, *, source: str, quarantine: str = "") -> int:
        """Add labels (the columns of `readers.content.LABELS`); returns how many. All are checked first.

        BadInput says what is wrong with the first unfit one, and nothing is added; unless `quarantine` names a data
        set, under which the unfit ones are recorded with their reasons while the others go in. A table with
        `sample_id` in place of `key` spares the look-up of keys.
        """
        if source not in schema.PRECEDENCE:
            raise BadInput(f"source {source!r}: must be one of {', '.join(schema.PRECEDENCE)}")
        if self.repeated or not len(labels):
            return 0
        coded = self._coded(labels, source)
        broken = coded.filter(pc.is_valid(coded["broken"])).sort_by("place")
        if len(broken) and not quarantine:
            raise BadInput(statements.complaint(broken.slice(0, 1).to_pylist()[0]))
        if len(broken):
            rows = broken.to_pylist()
            self.add_quarantine(((row["key"], statements.complaint(row)) for row in rows), dataset=quarantine)
            coded = coded.filter(pc.is_null(coded["broken"]))
        return self._add_coded(coded, source)

    def check_labels(self, labels: pa.Table) -> None:
        """Refuse labels that nobody could add, without adding them: for answers that are held back."""
        coded = self._coded(labels, "oracle")
        broken = coded.filter(pc.is_valid(coded["broken"])).sort_by("place")
        if len(broken):
            raise BadInput(statements.complaint(broken.slice(0, 1).to_pylist()[0]))

    def add_quarantine(self, rows: Iterable[tuple[str, str]], *, dataset: str) -> None:
        """Record files (location, reason) that were not taken in."""
        table = pa.Table.from_pylist(
            [{"dataset": dataset, "location": location, "reason": reason} for location, reason in rows],
            pa.schema([("dataset", pa.string()), ("location", pa.string()), ("reason", pa.string())]),
        )
        self._insert("quarantine_event", table)

    def add_requests(self, requests: pa.Table) -> None:
        """Add label requests (sample_id, task_id, arm, slice, reason, run, priority, propensity, cost) as open."""
        (first,) = _row(self._connection.execute("SELECT coalesce(max(request_id), -1) + 1 FROM request_event"))
        ids = pa.array(range(first, first + len(requests)), pa.int64())
        opened = requests.append_column("request_id", ids)
        self._insert("request_event", opened.append_column("state", pa.array(["open"] * len(requests), pa.string())))

    def close_requests(self, request_ids: Iterable[int], *, state: str) -> None:
        """Move requests to `state`: "answered" or "withdrawn"."""
        wanted = pa.table({"request_id": pa.array(sorted(request_ids), pa.int64())})
        current = self.now.requests()
        closed = self._sql(
            wanted, "SELECT current.* REPLACE (? AS state) FROM incoming JOIN current USING (request_id)", [state],
            current=current,
        )  # fmt: skip
        self._insert("request_event", closed.drop_columns(["key", "task"]))

    def add_run(self, run: str, *, plan: str, predictions: str, sha256: str) -> None:
        """Register a run and its predictions file (path from the home, sha256 of its bytes)."""
        row = {"run": run, "plan": plan, "predictions": predictions, "sha256": sha256}
        self._insert("run_event", pa.Table.from_pylist([row]))

    def add_slice_errors(self, errors: pa.Table) -> None:
        """Record the figures of a run by task and slice."""
        self._insert("slice_error", errors)

    def revert(self, commit: int) -> dict[str, int]:
        """Undo an earlier commit: what it said is said no longer, and what stood before stands again.

        Returns how many labels, attributes, samples, tasks, slices and label requests that moved, and how many
        statements were `kept` because a later commit had replaced them. What had nothing before it is retracted, has no
        value or is withdrawn. Samples that it brought are excluded, for only `forget` removes one; a task that it
        declared stays, without the labels; runs and their figures stay: they say what happened.
        """
        before = self.now.earlier(commit - 1) if 0 < commit < self.id else None
        if before is None:
            raise BadInput(f"commit {commit}: only commits 1 to {self.id - 1} can be undone; `amber log` lists them")
        if self.repeated:
            return {}
        brought = f"sample_id IN (SELECT sample_id FROM sample WHERE commit_id = {commit})"
        moved: dict[str, int] = {"kept": 0}
        for table, aside in (("label_event", ""), ("attribute_event", brought), ("request_event", "")):
            events, kept = undoing(self._connection, table, commit, aside=aside)
            self._insert(table, events, aside="labelled_at" if table == "label_event" else "")
            moved[f"{table.removesuffix('_event')}s"] = len(events)
            moved["kept"] += kept
        keys = self._connection.execute("SELECT key FROM sample WHERE commit_id = ? ORDER BY key", [commit])
        samples = keys.to_arrow_table()
        if len(samples):
            self.add_attributes(samples.append_column("excluded", pa.array([True] * len(samples))))
        moved["samples"] = len(samples)
        moved["tasks"] = self._restore_tasks(before, commit)
        moved["slices"] = self._restore_slices(before, commit)
        return moved

    def forget(self, key: str, *, predictions: Mapping[str, str]) -> None:
        """Remove a sample and all that is known of it, at every commit; the ledger keeps only that it happened.

        `predictions` are the sha256 of the predictions files, by run, that were written anew without it. NotFound when
        there is no such sample.
        """
        found = self._connection.execute("SELECT sample_id FROM sample WHERE key = ?", [key]).fetchone()
        if self.repeated:
            return
        if found is None:
            raise NotFound(f"key {key!r}: no such sample; `amber slices show` lists keys")
        for table in SAMPLED:
            self._connection.execute(f"DELETE FROM {table} WHERE sample_id = ?", list(found))
        for run, sha256 in predictions.items():
            self._connection.execute("UPDATE run_event SET sha256 = ? WHERE run = ?", [sha256, run])
        self._digest("forgotten", *map(str, found))
        self._connection.execute("INSERT INTO forgotten VALUES (?, ?)", [self.id, *found])

    def _restore_tasks(self, before: Snapshot, commit: int) -> int:
        """Give each task that a commit defined last its definition from before."""
        defined = self._connection.execute(
            "SELECT name FROM task_event GROUP BY name HAVING max(commit_id) = ? ORDER BY name", [commit]
        ).fetchall()
        earlier = before.definitions()
        restored = [earlier[name].restored(self.now.definition(name)) for (name,) in defined if name in earlier]
        for definition in restored:
            self._define(definition)
        return len(restored)

    def _restore_slices(self, before: Snapshot, commit: int) -> int:
        """Give each slice that a commit declared last its predicate from before; one without has none any more."""
        declared = self._connection.execute(
            "SELECT name FROM slice_event GROUP BY name HAVING max(commit_id) = ? ORDER BY name", [commit]
        ).fetchall()
        earlier = before.slices()
        for (name,) in declared:
            part = earlier.get(name)
            if part is None:
                self._write_slice(Slice(name=name, predicate=""))
            else:
                self.add_slice(name, part.predicate, task=part.task, rare=part.rare)
        return len(declared)

    def _sql(self, incoming: pa.Table, query: str, parameters: list[Any] | None = None, **more: pa.Table) -> pa.Table:
        return over(self._connection, query, parameters, incoming=incoming, **more)

    def _insert(self, table: str, rows: pa.Table, *, aside: str = "") -> None:
        """Append to a table, with the commit's id; the column `aside` is no part of the digest."""
        if self.repeated or not len(rows):
            return
        self._digest(digest(rows.drop_columns([aside]) if aside else rows, [table]))
        self._sql(
            rows, f"INSERT INTO {table} BY NAME SELECT *, CAST(? AS BIGINT) AS commit_id FROM incoming", [self.id]
        )

    def _define(self, definition: Definition) -> None:
        task = definition.task
        self._digest("task", task.model_dump_json(), repr(definition.codes))
        self._connection.execute(
            "INSERT INTO task_event VALUES (?, ?, ?, ?, ?, ?)",
            [self.id, definition.task_id, task.name, task.model_dump_json(), list(definition.book),
             list(definition.codes)],
        )  # fmt: skip

    def _write_slice(self, part: Slice) -> None:
        """A slice with an empty predicate is gone from here on."""
        self._digest("slice", repr(part))
        self._connection.execute(
            "INSERT INTO slice_event VALUES (?, ?, ?, ?, ?)", [self.id, part.name, part.task, part.predicate, part.rare]
        )

    def _digest(self, *texts: str) -> None:
        for text in texts:
            self._content.update(f"{len(text)}:{text}".encode())

    def _check_keys(self, table: pa.Table) -> None:
        unknown = self._sql(table, "SELECT key FROM incoming ANTI JOIN sample USING (key) ORDER BY key LIMIT 1")
        _refuse(unknown, "key {0!r}: no such sample; ingest the image first")

    def _add_attribute(self, name: str, column: pa.Table) -> None:
        type_ = _attribute_type(name, column.schema.field(name).type)
        self._check_attribute(name, type_)
        if self.repeated:
            return
        if name == "split":
            _refuse(
                self._sql(
                    column,
                    "SELECT split, key FROM incoming WHERE split NOT IN ('train', 'validation', 'test')",
                ),
                "split {0!r} of {1!r}: must be train, validation or test",
            )
        rows = self._sql(
            column,
            f'SELECT sample.sample_id, ? AS name, CAST(incoming."{name}" AS {SQL_TYPES[type_]}) AS {type_} '
            f'FROM incoming JOIN sample USING (key) WHERE incoming."{name}" IS NOT NULL ORDER BY sample.sample_id',
            [name],
        )
        _refuse(
            self._sql(
                rows, "SELECT name FROM incoming SEMI JOIN (FROM attribute_event WHERE commit_id = ?) "
                "USING (sample_id, name) LIMIT 1", [self.id],
            ),
            "attribute {0}: was set before in this commit; give each sample one value",
        )  # fmt: skip
        self._insert("attribute_event", rows)

    def _check_attribute(self, name: str, type_: str) -> None:
        if not re.fullmatch(NAME, name):
            raise BadInput(f"attribute {name!r}: names are of a-z, 0-9 and _, and begin with a letter; rename it")
        known = self.now.attributes().get(name, RESERVED.get(name))
        if known not in (None, type_):
            raise BadInput(f"attribute {name}: holds a {known} so far, here a {type_}; convert it or rename it")
        if name not in self.now.attributes() and not self.repeated:
            self._digest("attribute", name, type_)
            self._connection.execute("INSERT INTO attribute VALUES (?, ?, ?)", [self.id, name, type_])

    def _coded(self, labels: pa.Table, source: str) -> pa.Table:
        return statements.coded(
            self._connection, as_labels(labels), list(self.now.definitions().values()), at=self._at,
            given=(source, self.id) if self._labelled else None,
        )  # fmt: skip

    def _add_coded(self, coded: pa.Table, source: str) -> int:
        names = pc.unique(coded["annotator"])
        annotators = self._annotators(names, source)
        ids = annotators["annotator_id"].take(
            pc.index_in(coded["annotator"], value_set=annotators["name"].combine_chunks())
        )
        rows = coded.append_column("annotator_id", ids).select(statements.COLUMNS)
        self._insert("label_event", rows, aside="labelled_at")
        self._labelled = True
        return len(rows)

    def _annotators(self, names: pa.Array, source: str) -> pa.Table:
        """Name and id of each annotator, registered where they are new."""
        known = "SELECT name, annotator_id FROM annotator WHERE source = ?"
        fresh = self._sql(
            pa.table({"name": names}), f"SELECT name FROM incoming ANTI JOIN ({known}) USING (name) ORDER BY name",
            [source],
        )  # fmt: skip
        self._digest(source, *map(str, fresh["name"].to_pylist()))
        (first,) = _row(self._connection.execute("SELECT coalesce(max(annotator_id), -1) + 1 FROM annotator"))
        fresh = fresh.append_column("annotator_id", pa.array(range(first, first + len(fresh)), pa.int32()))
        if len(fresh):
            self._sql(fresh, "INSERT INTO annotator BY NAME SELECT *, ? AS source FROM incoming", [source])
        return self._connection.execute(f"{known} ORDER BY name", [source]).to_arrow_table()


def _attribute_type(name: str, type_: pa.DataType) -> str:
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    if pa.types.is_boolean(type_):
        return "flag"
    if pa.types.is_floating(type_) or pa.types.is_integer(type_):
        return "number"
    if pa.types.is_timestamp(type_):
        return "time"
    raise BadInput(f"attribute {name}: {type_} is no string, boolean, number or time; convert it")


def _refuse(offenders: pa.Table, message: str) -> None:
    if len(offenders):
        raise BadInput(message.format(*offenders.slice(0, 1).to_pylist()[0].values()))


def _row(cursor: duckdb.DuckDBPyConnection) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return row
