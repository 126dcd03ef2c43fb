"""What people see: stages with progress bars on a terminal, a line for each stage elsewhere, and tables."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["Screen", "interval", "output", "plain", "show", "table"]


class Screen:
    """Progress goes to standard error, so that standard output holds results only."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    @contextmanager
    def stages(self) -> Iterator["Screen"]:
        """Show the bars of the stages that report inside this block."""
        columns = (TextColumn("  {task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            self._progress = progress
            try:
                yield self
            finally:
                self._progress = None
                self._bars.clear()
                self._started.clear()

    def tell(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` of a stage is done."""
        started = self._started.setdefault(stage, time.monotonic())
        if self._progress is None:
            return
        if not self.console.is_terminal:
            if done >= total and total > 0:
                self.console.print(f"  {stage:<10} {done:>7,}  {time.monotonic() - started:6.1f} s")
                del self._started[stage]
            return
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=total)
        bar = self._bars[stage]
        if self._progress.tasks[self._progress.task_ids.index(bar)].finished and done < total:
            self._progress.reset(bar, total=total)
        self._progress.update(bar, completed=done, total=total)

    def say(self, text: str) -> None:
        """A line for people."""
        self.console.print(text)


def output() -> Console:
    """Standard output, where results go; as wide as the terminal, or 120 columns in a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def show(data: Any, as_json: bool, human: Callable[[], Any]) -> None:
    """Results on standard output: `data` as JSON, or what `human` makes of it, if anything."""
    if as_json:
        click.echo(json.dumps(data, indent=1, default=str))
        return
    shown = human()
    if isinstance(shown, str):
        click.echo(shown)
    elif shown is not None:
        output().print(shown)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table with numbers to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    kept = [list(row) for row in rows]
    for i, column in enumerate(columns):
        numeric = bool(kept) and all(isinstance(row[i], int | float) or row[i] is None for row in kept)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in kept:
        made.add_row(*(_cell(value) for value in row))
    return made


def interval(figure: Mapping[str, Any]) -> str:
    """A figure with its 95% interval, as people read it."""
    if figure["value"] is None:
        return "no data"
    digits = 2 if figure["metric"] == "mae" else 3
    low, high = (f"{figure[side]:.{digits}f}" if figure[side] is not None else "?" for side in ("low", "high"))
    return f"{figure['value']:.{digits}f} [{low}, {high}]"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _numbers(value: Any) -> str:
    return " then ".join(f"{part:,}" for part in value) if isinstance(value, tuple) else f"{value:,}"


def plain(value: Any) -> Any:
    """What a cell of a table shows of a list or a dictionary of numbers; anything else as it is."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_numbers(number)}" for name, number in value.items())
    return ", ".join(value) if isinstance(value, list | tuple) else value
