"""What one more label of a task costs: the time that people took for those that they gave, and the unit of requests."""

from dataclasses import dataclass
from typing import Final

from curation.catalog.snapshot import Snapshot

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

    The time of answers that gave no label counts too, and so does that of a second person for the same image.
    """
    id_ = now.task_ids()[task]
    answers = [row for row in now.requests.answers().to_pylist() if row["task_id"] == id_]
    timed = [row for row in answers if row["seconds"] > 0 and row["outcome"] in COUNTED]
    labels = len({row["sample_id"] for row in timed if row["outcome"] == "known"})
    costs = [row["cost"] for row in now.requests("answered").to_pylist() if row["task"] == task]
    return LabelCost(
        seconds=sum(row["seconds"] for row in timed) / labels if labels else None, timed=labels,
        cost=sum(costs) / len(costs) if costs else 1.0,
    )  # fmt: skip
