"""Files of models that Amber did not train, over the pictures of `make_home`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from support.homes import label, labels, make_home

from curation.catalog.catalog import Catalog

__all__ = ["LIGHT", "box_home", "class_file", "coco_files"]

LIGHT = {"class": "light", "x": 4.0, "y": 4.0, "w": 8.0, "h": 10.0}
SPLITS = ("test", "validation", "train")


def box_home(folder: Path, *, samples: int = 48) -> Catalog:
    """Pictures in three equal splits; each is known to hold one light, or none in every fourth, if it is evaluated."""
    catalog = make_home(folder, samples=samples)
    with catalog.commit(author="ada", message="boxes") as change:
        keys = change.now.samples()["key"].to_pylist()
        splits = [SPLITS[number // 4 % 3] for number in range(samples)]
        change.add_attributes(pa.table({"key": keys, "split": splits}))
        known = [number for number, split in enumerate(splits) if split != "train"]
        rows = [label(keys[number], "things", [] if number % 4 == 3 else [LIGHT]) for number in known]
        change.add_labels(labels(rows), source="human")
    return catalog


def coco_files(folder: Path, *, samples: int = 48, found: int = 2, **changes: Any) -> tuple[Path, Path]:
    """Results that find the light of every image whose number `found` divides, the first the surest, and the annotation
    file that they refer to; `changes` are made to the second result."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": 100 + number, "file_name": f"train/{number:05d}.jpg"} for number in range(samples)]
    results = [
        {"image_id": 100 + number, "category_id": 7, "bbox": [4.0, 4.0, 8.0, 10.0], "score": 0.9 - number / 1000}
        for number in range(0, samples, found)
    ]  # fmt: skip
    results[1] |= changes
    document = {"images": images, "categories": [{"id": 7, "name": "light"}], "annotations": []}
    (folder / "annotations.json").write_text(json.dumps(document))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "results.json", folder / "annotations.json"


def class_file(catalog: Catalog, path: Path, *, right: float, seed: int = 0) -> Path:
    """Probabilities of the colours and of cars that give the known class with a chance of `right`, else any."""
    generator = np.random.default_rng(seed)
    with catalog.read() as now:
        samples, tasks = now.samples(), [now.task("color"), now.task("car")]
        known = [now.labels(task.name) for task in tasks]
    ids, n = samples["sample_id"].to_numpy(), len(samples)
    columns: dict[str, Any] = {"key": samples["key"].to_pylist()}
    for task, table in zip(tasks, known, strict=True):
        codes = generator.integers(0, len(task.classes), n)
        rows = np.searchsorted(ids, table["sample_id"].to_numpy())
        hit = generator.random(len(rows)) < right
        codes[rows[hit]] = np.asarray(table["code"].fill_null(0).to_numpy())[hit]
        chances = generator.dirichlet(np.ones(len(task.classes)), n) * 0.4
        chances[np.arange(n), codes] += 0.6
        columns[task.name] = (chances / chances.sum(axis=1, keepdims=True)).tolist()
    pq.write_table(pa.table(columns), path)
    return path
