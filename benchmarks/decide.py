"""Decisions from predictions: false blocks, power, false passes, and what else decides with few labels.

ROWS names the parts, such as `ROWS=blocks,power`. RUNS is how often each cell is simulated, FIRST_SEED the first seed.
The rules were chosen on other simulations, of seeds below 100 (docs/log.md).
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module

from benchmarks.table import Row, finish

PARTS = {
    "blocks": "decide_gate:block_rows", "power": "decide_gate:power_rows", "passes": "decide_gate:pass_rows",
    "time": "decide_gate:time_rows", "import": "decide_scale:import_rows", "report": "decide_scale:report_rows",
    "differences": "decide_labels:difference_rows", "errors": "decide_labels:error_rows",
    "prevalence": "decide_drift:prevalence_rows", "drift": "decide_drift:drift_rows",
}  # fmt: skip
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
    finish("decide", rows)


if __name__ == "__main__":
    main()
