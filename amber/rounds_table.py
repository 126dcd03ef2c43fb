"""The rounds of loops as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from amber.loop import Round
from amber.terminal import WrappedTable, interval, table

__all__ = ["rounds_table"]


def rounds_table(title: str, arms: Mapping[str, Sequence[Round]], *, task: str, rare: str) -> WrappedTable:
    """One row per round: labels bought, and per arm how many of `rare` it found and its figures there and overall."""
    columns = ["round", "labels"]
    for arm in arms:
        columns += [f"{arm}: found", "recall", "all classes"]
    rows = []
    for steps in zip(*arms.values(), strict=True):
        row: list[Any] = [steps[0].index, steps[0].labels]
        for step in steps:
            row += [step.found.get(rare, 0), interval(step.figure(task, rare)), interval(step.figure(task))]
        rows.append(row)
    return table(title, columns, rows)
