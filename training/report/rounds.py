"""The rounds of a loop that led to a run: what each label bought."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.metrics import ConfusionSums
from training.report.charts import Line, chart_of, line_of
from training.report.formatting import entry_view, share_row
from training.report.run_results import RunResults, class_name, own_metric

__all__ = ["arms_of", "rounds_view"]

Row = Mapping[str, Any]
View = dict[str, Any]


def arms_of(rounds: Sequence[Row]) -> list[str]:
    """The arms of a loop, "mined" first."""
    return sorted(dict.fromkeys(row["arm"] for row in rounds), key=lambda arm: arm != "mined")


@dataclass(frozen=True, kw_only=True)
class _Loop:
    """The rounds of a loop, looked up by arm, labels bought, task and slice."""

    results: RunResults
    arms: Sequence[str]
    found: Mapping[tuple[str, int], Mapping[str, int]]
    figures: Mapping[tuple[str, int, str, str], Row]
    runs: Mapping[tuple[str, int], str]
    confusions: Mapping[tuple[str, str], ConfusionSums]

    def precision(self, arm: str, bought: int, task: str, slice_: str) -> View | None:
        """The precision, on all of test, of the only class of a slice; None where this workspace lacks the run."""
        code = self.results.only_class(task, slice_)
        sums = self.confusions.get((self.runs.get((arm, bought), ""), task))
        return None if sums is None or code is None else entry_view(share_row(sums.precision(code)))

    def groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The (task, slice) cells to show: each task's rare slices and everything; the other tasks together."""
        rare = {name for name, part in self.results.slices.items() if part.rare}.union(*self.found.values())
        cells = list(dict.fromkeys((task, slice_) for _, _, task, slice_ in self.figures))
        tasks = [task for task in self.results.tasks if (task, "") in cells]
        own = {task: [cell for cell in cells if cell[0] == task and cell[1] in rare] for task in tasks}
        groups = [(task, [*rare_cells, (task, "")]) for task, rare_cells in own.items() if rare_cells]
        rest = [(task, "") for task in tasks if not own[task]]
        return groups + ([("other tasks" if groups else "all tasks", rest)] if rest else [])

    def curve(self, arm: str, task: str, slice_: str) -> "Line":
        """The figures on test against labels bought, where there are any."""
        rows = [
            (bought, row) for (name, bought, *cell), row in sorted(self.figures.items(), key=lambda item: item[0])
            if name == arm and cell == [task, slice_] and row["value"] is not None
        ]  # fmt: skip
        return line_of([bought for bought, _ in rows], [row for _, row in rows])


def rounds_view(
    results: RunResults, rounds: Sequence[Row], confusions: Mapping[tuple[str, str], ConfusionSums]
) -> View | None:
    """The rounds by task: a curve for each (task, slice), and a table for each task.

    `confusions`, by (run, task), give the precision that belongs beside a recall.
    """
    if not rounds:
        return None
    figures = {
        (row["arm"], row["labels"], figure["task"], figure["slice"]): figure
        for row in rounds for figure in row["figures"]
        if figure["split"] == "test" and figure["task"] in {*results.predictions, *results.listed}
        and figure["metric"] == own_metric(results.tasks[figure["task"]])
    }  # fmt: skip
    found = {(row["arm"], row["labels"]): row["found"] for row in rounds}
    runs = {(row["arm"], row["labels"]): str(row["run"]) for row in rounds}
    loop = _Loop(results=results, arms=arms_of(rounds), found=found, figures=figures, runs=runs, confusions=confusions)
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
    """The figures of one (task, slice) against labels bought: a line with its 95% band for each arm."""
    lines = [loop.curve(arm, task, slice_) for arm in loop.arms]
    low = min((edge for line in lines for edge in line.low), default=0.0)
    high = max((edge for line in lines for edge in line.high), default=1.0)
    share = loop.results.tasks[task].metric != "mae"
    floor = min(0.9, np.floor(low * 10) / 10) if share and not slice_ else 0.0
    metric = loop.results.metric(task, slice_)
    points = [
        f"{arm}: {', '.join(f'{y:.3g} at {x:g}' for x, y in zip(line.x, line.y, strict=True)) or 'no data'}"
        for arm, line in zip(loop.arms, lines, strict=True)
    ]
    alt = f"{metric} of {task}, {slice_ or 'everything'}, against labels bought. {'; '.join(points)}."
    return {
        "task": task, "slice": slice_, "metric": metric,
        "chart": chart_of(alt, lines, span=(floor, 1.0 if share else high * 1.05), across="labels bought"),
    }  # fmt: skip


def _round_table(loop: _Loop, cells: Sequence[tuple[str, str]]) -> View:
    """A line for each number of labels bought; for each arm the labels found of a rare slice, and the figures."""
    names = [name for cell in cells for name in _column_names(loop, *cell)]
    lines = [
        {
            "labels": bought,
            "entries": [entry for arm in loop.arms for cell in cells for entry in _entries(loop, arm, bought, *cell)],
        }
        for bought in sorted({bought for _, bought in loop.found})
    ]
    return {"names": names, "lines": lines}


def _column_names(loop: _Loop, task: str, slice_: str) -> list[tuple[str, str]]:
    metric = loop.results.metric(task, slice_)
    if not slice_:
        return [(task, metric)]
    code = loop.results.only_class(task, slice_)
    precision = [] if code is None else [(slice_, f"precision of {class_name(loop.results.tasks[task], code)}")]
    return [(slice_, "found"), (slice_, metric), *precision]


def _entries(loop: _Loop, arm: str, bought: int, task: str, slice_: str) -> list[View | None]:
    """The cells under `_column_names`."""
    figure = entry_view(loop.figures.get((arm, bought, task, slice_)))
    if not slice_:
        return [figure]
    found = loop.found.get((arm, bought), {}).get(slice_)
    entry = None if found is None else {"value": f"{found:,}", "interval": "", "doubt": ""}
    single = loop.results.only_class(task, slice_) is not None
    return [entry, figure, *([loop.precision(arm, bought, task, slice_)] if single else [])]
