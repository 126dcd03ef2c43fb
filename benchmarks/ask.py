"""What fails unseen, which labels are wrong, and which would help most: planted truth found, null data silent.

ROWS names the parts, such as `ROWS=discovery`. RUNS is how often each cell is simulated, FIRST_SEED the first seed. The
rules were chosen on seeds below 100 (docs/log.md). `DATA=FOLDER` takes the curves of the part `forecast` from a
declared data set whose labels are all known.
"""

from benchmarks.parts import finish_parts

PARTS = {
    "discovery": "ask_discovery:discovery_rows",
    "doubts": "ask_doubts:doubt_rows",
    "similar": "ask_similar:similar_rows",
    "crops": "ask_crops:crop_rows",
    "triggers": "ask_triggers:trigger_rows",
    "again": "ask_again:again_rows",
    "requests": "ask_requests:request_rows",
    "mining": "ask_mining:mining_rows",
    "numbers": "ask_numbers:number_rows",
    "forecast": "ask_forecast:forecast_rows",
    "queue": "ask_queue:queue_rows",
}
"""The parts by name, in the order in which they run: a module of `benchmarks` and its function."""


if __name__ == "__main__":
    finish_parts("ask", PARTS)
