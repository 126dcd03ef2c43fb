"""Figures in words."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from training.report.run_results import Judged

__all__ = [
    "FEW",
    "WIDE",
    "doubt_of",
    "edges_of",
    "error_beside",
    "error_of",
    "interval_text",
    "number_text",
    "plain_text",
    "value_text",
]

Row = Mapping[str, Any]


FEW = 30
WIDE = 0.2
"""Fewer images, or a wider interval of a share, is too little data to say anything."""


def plain_text(predicate: str) -> str:
    """A canonical predicate as a person would write it: without the outer parentheses and the quotes of a keyword."""
    text = predicate.replace('"label".', "label.")
    blank = re.sub("'(?:[^']|'')*'", lambda found: "x" * len(found[0]), text)
    depths = np.cumsum([(mark == "(") - (mark == ")") for mark in blank])
    whole = blank.startswith("(") and np.flatnonzero(depths == 0).tolist() == [len(text) - 1]
    return text[1:-1] if whole else text


def doubt_of(row: Row) -> str:
    """Why a figure says too little, or nothing, in words; empty where there is enough data."""
    if not row["n"] or row["value"] is None:
        return "no data"
    if row["n"] < FEW:
        return f"too little data: {row['n']} image{'s' if row['n'] > 1 else ''}"
    if row["low"] is None:
        return "too little data: all of one group"
    if row["metric"] != "mae" and row["high"] - row["low"] > WIDE:
        return f"too little data: interval {row['high'] - row['low']:.2f} wide"
    return ""


def error_of(judged: Judged, row: Row) -> float:
    """How wrong a figure is: 1 - share, or the absolute error over that of the best constant; 0 without data."""
    return error_beside(row, judged.constant(row["task"]) if row["metric"] == "mae" else 0.0)


def error_beside(row: Row, constant: float) -> float:
    """`error_of` for the mean absolute error of the best constant, which only the metric `mae` is held against."""
    if row["value"] is None:
        return 0.0
    if row["metric"] != "mae":
        return float(1 - row["value"])
    return float(row["value"] / constant) if constant > 0 else 0.0


def edges_of(row: Row) -> tuple[float, float]:
    """The interval of a figure, from 0 up; where there is none, the value itself."""
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
    """Three digits that count, or all those before the point."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(9, max(0, digits))}f}"
