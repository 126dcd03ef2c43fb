"""What people see: progress bars on a terminal, lines elsewhere, and tables that fit the width."""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.table import Table
from rich.text import Text

from amber.interrupts import raise_pending

__all__ = ["Screen", "WrappedTable", "interval", "note", "output", "plain", "show", "table"]

MINUTE = 60.0
"""Seconds between two lines of progress where there is no terminal."""

REDIRECTED_WIDTH = 80
"""Columns of results in a file or a pipe, unless COLUMNS is set."""

LONGEST_WORD = 40
"""Letters of a word that may be broken: hashes, keys and paths."""

WORD = re.compile(r"\S+ \[[^][]{1,20}\]|\S+|^$")
"""What stays on one line: a value with its interval, or a word."""

RATES = {"train": "images", "embed": "images", "evaluate": "images"}
"""Stages whose speed is shown, and what they count."""

NAMED = 6
"""Tasks up to which the state of each is shown beside the bar; of more, how many are in each state."""

FIRST = "ACTIVE"
"""The state in which every task begins (`training.loop.states`)."""

SMALLEST = 1e-6
"""Smaller positive numbers are shown as below it."""


class RateColumn(ProgressColumn):
    """The speed of a stage of `RATES`, such as "532 images/s"."""

    def render(self, task: Task) -> Text:
        """The text of one bar; empty while the speed is not known."""
        speed, unit = task.finished_speed or task.speed, RATES.get(task.description)
        return Text(_rate(speed, unit) if speed and unit else "", style="progress.data.speed")


class Screen:
    """Shows progress on standard error, so that standard output holds only results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._last_line = time.monotonic()
        self._running: dict[str, tuple[int, int]] = {}
        self._states: dict[str, str] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stages(self) -> Iterator["Screen"]:
        """Show the progress that is reported inside this block."""
        columns = (
            TextColumn("  {task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(compact=True), RateColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            self._progress, self._last_line = progress, time.monotonic()
            ended = threading.Event()
            watch = threading.Thread(target=self._report_each_minute, args=(ended,), daemon=True)
            watch.start()
            try:
                yield self
            finally:
                ended.set()
                watch.join()
                self._progress = None
                for part in (self._bars, self._started, self._running, self._states):
                    part.clear()

    def tell(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` of a stage is done. A Ctrl-C that got lost is raised again."""
        raise_pending()
        with self._lock:
            self._started.setdefault(stage, time.monotonic())
            if self._progress is None:
                return
            if self.console.is_terminal:
                self._move_bar(self._progress, stage, done, total)
            else:
                self._print_line(stage, done, total)

    def show_states(self, stage: str, done: int, states: Mapping[str, str]) -> None:
        """Report the state of each task at `done`: a line where one changed, and all of them beside the bar."""
        with self._lock:
            changed = [f"{name} {state}" for name, state in states.items() if self._states.get(name, FIRST) != state]
            self._states = dict(states)
            if changed:
                self.console.print(f"  {stage:<10} {done:>7,}  {', '.join(changed)}")
            if self._progress is not None and stage in self._bars:
                self._progress.update(self._bars[stage], note=_in_short(states))

    def _report_each_minute(self, ended: threading.Event) -> None:
        """Where there is no terminal, print a line for the newest stage when a minute passed without one."""
        while not self.console.is_terminal and not ended.wait(max(0.01, self._last_line + MINUTE - time.monotonic())):
            with self._lock:
                for stage in list(self._running)[-1:]:
                    self._print_line(stage, *self._running[stage])
                if time.monotonic() - self._last_line >= MINUTE:
                    self._last_line = time.monotonic()  # no stage runs

    def say(self, text: str) -> None:
        """Print a line for people."""
        self.console.print(text)

    def _print_line(self, stage: str, done: int, total: int) -> None:
        """A line when the stage ends, and once a minute before."""
        now = time.monotonic()
        seconds = now - self._started[stage]
        self._running.pop(stage, None)
        if done >= total and total > 0:
            self.console.print(f"  {stage:<10} {done:>7,}  {seconds:6.1f} s")
            del self._started[stage]
            self._last_line = now
            return
        self._running[stage] = (done, total)
        if now - self._last_line >= MINUTE:
            self.console.print(f"  {stage:<10} {done:>7,} of {total:,}, {seconds:.0f} s so far")
            self._last_line = now

    def _move_bar(self, progress: Progress, stage: str, done: int, total: int) -> None:
        if stage not in self._bars:
            self._bars[stage] = progress.add_task(stage, total=total, note="")
        bar = self._bars[stage]
        if progress.tasks[progress.task_ids.index(bar)].finished and done < total:
            progress.reset(bar, total=total)
        progress.update(bar, completed=done, total=total)


class WrappedTable:
    """A table that breaks lines between words only. Columns that do not fit go into further tables below.

    The first column is repeated in each, so that the rows can be told apart.
    """

    def __init__(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self.title, self.columns, self.rows = title, list(columns), [list(row) for row in rows]
        self._texts = [[_cell(value) for value in row] for row in self.rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The tables, each as wide as it needs to be; without a row, the title alone."""
        if not self.rows:
            yield Text(f"{self.title}\n  (none)", style="bold")
            return
        for number, part in enumerate(self._parts(options.max_width)):
            yield self._table(self.title if number == 0 else None, part)

    def _parts(self, width: int) -> list[list[int]]:
        """The columns of each table: as many as fit into `width` without breaking a word."""
        if not self.columns:
            return [[]]
        needed = [self._longest_word(column) + 3 for column in range(len(self.columns))]
        parts, used = [[0]], needed[0] + 1
        for column in range(1, len(self.columns)):
            if used + needed[column] > width and len(parts[-1]) > 1:
                parts.append([0])
                used = needed[0] + 1
            parts[-1].append(column)
            used += needed[column]
        return parts

    def _longest_word(self, column: int) -> int:
        texts = [self.columns[column], *(row[column] for row in self._texts)]
        if self._is_number(column):
            return max(map(len, texts))
        return min(LONGEST_WORD, max(len(word) for text in texts for word in WORD.findall(text)))

    def _is_number(self, column: int) -> bool:
        return bool(self.rows) and all(isinstance(row[column], int | float | None) for row in self.rows)

    def _table(self, title: str | None, columns: Sequence[int]) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
        for column in columns:
            made.add_column(
                self.columns[column], justify="right" if self._is_number(column) else "left", overflow="fold",
                min_width=self._longest_word(column),
            )  # fmt: skip
        for row in self._texts:
            made.add_row(*(row[column] for column in columns))
        return made


def _in_short(states: Mapping[str, str]) -> str:
    """The state of each task, or the number of tasks in each state.

    >>> _in_short({"car": "ACTIVE", "sign": "FROZEN"})
    'car ACTIVE, sign FROZEN'
    >>> _in_short({f"task{number}": "ACTIVE" for number in range(9)} | {"sign": "FROZEN"})
    '9 ACTIVE, 1 FROZEN'
    """
    if len(states) <= NAMED:
        return ", ".join(f"{name} {state}" for name, state in states.items())
    counts = {state: list(states.values()).count(state) for state in states.values()}
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _rate(speed: float, unit: str) -> str:
    return f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.1f} {unit}/s"


def output() -> Console:
    """Standard output, where results go: as wide as the terminal, or COLUMNS (default 80) when redirected."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS") or REDIRECTED_WIDTH)
    return Console(highlight=False, width=width)


def show(data: Any, as_json: bool, human: Callable[[], Any]) -> None:
    """Print results on standard output: `data` as JSON, or else what `human` returns, if anything."""
    if as_json:
        click.echo(json.dumps(data, indent=1, default=str))
        return
    shown = human()
    if isinstance(shown, str):
        click.echo(shown)
    elif shown is not None:
        output().print(shown)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> WrappedTable:
    """A table whose columns of numbers are aligned to the right."""
    return WrappedTable(title, columns, rows)


def note(text: str) -> None:
    """Print a line on standard error that is neither a result nor an error; nothing for an empty text."""
    if text:
        click.echo(f"note: {text}", err=True)


def interval(figure: Mapping[str, Any]) -> str:
    """A figure with its 95% interval.

    >>> interval({"value": 0.91234, "low": 0.88, "high": None, "metric": "accuracy"})
    '0.912 [0.880, ?]'
    """
    if figure["value"] is None:
        return "no data"
    digits = 2 if figure["metric"].rpartition(":")[2].startswith("mae") else 3
    low, high = (f"{figure[side]:.{digits}f}" if figure[side] is not None else "?" for side in ("low", "high"))
    return f"{figure['value']:.{digits}f} [{low}, {high}]"


def plain(value: Any) -> Any:
    """The text for a list or a dictionary of numbers in a cell; any other value unchanged.

    >>> plain({"red": 1200, "green": (1, 2)}), plain(["a", "b"]), plain(3)
    ('red 1,200, green 1 then 2', 'a, b', 3)
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {_numbers(number)}" for name, number in value.items())
    return ", ".join(value) if isinstance(value, list | tuple) else value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return _decimal(value) if isinstance(value, float) else str(value)


def _decimal(value: float) -> str:
    """Four significant digits without an exponent."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    if 0 < abs(value) < SMALLEST:
        return f"<{SMALLEST:f}" if value > 0 else f">-{SMALLEST:f}"
    text = f"{value:.4g}"
    if "e" not in text:
        return text
    return f"{value:.9f}".rstrip("0")


def _numbers(value: Any) -> str:
    return " then ".join(f"{part:,}" for part in value) if isinstance(value, tuple) else f"{value:,}"
