"""Decisions from predictions: false blocks, power, false passes, and what else decides with few labels.

ROWS names the parts, such as `ROWS=blocks,power`. RUNS is how often each cell is simulated, FIRST_SEED the first seed.
The rules were chosen on other simulations, of seeds below 100 (docs/log.md).
"""

from benchmarks.parts import finish_parts

PARTS = {
    "blocks": "decide_gate:block_rows", "power": "decide_gate:power_rows", "passes": "decide_gate:pass_rows",
    "time": "decide_gate:time_rows", "import": "decide_scale:import_rows", "report": "decide_scale:report_rows",
    "differences": "decide_labels:difference_rows", "errors": "decide_labels:error_rows",
    "prevalence": "decide_drift:prevalence_rows", "drift": "decide_drift:drift_rows",
}  # fmt: skip
"""The parts by name, in the order in which they run: a module of `benchmarks` and its function."""


if __name__ == "__main__":
    finish_parts("decide", PARTS)
