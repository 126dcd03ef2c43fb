"""The rounds of the loop that led to a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.report.charts import Line, chart_of, line_of
from training.report.formatting import doubt_of, interval_text, value_text
from training.report.run_results import Judged

__all__ = ["arms_of", "entry_view", "rounds_view"]

Row = Mapping[str, Any]
View = dict[str, Any]


def arms_of(rounds: Sequence[Row]) -> list[str]:
    return sorted(dict.fromkeys(row["arm"] for row in rounds), key=lambda arm: arm != "mined")


@dataclass(frozen=True, kw_only=True)
class _Loop:
    """The rounds of a loop, looked up by arm, labels bought, task and slice."""

    judged: Judged
    arms: Sequence[str]
    found: Mapping[tuple[str, int], Mapping[str, int]]
    figures: Mapping[tuple[str, int, str, str], Row]

    def groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The (task, slice) cells to show: for each task its rare slices and everything; the other tasks together."""
        rare = {name for name, part in self.judged.slices.items() if part.rare}.union(*self.found.values())
        cells = list(dict.fromkeys((task, slice_) for _, _, task, slice_ in self.figures))
        tasks = [task for task in self.judged.tasks if (task, "") in cells]
        own = {task: [cell for cell in cells if cell[0] == task and cell[1] in rare] for task in tasks}
        groups = [(task, [*found, (task, "")]) for task, found in own.items() if found]
        rest = [(task, "") for task in tasks if not own[task]]
        return groups + ([("other tasks" if groups else "all tasks", rest)] if rest else [])

    def curve(self, arm: str, task: str, slice_: str) -> "Line":
        """Labels bought and the figures on test, where there are any."""
        rows = [
            (bought, row) for (name, bought, *cell), row in sorted(self.figures.items(), key=lambda item: item[0])
            if name == arm and cell == [task, slice_] and row["value"] is not None
        ]  # fmt: skip
        return line_of([bought for bought, _ in rows], [row for _, row in rows])


def rounds_view(judged: Judged, rounds: Sequence[Row]) -> View | None:
    """The rounds by task, each (task, slice) as a curve, and one table for those of a task."""
    if not rounds:
        return None
    figures = {
        (row["arm"], row["labels"], figure["task"], figure["slice"]): figure
        for row in rounds for figure in row["figures"] if figure["split"] == "test" and figure["task"] in judged.answers
    }  # fmt: skip
    found = {(row["arm"], row["labels"]): row["found"] for row in rounds}
    loop = _Loop(judged=judged, arms=arms_of(rounds), found=found, figures=figures)
    groups = [
        {
            "title": name,
            "mixed": len({task for task, _ in cells}) > 1,
            "panels": [_panel(loop, *cell) for cell in cells],
            "table": _round_table(loop, cells),
        }
        for name, cells in loop.groups()
    ]
    return {"arms": loop.arms, "groups": groups}


def _panel(loop: _Loop, task: str, slice_: str) -> View:
    """One (task, slice) against labels bought: a line with its 95% band for each arm."""
    lines = [loop.curve(arm, task, slice_) for arm in loop.arms]
    low = min((edge for line in lines for edge in line.low), default=0.0)
    high = max((edge for line in lines for edge in line.high), default=1.0)
    share = loop.judged.tasks[task].metric != "mae"
    floor = min(0.9, np.floor(low * 10) / 10) if share and not slice_ else 0.0
    metric = loop.judged.metric(task, slice_)
    told = [
        f"{arm}: {', '.join(f'{y:.3g} at {x:g}' for x, y in zip(line.x, line.y, strict=True)) or 'no data'}"
        for arm, line in zip(loop.arms, lines, strict=True)
    ]
    alt = f"{metric} of {task}, {slice_ or 'everything'}, against labels bought. {'; '.join(told)}."
    return {
        "task": task, "slice": slice_, "metric": metric,
        "chart": chart_of(alt, lines, span=(floor, 1.0 if share else high * 1.05), across="labels bought"),
    }  # fmt: skip


def _round_table(loop: _Loop, cells: Sequence[tuple[str, str]]) -> View:
    """A line for each number of labels bought; for each arm what it found of a rare slice, and the figures."""
    names: list[tuple[str, str]] = []
    for task, slice_ in cells:
        metric = loop.judged.metric(task, slice_)
        names += [(slice_, "found"), (slice_, metric)] if slice_ else [(task, metric)]
    lines = []
    for bought in sorted({bought for _, bought in loop.found}):
        entries: list[View | None] = []
        for arm in loop.arms:
            for task, slice_ in cells:
                if slice_:
                    found = loop.found.get((arm, bought), {}).get(slice_)
                    entries.append(None if found is None else {"value": f"{found:,}", "interval": "", "doubt": ""})
                entries.append(entry_view(loop.figures.get((arm, bought, task, slice_))))
        lines.append({"labels": bought, "entries": entries})
    return {"names": names, "lines": lines}


def entry_view(row: Row | None) -> View | None:
    if row is None or row["value"] is None:
        return None
    return {"value": value_text(row), "interval": interval_text(row), "doubt": doubt_of(row), "n": row["n"]}
