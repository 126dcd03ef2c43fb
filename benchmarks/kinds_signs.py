"""`street_signs` for `make bench-kinds`: workspaces that declare its tasks otherwise, trainings of some of them, and
their figures on test."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import Catalog, Dataset, ingest
from curation.analysis.box_attributes import stated_values
from curation.arrays import Bools, Floats, Ints
from curation.catalog.snapshot import Snapshot
from samplers import Policy, TaskPolicy, make_pack
from samplers.plan.build import draft_plan
from training import Recipe, Run, train
from training.evaluation.box_matching import Boxes
from training.evaluation.box_sums import BoxSums
from training.evaluation.evaluation import predict
from training.evaluation.figures import labelled
from training.evaluation.labelled_boxes import LabelledBoxes
from training.evaluation.predictions import LabelledPredictions, Samples

__all__ = ["AUTHOR", "DATA", "on_test", "scenes", "trained", "workspace"]

DATA: Final = Path(__file__).parents[1] / "datasets" / "street_signs"
AUTHOR: Final = "bench"

USERS, MOVING = "road_users", "moving"


@contextmanager
def scenes() -> Iterator[Path]:
    """A folder for workspaces, beside which their images are kept; both are deleted in the end."""
    with (
        TemporaryDirectory(prefix="bench-signs-") as name,
        patch.dict(os.environ, AMBER_CACHE=f"{name}/images"),
    ):
        yield Path(name)


def workspace(home: Path, images: int, *, seed: int = 0, **changed: Mapping[str, Any]) -> Catalog:
    """A workspace with `images` scenes of `seed`, with other fields of the tasks that `changed` names."""
    declared = Dataset.load(DATA).with_reader({"images": images, "seed": seed})
    tasks = tuple(task.model_copy(update=dict(changed.get(task.name, {}))) for task in declared.task)
    catalog = Catalog.create(home)
    ingest(catalog, declared.model_copy(update={"task": tasks}), author=AUTHOR)
    return catalog


def trained(
    catalog: Catalog, names: Sequence[str], recipe: Recipe, *, draws: int, parent: str = "",
    weights: Mapping[str, float] | None = None,
) -> tuple[Run, float]:  # fmt: skip
    """A run of these tasks, and the CPU seconds of its training; `parent` is the id of the run that it continues.
    Shares and importances are as the `weights` (default: equal)."""
    given = {name: (weights or {}).get(name, 1.0) for name in names}
    parts = {name: weight / sum(given.values()) for name, weight in given.items()}
    own = {
        name: TaskPolicy(owner=AUTHOR, share=part, importance=part, rule="natural" if name == "speed" else "balanced")
        for name, part in parts.items()
    }
    plan = draft_plan(catalog, Policy(task=own), make_pack(catalog), draws=draws, seed=recipe.seed).save()
    begun = time.process_time()
    return train(recipe, plan, catalog, parent=parent), time.process_time() - begun


def on_test(catalog: Catalog, run: Run) -> dict[str, float]:
    """The figures of a run on test, by task and metric, such as "signs ap50"; NaN where test does not define one.

    "moving ap50" is AP50 of what moves: known boxes of road users whose `moving` is true, and every predicted box with
    its score times the chance that it moves.
    """
    tasks, predictions = predict(run, catalog)
    found = dict[str, float | None]()
    with catalog.read() as now:
        samples = Samples.at(now)
        test = np.asarray(samples.splits == "test", np.bool_)
        for task in tasks:
            part = labelled(now, task, samples, predictions).at(test)
            if isinstance(part, LabelledBoxes):
                figures = part.figures() | part.attribute_figures()
                found |= {f"{task.name} {metric}": figure.value for metric, figure in figures.items()}
                if MOVING in part.attributes:
                    found["moving ap50"] = _moving_precision(now, samples, test, predictions)
            elif isinstance(part, LabelledPredictions):
                found[f"{task.name} mae"] = float(np.average(np.abs(part.errors), weights=part.weights))
    return {name: np.nan if value is None else value for name, value in found.items()}


def _moving_precision(now: Snapshot, samples: Samples, test: Bools, predictions: pa.Table) -> float | None:
    labels = now.labels(USERS)
    keys = samples.keys.filter(pa.array(test))
    images = pc.index_in(samples.keys.take(pa.array(samples.places(labels["sample_id"].to_numpy()))), value_set=keys)
    labels = labels.filter(images.is_valid())
    mine = predictions.filter(pc.equal(predictions["task"], USERS))
    places = pc.index_in(mine["key"].combine_chunks(), value_set=keys)
    mine, places = mine.filter(places.is_valid()), places.drop_null()
    known, found = _flat(labels["boxes"], images.drop_null()), _flat(mine["boxes"], places)
    moves, own = (stated_values(boxes, MOVING, ("false", "true")) for boxes, _ in (known, found))
    sure = pc.map_lookup(pc.struct_field(found[0], "confidences"), MOVING, "first").to_numpy(zero_copy_only=False)
    scores = found[0].field("score").to_numpy(zero_copy_only=False) * np.where(own == 1, sure, 1 - sure)
    true = _boxes(*known, np.ones(len(moves))).taken(moves == 1)
    numbers = np.arange(len(keys))
    found_at = BoxSums.of(_boxes(*found, scores), true, np.ones(len(keys)), numbers).mean_average_precision()
    return None if found_at is None else found_at[1]


def _flat(lists: pa.ChunkedArray, images: pa.Array) -> tuple[pa.StructArray, Ints]:
    """The boxes of lists, and the image [n] of each."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return lists.combine_chunks().flatten(), np.repeat(images.to_numpy().astype(np.int64), counts)


def _boxes(flat: pa.StructArray, images: Ints, scores: Floats) -> Boxes:
    sides = [flat.field(side).to_numpy(zero_copy_only=False) for side in "xywh"]
    codes = np.asarray(flat.field("code").to_numpy(zero_copy_only=False), np.int64)
    return Boxes(
        images=images, codes=codes, corners=np.stack(sides, axis=1), scores=scores, crowd=np.zeros(len(codes), np.bool_)
    )
