"""Labels as of one commit: the current ones, those of each annotator, and those that a trainer may draw."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Ints
from curation.catalog.arrow_query import quoted
from curation.catalog.current_labels import annotator_labels_at, maybe_labelled_at
from curation.catalog.pages import RANGE, Page, Position, page_by_id
from curation.catalog.task_definitions import definition_at, definitions_at
from curation.catalog.training_samples import training_ids
from curation.catalog.view import View

__all__ = ["SnapshotLabels"]


class SnapshotLabels:
    """`now.labels`: call it for the current labels of a task."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __call__(self, task: str, *columns: str) -> pa.Table:
        """Current labels of one task: sample_id, state (1 known, 2 unsure, 3 inapplicable), code, number, codes,
        looked, boxes, source; or these columns of them, which takes less time and memory. `looked` are the classes of
        a multilabel that somebody looked for, null for all."""
        wanted = ", ".join(columns) or "* EXCLUDE (task_id)"
        return self._view.table(f"SELECT {wanted} FROM ({self.sql([task])}) ORDER BY sample_id")

    def page(self, task: str, after: Position = (), *, limit: int = 100) -> Page:
        """The next `limit` current labels of one task after a position, by `sample_id`: the columns of `labels(task)`
        and key. A page may be shorter where few samples are labelled, see `page_by_id`."""
        id_ = definition_at(self._view, task).task_id

        def find(view: View, left: int) -> Ints:
            return view.first_ids(maybe_labelled_at(view.connection, view.commit, id_, view.within), left)

        def rows(view: View) -> str:
            return f"""SELECT current.* EXCLUDE (task_id), key FROM ({view.labels_sql([id_])}) AS current
                JOIN ({view.samples_sql}) AS sample USING (sample_id)"""

        return page_by_id(self._view, after, limit, find, rows, width=RANGE)

    def sql(self, tasks: Sequence[str] | None = None) -> str:
        """SQL of the current labels of these tasks, or of all: task_id and the columns above."""
        ids = None if tasks is None else [definition_at(self._view, task).task_id for task in tasks]
        return self._view.labels_sql(ids)

    def by_annotator(self, task: str, *columns: str) -> pa.Table:
        """The newest label of each annotator for one task, also where a better source overrides it, by sample:
        sample_id, annotator (a name), source, state, code, number, codes, looked, boxes, confidence, labelled_at,
        instructions, commit_id; or these columns of them."""
        newest = annotator_labels_at(self._view.commit, definition_at(self._view, task).task_id)
        return self._view.table(
            f"""SELECT {", ".join(columns) or "* EXCLUDE (annotator_id)"} FROM (
                SELECT sample_id, name AS annotator, newest.* EXCLUDE (sample_id)
                FROM ({newest}) AS newest JOIN (SELECT annotator_id, name FROM annotator) USING (annotator_id))
            ORDER BY sample_id, annotator_id"""
        )

    def by_people(self, task: str) -> pa.Table:
        """The same of people alone; a lead who settles disputes is none of them."""
        statements = self.by_annotator(task)
        return statements.filter(pc.equal(statements["source"], "human"))

    def annotators(self) -> pa.Table:
        """How many samples each annotator has a label on that is not retracted: task, annotator, source, labels.
        Unsure and inapplicable labels count."""
        ids = {name: definition.task_id for name, definition in definitions_at(self._view).items()}
        names = pa.table({"task_id": list(ids.values()), "task": list(ids)})
        return self._view.table(
            """SELECT task, annotator.name AS annotator, source, labels FROM (
                SELECT task_id, annotator_id, count(*) FILTER (state <> 0) AS labels FROM (
                    SELECT task_id, annotator_id, sample_id, arg_max(state, commit_id) AS state
                    FROM label_event WHERE commit_id <= ? GROUP BY ALL) GROUP BY ALL)
            JOIN names USING (task_id) JOIN annotator USING (annotator_id)
            WHERE labels > 0 ORDER BY task_id, labels DESC, source, annotator.name""",
            [self._view.commit],
            names=names.cast(pa.schema([("task_id", pa.int32()), ("task", pa.string())])),
        )

    def statements(self, since: int = 0) -> pa.Table:
        """How many statements the commits after `since` made: commit_id, task, source, statements. A retraction
        counts."""
        ids = {name: definition.task_id for name, definition in definitions_at(self._view).items()}
        names = pa.table({"task_id": list(ids.values()), "task": list(ids)})
        return self._view.table(
            """SELECT commit_id, task, source, count(*) AS statements FROM label_event
            JOIN names USING (task_id) JOIN (SELECT annotator_id, source FROM annotator) USING (annotator_id)
            WHERE commit_id > ? AND commit_id <= ? GROUP BY ALL ORDER BY commit_id, task, source""",
            [since, self._view.commit],
            names=names.cast(pa.schema([("task_id", pa.int32()), ("task", pa.string())])),
        )

    def known(self, tasks: Sequence[str] | None = None) -> pa.Table:
        """Every current label that is known, of these tasks or of all, in no order: task_id, sample_id."""
        return self._view.table(f"SELECT task_id, sample_id FROM ({self.sql(tasks)}) WHERE state = 1")

    def eligible(self, tasks: Sequence[str], index: Path) -> pa.Table:
        """Known labels of `tasks` on the training samples that a pack holds, in no order: task_id, sample_id, row,
        code, number, codes, looked, source. Samples that `Snapshot.training_ids` lacks are left out.

        `index` is the Parquet index of the pack, and `row` the line there.
        """
        view = self._view
        labels = view.table(
            f"SELECT task_id, sample_id, code, number, codes, looked, source FROM ({self.sql(tasks)}) WHERE state = 1"
        )
        packed = view.table(
            f"""SELECT sample_id, file_row_number AS row
            FROM read_parquet({quoted(str(index))}, file_row_number = true) JOIN sample USING (key)
            WHERE commit_id <= {view.commit}"""
        )
        ids = [table["sample_id"].to_numpy() for table in (labels, packed)] + [training_ids(view)]
        rows = np.full(1 + max(part.max(initial=0) for part in ids), -1, np.int64)  # far faster than joins
        rows[ids[1]] = packed["row"].to_numpy()
        trained = np.zeros(len(rows), np.bool_)
        trained[ids[2]] = True
        row = np.where(trained, rows, -1)[ids[0]]
        return labels.add_column(2, "row", pa.array(row)).filter(pa.array(row >= 0))
