"""What fails unseen, which labels are wrong, and which would help most: planted truth found, null data silent.

ROWS names the parts, such as `ROWS=discovery`. RUNS is how often each cell is simulated, FIRST_SEED the first seed. The
rules were chosen on seeds below 100 (docs/log.md).
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module

from benchmarks.table import Row, finish

PARTS = {"discovery": "ask_discovery:discovery_rows", "doubts": "ask_doubts:doubt_rows"}
"""The parts by name, in the order in which they run: a module of `benchmarks` and its function."""


def main() -> None:
    """Every row, and the table."""
    parts, rows = os.environ.get("ROWS", ",".join(PARTS)).split(","), list[Row]()
    if unknown := [part for part in parts if part not in PARTS]:
        sys.exit(f"ROWS={unknown[0]}: must be some of {','.join(PARTS)}; correct it")
    for part in parts:
        module, _, name = PARTS[part].partition(":")
        made: Callable[[], list[Row]] = getattr(import_module(f"benchmarks.{module}"), name)
        rows += made()
    finish("ask", rows)


if __name__ == "__main__":
    main()
