"""Figures as text."""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from training.evaluation.intervals import Figure
from training.report.run_results import RunResults

__all__ = [
    "FEW",
    "WIDE",
    "doubt_of",
    "edges_of",
    "entry_view",
    "error_beside",
    "error_of",
    "interval_text",
    "number_text",
    "plain_text",
    "precision_text",
    "share_row",
    "share_text",
    "value_text",
]

Row = Mapping[str, Any]


FEW = 30
WIDE = 0.2
"""With fewer images, or with a wider interval of a share, there is not enough data for a conclusion."""


@lru_cache(4_096)
def plain_text(predicate: str) -> str:
    """A canonical predicate as a person would write it: without its outer parentheses and the quotes of keywords.

    >>> plain_text("(attr.night)")
    'attr.night'
    """
    text = predicate.replace('"label".', "label.")
    blank = re.sub("'(?:[^']|'')*'", lambda found: "x" * len(found[0]), text)
    depths = np.cumsum([(mark == "(") - (mark == ")") for mark in blank])
    whole = blank.startswith("(") and np.flatnonzero(depths == 0).tolist() == [len(text) - 1]
    return text[1:-1] if whole else text


def doubt_of(row: Row) -> str:
    """Why a figure allows no conclusion, in words; empty where there is enough data."""
    if not row["n"] or row["value"] is None:
        return "no data"
    if row["n"] < FEW:
        return f"too little data: {row['n']} image{'s' if row['n'] > 1 else ''}"
    if row["low"] is None:
        return "too little data: all of one group"
    if row["metric"] != "mae" and row["high"] - row["low"] > WIDE:
        return f"too little data: interval {row['high'] - row['low']:.2f} wide"
    return ""


def error_of(results: RunResults, row: Row) -> float:
    """The error of a figure: 1 - share, or its absolute error over that of the best constant; 0 without data."""
    return error_beside(row, results.constant(row["task"]) if row["metric"] == "mae" else 0.0)


def error_beside(row: Row, constant: float) -> float:
    """`error_of`, given the mean absolute error of the best constant; only the metric `mae` needs it."""
    if row["value"] is None:
        return 0.0
    if row["metric"] != "mae":
        return float(1 - row["value"])
    return float(row["value"] / constant) if constant > 0 else 0.0


def edges_of(row: Row) -> tuple[float, float]:
    """The interval of a figure, cut off at 0; without an interval, the value twice."""
    value = row["value"] or 0.0
    return max(0.0, value if row["low"] is None else row["low"]), value if row["high"] is None else row["high"]


def value_text(row: Row) -> str:
    return number_text(row["value"]) if row["metric"] == "mae" else f"{row['value']:.3f}"


def interval_text(row: Row) -> str:
    if row["low"] is None:
        return ""
    low, high = edges_of(row)
    return f"[{number_text(low)}, {number_text(high)}]" if row["metric"] == "mae" else f"[{low:.2f}, {high:.2f}]"


def number_text(value: float) -> str:
    """A number with three significant digits, or with all its digits before the point.

    >>> number_text(0.00123), number_text(12345.6)
    ('0.00123', '12,346')
    """
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(9, max(0, digits))}f}"


def entry_view(row: Row | None) -> dict[str, Any] | None:
    """A figure for a cell of a table; None without a value."""
    if row is None or row["value"] is None:
        return None
    return {"value": value_text(row), "interval": interval_text(row), "doubt": doubt_of(row), "n": row["n"]}


def share_row(figure: Figure) -> Row:
    """A share as a row of figures."""
    return {"metric": "share", **vars(figure)}


def share_text(figure: Figure) -> str:
    """A share with its interval, and why it allows no conclusion.

    >>> share_text(Figure(value=None, low=None, high=None, n=0, groups=0))
    'no data'
    """
    row = share_row(figure)
    if figure.value is None:
        return doubt_of(row)
    text = f"{value_text(row)} {interval_text(row)}".strip()
    return f"{text} ({doubt_of(row)})" if doubt_of(row) else text


def precision_text(results: RunResults, task: str, slice_: str) -> str:
    """The precision that belongs beside the recall of a slice with one class; empty for any other slice.

    Every image of such a slice is of the class, so its precision is that on all of test.
    """
    figure = results.precision_beside(task, slice_)
    return "" if figure is None else f"precision on all of test {share_text(figure)}"
