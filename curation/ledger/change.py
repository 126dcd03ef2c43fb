"""One commit in the making: events are added, checked, and become durable together."""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput, NotFound
from curation.ledger import schema
from curation.ledger.snapshot import Snapshot
from curation.slices import Slice, vet
from curation.tasks import Task

__all__ = ["Change"]

RESERVED = {"group": "text", "split": "text", "source": "text", "captured_at": "time", "excluded": "flag"}
"""Attributes that Amber itself reads, with their types; `key` lies in the sample."""

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
        known = self.now.tasks()
        for task in tasks:
            if known.get(task.name) == task or self.repeated:
                continue
            if task.name in known:
                raise BadInput(f"task {task.name}: defined before in another way; give the new one another name")
            (task_id,) = _row(self._connection.execute("SELECT coalesce(max(task_id), -1) + 1 FROM task_event"))
            known[task.name] = task
            self._digest("task", task.model_dump_json())
            self._connection.execute(
                "INSERT INTO task_event VALUES (?, ?, ?, ?)",
                [self.id, task_id, task.name, task.model_dump_json()],
            )

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
            self._digest("slice", repr(made))
            self._connection.execute(
                "INSERT INTO slice_event VALUES (?, ?, ?, ?, ?)", [self.id, name, task, made.predicate, rare]
            )
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
        (first,) = _row(self._connection.execute("SELECT coalesce(max(sample_id), -1) + 1 FROM sample"))
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

    def add_labels(self, labels: pa.Table, *, source: str) -> int:
        """Add labels (the columns of `readers.content.LABELS`); returns how many. All are checked first."""
        if source not in schema.PRECEDENCE:
            raise BadInput(f"source {source!r}: must be one of {', '.join(schema.PRECEDENCE)}")
        self._check_keys(labels)
        if self.repeated or not len(labels):
            return 0
        self._register_annotators(labels, source)
        coded = self._coded(labels, source)
        self._check_values(coded)
        columns = [
            "sample_id",
            "task_id",
            "annotator_id",
            "state",
            "code",
            "number",
            "boxes",
            "confidence",
            "labelled_at",
        ]
        self._insert("label_event", coded.select(columns))
        return len(coded)

    def check_labels(self, labels: pa.Table) -> None:
        """Refuse labels that nobody could add, without adding them: for answers that are held back."""
        self._check_keys(labels)
        self._check_values(self._coded(labels, "oracle"))

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

    def _sql(self, incoming: pa.Table, query: str, parameters: list[Any] | None = None, **more: pa.Table) -> pa.Table:
        names = {"incoming": incoming, **more}
        for name, table in names.items():
            self._connection.register(name, table)
        try:
            return self._connection.execute(query, parameters or []).to_arrow_table()
        finally:
            for name in names:
                self._connection.unregister(name)

    def _insert(self, table: str, rows: pa.Table) -> None:
        if self.repeated or not len(rows):
            return
        self._digest(table, *(name for name in rows.column_names if name != "labelled_at"))
        for name in rows.column_names:
            if name != "labelled_at":
                self._digest(*map(str, rows[name].to_pylist()))
        stamped = rows.append_column("commit_id", pa.array([self.id] * len(rows), pa.int64()))
        self._sql(stamped, f"INSERT INTO {table} BY NAME SELECT * FROM incoming")

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
        cast = {"text": "VARCHAR", "number": "DOUBLE", "flag": "BOOLEAN", "time": "TIMESTAMP"}[type_]
        rows = self._sql(
            column,
            f'SELECT sample.sample_id, ? AS name, CAST(incoming."{name}" AS {cast}) AS {type_} FROM incoming '
            f'JOIN sample USING (key) WHERE incoming."{name}" IS NOT NULL ORDER BY sample.sample_id',
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
            self._connection.execute("INSERT INTO attribute VALUES (?, ?)", [name, type_])

    def _register_annotators(self, labels: pa.Table, source: str) -> None:
        fresh = self._sql(
            labels,
            "SELECT DISTINCT annotator AS name, ? AS source FROM incoming ANTI JOIN annotator "
            "ON incoming.annotator = annotator.name AND annotator.source = ? ORDER BY name",
            [source, source],
        )
        _refuse(fresh.filter(pc.equal(pc.fill_null(fresh["name"], ""), "")),
                "annotator {0!r}: every label has one; name who gave it")  # fmt: skip
        self._digest(source, *map(str, fresh["name"].to_pylist()))
        (first,) = _row(self._connection.execute("SELECT coalesce(max(annotator_id), -1) + 1 FROM annotator"))
        fresh = fresh.append_column("annotator_id", pa.array(range(first, first + len(fresh)), pa.int32()))
        if len(fresh):
            self._sql(fresh, "INSERT INTO annotator BY NAME SELECT * FROM incoming")

    def _coded(self, labels: pa.Table, source: str) -> pa.Table:
        """Names become ids and codes; what is not known stays null and is refused by `_check_values`."""
        return self._sql(
            labels,
            """
            SELECT key, task, state AS word, text, width, height, kind, sample_id, task_id, annotator_id,
                CAST(CASE state WHEN 'known' THEN 1 WHEN 'unsure' THEN 2 WHEN 'retracted' THEN 0 END AS UTINYINT)
                    AS state,
                CASE WHEN incoming.state = 'known' AND kind IN ('binary', 'categorical')
                    THEN CAST(list_position(classes, text) - 1 AS INTEGER) END AS code,
                CASE WHEN incoming.state = 'known' AND kind = 'regression' THEN incoming.number END AS number,
                CASE WHEN incoming.state = 'known' AND kind = 'detection' THEN list_transform(boxes, lambda b: {
                    'code': CAST(list_position(classes, b.class) - 1 AS INTEGER),
                    'x': b.x, 'y': b.y, 'w': b.w, 'h': b.h}) END AS boxes,
                CAST(1 AS REAL) AS confidence, ? AS labelled_at
            FROM incoming JOIN sample USING (key)
            LEFT JOIN definition ON definition.name = incoming.task
            LEFT JOIN annotator ON annotator.name = incoming.annotator AND annotator.source = ?
            ORDER BY sample_id, task_id, annotator_id
            """,
            [self._at, source],
            definition=self.now.task_table(),
        )

    def _check_values(self, coded: pa.Table) -> None:
        """Refuse a batch by its first label that breaks a rule."""
        rules = [
            ("task_id IS NULL", "task {1!r}: the catalog has no such task; `amber tasks` lists them"),
            ("state IS NULL", "state {2!r} of {0!r}: must be known, unsure or retracted"),
            (
                "state = 1 AND kind IN ('binary', 'categorical') AND code IS NULL",
                "{3!r} of {0!r}: task {1} has no such class; correct the label or add the class",
            ),
            (
                "state = 1 AND kind = 'regression' AND (number IS NULL OR NOT isfinite(number))",
                "number of {0!r}: task {1} takes finite numbers; correct the label",
            ),
            (
                "state = 1 AND kind = 'detection' AND (boxes IS NULL OR len(list_filter(boxes, lambda b: "
                "b.code IS NULL OR NOT coalesce(b.w > 0 AND b.h > 0 AND b.x >= 0 AND b.y >= 0 "
                "AND b.x + b.w <= width AND b.y + b.h <= height, false))) > 0)",
                "boxes of {0!r}: task {1} takes boxes of its classes, inside the image; correct them",
            ),
        ]
        columns = "key, task, word, text"
        for broken, message in rules:
            _refuse(
                self._sql(coded, f"SELECT {columns} FROM incoming WHERE {broken} ORDER BY key LIMIT 1"),
                message,
            )
        twice = (
            "SELECT key, task FROM incoming GROUP BY key, task, annotator_id HAVING count(*) > 1 ORDER BY key LIMIT 1"
        )
        _refuse(self._sql(coded, twice), "label of {0!r} for {1}: stands twice in this batch; keep one")
        before = (
            "SELECT key, task FROM incoming SEMI JOIN (FROM label_event WHERE commit_id = ?) "
            "USING (sample_id, task_id, annotator_id) ORDER BY key LIMIT 1"
        )
        _refuse(self._sql(coded, before, [self.id]), "label of {0!r} for {1}: given before in this commit; keep one")


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
