"""The work of people over time: answers with their seconds, gold questions, and agreement with others."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.annotator_labels import AnnotatorLabels
from curation.catalog.snapshot import Snapshot

__all__ = ["ANSWER", "GOLD", "PAIR", "WORK", "work_of_people"]

ANSWER, GOLD, PAIR = "answer", "gold", "pair"

WORK = pa.schema(
    [("annotator", pa.string()), ("what", pa.string()), ("sample_id", pa.int64()), ("at", pa.timestamp("us")),
     ("value", pa.float64())]
)  # fmt: skip
"""Columns of work: an ANSWER has its seconds in `value` (null: not measured), a GOLD question whether it was answered
right (1 or 0), and a PAIR whether a statement agrees with another person's of the sample, once for each of them."""

LABEL = ("known", "unsure", "inapplicable")


def work_of_people(now: Snapshot) -> pa.Table:
    """The work of everybody who ever answered, in the columns of `WORK`.

    >>> work_of_people(now).column_names
    ['annotator', 'what', 'sample_id', 'at', 'value']
    """
    return pa.concat_tables([_answers(now), *(_pairs(now, task) for task in now.tasks())])


def _answers(now: Snapshot) -> pa.Table:
    answers = now.requests.answers()
    gold = answers.filter(pc.is_in(answers["outcome"], value_set=pa.array(["gold_right", "gold_wrong"])))
    given = answers.filter(pc.is_in(answers["outcome"], value_set=pa.array(LABEL)))
    measured = pc.if_else(pc.greater(given["seconds"], 0), given["seconds"], None)
    right = pc.cast(pc.equal(gold["outcome"], "gold_right"), pa.float64())
    return pa.concat_tables([_rows(given, ANSWER, measured), _rows(gold, GOLD, right)])


def _rows(answers: pa.Table, what: str, value: pa.ChunkedArray) -> pa.Table:
    columns = [answers["annotator"], pa.repeat(what, len(answers)), answers["sample_id"], answers["answered_at"], value]
    return pa.table(columns, schema=WORK)


def _pairs(now: Snapshot, task: str) -> pa.Table:
    """Every two statements by people of one sample, as one row for each of the two."""
    statements = now.labels.by_people(task)
    labels = AnnotatorLabels.of(now.task(task), statements, np.arange(len(statements)))
    found = [WORK.empty_table()]
    for pair in labels.pairs():
        same = labels.same(*pair).astype(np.float64)
        for rows in pair:
            mine = statements.take(pa.array(labels.annotator[rows]))
            columns = [mine["annotator"], pa.repeat(PAIR, len(mine)), mine["sample_id"], mine["labelled_at"], same]
            found.append(pa.table(columns, schema=WORK))
    return pa.concat_tables(found)
