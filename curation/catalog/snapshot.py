"""Reading the catalog as of one commit. SQL only selects and counts; nothing here depends on the order of threads."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from curation.arrays import Ints
from curation.catalog.arrow_query import first, over, quoted, scalar
from curation.catalog.current_labels import attribute_at, labels_at, statements_at
from curation.catalog.schema import GROWING
from curation.catalog.slice_columns import Assumed, assumed, frame_of, labelled, predicted
from curation.catalog.slice_membership import members_sql
from curation.catalog.slices import Frame, Slice
from curation.catalog.task_definitions import Definition
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound

__all__ = ["Snapshot"]

REQUESTS = """
    FROM request_event JOIN sample USING (sample_id)
    JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id)
    WHERE request_event.commit_id <= $commit
    QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY request_event.commit_id DESC, state = 'open') = 1"""
"""Each label request as it stands at a commit; one that was opened and closed in the same commit is closed."""


class Snapshot:
    """What was known at one commit. It lives inside `with catalog.read()`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, commit: int, digest: str) -> None:
        self._connection = connection
        self.commit = commit
        self.digest = digest

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
        """What was known at another commit, as long as this snapshot is valid; NotFound when there is none."""
        return Snapshot.at(self._connection, commit)

    def has(self, batch: str) -> bool:
        """Whether a commit with this batch id has landed by now."""
        return self.batch(batch) is not None

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
        """Tasks by name, in the order in which they were declared, each as it was last defined."""
        return {name: definition.task for name, definition in self.definitions().items()}

    def task(self, name: str) -> Task:
        """One task by name; NotFound suggests the nearest."""
        return self.definition(name).task

    def task_ids(self) -> dict[str, int]:
        """Ids of tasks by name."""
        return {name: definition.task_id for name, definition in self.definitions().items()}

    def definitions(self) -> dict[str, Definition]:
        """Definitions of tasks by name, in the order in which they were declared."""
        return self._definitions("true", [])

    def definition(self, name: str) -> Definition:
        """One task's definition; NotFound suggests the nearest name."""
        found = self._definitions("name = ?", [name])
        if name not in found:
            near = difflib.get_close_matches(name, self.definitions(), 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise NotFound(f"task {name!r}: the catalog has no such task{hint}; `amber tasks` lists them")
        return found[name]

    def attributes(self) -> dict[str, str]:
        """Types of attributes by name: text, number, flag or time."""
        return dict(self._rows("SELECT name, type FROM attribute WHERE commit_id <= ? ORDER BY name", [self.commit]))

    def slices(self) -> dict[str, Slice]:
        """Declared slices by name, each as it was last declared."""
        rows = self._rows(
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

    def frame(self) -> Frame:
        """The columns that a slice may name here."""
        return frame_of(self.tasks(), self.attributes())

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

    def training_ids(self) -> Ints:
        """Ids of the samples that may be trained on: of the train split, and not excluded; sorted."""
        train, excluded = (
            self._table(f"SELECT sample_id FROM ({self._attribute(name, type_)}) WHERE value{which}", [])
            for name, type_, which in (("split", "text", " = 'train'"), ("excluded", "flag", ""))
        )
        ids = np.sort(train["sample_id"].to_numpy())
        return np.asarray(ids[~np.isin(ids, excluded["sample_id"].to_numpy())], np.int64)

    def hashes(self) -> pa.Table:
        """Perceptual hashes of all samples, by key: key, phash (uint64)."""
        return self._table("SELECT key, phash FROM sample WHERE commit_id <= ? ORDER BY key", [self.commit])

    def groups_across(self, trained: pa.Array | None = None) -> pa.Table:
        """Groups of which samples are trained on while others are evaluated, by name: group, train, evaluation (how
        many of each). Trained on are the keys `trained`, or else all of train that are not excluded."""
        group, split = (self._attribute(name, "text") for name in ("group", "split"))
        excluded = self._attribute("excluded", "flag")
        named = f"""JOIN sample USING (sample_id) LEFT JOIN ({group}) AS named USING (sample_id)
            WHERE commit_id <= {self.commit}"""
        mine = "SELECT sample_id FROM sample WHERE key IN (FROM trained)"
        if trained is None:
            out = f"FROM ({excluded}) SELECT sample_id WHERE value"
            mine = f"FROM (FROM ({split}) SELECT sample_id WHERE value = 'train') ANTI JOIN ({out}) USING (sample_id)"
        return over(
            self._connection,
            f"""WITH evaluated AS MATERIALIZED (
                SELECT coalesce(named.value, key) AS "group", count(*) AS evaluation
                FROM (FROM ({split}) SELECT sample_id WHERE value IN ('validation', 'test')) {named} GROUP BY 1)
            SELECT "group", count(*) AS train, any_value(evaluation) AS evaluation FROM (
                SELECT coalesce(named.value, key) AS "group" FROM ({mine}) {named})
            JOIN evaluated USING ("group") GROUP BY "group" ORDER BY "group" """,
            trained=pa.table({"key": pa.array([], pa.string()) if trained is None else trained}),
        )

    def attribute(self, name: str) -> pa.Table:
        """Current values of one attribute: sample_id, value; NotFound when the catalog has none of that name."""
        return self._table(
            f"SELECT * FROM ({self._attribute(name, self._attribute_type(name))}) ORDER BY sample_id", []
        )

    def labels(self, task: str) -> pa.Table:
        """Current labels of one task: sample_id, state (1 known, 2 unsure), code, number, codes, boxes, source."""
        return self._table(f"SELECT * EXCLUDE (task_id) FROM ({self._labels([task])}) ORDER BY sample_id", [])

    def column(self, family: str, name: str) -> pa.Table:
        """What a slice reads as FAMILY.NAME (attr, label, state or boxes): sample_id and value, where there is one."""
        return self._table(
            f"SELECT sample_id, value FROM ({self._column(family, name, None, {})}) ORDER BY sample_id", []
        )

    def statements(self, task: str) -> pa.Table:
        """The newest label of each annotator for one task, whether it counts or not, by sample: sample_id, annotator
        (a name), source, state, code, number, codes, boxes, confidence, labelled_at, commit_id."""
        said = statements_at(self.commit, self._task_id(task))
        return self._table(
            f"SELECT sample_id, name AS annotator, said.* EXCLUDE (sample_id, annotator_id) FROM ({said}) AS said "
            "JOIN (SELECT annotator_id, name FROM annotator) USING (annotator_id) ORDER BY sample_id, annotator_id",
            [],
        )

    def class_counts(self, task: str | None = None) -> pa.Table:
        """Current labels of one task, or of all, counted: task_id, state, code (null for other kinds), n."""
        labels = self._labels(None if task is None else [task])
        return self._table(f"SELECT task_id, state, code, count(*) AS n FROM ({labels}) GROUP BY ALL ORDER BY ALL", [])

    def predicted(self, task: str, predictions: str) -> pa.Table:
        """What the Parquet file of a run predicts for one task: sample_id, code, number, confidence."""
        return self._table(
            f"""SELECT sample_id, code, number, confidence FROM read_parquet({quoted(predictions)}) AS said
            JOIN sample USING (key) WHERE said.task = ? AND commit_id <= ? ORDER BY sample_id""",
            [task, self.commit],
        )

    def touched(self, since: int) -> Ints:
        """Ids of the samples that commits after `since`, up to this one, brought or said something of; sorted."""
        events = ("sample", "label_event", "attribute_event", "request_event")
        query = " UNION ".join(
            f"SELECT sample_id FROM {name} WHERE commit_id > {since} AND commit_id <= {self.commit}" for name in events
        )
        return np.asarray(self._table(f"SELECT sample_id FROM ({query}) ORDER BY 1", [])["sample_id"].to_numpy())

    def annotators(self) -> pa.Table:
        """Who has a standing statement of how many samples: task, annotator, source, labels; unsure ones count."""
        names = pa.table({"task_id": list(self.task_ids().values()), "task": list(self.task_ids())})
        names = names.cast(pa.schema([("task_id", pa.int32()), ("task", pa.string())]))
        return over(
            self._connection,
            """SELECT task, annotator.name AS annotator, source, labels FROM (
                SELECT task_id, annotator_id, count(*) FILTER (state <> 0) AS labels FROM (
                    SELECT task_id, annotator_id, sample_id, arg_max(state, commit_id) AS state
                    FROM label_event WHERE commit_id <= ? GROUP BY ALL) GROUP BY ALL)
            JOIN names USING (task_id) JOIN annotator USING (annotator_id)
            WHERE labels > 0 ORDER BY task_id, labels DESC, source, annotator.name""",
            [self.commit], names=names,
        )  # fmt: skip

    def known(self, tasks: Sequence[str] | None = None) -> pa.Table:
        """Every current label that is known, of these tasks or of all, in no order: task_id, sample_id."""
        return self._table(f"SELECT task_id, sample_id FROM ({self._labels(tasks)}) WHERE state = 1", [])

    def eligible(self, tasks: Sequence[str], index: Path) -> pa.Table:
        """Known labels of `tasks` on the training samples that a pack holds, in no order.

        `index` is the pack's Parquet index, of which `row` names the line: task_id, sample_id, row, code, number,
        codes, source. Excluded samples are left out, as they are by `training_ids`.
        """
        labels = self._table(
            f"SELECT task_id, sample_id, code, number, codes, source FROM ({self._labels(tasks)}) WHERE state = 1", []
        )
        packed = self._table(
            f"""SELECT sample_id, file_row_number AS row
            FROM read_parquet({quoted(str(index))}, file_row_number = true) JOIN sample USING (key)
            WHERE commit_id <= {self.commit}""",
            [],
        )
        ids = [table["sample_id"].to_numpy() for table in (labels, packed)] + [self.training_ids()]
        rows = np.full(1 + max(part.max(initial=0) for part in ids), -1, np.int64)  # far faster than joins
        rows[ids[1]] = packed["row"].to_numpy()
        trained = np.zeros(len(rows), np.bool_)
        trained[ids[2]] = True
        row = np.where(trained, rows, -1)[ids[0]]
        return labels.add_column(2, "row", pa.array(row)).filter(pa.array(row >= 0))

    def members(
        self,
        predicate: str,
        *,
        predictions: str | None = None,
        assume: Assumed | None = None,
    ) -> Ints:
        """Ids of the samples for which a canonical predicate is true, sorted.

        `predictions` is the Parquet file of the run that `pred.*` reads. `assume` says what to take for the label of a
        task on every sample, whatever is known of it: so mining asks which samples would join a slice.
        """
        samples = f"SELECT sample_id FROM sample WHERE commit_id <= {self.commit}"
        query = members_sql(
            predicate, lambda family, name: self._column(family, name, predictions, assume or {}), samples
        )
        try:
            found = self._table(query, [])
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            raise BadInput(f"slice {predicate!r}: {str(error).splitlines()[0]}; correct it, or use TRY_CAST") from None
        return np.asarray(found["sample_id"].to_numpy(), dtype=np.int64)

    def requests(self, state: str | None = None) -> pa.Table:
        """Label requests, each as it stands now, by id, with the sample's key and the task's name."""
        return self._table(
            f"""SELECT request_event.* EXCLUDE (commit_id), sample.key AS key, name AS task
            {REQUESTS} AND ($state IS NULL OR state = $state) ORDER BY request_id""",
            {"commit": self.commit, "state": state},
        )

    def closed_requests(self, commits: Sequence[int]) -> pa.Table:
        """Requests that these commits answered: request_id, sample_id, key, task, arm, slice."""
        return self._table(
            """SELECT request_id, sample_id, sample.key AS key, name AS task, arm, slice
            FROM request_event JOIN sample USING (sample_id)
            JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id)
            WHERE state = 'answered' AND list_contains($commits, request_event.commit_id) ORDER BY request_id""",
            {"commits": list(commits)},
        )

    def answers(self) -> pa.Table:
        """What came of each answer that people gave elsewhere: sample_id, task_id, annotator, server, project, item,
        annotation, outcome, seconds, answered_at; the newest word on each."""
        return self._table(
            "SELECT * EXCLUDE (commit_id) FROM answer_event WHERE commit_id <= ? QUALIFY row_number() OVER "
            "(PARTITION BY server, project, annotation, task_id ORDER BY commit_id DESC) = 1 "
            "ORDER BY answered_at, annotation, task_id",
            [self.commit],
        )

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
        """Rows up to this commit of every table that only grows: what two catalogs with the same history share."""
        return {
            name: int(scalar(self._connection, f"SELECT count(*) FROM {name} WHERE {column} <= {self.commit}"))
            for name, column in GROWING.items()
        }

    def _labels(self, tasks: Sequence[str] | None = None) -> str:
        """Current labels of these tasks, or of all, as SQL."""
        ids = None if tasks is None else [self._task_id(task) for task in tasks]
        return labels_at(self._connection, self.commit, ids)

    def _task_id(self, task: str) -> int:
        return self.definition(task).task_id

    def _definitions(self, which: str, parameters: list[Any]) -> dict[str, Definition]:
        rows = self._rows(
            f"SELECT task_id, definition, book, codes FROM task_event WHERE commit_id <= {self.commit} AND {which} "
            "QUALIFY row_number() OVER (PARTITION BY task_id ORDER BY commit_id DESC) = 1 ORDER BY task_id",
            parameters,
        )
        found = [
            Definition(task=Task.model_validate_json(text), task_id=task_id, book=tuple(book), codes=tuple(codes))
            for task_id, text, book, codes in rows
        ]
        return {definition.task.name: definition for definition in found}

    def _attribute(self, name: str, type_: str) -> str:
        return attribute_at(self._connection, self.commit, name, type_)

    def _column(self, family: str, name: str, predictions: str | None, assume: Assumed) -> str:
        """One column of a slice's frame, as SQL: sample_id, value."""
        if family == "attr" and name == "key":
            return f"SELECT sample_id, key AS value FROM sample WHERE commit_id <= {self.commit}"
        if family == "attr":
            return self._attribute(name, self._attribute_type(name))
        task = self.task(name)
        if family in ("label", "state") and name in assume:
            return assumed(family, task, assume[name], self.commit)
        if family == "pred":
            return predicted(task, predictions, self.commit)
        return labelled(family, task, self._labels([name]))

    def _attribute_type(self, name: str) -> str:
        types = self.attributes()
        if name not in types:
            raise NotFound(f"attribute {name!r}: the catalog has none of that name; `amber coverage` lists them")
        return types[name]

    def _table(self, query: str, parameters: Any) -> pa.Table:
        return self._connection.execute(query, parameters).to_arrow_table()

    def _rows(self, query: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()
