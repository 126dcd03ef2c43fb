"""Attributes of boxes: which of 32 signs is in the box, on `street_signs`, beside heads that read the whole image.

Run by `ROWS=parser make bench-kinds`; EPOCHS is how long the trunk learns from scratch, IMAGES how many scenes are
rendered. With SCALE=small on fewer of both and one seed.
"""

import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.table import Row, small
from curation import Catalog, Dataset, Task, ingest
from curation.analysis.box_attributes import stated_values
from curation.arrays import Ints
from curation.catalog.event_tables import as_labels
from curation.catalog.snapshot import Snapshot
from samplers import Policy, TaskPolicy, make_pack
from samplers.plan.build import draft_plan
from training import Recipe, Run, evaluate, train
from training.evaluation.features import embed

__all__ = ["parser_rows"]

DATA: Final = Path(__file__).parents[1] / "datasets" / "street_signs"
IMAGES = int(os.environ.get("IMAGES", "800" if small() else "6000"))
EPOCHS = int(os.environ.get("EPOCHS", "3" if small() else "24"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("SEEDS", "1" if small() else "2")))
SIZE: Final = (80, 128)
STRIDE: Final = 4
TASK, ATTRIBUTE, LARGEST = "signs", "sign_kind", "largest_sign"
NUMBERS: Final = ("value", "low", "high")
AUTHOR: Final = "bench"

Figures = Mapping[str, Mapping[str, float]]


def parser_rows() -> list[Row]:
    """The accuracy of kinds of signs on boxes given and found, beside the majority and an exact head on the image."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-parser-") as name,
        patch.dict(os.environ, AMBER_CACHE=f"{name}/images"),
    ):
        catalog = Catalog.create(Path(name) / "home")
        ingest(catalog, Dataset.load(DATA).with_reader({"images": IMAGES}), author=AUTHOR)
        _add_largest(catalog)
        head, majority, head_seconds = _whole_image(catalog)
        found, seconds = [], 0.0
        for seed in SEEDS:
            figures, spent = _parsed(catalog, seed)
            found.append(figures)
            seconds += spent / len(SEEDS)
    beside = {"exact head on the image": head["value"], "majority": majority, "its CPU-s": head_seconds}
    asked = f"lower bound above {head['high']:.3f}, the head's upper"
    given = _over_seeds(found, "accuracy")
    return [
        Row(
            what=f"sign_kind of boxes given, 32 classes, {len(SEEDS)} seeds", **given, asked=asked,
            met=given["low"] > head["high"], peers={**beside, "CPU-s": seconds},
        ),
        Row(
            what="sign_kind of boxes found", **_over_seeds(found, "accuracy_found"), asked="(printed)",
            peers={"recall": _over_seeds(found, "recall")["value"]},
        ),
    ]  # fmt: skip


def _add_largest(catalog: Catalog) -> None:
    """A task of whole images: the kind of the largest sign, where a sign and its kind are known."""
    with catalog.read() as now:
        declared = dict(now.task(TASK).attributes)[ATTRIBUTE]
        assert not isinstance(declared, str)
        rows = _largest(now, declared)
    task = Task(name=LARGEST, kind="categorical", classes=declared, owner=AUTHOR, sided=True)
    with catalog.commit(author=AUTHOR, message="the largest sign") as change:
        change.add_tasks([task])
        change.add_labels(as_labels(rows), source="import")


def _largest(now: Snapshot, classes: tuple[str, ...]) -> pa.Table:
    labels = now.labels(TASK)
    samples = now.samples()
    keys = samples["key"].take(
        pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
    ).to_pylist()  # fmt: skip
    lists = labels["boxes"].combine_chunks()
    boxes = lists.flatten()
    image: Ints = np.repeat(np.arange(len(lists)), pc.fill_null(pc.list_value_length(lists), 0).to_numpy())
    side, kind = np.asarray(pc.struct_field(boxes, "w")), stated_values(boxes, ATTRIBUTE, classes)
    order = np.lexsort((-side, image))
    first = order[np.r_[True, np.diff(image[order]) != 0][: len(order)]]
    first = first[np.isfinite(kind[first])]
    return pa.table(
        {
            "key": [keys[at] for at in image[first].tolist()], "task": [LARGEST] * len(first),
            "state": ["known"] * len(first), "text": [classes[int(code)] for code in kind[first].tolist()],
            "annotator": [AUTHOR] * len(first),
        }
    )  # fmt: skip


def _whole_image(catalog: Catalog) -> tuple[Mapping[str, Any], float, float]:
    """The figure on test of an exact head on the frozen trunk's features of the image, the share of the class that is
    most common in train, and the CPU seconds of the head with its features."""
    begun = time.process_time()
    recipe = Recipe.parse({"trunk": "efficientnet_lite0", "size": SIZE, "threads": 1})
    embed(catalog.home, make_pack(catalog), recipe)
    run, _ = _trained(catalog, recipe, LARGEST, draws=1024, seed=0)
    figure = _on_test(catalog, run)[LARGEST, "accuracy"]
    seconds = time.process_time() - begun
    with catalog.read() as now:
        labels = now.labels(LARGEST)
        codes, ids = labels["code"].to_numpy(), labels["sample_id"].to_numpy()
        train_codes, test_codes = (codes[np.isin(ids, now.split_ids(split))] for split in ("train", "test"))
    return figure, float((test_codes == np.bincount(train_codes).argmax()).mean()), seconds


def _parsed(catalog: Catalog, seed: int) -> tuple[Figures, float]:
    """The figures of the attribute on test by metric, of a trunk that learns boxes and kinds from scratch."""
    recipe = Recipe.parse(
        {"trunk": "small", "size": SIZE, "boxes": {"stride": STRIDE}, "seed": seed, "threads": 1}
    )  # fmt: skip
    with catalog.read() as now:
        labelled = int(np.isin(now.labels(TASK)["sample_id"].to_numpy(), now.training_ids()).sum())
    run, seconds = _trained(catalog, recipe, TASK, draws=labelled * EPOCHS, seed=seed)
    rows = _on_test(catalog, run)
    figures = {
        metric.removeprefix(f"{ATTRIBUTE}:"): {name: math.nan if row[name] is None else row[name] for name in NUMBERS}
        for (_, metric), row in rows.items()
    }  # fmt: skip
    line = f"seed {seed}: {figures['accuracy']['value']:.3f} given, {figures['accuracy_found']['value']:.3f} found"
    sys.stderr.write(f"{line}, AP50 {figures['ap50']['value']:.3f}, {seconds:.0f} CPU-s\n")
    return figures, seconds


def _trained(catalog: Catalog, recipe: Recipe, task: str, *, draws: int, seed: int) -> tuple[Run, float]:
    own = TaskPolicy(owner=AUTHOR, share=1.0, importance=1.0, rule="balanced" if task == TASK else "natural")
    policy = Policy(task={task: own})
    plan = draft_plan(catalog, policy, make_pack(catalog), draws=draws, seed=seed).save()
    begun = time.process_time()
    return train(recipe, plan, catalog), time.process_time() - begun


def _on_test(catalog: Catalog, run: Run) -> dict[tuple[str, str], Mapping[str, Any]]:
    rows = evaluate(run, catalog, author=AUTHOR).to_pylist()
    return {(row["task"], row["metric"]): row for row in rows if (row["slice"], row["split"]) == ("", "test")}


def _over_seeds(found: list[Figures], metric: str) -> dict[str, float]:
    """The mean over seeds, with the lowest lower and the highest upper bound of any."""
    rows = [figures[metric] for figures in found]
    return {
        "value": float(np.mean([row["value"] for row in rows])), "low": min(row["low"] for row in rows),
        "high": max(row["high"] for row in rows),
    }  # fmt: skip
