"""Mining a class of boxes at 2%: 200 images asked for by Amber beside 200 at random, on scenes of `street_signs`.

Run by `ROWS=box_mining make bench-kinds`. Of the training images with a bicycle, one of a drive at most is kept, so
many that 2% of the pool have one; both arms start from the same known images. Each seed has images, a start, plans and
initial weights of its own. KEPT=FOLDER keeps the figures of finished seeds.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.kinds_several import interval
from benchmarks.kinds_signs import AUTHOR, by_seed, scenes, trained, workspace
from benchmarks.table import Row, small
from curation import Catalog, Task
from curation.catalog.event_tables import LABELS
from curation.catalog.held_back_labels import read_held_back
from curation.requests.proposals import Proposal, Strategy, choose_requests
from training import Recipe, Run, evaluate
from training.evaluation.labelled_boxes import labelled_boxes
from training.evaluation.predictions import Samples

__all__ = ["box_mining_rows"]

IMAGES = int(os.environ.get("IMAGES", "600" if small() else "4000"))
DRAWS = (128, 64) if small() else (9_600, 4_800)
"""Draws of the first training, and of each later one, which continues the one before as in a loop."""
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("SEEDS", "2" if small() else "5")))
START, BUDGET, ROUNDS = (60, 40, 2) if small() else (200, 200, 2)
"""Images known in the beginning, images asked for, and in how many rounds."""
RARE: Final = 0.02
CLASSES: Final = ("car", "bicycle", "pedestrian")
BICYCLE: Final = CLASSES.index("bicycle")
WORDS: Final = {"trunk": "small", "size": (40, 64), "boxes": {"width": 32, "stride": 4}, "threads": 1}
ARMS: Final[tuple[Strategy, ...]] = ("mined", "random")
"""Strategies of requests; each has a copy of the workspace, with the first run."""
USERS: Final = "users"
"""The task of both arms: boxes of road users, of which one frame is read."""

Truth = Mapping[str, Sequence[Mapping[str, Any]]]


def box_mining_rows() -> list[Row]:
    """AP50 of bicycles on test after the requests, mined minus random, paired by seed; and what was found."""
    found = by_seed("box_mining", SEEDS, _figures)
    each = {name: float(np.mean([seed[name] for seed in found])) for name in found[0]}
    mean, low, high = interval([seed["AP50, mined"] - seed["AP50, random"] for seed in found])
    return [
        Row(
            what=f"AP50 of bicycles at 2% after {BUDGET} images, mined minus random, {len(found)} seeds", value=mean,
            low=low, high=high, asked="lower bound > 0", met=bool(low > 0), peers=each,
        )
    ]  # fmt: skip


def _figures(seed: int) -> Mapping[str, float]:
    """Of both arms of one seed: AP50 of bicycles on test, and images with one among those that are known."""
    with scenes() as folder:
        catalog = workspace(folder / "home", IMAGES, seed=seed)
        truth = _truth(catalog)
        _begin(catalog, truth, np.random.default_rng(seed))
        first = _learned(catalog, seed)
        found = {"AP50 before": _precision(catalog, first), "known before": _rare(catalog)}
        for arm in ARMS:
            shutil.copytree(folder / "home", folder / arm)
            catalog, run = Catalog.open(folder / arm), first
            for turn in range(ROUNDS):
                share = BUDGET // ROUNDS
                asked = Proposal(budget=share, seed=seed + turn, importance={USERS: 1}, strategy=arm, run=run.id)
                _ask(catalog, truth, asked)
                run = _learned(catalog, seed, parent=run.id)
            found |= {f"AP50, {arm}": _precision(catalog, run), f"known, {arm}": _rare(catalog)}
    return found


def _truth(catalog: Catalog) -> Truth:
    """The true boxes of each image, by key."""
    with catalog.read() as now:
        known, samples = now.labels("road_users"), now.samples()
        keys = samples["key"].take(pc.index_in(known["sample_id"], value_set=samples["sample_id"].combine_chunks()))
        found = {
            key: [{**{side: box[side] for side in "xywh"}, "class": CLASSES[box["code"]]} for box in boxes]
            for key, boxes in zip(keys.to_pylist(), known["boxes"].to_pylist(), strict=True)
        }
    held = read_held_back(catalog.home)
    for row in held.filter(pc.equal(held["task"], "road_users")).to_pylist():
        found[row["key"]] = [{name: box[name] for name in ("class", *"xywh")} for box in row["boxes"]]
    return found


def _begin(catalog: Catalog, truth: Truth, generator: np.random.Generator) -> None:
    """Thin bicycles in the pool, and label the first images and those of validation and test."""
    with catalog.read() as now:
        samples = now.samples().select(["key", "group", "split"]).to_pylist()
    rare = {row["key"] for row in samples if any(box["class"] == CLASSES[BICYCLE] for box in truth[row["key"]])}
    train = [row for row in samples if row["split"] == "train"]
    plain = [row["key"] for row in train if row["key"] not in rare]
    shown = {row["group"]: row["key"] for row in train if row["key"] in rare}  # the last frame of each drive
    kept = generator.permutation(sorted(shown.values()))[: round(RARE / (1 - RARE) * len(plain))].tolist()
    left_out = [row["key"] for row in train if row["key"] in rare - set(kept)]
    first = generator.permutation(sorted([*plain, *kept]))[:START].tolist()
    judged = [row["key"] for row in samples if row["split"] != "train"]
    with catalog.commit(author=AUTHOR, message="what is known first", batch="first") as change:
        change.add_tasks([Task(name=USERS, kind="detection", classes=CLASSES, owner=AUTHOR)])
        change.add_attributes(pa.table({"key": left_out, "excluded": [True] * len(left_out)}))
        change.add_labels(_labels([*first, *judged], truth), source="import")


def _labels(keys: Sequence[str], truth: Truth) -> pa.Table:
    rows = [
        {"key": key, "task": USERS, "state": "known", "annotator": AUTHOR, "boxes": truth[key]} for key in keys
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, LABELS)


def _ask(catalog: Catalog, truth: Truth, proposal: Proposal) -> None:
    """Label the images that are requested."""
    with catalog.read() as now:
        rows = choose_requests(now, proposal, catalog.home)
        samples = now.samples()
        places = pc.index_in(
            pa.array([row["sample_id"] for row in rows]), value_set=samples["sample_id"].combine_chunks()
        )
        keys = samples["key"].take(places).to_pylist()
    with catalog.commit(author=AUTHOR, message="answers") as change:
        change.add_labels(_labels(keys, truth), source="human")


def _learned(catalog: Catalog, seed: int, *, parent: str = "") -> Run:
    """A run from the known images, with its predictions; a later one at a third of the learning rate."""
    words = {**WORDS, "seed": seed} | ({"learning_rate": 0.001} if parent else {})
    run, _ = trained(catalog, [USERS], Recipe.parse(words), draws=DRAWS[bool(parent)], parent=parent)
    evaluate(run, catalog, author=AUTHOR)
    return run


def _precision(catalog: Catalog, run: Run) -> float:
    """AP50 of bicycles on test."""
    predictions = pq.read_table(catalog.home / "runs" / run.id / "predictions.parquet")
    with catalog.read() as now:
        samples = Samples.at(now)
        judged = labelled_boxes(now, now.task(USERS), samples, predictions).at(samples.splits == "test")
    found = judged.sums.average_precisions(BICYCLE)
    return 0.0 if found is None else float(found[0])


def _rare(catalog: Catalog) -> float:
    """How many training images have a known bicycle."""
    with catalog.read() as now:
        labels, inside = now.labels(USERS), now.training_ids()
    mine = labels.filter(pa.array(np.isin(labels["sample_id"].to_numpy(), inside)))["boxes"].to_pylist()
    return float(sum(any(box["code"] == BICYCLE for box in boxes or ()) for boxes in mine))
