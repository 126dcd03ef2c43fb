"""What one more label of a task costs: the time that people took for those that they gave, and the unit of requests."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.snapshot import Snapshot
from curation.requests.answer_seconds import seconds_of_answers

__all__ = ["LabelCost", "label_cost"]

COUNTED: Final = ("known", "unsure", "inapplicable", "skipped")
"""Outcomes of answers to a request; gold questions and what was deleted are none."""


@dataclass(frozen=True, kw_only=True)
class LabelCost:
    """`seconds` of people's time a known label, over `timed` of them (None: nobody was timed); and `cost` a label, in
    the unit of request costs, 1 without a request."""

    seconds: float | None
    timed: int
    cost: float


def label_cost(now: Snapshot, task: str) -> LabelCost:
    """The cost of a label of a task, from all answers and requests so far.

    The time of answers that gave no label counts too, and so does that of a second person for the same image. The
    seconds of a page with several tasks are divided evenly among them.
    """
    id_ = now.task_ids()[task]
    answers = now.requests.answers()
    answers = answers.filter(
        pc.and_(pc.greater(answers["seconds"], 0), pc.is_in(answers["outcome"], pa.array(COUNTED)))
    )
    mine = answers["task_id"].to_numpy() == id_
    known = answers["outcome"].to_numpy(zero_copy_only=False) == "known"
    labels = len(np.unique(answers["sample_id"].to_numpy()[mine & known]))
    costs = [row["cost"] for row in now.requests("answered").to_pylist() if row["task"] == task]
    return LabelCost(
        seconds=float(seconds_of_answers(answers)[mine].sum()) / labels if labels else None, timed=labels,
        cost=sum(costs) / len(costs) if costs else 1.0,
    )  # fmt: skip
