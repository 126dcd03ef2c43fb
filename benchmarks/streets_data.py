"""Scenes of `streets` with all labels of stop signs and speeds, as a declared data set."""

import csv
import os
from pathlib import Path

from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import read_held_back
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest

__all__ = ["streets_folder"]

STREETS = Path(__file__).resolve().parent.parent / "datasets" / "streets"
IMAGES = int(os.environ.get("IMAGES", "1600"))
DECLARED = """
name = "streets"
title = "Rendered road scenes with all labels"
licence = "Apache-2.0"
source = "rendered by this project"
[reader]
kind = "tables"
[[reader.table]]
file = "labels.csv"
rows = "samples"
location = "file"
[[task]]
name = "stop_sign"
kind = "binary"
metric = "balanced_accuracy"
owner = "signs"
[[task]]
name = "speed"
kind = "regression"
unit = "km/h"
metric = "mae"
owner = "planning"
[split]
by = "given"
"""


def streets_folder(home: Path) -> Path:
    """A folder in `home` with IMAGES scenes: what the data set imports and what it holds back."""
    os.environ["AMBER_CACHE"] = str(home / "images")
    catalog = Catalog.create(home / "drawn")
    ingest(catalog, Dataset.load(STREETS).with_reader({"images": IMAGES}), author="bench")
    known: dict[str, dict[str, object]] = {"stop_sign": {}, "speed": {}}
    with catalog.read() as now:
        samples = now.samples().to_pylist()
        keys = {row["sample_id"]: row["key"] for row in samples}
        for task, values in known.items():
            column = "number" if task == "speed" else "code"
            values.update({keys[row["sample_id"]]: row[column] for row in now.labels(task).to_pylist()})
    for row in read_held_back(catalog.home).to_pylist():
        if row["task"] in known:
            known[row["task"]][row["key"]] = row["number"] if row["task"] == "speed" else int(row["text"] == "true")
    folder = home / "declared"
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "group", "split", *known])
        for row in samples:
            table.writerow(
                [row["location"], row["group"], row["split"], *(each.get(row["key"]) for each in known.values())]
            )
    (folder / "dataset.toml").write_text(DECLARED)
    return folder
