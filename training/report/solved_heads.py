"""How each head that was solved came about: its kind and why, its ridge, and how exactly it was solved."""

import math
from collections.abc import Sequence
from typing import Any

from training.report.charts import Line, Mark, chart_of
from training.run import Head, Run

__all__ = ["heads_view"]

View = dict[str, Any]

TINY = 1e-3
"""Ridges and gradients below it are written with an exponent."""


def heads_view(run: Run) -> View:
    """A row for each solved head, and a chart of each path of ridges."""
    rows = [_row(head, run) for head in run.heads]
    return {
        "rows": rows, "paths": [_path(head) for head in run.heads if head.path],
        "compared": any(head.gain is not None for head in run.heads), "units": run.recipe.units,
        "shared": sum(head.kind == "shared" for head in run.heads), "kinds": _kinds(run.heads),
    }  # fmt: skip


def _row(head: Head, run: Run) -> View:
    solved = head.iterations > 0 or head.kind == "exact"
    return {
        "head": head, "why": _why(head, run), "ridge": _number(head.ridge) if solved else "",
        "gradient": _number(head.gradient) if solved else "", "iterations": head.iterations if solved else None,
        "gain": "" if head.gain is None else f"{head.gain:+.3f}",
        "interval": "" if head.low is None or head.high is None else f"[{head.low:+.3f}, {head.high:+.3f}]",
    }  # fmt: skip


def _kinds(heads: Sequence[Head]) -> str:
    """The number of heads of each kind, in words."""
    counts = {kind: sum(head.kind == kind for head in heads) for kind in ("exact", "shared", "constant")}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def _why(head: Head, run: Run) -> str:
    """Why the head is of its kind, from the record alone."""
    if head.kind == "constant":
        return "all its labels are one class, which it always predicts"
    if run.recipe.heads != "auto":
        return f"the recipe requests {run.recipe.heads} heads"
    if head.gain is None:
        few = "one task has no other to share a layer with" if len(run.heads) == 1 else "too few labels or groups"
        return f"not compared: {few}"
    ahead = "the shared layer" if head.kind == "shared" else "the exact head"
    noise = head.low is not None and head.high is not None and head.low <= 0 <= head.high
    earlier = f", on {head.compared:,} labels of an earlier round" if 0 < head.compared != head.labels else ""
    return f"{ahead} is ahead on held-out groups" + (", within noise" if noise else "") + earlier


def _path(head: Head) -> View:
    """The held-out loss of each ridge with one standard error to both sides, the chosen one marked."""
    points = sorted(head.path)
    line = Line(
        x=[math.log10(ridge) for ridge, _, _ in points], y=[loss for _, loss, _ in points],
        low=[loss - error for _, loss, error in points], high=[loss + error for _, loss, error in points],
    )  # fmt: skip
    marks = [Mark(x=math.log10(ridge), y=loss, form=1) for ridge, loss, _ in points if ridge == head.ridge]
    best = f"ridge {_number(head.ridge)}, chosen of {len(points)}"
    alt = f"Held-out loss of {head.task} over the ridge; {best}."
    chart = chart_of(alt, [line], span=_span(line), across="log10 of the ridge", marks=marks)
    table = [(_number(ridge), f"{loss:.4f}", f"{error:.4f}", ridge == head.ridge) for ridge, loss, error in points]
    return {"task": head.task, "best": best, "chart": chart, "table": table}


def _span(line: Line) -> tuple[float, float]:
    """The bounds of the chart; the bands of ridges far from the best may leave it at the top."""
    low, high = min(line.low), max(line.y)
    margin = 0.08 * (high - low) or 0.1
    return low - margin, high + margin


def _number(value: float) -> str:
    """A ridge or a relative gradient.

    >>> _number(0.0316227766), _number(1e-5), _number(3.2e-10)
    ('0.0316', '1e-05', '3.2e-10')
    """
    return f"{value:.2g}" if 0 < abs(value) < TINY else f"{value:.3g}"
