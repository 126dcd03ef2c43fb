"""Every figure of test over the runs of a workspace: what a slice reached, from run to run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup, escape

from curation.analysis.box_attributes import is_of_attribute
from curation.catalog.snapshot import Snapshot
from training.report.formatting import doubt_of, entry_view

__all__ = ["Trend", "Trends", "spark", "trends"]

RUNS: Final = 20
"""Runs that a trend goes back: the newest."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The figures of one (task, slice; "" is everything), by run, the oldest run first; rows as `runs.slice_errors`."""

    task: str
    slice: str
    metric: str
    rows: tuple[tuple[str, Row], ...]

    @property
    def newest(self) -> Row:
        """The row of the newest run that has one."""
        return self.rows[-1][1]

    @property
    def run(self) -> str:
        """The newest run that has a figure."""
        return self.rows[-1][0]

    @property
    def entry(self) -> dict[str, Any] | None:
        """The newest figure as a cell of a table."""
        return entry_view(self.newest)

    @property
    def change(self) -> float | None:
        """The newest value minus the one before it; None without two."""
        values = [row["value"] for _, row in self.rows if row["value"] is not None]
        return values[-1] - values[-2] if len(values) > 1 else None

    @property
    def better(self) -> bool | None:
        """Whether the change is to the better, chance or not; None without one, or where nothing changed."""
        change = self.change
        return None if not change else (change < 0) == (self.metric == "mae")

    @property
    def error(self) -> float:
        """How bad the newest figure is: 1 - share; for numbers the error itself, which orders slices of one task."""
        value = self.newest["value"]
        return 0.0 if value is None else float(value if self.metric == "mae" else 1 - value)

    @property
    def sure(self) -> bool:
        """Whether there is enough data for a conclusion."""
        return not doubt_of(self.newest)


@dataclass(frozen=True, kw_only=True)
class Trends:
    """All trends by (task, slice), each in the task's own metric, and the evaluated runs, the oldest first."""

    runs: tuple[str, ...]
    by_cell: Mapping[tuple[str, str], Trend]

    def of_task(self, task: str) -> list[Trend]:
        """The trends of a task, everything first, then slices by name."""
        return [self.by_cell[cell] for cell in sorted(self.by_cell) if cell[0] == task]


def trends(now: Snapshot, home: Path) -> Trends:
    """The trends of a workspace over its `RUNS` newest evaluated runs."""
    runs = list(dict.fromkeys(reversed([str(row["run"]) for row in now.runs().to_pylist()])))[:RUNS][::-1]
    found: dict[tuple[str, str], list[tuple[str, Row]]] = {}
    for run in runs:
        for row in now.runs.slice_errors(run).to_pylist():
            if row["split"] == "test" and not is_of_attribute(row["metric"]) and row["value"] is not None:
                found.setdefault((row["task"], row["slice"]), []).append((run, row))
    return Trends(
        runs=tuple(runs),
        by_cell={
            cell: Trend(task=cell[0], slice=cell[1], metric=metric, rows=tuple(kept))
            for cell, rows in found.items()
            for metric in [rows[-1][1]["metric"]]
            for kept in [[pair for pair in rows if pair[1]["metric"] == metric]]
        },
    )


def spark(rows: Iterable[tuple[str, Row]], words: str) -> Markup:
    """A line of the values, oldest first, the lowest at the bottom; `words` says it to whoever cannot see it."""
    values = [float(row["value"]) for _, row in rows]
    if len(values) < 2:
        return Markup('<span class="muted">-</span>')
    low, span = min(values), (max(values) - min(values)) or 1.0
    points = [
        (round(3 + 104 * place / (len(values) - 1), 1), round(22 - 18 * (value - low) / span, 1))
        for place, value in enumerate(values)
    ]
    line = " ".join(f"{x},{y}" for x, y in points)
    return Markup(
        f'<svg class="spark" viewBox="0 0 110 26" role="img" aria-label="{escape(words)}"><polyline points="{line}"/>'
        f'<circle cx="{points[-1][0]}" cy="{points[-1][1]}" r="3"/></svg>'
    )
