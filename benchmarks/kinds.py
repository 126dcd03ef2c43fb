"""Every kind of task beside what else does it: learning, the weights of draws, mining.

ROWS names the parts, such as `ROWS=weights,mining`. SEEDS is how many seeds judge, FIRST_SEED the first; DATA=FOLDER
takes a declared data set with a multilabel task, or with boxes, in place of IMAGES images of `streets`; CLASS is the
class that is mined. CINTA and CARLA are the folders of `lights` and `carla` (`benchmarks.kinds_detection`), which have
no row without them.
"""

from benchmarks.parts import finish_parts

PARTS = {
    "several": "kinds_several:head_rows", "weights": "kinds_several:weight_rows", "mining": "kinds_several:mining_rows",
    "lights": "kinds_detection:light_rows", "street_boxes": "kinds_detection:street_rows",
    "carla": "kinds_detection:carla_rows", "box_steps": "kinds_detection:step_rows",
    "pairs": "kinds_pairs:pair_rows", "parser": "kinds_parser:parser_rows",
    "four": "kinds_four:four_rows", "moving": "kinds_pairs:moving_rows",
    "box_mining": "kinds_mining:box_mining_rows", "attribute_mining": "kinds_mining:attribute_mining_rows",
}  # fmt: skip
"""The parts by name, in the order in which they run: a module of `benchmarks` and its function."""


if __name__ == "__main__":
    finish_parts("kinds", PARTS)
