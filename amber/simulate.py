"""Simulations: the loop on a data set whose labels are all known, beside the usual ways to choose what to label.

Every label of the training samples is held back, a share of them is corrupted, and the wanted classes are thinned. The
arms of a seed run the same loop from the same start; only their requests differ.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from amber.loop import Loop, Round, run_loop
from amber.replayed_data import AUTHOR, Simulation, copy_workspace, make_template, make_workspace
from curation.arrays import Bools, Floats, Int8s
from curation.catalog.catalog import Catalog
from curation.catalog.presence import PRESENT, UNSEEN, presence_of_classes, presence_of_lists
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.requests.ranking import STRATEGIES

__all__ = [
    "ARMS", "Beside", "Point", "average_precision", "labelled_test_samples", "simulate", "simulate_seed",
]  # fmt: skip

Beside = Callable[[Catalog, "Simulation", str], Floats]
"""Other heads on the labels of a workspace, given a run: chances [n, C] of the task's classes for the keys of
`labelled_test_samples`."""

ARMS: Final[dict[str, dict[str, Any]]] = {
    name: {"random_share": 1.0} if name == "random" else {"strategy": name} for name in STRATEGIES
}
"""The settings of the loop by which arms differ: one for each strategy of requests."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One wanted class (`label`) of one arm and seed after a round: labels bought, how many of them are of the class,
    and its figures on test: average precision (`ap`), precision, recall, F1; `tasks` has the figure of each task. Of a
    task of numbers, `label` is "", `error` is its figure, such as the mean absolute error, and the others are NaN."""

    arm: str
    seed: int
    label: str
    labels: int
    found: int
    ap: float
    precision: float
    recall: float
    f1: float
    tasks: dict[str, float]
    error: float | None = None


def simulate(
    folder: Path, home: Path, simulation: Simulation, *, seeds: Sequence[int], arms: Sequence[str] = tuple(ARMS),
    beside: Mapping[str, Beside] | None = None, progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Point]:  # fmt: skip
    """The points of every seed and arm on the data set declared in `folder`; workspaces are made in `home` and removed.

    All arms of a seed begin after the same run on the same labels. `beside` adds other heads, by name, on the labels
    that the mined arm bought. BadInput when the task, a class or an arm is unknown, or when thinning leaves no sample
    of a class.
    """
    for arm in arms:
        if arm not in ARMS:
            raise BadInput(f"arm {arm!r}: must be one of {', '.join(ARMS)}; correct it")
    tell = progress or (lambda stage, done, total: None)
    template, simulation = make_template(folder, home / "template", simulation, tell)
    for turn, seed in enumerate(seeds):
        tell("simulate", turn, len(seeds))
        yield from simulate_seed(template, home, simulation, seed, arms=arms, beside=beside)
    tell("simulate", len(seeds), len(seeds))


def simulate_seed(
    template: Catalog, home: Path, simulation: Simulation, seed: int, *, arms: Sequence[str] = tuple(ARMS),
    beside: Mapping[str, Beside] | None = None,
) -> Iterator[Point]:  # fmt: skip
    """The points of one seed, in copies of the workspace that `make_template` made."""
    begun = make_workspace(template, home / f"start-{seed}", simulation, seed)
    loop = _seeded(begun, simulation, seed)
    start = next(run_loop(begun, loop, author=AUTHOR))
    for arm in arms:
        catalog = copy_workspace(begun, home / f"{arm}-{seed}")
        changed = {"random_share": simulation.loop.random_share, **ARMS[arm]}
        after = replace(loop, rounds=simulation.loop.rounds, begin=start.run, ask=(simulation.task,), **changed)
        yield from _points(catalog, simulation, after, arm, start, (beside or {}) if arm == "mined" else {})
        shutil.rmtree(catalog.home)
    shutil.rmtree(begun.home)


def _seeded(catalog: Catalog, simulation: Simulation, seed: int) -> Loop:
    """The loop of the start of one seed: labels at random, and one training."""
    start = simulation.loop.start
    if simulation.known is not None:
        with catalog.read() as now:
            samples = now.samples()
            train = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))["key"]
        held = pq.read_table(catalog.home / "oracle.parquet", columns=["key"])["key"]
        start = round(simulation.known * pc.sum(pc.is_in(held, value_set=train.combine_chunks())).as_py())
    recipe = replace(simulation.loop.recipe, seed=seed)
    return replace(
        simulation.loop, rounds=0, seed=seed, recipe=recipe, start=start, random_share=1.0, start_random_share=1.0
    )


def _points(
    catalog: Catalog, simulation: Simulation, loop: Loop, arm: str, start: Round, beside: Mapping[str, Beside]
) -> Iterator[Point]:
    """The points of one loop, from its start on; those of other heads follow the last one."""
    for step in chain([start], run_loop(catalog, loop, author=AUTHOR)):
        with catalog.read() as now:
            task, (keys, states) = now.task(simulation.task), labelled_test_samples(now, simulation)
        tasks = {
            row["task"]: row["value"] for row in step.figures
            if row["split"] == "test" and not row["slice"] and row["value"] is not None
        }  # fmt: skip
        bought = step if step is start else replace(step, labels=start.labels + step.labels)
        if task.classes:
            judged = (*_predictions(catalog.home / "runs" / step.run, keys, task), states)
            yield from _of_labels(arm, simulation, loop.seed, bought, tasks, judged, task)
        else:
            nothing = dict.fromkeys(("ap", "precision", "recall", "f1"), np.nan)
            error = tasks.get(task.name)
            yield Point(
                arm=arm, seed=loop.seed, label="", labels=bought.labels, found=0, tasks=tasks, error=error, **nothing
            )  # fmt: skip
    for name, heads in beside.items():
        chances = heads(catalog, simulation, step.run)
        predicted = np.eye(chances.shape[1], dtype=np.bool_)[chances.argmax(axis=1)]
        yield from _of_labels(name, simulation, loop.seed, bought, {}, (chances, predicted, states), task)


def _of_labels(
    arm: str, simulation: Simulation, seed: int, step: Round, tasks: dict[str, float],
    judged: tuple[Floats, Bools, Int8s], task: Task,
) -> Iterator[Point]:  # fmt: skip
    """The point of each wanted class, from the chances, the predicted and the true classes, all [n, C]."""
    chances, predicted, states = judged
    for number, label in enumerate(simulation.labels):
        code = task.classes.index(label)
        known = states[:, code] != UNSEEN
        figures = _figures(chances[known, code], predicted[known, code], states[known, code] == PRESENT)
        found = step.found.get(simulation.slice_name(number), 0)
        yield Point(arm=arm, seed=seed, label=label, labels=step.labels, found=found, tasks=tasks, **figures)


def labelled_test_samples(now: Snapshot, simulation: Simulation) -> tuple[list[str], Int8s]:
    """Keys of the test samples with a known label of the task, by key, and the state of each class [n, C]: 1 there,
    0 not there, -1 where nobody looked."""
    samples, task = now.samples(), now.task(simulation.task)
    labels = now.labels(task.name)
    labels = labels.filter(pc.equal(labels["state"], KNOWN))
    row = pc.index_in(samples["sample_id"], value_set=labels["sample_id"].combine_chunks())
    usable = pc.and_(pc.equal(samples["split"], "test"), pc.is_valid(row))
    return samples["key"].filter(usable).to_pylist(), presence_of_classes(labels.take(row.filter(usable)), task)


def average_precision(scores: Floats, positive: Bools) -> float:
    """Average precision of `scores` [n] for the `positive` [n]: the mean, over positives, of the precision at each.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not positive.any():
        return float("nan")
    ranked = positive[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())


def _figures(scores: Floats, predicted: Bools, positive: Bools) -> dict[str, float]:
    right = float((predicted & positive).sum())
    precision = right / max(1.0, float(predicted.sum()))
    recall = right / max(1.0, float(positive.sum()))
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"ap": average_precision(scores, positive), "precision": precision, "recall": recall, "f1": f1}


def _predictions(folder: Path, keys: list[str], task: Task) -> tuple[Floats, Bools]:
    """The chance of each class, and whether the run predicts it, both [n, C], for each of `keys`."""
    table = pq.read_table(folder / "predictions.parquet")
    table = table.filter(pc.equal(table["task"], task.name))
    table = table.take(pc.index_in(pa.array(keys, pa.string()), value_set=table["key"].combine_chunks()))
    chances, classes = np.array(table["probabilities"].to_pylist(), np.float64), len(task.classes)
    if task.kind == "multilabel":
        return chances, presence_of_lists(table["codes"].combine_chunks(), None, classes) == PRESENT
    return chances, np.asarray(table["code"].to_numpy()[:, None] == np.arange(classes), np.bool_)
