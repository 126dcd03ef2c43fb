"""How every benchmark ends: a table for people, and one JSON object as its last line."""

import json
import math
import os
import platform
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.console import Console

from amber.terminal import table

__all__ = ["Row", "cases_row", "finish", "small"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One requested figure: its value, its 95% interval if it has one, the bound, and whether it is met."""

    what: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    limit: str = ""
    asked: str = ""
    met: bool = True
    peers: dict[str, float] = field(default_factory=dict)


def cases_row(
    what: str, hits: int, count: int, *, asked: str = "", met: bool = True, peers: dict[str, float] | None = None
) -> Row:
    """How many of `count` cases are hits, in percent, with Wilson's 95% interval; 0 of none."""
    from scipy import stats

    low, high = stats.binomtest(hits, max(1, count)).proportion_ci(method="wilson")
    return Row(
        what=what, value=100 * hits / max(1, count), unit="%", low=100 * low, high=100 * high, asked=asked, met=met,
        peers=peers or {},
    )  # fmt: skip


def small() -> bool:
    """Whether `SCALE=small` requests the short form, which ends within two minutes."""
    return os.environ.get("SCALE", "") == "small"


def finish(bench: str, rows: list[Row], **more: Any) -> None:
    """Print the table and the JSON line. A value that is not a number is null there, and is never met."""
    rows = [replace(row, met=row.met and math.isfinite(row.value)) for row in rows]
    shown = [
        [row.what, _number(row.value) + row.unit, _span(row), row.asked, "yes" if row.met else "NO", _peers(row)]
        for row in rows
    ]
    columns = ["what", "measured", "95% interval", "asked", "met", "beside it"]
    Console(width=140).print(table(f"bench-{bench}", columns, shown))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    line = {"bench": bench, "machine": machine, "rows": [asdict(row) for row in rows], **more}
    sys.stdout.write(json.dumps(_finite(line), allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The same value with None for every number in it that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _span(row: Row) -> str:
    return "" if row.low is None or row.high is None else f"[{_number(row.low)}, {_number(row.high)}]"


def _peers(row: Row) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in row.peers.items())
