"""Reading the catalog as of one commit. SQL only selects and counts; nothing here depends on the order of threads."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput, NotFound
from curation.ledger.schema import PRECEDENCE
from curation.slices import Frame, Slice, columns_of
from curation.tasks import Task

__all__ = ["Snapshot"]

SQL_TYPES = {"text": "VARCHAR", "number": "DOUBLE", "flag": "BOOLEAN", "time": "TIMESTAMP"}
LABEL_TYPES = {"binary": "BOOLEAN", "categorical": "VARCHAR", "regression": "DOUBLE"}
BOXES_TYPE = "STRUCT(class VARCHAR, x DOUBLE, y DOUBLE, w DOUBLE, h DOUBLE)[]"

RANK = " ".join(f"WHEN '{source}' THEN {rank}" for source, rank in PRECEDENCE.items())

CURRENT_LABELS = f"""
WITH newest AS (
    SELECT event.*, source, CASE source {RANK} END AS rank
    FROM label_event AS event JOIN annotator USING (annotator_id)
    WHERE task_id = $task AND commit_id <= $commit
    QUALIFY commit_id = max(commit_id) OVER (PARTITION BY sample_id, annotator_id)),
standing AS (
    SELECT * FROM newest WHERE state <> 0 QUALIFY rank = min(rank) OVER (PARTITION BY sample_id)),
votes AS (
    SELECT sample_id, state, code, count(*) AS votes, min(source) AS source, count(number) AS numbers,
        median(number) AS number, max(number) - min(number) AS spread,
        arg_max(boxes, (commit_id, annotator_id)) AS boxes
    FROM standing GROUP BY sample_id, state, code),
resolved AS (
    SELECT *, 2 * votes <= sum(votes) OVER (PARTITION BY sample_id) OR state = 2
        OR coalesce(spread > $tolerance, false) AS unsure
    FROM votes QUALIFY row_number() OVER (PARTITION BY sample_id ORDER BY votes DESC, state, code) = 1)
SELECT sample_id, CAST(CASE WHEN unsure THEN 2 ELSE 1 END AS UTINYINT) AS state,
    CASE WHEN NOT unsure THEN code END AS code, CASE WHEN NOT unsure THEN number END AS number,
    CASE WHEN NOT unsure THEN boxes END AS boxes, source
FROM resolved ORDER BY sample_id
"""
"""The current-label rule, for one task: the newest label of each annotator counts; the best source stands; several
people resolve by majority, numbers by the median if all lie within the tolerance; no majority, or one of unsure, is
unsure. Boxes of several people: the newest stands."""


class Snapshot:
    """What was known at one commit. It lives inside `with catalog.read()`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, commit: int, digest: str) -> None:
        self._connection = connection
        self.commit = commit
        self.digest = digest

    @classmethod
    def at(cls, connection: duckdb.DuckDBPyConnection, commit: int | None) -> "Snapshot":
        """The snapshot at `commit` (default: the newest); NotFound when there is no such commit."""
        head = _one(connection.execute("SELECT id FROM head"))
        if commit is not None and not 0 <= commit <= head:
            raise NotFound(f"commit {commit}: the catalog has commits 0 to {head}; `amber log` lists them")
        at = head if commit is None else commit
        row = connection.execute("SELECT digest FROM commits WHERE id = ?", [at]).fetchone()
        return cls(connection, at, row[0] if row else "")

    def earlier(self, commit: int) -> "Snapshot":
        """What was known at another commit, as long as this snapshot is valid; NotFound when there is none."""
        return Snapshot.at(self._connection, commit)

    def has(self, batch: str) -> bool:
        """Whether a commit with this batch id has landed by now."""
        return bool(self._rows("SELECT 1 FROM commits WHERE batch = ? AND id <= ?", [batch, self.commit]))

    def batch(self, batch: str) -> int | None:
        """The id of the commit that landed this batch, if one did."""
        rows = self._rows("SELECT id FROM commits WHERE batch = ? AND id <= ?", [batch, self.commit])
        return int(rows[0][0]) if rows else None

    def log(self) -> pa.Table:
        """Commits, newest first: id, committed_at, author, message, batch, digest."""
        return self._table(
            "SELECT id, committed_at, author, message, batch, digest FROM commits WHERE id <= ? ORDER BY id DESC",
            [self.commit],
        )

    def tasks(self) -> dict[str, Task]:
        """Tasks by name, in the order in which they were declared."""
        rows = self._rows("SELECT definition FROM task_event WHERE commit_id <= ? ORDER BY task_id", [self.commit])
        tasks = [Task.model_validate_json(definition) for (definition,) in rows]
        return {task.name: task for task in tasks}

    def task(self, name: str) -> Task:
        """One task by name; NotFound suggests the nearest."""
        tasks = self.tasks()
        if name not in tasks:
            near = difflib.get_close_matches(name, tasks, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise NotFound(f"task {name!r}: the catalog has no such task{hint}; `amber tasks` lists them")
        return tasks[name]

    def task_ids(self) -> dict[str, int]:
        """Ids of tasks by name."""
        rows = self._rows("SELECT name, task_id FROM task_event WHERE commit_id <= ? ORDER BY task_id", [self.commit])
        return dict(rows)

    def task_table(self) -> pa.Table:
        """Tasks for joins: task_id, name, kind, classes."""
        ids = self.task_ids()
        tasks = self.tasks().values()
        return pa.table(
            {
                "task_id": pa.array([ids[task.name] for task in tasks], pa.int32()),
                "name": pa.array([task.name for task in tasks], pa.string()),
                "kind": pa.array([task.kind for task in tasks], pa.string()),
                "classes": pa.array([list(task.classes) for task in tasks], pa.list_(pa.string())),
            }
        )

    def attributes(self) -> dict[str, str]:
        """Types of attributes by name: text, number, flag or time."""
        return dict(self._rows("SELECT name, type FROM attribute ORDER BY name", []))

    def slices(self) -> dict[str, Slice]:
        """Declared slices by name, each as it was last declared."""
        rows = self._rows(
            "SELECT name, task, predicate, rare FROM slice_event WHERE commit_id <= ? "
            "QUALIFY row_number() OVER (PARTITION BY name ORDER BY commit_id DESC) = 1 ORDER BY min(commit_id) "
            "OVER (PARTITION BY name), name",
            [self.commit],
        )
        return {
            name: Slice(name=name, task=task, predicate=predicate, rare=rare) for name, task, predicate, rare in rows
        }

    def frame(self) -> Frame:
        """The columns that a slice may name here."""
        tasks = self.tasks().values()
        attributes = {name: SQL_TYPES[type_] for name, type_ in self.attributes().items()}
        labels = {task.name: LABEL_TYPES[task.kind] for task in tasks if task.kind != "detection"}
        return Frame(
            families={
                "attr": {"key": "VARCHAR", **attributes},
                "label": labels,
                "state": {task.name: "VARCHAR" for task in tasks},
                "pred": {name: f"STRUCT(value {type_}, confidence DOUBLE)" for name, type_ in labels.items()},
                "boxes": {task.name: BOXES_TYPE for task in tasks if task.kind == "detection"},
            },
            classes={task.name: tuple(task.classes) for task in tasks if task.kind == "categorical"},
        )

    def samples(self) -> pa.Table:
        """All samples by key: sample_id, key, location, dataset, sha256, format, width, height, bytes, group, split
        ("" when not yet split), excluded, captured_at."""
        joins = " ".join(
            f'LEFT JOIN ({self._attribute(name, type_)}) AS "a_{name}" USING (sample_id)'
            for name, type_ in (
                ("group", "text"),
                ("split", "text"),
                ("excluded", "flag"),
                ("captured_at", "time"),
            )
        )
        return self._table(
            f"""SELECT sample_id, key, location, dataset, sha256, format, width, height, bytes,
                coalesce("a_group".value, key) AS "group", coalesce("a_split".value, '') AS split,
                coalesce("a_excluded".value, false) AS excluded, "a_captured_at".value AS captured_at
            FROM sample {joins} WHERE sample.commit_id <= ? ORDER BY key""",
            [self.commit],
        )

    def training_ids(self) -> npt.NDArray[np.int64]:
        """Ids of the samples that may be trained on: of the train split, and not excluded; sorted."""
        samples = self.samples()
        usable = pc.and_(pc.equal(samples["split"], "train"), pc.invert(samples["excluded"]))
        return np.sort(np.asarray(samples.filter(usable)["sample_id"].to_numpy(), np.int64))

    def attribute(self, name: str) -> pa.Table:
        """Current values of one attribute: sample_id, value; NotFound when the catalog has none of that name."""
        types = self.attributes()
        if name not in types:
            raise NotFound(f"attribute {name!r}: the catalog has none of that name; `amber coverage` lists them")
        return self._table(f"SELECT * FROM ({self._attribute(name, types[name])}) ORDER BY sample_id", [])

    def labels(self, task: str) -> pa.Table:
        """Current labels of one task: sample_id, state (1 known, 2 unsure), code, number, boxes, source."""
        return self._connection.execute(CURRENT_LABELS, self._label_parameters(task)).to_arrow_table()

    def members(
        self,
        predicate: str,
        *,
        predictions: str | None = None,
        assume: Mapping[str, str | bool | float] | None = None,
    ) -> npt.NDArray[np.int64]:
        """Ids of the samples for which a canonical predicate is true, sorted.

        `predictions` is the Parquet file of the run that `pred.*` reads. `assume` says what to take for the label of a
        task on every sample, whatever is known of it: so mining asks which samples would join a slice.
        """
        columns = columns_of(predicate)
        tables = {f"t{i}": self._column(*column, predictions, assume or {}) for i, column in enumerate(columns)}
        families: dict[str, list[str]] = {}
        for i, (family, name) in enumerate(columns):
            families.setdefault(family, []).append(f'"{name}" := t{i}.value')
        structs = [f'struct_pack({", ".join(parts)}) AS "{family}"' for family, parts in families.items()]
        joins = " ".join(f"LEFT JOIN {name} USING (sample_id)" for name in tables)
        for name, table in tables.items():
            self._connection.register(name, table)
        try:
            found = self._table(
                f"""SELECT sample_id FROM (
                    SELECT {", ".join(["sample.sample_id", *structs])} FROM sample {joins} WHERE sample.commit_id <= ?)
                WHERE {predicate} ORDER BY sample_id""",
                [self.commit],
            )
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            raise BadInput(f"slice {predicate!r}: {str(error).splitlines()[0]}; correct it, or use TRY_CAST") from None
        finally:
            for name in tables:
                self._connection.unregister(name)
        return np.asarray(found["sample_id"].to_numpy(), dtype=np.int64)

    def requests(self, state: str | None = None) -> pa.Table:
        """Label requests, each as it stands now, by id, with the sample's key and the task's name."""
        return self._table(
            """SELECT request_event.* EXCLUDE (commit_id), sample.key AS key, task_event.name AS task
            FROM request_event JOIN sample USING (sample_id) JOIN task_event USING (task_id)
            WHERE request_event.commit_id <= $commit
            QUALIFY request_event.commit_id = max(request_event.commit_id) OVER (PARTITION BY request_id)
                AND ($state IS NULL OR state = $state)
            ORDER BY request_id""",
            {"commit": self.commit, "state": state},
        )

    def closed_requests(self, commits: Sequence[int]) -> pa.Table:
        """Requests that these commits answered: request_id, sample_id, key, task, arm, slice."""
        return self._table(
            """SELECT request_id, sample_id, sample.key AS key, task_event.name AS task, arm, slice
            FROM request_event JOIN sample USING (sample_id) JOIN task_event USING (task_id)
            WHERE state = 'answered' AND list_contains($commits, request_event.commit_id) ORDER BY request_id""",
            {"commits": list(commits)},
        )

    def mined(self, task: str) -> npt.NDArray[np.int64]:
        """Ids of samples whose label answered a request that was mined for this task, sorted."""
        asked = self.requests("answered")
        mine = asked.filter(pc.and_(pc.equal(asked["arm"], "mined"), pc.equal(asked["task"], task)))
        return np.unique(np.asarray(mine["sample_id"].to_numpy(), np.int64))

    def quarantine(self) -> pa.Table:
        """Files that were not taken in: dataset, location, reason."""
        return self._table(
            "SELECT dataset, location, reason FROM quarantine_event WHERE commit_id <= ? ORDER BY ALL",
            [self.commit],
        )

    def runs(self) -> pa.Table:
        """Registered runs in their order: run, plan, predictions, sha256, commit_id."""
        return self._table(
            "SELECT run, plan, predictions, sha256, commit_id FROM run_event WHERE commit_id <= ? ORDER BY commit_id",
            [self.commit],
        )

    def slice_errors(self, run: str) -> pa.Table:
        """Figures of a run, as it was evaluated last: task, slice, split, metric, n, groups, value, low, high."""
        return self._table(
            "SELECT task, slice, split, metric, n, groups, value, low, high FROM slice_error "
            "WHERE run = ? AND commit_id <= ? QUALIFY commit_id = max(commit_id) OVER () ORDER BY ALL",
            [run, self.commit],
        )

    def counts(self) -> dict[str, int]:
        """Rows of every table: what two catalogs with the same history share."""
        tables = [name for (name,) in self._rows("SELECT table_name FROM duckdb_tables() ORDER BY ALL", [])]
        return {name: int(_one(self._connection.execute(f'SELECT count(*) FROM "{name}"'))) for name in tables}

    def _label_parameters(self, task: str) -> dict[str, Any]:
        definition = self.task(task)
        return {"task": self.task_ids()[task], "commit": self.commit, "tolerance": definition.tolerance}

    def _attribute(self, name: str, type_: str) -> str:
        quoted = name.replace("'", "''")
        return (
            f"SELECT sample_id, {type_} AS value FROM attribute_event "
            f"WHERE name = '{quoted}' AND commit_id <= {self.commit} "
            "QUALIFY commit_id = max(commit_id) OVER (PARTITION BY sample_id)"
        )

    def _column(
        self, family: str, name: str, predictions: str | None, assume: Mapping[str, str | bool | float]
    ) -> pa.Table:
        """One column of a slice's frame: sample_id, value."""
        if family == "attr" and name == "key":
            return self._table("SELECT sample_id, key AS value FROM sample WHERE commit_id <= ?", [self.commit])
        if family == "attr":
            return self.attribute(name)
        task = self.task(name)
        if family == "label" and name in assume:
            return self._table(
                f"SELECT sample_id, CAST(? AS {LABEL_TYPES[task.kind]}) AS value FROM sample WHERE commit_id <= ?",
                [assume[name], self.commit],
            )
        if family == "state" and name in assume:
            return self._table("SELECT sample_id, 'known' AS value FROM sample WHERE commit_id <= ?", [self.commit])
        if family == "pred":
            return self._predicted(task, predictions)
        return self._labelled(family, task)

    def _labelled(self, family: str, task: Task) -> pa.Table:
        """Label, state or boxes of a task as a slice sees it; unknown and unsure are NULL, and a state of their own."""
        value = {
            "state": "CASE coalesce(state, 0) WHEN 1 THEN 'known' WHEN 2 THEN 'unsure' ELSE 'unknown' END",
            "boxes": "list_transform(boxes, lambda b: "
            "{'class': $classes[b.code + 1], 'x': b.x, 'y': b.y, 'w': b.w, 'h': b.h})",
            "label": {
                "binary": "code = 1",
                "categorical": "$classes[code + 1]",
                "regression": "number",
                "detection": "",
            }[task.kind],
        }[family]
        value = value.replace("$classes", _sql_list(task.classes))
        self._connection.register("current_labels", self.labels(task.name))
        try:
            return self._table(
                f"SELECT sample_id, {value} AS value FROM sample LEFT JOIN current_labels USING (sample_id) "
                "WHERE commit_id <= ?",
                [self.commit],
            )
        finally:
            self._connection.unregister("current_labels")

    def _predicted(self, task: Task, predictions: str | None) -> pa.Table:
        if predictions is None:
            raise NotFound(f"pred.{task.name}: a slice over predictions needs a run; train one, or name it with --run")
        if not Path(predictions).is_file():
            raise NotFound(f"{predictions}: the predictions of this run are gone; evaluate it again")
        value = {"binary": "code = 1", "categorical": f"{_sql_list(task.classes)}[code + 1]"}.get(task.kind, "number")
        return self._table(
            f"SELECT sample_id, {{'value': {value}, 'confidence': confidence}} AS value "
            "FROM read_parquet(?) JOIN sample USING (key) WHERE task = ?",
            [predictions, task.name],
        )

    def _table(self, query: str, parameters: Any) -> pa.Table:
        return self._connection.execute(query, parameters).to_arrow_table()

    def _rows(self, query: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()


def _sql_list(classes: tuple[str, ...]) -> str:
    return "[" + ", ".join("'" + name.replace("'", "''") + "'" for name in classes) + "]"


def _one(cursor: duckdb.DuckDBPyConnection) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row[0]
