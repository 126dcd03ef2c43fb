"""A workspace with a task of every kind, names that would break a page that trusts them, and a run of all tasks."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from support.homes import labels, sample_rows

from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task

__all__ = ["EVIL", "EVIL_KEY", "KEYS", "RUN", "TASKS", "every_kind"]

EVIL = "<img src=x onerror=alert(1)>'\""
"""Text that would become an element, or end an attribute, where it is not escaped."""

EVIL_KEY = f"zz/{EVIL}&?#%.png"
COUNT = 80
KEYS = [*(f"frames/{number:03d}.png" for number in range(COUNT - 1)), EVIL_KEY]
RUN = "first-run"

TASKS = {
    "light": Task(name="light", kind="categorical", classes=("red", "it's", EVIL), owner="ada"),
    "wet": Task(name="wet", kind="binary", owner="ada"),
    "speed": Task(name="speed", kind="regression", unit="km/h", metric="mae", tolerance=5.0, owner="ada"),
    "signs": Task(name="signs", kind="multilabel", classes=("stop", "yield", EVIL), owner="bob"),
    "things": Task(name="things", kind="detection", classes=("car", EVIL), owner="bob"),
}


def every_kind(folder: Path) -> Catalog:
    """80 images in three splits; half of each task's labels are known, by `vendor` and by a person with an evil name.

    The last image has an evil key. The run is right on two thirds. The slices are `dark` (of every task), `red` (of
    light, rare) and `sure` (over predictions).
    """
    generator = np.random.default_rng(7)
    catalog = Catalog.create(folder / "home")
    (folder / "images").mkdir()
    paths = [folder / "images" / f"{number:03d}.png" for number in range(COUNT)]
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(path)
    truth = [_truth(generator) for _ in KEYS]
    rows = [
        _label(key, name, each[name], EVIL if number % 5 == 0 else "vendor", generator)
        for number, (key, each) in enumerate(zip(KEYS, truth, strict=True))
        for name in TASKS
        if generator.random() < 0.5
    ]
    dark = pa.array(generator.random(COUNT) < 0.6)
    splits = [("train", "validation", "test")[number % 3] for number in range(COUNT)]
    notes = pa.array([EVIL if number % 4 == 0 else None for number in range(COUNT)])
    with catalog.commit(author="ada", message="images") as change:
        change.add_tasks(TASKS.values())
        change.add_samples(sample_rows(KEYS, paths), dataset="frames")
        change.add_attributes(pa.table({"key": KEYS, "split": splits, "dark": dark, "note": notes}))
        change.add_labels(labels(rows), source="import")
        change.add_slice("dark", "attr.dark")
        change.add_slice("red", "label.light = 'red'", task="light", rare=True)
        change.add_slice("sure", "pred.light.confidence > 0.5 AND attr.dark")
    said = [each if generator.random() < 0.66 else _truth(generator) for each in truth]
    _add_run(catalog, said, generator)
    return catalog


def _truth(generator: np.random.Generator) -> dict[str, Any]:
    box = {"code": int(generator.integers(2)), "x": 4.0, "y": 6.0, "w": 20.0, "h": 12.0}
    return {
        "light": int(generator.integers(3)), "wet": int(generator.integers(2)),
        "speed": float(generator.integers(0, 100)),
        "signs": [code for code in range(3) if generator.random() < 0.4],
        "things": [box] if generator.random() < 0.7 else [],
    }  # fmt: skip


def _label(key: str, name: str, value: Any, annotator: str, generator: np.random.Generator) -> dict[str, Any]:
    task, row = TASKS[name], {"key": key, "task": name, "annotator": annotator, "state": "known"}
    if generator.random() < 0.15:
        return {**row, "state": "unsure"}
    match task.kind:
        case "regression":
            return {**row, "number": value}
        case "multilabel":
            looked = [task.classes[code] for code in sorted({*value, 0})] if generator.random() < 0.5 else None
            return {**row, "names": [task.classes[code] for code in value], "looked": looked}
        case "detection":
            sides = [{"class": task.classes[box["code"]], **{side: box[side] for side in "xywh"}} for box in value]
            return {**row, "boxes": sides}
        case _:
            return {**row, "text": task.classes[value]}


def _add_run(catalog: Catalog, said: list[dict[str, Any]], generator: np.random.Generator) -> None:
    """Register a run with a prediction of every task for every image, and figures of two slices."""
    rows = [
        {
            "key": key, "task": name, "code": each[name] if task.kind in ("categorical", "binary") else None,
            "number": each[name] if task.kind == "regression" else None,
            "confidence": float(generator.random()) if task.classes and task.kind != "detection" else None,
            "probabilities": None, "codes": each[name] if task.kind == "multilabel" else None,
            "boxes": [{**box, "score": 0.9} for box in each[name]] if task.kind == "detection" else None,
        } for name, task in TASKS.items() for key, each in zip(KEYS, said, strict=True)
    ]  # fmt: skip
    box = pa.struct([("code", pa.int32()), *((side, pa.float64()) for side in ("x", "y", "w", "h", "score"))])
    schema = pa.schema(
        [("key", pa.string()), ("task", pa.string()), ("code", pa.int32()), ("number", pa.float64()),
         ("confidence", pa.float64()), ("probabilities", pa.list_(pa.float64())), ("codes", pa.list_(pa.int32())),
         ("boxes", pa.list_(box))]
    )  # fmt: skip
    path = catalog.home / "runs" / RUN / "predictions.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    figures = [
        {"run": RUN, "task": "light", "slice": part, "split": "test", "metric": "accuracy", "n": 40, "groups": 40,
         "value": value, "low": value - 0.1, "high": value + 0.1}
        for part, value in (("", 0.8), ("dark", 0.7), ("red", 0.6))
    ]  # fmt: skip
    with catalog.commit(author="ada", message="evaluate") as change:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        change.add_run(RUN, plan="", predictions=f"runs/{RUN}/predictions.parquet", sha256=sha256)
        change.add_slice_errors(pa.Table.from_pylist(figures))
