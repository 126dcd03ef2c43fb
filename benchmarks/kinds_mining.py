"""Mining what is rare among boxes: 200 images asked for by Amber beside 200 at random, on scenes of `street_signs`.

`ROWS=box_mining make bench-kinds` thins a class, `ROWS=attribute_mining` a value of an attribute. Of the training
images with such a box, one of a drive at most is kept, so many that 2% of the pool have one; both arms start from the
same known images. Each seed has images, a start, plans and initial weights of its own. KEPT=FOLDER keeps the figures of
finished seeds.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.kinds_several import interval
from benchmarks.kinds_signs import AUTHOR, scenes, trained, workspace
from benchmarks.seeds import by_seed
from benchmarks.table import Row, small
from curation import Catalog, Task
from curation.catalog.event_tables import LABELS
from curation.catalog.held_back_labels import read_held_back
from curation.requests.proposals import Proposal, Strategy, choose_requests
from training import Recipe, Run, evaluate
from training.evaluation.labelled_boxes import LabelledBoxes, labelled_boxes
from training.evaluation.predictions import Samples

__all__ = ["attribute_mining_rows", "box_mining_rows"]

IMAGES = int(os.environ.get("IMAGES", "600" if small() else "4000"))
DRAWS = (128, 64) if small() else (9_600, 4_800)
"""Draws of the first training, and of each later one, which continues the one before as in a loop."""
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("SEEDS", "2" if small() else "5")))
START, BUDGET, ROUNDS = (60, 40, 2) if small() else (200, 200, 2)
"""Images known in the beginning, images asked for, and in how many rounds."""
RARE: Final = 0.02
USERS: Final = ("car", "bicycle", "pedestrian")
FAMILIES: Final = ("forbidden", "required", "warning", "information")
WORDS: Final = {"trunk": "small", "size": (40, 64), "boxes": {"width": 32, "stride": 4}, "threads": 1}
ARMS: Final[tuple[Strategy, ...]] = ("mined", "random")
"""Strategies of requests; each has a copy of the workspace, with the first run."""

TrueBox = Mapping[str, Any]
Truth = Mapping[str, Sequence[TrueBox]]


@dataclass(frozen=True, kw_only=True)
class Sought:
    """What is thinned and mined: boxes that are `rare`, in a `task` of both arms whose true boxes `said` makes of those
    of a task of `street_signs`, the `source`; and the figure that judges, called `metric`."""

    name: str
    source: str
    task: Task
    metric: str
    said: Callable[[TrueBox], TrueBox]
    rare: Callable[[TrueBox], bool]
    figure: Callable[[LabelledBoxes], float]


def box_mining_rows() -> list[Row]:
    """AP50 of bicycles on test after the requests, mined minus random, paired by seed; and what was found."""
    return _rows("box_mining", BICYCLES)


def attribute_mining_rows() -> list[Row]:
    """F1 of one family of signs, read at known boxes of test, mined minus random."""
    return _rows("attribute_mining", FAMILY)


def _rows(part: str, sought: Sought) -> list[Row]:
    found = by_seed(part, SEEDS, partial(_figures, sought))
    each = {name: float(np.mean([seed[name] for seed in found])) for name in found[0]}
    mined, drawn = (f"{sought.metric}, {arm}" for arm in ARMS)
    mean, low, high = interval([seed[mined] - seed[drawn] for seed in found])
    what = f"{sought.metric} of {sought.name} at 2% after {BUDGET} images, mined minus random, {len(found)} seeds"
    return [
        Row(what=what, value=mean, low=low, high=high, asked="lower bound > 0", met=bool(low > 0), peers=each)
    ]  # fmt: skip


def _figures(sought: Sought, seed: int) -> Mapping[str, float]:
    """Of both arms of one seed: the figure on test, and how many images with such a box are known."""
    with scenes() as folder:
        catalog = workspace(folder / "home", IMAGES, seed=seed)
        truth = _truth(catalog, sought)
        _begin(catalog, sought, truth, np.random.default_rng(seed))
        first = _learned(catalog, sought, seed)
        found = {f"{sought.metric} before": _figure(catalog, sought, first), "known before": _known(catalog, sought)}
        for arm in ARMS:
            shutil.copytree(folder / "home", folder / arm)
            catalog, run = Catalog.open(folder / arm), first
            for turn in range(ROUNDS):
                share, name = BUDGET // ROUNDS, sought.task.name
                asked = Proposal(budget=share, seed=seed + turn, importance={name: 1}, strategy=arm, run=run.id)
                _ask(catalog, sought, truth, asked)
                run = _learned(catalog, sought, seed, parent=run.id)
            found |= {f"{sought.metric}, {arm}": _figure(catalog, sought, run)}
            found |= {f"known, {arm}": _known(catalog, sought)}
    return found


def _truth(catalog: Catalog, sought: Sought) -> Truth:
    """The true boxes of each image, by key."""
    with catalog.read() as now:
        known, samples, classes = now.labels(sought.source), now.samples(), now.task(sought.source).classes
    keys = samples["key"].take(pc.index_in(known["sample_id"], value_set=samples["sample_id"].combine_chunks()))
    found = {
        key: [sought.said({**box, "class": classes[box["code"]]}) for box in boxes]
        for key, boxes in zip(keys.to_pylist(), known["boxes"].to_pylist(), strict=True)
    }
    held = read_held_back(catalog.home)
    for row in held.filter(pc.equal(held["task"], sought.source)).to_pylist():
        found[row["key"]] = [sought.said(box) for box in row["boxes"]]
    return found


def _begin(catalog: Catalog, sought: Sought, truth: Truth, generator: np.random.Generator) -> None:
    """Thin what is rare in the pool, and label the first images and those of validation and test."""
    with catalog.read() as now:
        samples = now.samples().select(["key", "group", "split"]).to_pylist()
    rare = {row["key"] for row in samples if any(map(sought.rare, truth[row["key"]]))}
    train = [row for row in samples if row["split"] == "train"]
    plain = [row["key"] for row in train if row["key"] not in rare]
    shown = {row["group"]: row["key"] for row in train if row["key"] in rare}  # the last frame of each drive
    kept = generator.permutation(sorted(shown.values()))[: round(RARE / (1 - RARE) * len(plain))].tolist()
    left_out = [row["key"] for row in train if row["key"] in rare - set(kept)]
    first = generator.permutation(sorted([*plain, *kept]))[:START].tolist()
    judged = [row["key"] for row in samples if row["split"] != "train"]
    with catalog.commit(author=AUTHOR, message="what is known first", batch="first") as change:
        change.add_tasks([sought.task])
        change.add_attributes(pa.table({"key": left_out, "excluded": [True] * len(left_out)}))
        change.add_labels(_labels(sought, [*first, *judged], truth), source="import")


def _labels(sought: Sought, keys: Sequence[str], truth: Truth) -> pa.Table:
    name = sought.task.name
    rows = [{"key": key, "task": name, "state": "known", "annotator": AUTHOR, "boxes": truth[key]} for key in keys]
    return pa.Table.from_pylist(rows, LABELS)


def _ask(catalog: Catalog, sought: Sought, truth: Truth, proposal: Proposal) -> None:
    """Label the images that are requested."""
    with catalog.read() as now:
        rows = choose_requests(now, proposal, catalog.home)
        samples = now.samples()
    wanted = pa.array([row["sample_id"] for row in rows])
    keys = samples["key"].take(pc.index_in(wanted, value_set=samples["sample_id"].combine_chunks())).to_pylist()
    with catalog.commit(author=AUTHOR, message="answers") as change:
        change.add_labels(_labels(sought, keys, truth), source="human")


def _learned(catalog: Catalog, sought: Sought, seed: int, *, parent: str = "") -> Run:
    """A run from the known images, with its predictions; a later one at a third of the learning rate."""
    words = {**WORDS, "seed": seed} | ({"learning_rate": 0.001} if parent else {})
    run, _ = trained(catalog, [sought.task.name], Recipe.parse(words), draws=DRAWS[bool(parent)], parent=parent)
    evaluate(run, catalog, author=AUTHOR)
    return run


def _figure(catalog: Catalog, sought: Sought, run: Run) -> float:
    """The figure on test."""
    predictions = pq.read_table(catalog.home / "runs" / run.id / "predictions.parquet")
    with catalog.read() as now:
        samples = Samples.at(now)
        judged = labelled_boxes(now, now.task(sought.task.name), samples, predictions)
        return sought.figure(judged.at(samples.splits == "test"))


def _known(catalog: Catalog, sought: Sought) -> float:
    """How many training images have such a box among those that are known."""
    with catalog.read() as now:
        labels, inside = now.labels(sought.task.name), now.training_ids()
    mine = labels.filter(pa.array(np.isin(labels["sample_id"].to_numpy(), inside)))["boxes"].to_pylist()
    boxes = [[{**box, "class": sought.task.classes[box["code"]]} for box in each or ()] for each in mine]
    return float(sum(any(map(sought.rare, each)) for each in boxes))


def _bicycle_precision(judged: LabelledBoxes) -> float:
    """AP50 of bicycles."""
    found = judged.sums.average_precisions(USERS.index("bicycle"))
    return 0.0 if found is None else float(found[0])


def _family_f1(judged: LabelledBoxes) -> float:
    """F1 of the rare family, of boxes given."""
    counts = judged.attributes["family"].confusion().astype(np.float64)
    code = FAMILIES.index("information")
    return float(2 * counts[code, code] / max(1.0, counts[code].sum() + counts[:, code].sum()))


def _sides(box: TrueBox) -> dict[str, Any]:
    return {name: box[name] for name in ("class", *"xywh")}


def _is_bicycle(box: TrueBox) -> bool:
    return bool(box["class"] == "bicycle")


def _plate(box: TrueBox) -> TrueBox:
    """The box of a sign and its family, the first word of what it says, as in "warning_left"; none where that is not
    known."""
    kind = dict(box["attributes"] or ()).get("sign_kind")
    return {**_sides(box), "attributes": {"family": kind.partition("_")[0]} if kind else {}}


def _is_rare_family(box: TrueBox) -> bool:
    return dict(box["attributes"] or ()).get("family") == "information"


BICYCLES: Final = Sought(
    name="bicycles", source="road_users", metric="AP50", figure=_bicycle_precision, said=_sides,
    task=Task(name="users", kind="detection", classes=USERS, owner=AUTHOR),
    rare=_is_bicycle,
)  # fmt: skip

FAMILY: Final = Sought(
    name="signs that inform", source="signs", metric="F1", figure=_family_f1,
    said=_plate, rare=_is_rare_family,
    task=Task.model_validate(
        {"name": "plates", "kind": "detection", "classes": ("sign",), "owner": AUTHOR,
         "attributes": {"family": list(FAMILIES)}}
    ),
)  # fmt: skip
