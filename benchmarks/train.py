"""The trainer: what a step of many tasks costs, whether stopping and sharing pay, and whether runs end as they must.

ROWS names the parts, such as `ROWS=steps,planted`; each prints its seeds as they come. SEEDS, FIRST_SEED and STEPS are
those of the parts that have seeds. DATA is a declared data set whose labels are all known.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.table import Row, finish, small
from benchmarks.train_data import CARDS, THREADS, cards, evenly_planned, on_features, streets
from benchmarks.train_export import export_rows
from benchmarks.train_kills import kill_rows
from benchmarks.train_lasting import lasting_rows
from benchmarks.train_steps import peer_step_rows, step_rows
from benchmarks.train_stopping import data_rows, stopping_rows
from benchmarks.train_trees import trees_rows
from benchmarks.train_unlike import unlike_rows
from curation.catalog.catalog import Catalog
from samplers import Plan

STEPS = int(os.environ.get("STEPS", "1500"))
IMAGES = int(os.environ.get("IMAGES", "4000"))

Part = Callable[[Path], list[Row]]


def main() -> None:
    """Every row, and the table."""
    torch.set_num_threads(THREADS)
    usual = "steps,planted,kills,lasting" if small() else ",".join(PARTS)
    parts, rows = os.environ.get("ROWS", usual).split(","), list[Row]()
    if unknown := [part for part in parts if part not in PARTS]:
        sys.exit(f"ROWS={unknown[0]}: must be some of {','.join(PARTS)}; correct it")
    if os.environ.get("ROWS") and "cards" in parts and not CARDS:
        sys.exit("ROWS=cards: needs a data set whose labels are all known; pass DATA=FOLDER")
    with tempfile.TemporaryDirectory(prefix="bench-train-") as name:
        for part in parts:
            (Path(name) / part).mkdir()
            rows += PARTS[part](Path(name) / part)
    finish("train", rows, threads=THREADS)


def cards_stopping(folder: Path) -> list[Row]:
    """Stopping on the data set of DATA; nothing without one."""
    if not CARDS:
        return []

    def make(seed: int) -> tuple[Catalog, Plan, dict[str, object]]:
        catalog = cards(folder, seed)
        return catalog, evenly_planned(catalog, STEPS), on_features(catalog, seed)

    return data_rows(Path(CARDS).name, make, folder / "runs")


def streets_stopping(folder: Path) -> list[Row]:
    """Stopping on `streets`, on the features of a pretrained trunk."""

    def make(seed: int) -> tuple[Catalog, Plan, dict[str, object]]:
        catalog = streets(folder, seed, IMAGES, features=True)
        return catalog, evenly_planned(catalog, STEPS), on_features(catalog, seed)

    return data_rows("streets", make, folder / "runs")


PARTS: dict[str, Part] = {
    "steps": lambda folder: step_rows(), "peers": lambda folder: peer_step_rows(), "planted": stopping_rows,
    "cards": cards_stopping, "streets": streets_stopping, "trees": trees_rows, "kills": kill_rows,
    "lasting": lasting_rows, "export": export_rows, "unlike": unlike_rows,
}  # fmt: skip
"""The parts by name, in the order in which they run."""


if __name__ == "__main__":
    main()
