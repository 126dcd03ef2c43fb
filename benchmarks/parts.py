"""Benchmarks of several parts, of which ROWS names some: each is a function of a module, which is imported when run."""

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module

from benchmarks.table import Row, finish

__all__ = ["finish_parts"]


def finish_parts(bench: str, parts: Mapping[str, str]) -> None:
    """Run the parts that ROWS names (default: all, in their order), and print the table. `parts` maps a name to
    MODULE:FUNCTION of `benchmarks`."""
    chosen, rows = os.environ.get("ROWS", ",".join(parts)).split(","), list[Row]()
    if unknown := [part for part in chosen if part not in parts]:
        sys.exit(f"ROWS={unknown[0]}: must be some of {','.join(parts)}; correct it")
    for part in chosen:
        module, _, name = parts[part].partition(":")
        made: Callable[[], list[Row]] = getattr(import_module(f"benchmarks.{module}"), name)
        rows += made()
    finish(bench, rows)
