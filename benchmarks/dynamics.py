"""Which tasks help each other, searches, retraining and replay: planted truth found, null data silent.

ROWS names the parts, such as `ROWS=pairs`. RUNS is how often each cell is simulated, FIRST_SEED the first seed.
"""

from benchmarks.parts import finish_parts

PARTS = {
    "pairs": "dynamics_pairs:pair_rows",
    "groups": "dynamics_groups:group_rows",
    "replay": "dynamics_replay:replay_rows",
    "retrain": "dynamics_retrain:retrain_rows",
    "retrain_kills": "dynamics_retrain:kill_rows",
    "trees": "dynamics_search:tree_rows",
    "weights": "dynamics_search:weight_rows",
    "null": "dynamics_search:null_rows",
    "kills": "dynamics_search:kill_rows",
}
"""The parts by name, in the order in which they run: a module of `benchmarks` and its function."""


if __name__ == "__main__":
    finish_parts("dynamics", PARTS)
