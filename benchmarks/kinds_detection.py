"""Boxes: how well they are found on photographs, rendered streets and frames of a simulator, and what their step costs.

CINTA and CARLA are folders with `boxes.csv` and `images` (datasets/cinta_lights, datasets/carla_boxes); EPOCHS is how
long a trunk learns from the photographs, IMAGES how many streets are rendered.
"""

import csv
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks.heads_data import DATASETS
from benchmarks.table import Row, small
from benchmarks.train_steps import Arm, learner, many_tasks, pixels, random_draws, ratio
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers import Policy, make_pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import PlanTask
from training.evaluation.evaluation import evaluate
from training.evaluation.figures import slice_errors
from training.evaluation.predictions import box_table, schema_of, write_predictions
from training.loop.trainer import train
from training.network.objects import Objects
from training.network.trunks import SmallTrunk
from training.recipe import Recipe

__all__ = ["CINTA_FILES", "carla_rows", "declared_boxes", "light_rows", "step_rows", "street_rows"]

AUTHOR = "bench"
CINTA_FILES = Path(__file__).parent / "cinta-files.csv"
THREADS = int(os.environ.get("THREADS", "1"))
EPOCHS = int(os.environ.get("EPOCHS", "2" if small() else "15"))
FROZEN_EPOCHS = 2 if small() else 6
IMAGES = int(os.environ.get("IMAGES", "1000" if small() else "6000"))
STEPS = 5 if small() else 15

Figures = Mapping[tuple[str, str], Mapping[str, Any]]


def light_rows() -> list[Row]:
    """The whole trunk on photographs of traffic lights, beside the same head on frozen maps; no row without CINTA."""
    if not (data := os.environ.get("CINTA", "")):
        return []
    size = (256, 256)
    with tempfile.TemporaryDirectory(prefix="bench-boxes-") as name:
        catalog = declared_boxes(
            "cinta_lights", Path(data), Path(name), list(csv.DictReader(CINTA_FILES.open(encoding="utf-8")))
        )
        frozen = Recipe.of(
            "efficientnet_lite0", learn_from="head", size=size, global_batch=16, augment=False, threads=THREADS
        )
        first, first_seconds = _trained(catalog, frozen, FROZEN_EPOCHS, "lights")
        whole = Recipe.of("efficientnet_lite0", learn_from="input", size=size, global_batch=16, threads=THREADS)
        second, seconds = _trained(catalog, whole, EPOCHS, "lights")
        mean = _mean_box(catalog, "lights", Path(name))
    beside = first["test", "ap50"]["value"]
    peers = {
        f"frozen maps, {FROZEN_EPOCHS} epochs": beside, "their CPU-s": first_seconds, "mean box": mean, "CPU-s": seconds
    }  # fmt: skip
    what = f"cinta: AP50 of lights after {EPOCHS} epochs, grouped"
    rows = [_row(what, second["test", "ap50"], f"lower bound above {beside:.3f}", beside, peers)]
    return [
        *rows,
        _row("cinta: AP of lights", second["test", "map"], "", 0.0, {"frozen": first["test", "map"]["value"]}),
    ]


def street_rows() -> list[Row]:
    """Lights and stop signs on rendered streets, a trunk from scratch."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-boxes-") as name,
        patch.dict(os.environ, AMBER_CACHE=f"{name}/images"),
    ):
        catalog = Catalog.create(Path(name) / "home")
        ingest(catalog, Dataset.load(DATASETS / "streets").with_reader({"images": IMAGES}), author=AUTHOR)
        recipe = Recipe.parse({"trunk": "small", "size": (80, 128), "boxes": {"stride": 4}, "threads": THREADS})
        found, seconds = _trained(catalog, recipe, 10 if small() else 60, "objects")
        mean = _mean_box(catalog, "objects", Path(name))
    peers = {"mean box": mean, "CPU-s": seconds}
    asked = f"lower bound above {mean:.3f}"
    return [
        _row("streets: AP50 of lights and stop signs", found["test", "ap50"], asked, mean, peers),
        _row("streets: AP", found["test", "map"], "", 0.0, {}),
    ]


def carla_rows() -> list[Row]:
    """Vehicles, bikes, lights and signs on frames of CARLA; no row without CARLA."""
    if not (data := os.environ.get("CARLA", "")):
        return []
    files = sorted(path.name for path in (Path(data) / "images").iterdir())
    runs = [f"{file[:6]}-{int(file[7:13]) // 600}" for file in files]
    rows = [{"file": file, "group": run, "split": _split(run)} for file, run in zip(files, runs, strict=True)]
    with tempfile.TemporaryDirectory(prefix="bench-boxes-") as name:
        catalog = declared_boxes("carla_boxes", Path(data), Path(name), rows)
        recipe = Recipe.of("efficientnet_lite0", learn_from="block3", size=(192, 320), global_batch=16, threads=THREADS)
        found, seconds = _trained(catalog, recipe, EPOCHS, "objects")
        mean = _mean_box(catalog, "objects", Path(name))
    peers = {"mean box": mean, "CPU-s": seconds}
    asked = f"lower bound above {mean:.3f}"
    return [
        _row("carla: AP50 of vehicles, lights and signs", found["test", "ap50"], asked, mean, peers),
        _row("carla: AP", found["test", "map"], "", 0.0, {}),
    ]


def step_rows() -> list[Row]:
    """A step of 100 tasks on the small trunk with one of boxes beside it, in turns with the same without."""
    torch.set_num_threads(THREADS)
    tasks, inputs = many_tasks(100), pixels()
    signs = Task(name="signs", kind="detection", classes=("stop", "yield"), owner="ada")
    boxed: list[PlanTask] = [*tasks, replace(tasks[0], task=signs, constant_loss=4.0)]
    one, other = _arm(boxed, inputs, _objects(len(inputs))), _arm(tasks, inputs, None)
    value, low, high = ratio(one, other, turns=STEPS, steps=1)
    return [Row(what="a step of 100 tasks and boxes over one of 100 tasks", value=value, low=low, high=high)]


def declared_boxes(name: str, data: Path, folder: Path, files: list[dict[str, str]]) -> Catalog:
    """The catalog of a declared data set whose images and boxes are in `data`, with these files, groups and splits."""
    place = folder / "data"
    shutil.copytree(DATASETS / name, place)
    (place / "images").symlink_to((data / "images").absolute())
    shutil.copy(data / "boxes.csv", place)
    with (place / "files.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "group", "split"])
        writer.writeheader()
        writer.writerows(files)
    catalog = Catalog.create(folder / "home")
    ingest(catalog, Dataset.load(place), author=AUTHOR)
    return catalog


def _split(group: str) -> str:
    share = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if share < 0.3 else "validation" if share < 0.4 else "train"


def _trained(catalog: Catalog, recipe: Recipe, epochs: int, name: str) -> tuple[Figures, float]:
    """The figures of a training on the boxes of a task alone, by split and metric, and its CPU seconds."""
    with catalog.read() as now:
        policy = Policy.even([now.task(name)])
        labelled = np.isin(now.labels(name)["sample_id"].to_numpy(), now.training_ids()).sum()
    plan = draft_plan(catalog, policy, make_pack(catalog), draws=int(labelled) * epochs).save()
    started = time.process_time()
    run = train(recipe, plan, catalog)
    seconds = time.process_time() - started
    rows = evaluate(run, catalog, author=AUTHOR).to_pylist()
    return {(row["split"], row["metric"]): row for row in rows if not row["slice"]}, seconds


def _mean_box(catalog: Catalog, name: str, folder: Path) -> float:
    """AP50 on test of the mean training box of each class, on every image."""
    with catalog.read() as now:
        labels, task = now.labels(name), now.task(name)
        train_ids = pa.array(now.training_ids())
        boxes = pc.list_flatten(labels["boxes"].filter(pc.is_in(labels["sample_id"], value_set=train_ids)))
        codes = pc.struct_field(boxes, "code").to_numpy()
        sides = {side: pc.struct_field(boxes, side).to_numpy() for side in "xywh"}
        always = [
            {"code": code, **{side: float(each[codes == code].mean()) for side, each in sides.items()}, "score": 0.5}
            for code in np.unique(codes).tolist()
        ]
        keys = now.samples()["key"].combine_chunks()
        path = folder / "mean.parquet"
        write_predictions(path, [box_table(name, keys, pa.array([always] * len(keys)))], schema_of([task]))
        rows = slice_errors(now, "mean", [task], path).to_pylist()
    return next(
        float(row["value"]) for row in rows if (row["slice"], row["split"], row["metric"]) == ("", "test", "ap50")
    )


def _row(what: str, figure: Mapping[str, Any], asked: str, above: float, peers: dict[str, float]) -> Row:
    low = figure["low"]
    return Row(
        what=what, value=figure["value"], low=low, high=figure["high"], asked=asked, met=not asked or low > above,
        peers=peers,
    )  # fmt: skip


def _objects(images: int) -> Objects:
    """Three boxes on each image, of task 100."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(3 * images, 2, generator=generator) * 0.7
    return Objects(
        draws=torch.arange(images).repeat_interleave(3), tasks=torch.full((3 * images,), 100),
        codes=torch.arange(3 * images) % 2, corners=torch.cat([low, low + 0.2], dim=1),
        ignored=torch.zeros(3 * images, dtype=torch.bool), values=torch.zeros(3 * images, 0),
    )  # fmt: skip


def _arm(tasks: list[PlanTask], inputs: torch.Tensor, objects: Objects | None) -> Arm:
    made = learner(SmallTrunk(), tasks, size=(80, 128))
    draws = replace(random_draws(tasks, inputs), objects=objects)
    return partial(_step, made, draws)


def _step(made: Any, draws: Any, number: int) -> None:
    made.step(draws, number, 1.0)
