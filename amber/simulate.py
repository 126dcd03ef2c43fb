"""Simulations: the loop on a data set whose labels are all known, beside the usual ways to choose what to label.

Every label of the training samples is held back, a share of them is corrupted, and the wanted classes are thinned. The
arms of a seed run the same loop from the same start; only their requests differ.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from amber.loop import Loop, Round, run_loop
from curation.arrays import Bools, Floats, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.files.atomic import whole
from curation.requests.ranking import STRATEGIES

__all__ = [
    "ARMS", "Beside", "Point", "Simulation", "average_precision", "copy_workspace", "labelled_test_samples",
    "make_template", "simulate", "simulate_seed",
]  # fmt: skip

Beside = Callable[[Catalog, "Simulation", str], Floats]
"""Other heads on the labels of a workspace, given a run: chances [n, C] of the task's classes for the keys of
`labelled_test_samples`."""

ARMS: Final[dict[str, dict[str, Any]]] = {
    name: {"random_share": 1.0} if name == "random" else {"strategy": name} for name in STRATEGIES
}
"""The settings of the loop by which arms differ: one for each strategy of requests."""

AUTHOR: Final = "simulation"


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Which classes are wanted, how rare they are made, and the loop that every arm runs.

    `task` and `labels` name the classes; `share` in (0, 1) is the share of each in the training pool after thinning (a
    class that is rarer stays as it is). `wrong` in [0, 1) of the answers are corrupted: another class, or another
    sample's value. `known` in (0, 1) is the share of each task's labels at the start; without it the loop's `start`
    counts them. After the start, labels of the task alone are requested. With `fitted`, a frozen trunk sees images in
    the size that fits the data set, instead of the recipe's.
    """

    task: str
    labels: tuple[str, ...]
    share: float = 0.01
    wrong: float = 0.05
    known: float | None = None
    fitted: bool = False
    loop: Loop = field(default_factory=lambda: Loop(rounds=5, budget=60, start=1_000))

    def __post_init__(self) -> None:
        for name, value in (("share", self.share), ("known", 0.5 if self.known is None else self.known)):
            if not 0 < value < 1:
                raise BadInput(f"{name} {value}: must be above 0 and below 1; correct it")
        if self.share * len(self.labels) >= 1:
            raise BadInput(f"share {self.share}: {len(self.labels)} classes leave no room for others; lower it")
        if not 0 <= self.wrong < 1:
            raise BadInput(f"wrong {self.wrong}: must be at least 0 and below 1; correct it")

    @property
    def slices(self) -> dict[str, str]:
        """The predicate of each wanted class, by the name of its slice."""
        quoted = [label.replace("'", "''") for label in self.labels]
        values = ["TRUE" if label == "true" else f"'{label}'" for label in quoted]
        return {f"wanted_{number}": f"label.{self.task} = {value}" for number, value in enumerate(values)}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One wanted class (`label`) of one arm and seed after a round: labels bought, how many of them are of the class,
    and its figures on test: average precision (`ap`), precision, recall, F1; `tasks` has the figure of each task."""

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
    begun = _workspace(template, home / f"start-{seed}", simulation, seed)
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
            task, (keys, codes) = now.task(simulation.task), labelled_test_samples(now, simulation)
        chances, predicted = _predictions(catalog.home / "runs" / step.run, keys, task)
        tasks = {
            row["task"]: row["value"] for row in step.figures
            if row["split"] == "test" and not row["slice"] and row["value"] is not None
        }  # fmt: skip
        bought = step if step is start else replace(step, labels=start.labels + step.labels)
        yield from _of_labels(arm, simulation, loop.seed, bought, tasks, (chances, predicted, codes), task)
    for name, heads in beside.items():
        chances = heads(catalog, simulation, step.run)
        judged = (chances, chances.argmax(axis=1), codes)
        yield from _of_labels(name, simulation, loop.seed, bought, {}, judged, task)


def _of_labels(
    arm: str, simulation: Simulation, seed: int, step: Round, tasks: dict[str, float],
    judged: tuple[Floats, Ints, Ints], task: Task,
) -> Iterator[Point]:  # fmt: skip
    """The point of each wanted class, from the chances [n, C], the predicted and the true classes [n]."""
    chances, predicted, codes = judged
    for label, slice_ in zip(simulation.labels, simulation.slices, strict=True):
        code = task.classes.index(label)
        figures = _figures(chances[:, code], predicted == code, codes == code)
        yield Point(
            arm=arm, seed=seed, label=label, labels=step.labels, found=step.found.get(slice_, 0), tasks=tasks, **figures
        )


def labelled_test_samples(now: Snapshot, simulation: Simulation) -> tuple[list[str], Ints]:
    """Keys of the test samples with a known label of the task, by key, and the code of each label [n]."""
    samples, task = now.samples(), now.task(simulation.task)
    labels = now.labels(task.name)
    labels = labels.filter(pc.equal(labels["state"], KNOWN))
    row = pc.index_in(samples["sample_id"], value_set=labels["sample_id"].combine_chunks())
    usable = pc.and_(pc.equal(samples["split"], "test"), pc.is_valid(row))
    codes = labels["code"].take(row.filter(usable)).to_numpy()
    return samples["key"].filter(usable).to_pylist(), np.asarray(codes, np.int64)


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


def _predictions(folder: Path, keys: list[str], task: Task) -> tuple[Floats, Ints]:
    """The chance of each class [n, C], and the class that the run predicts [n], for each of `keys`."""
    table = pq.read_table(folder / "predictions.parquet")
    table = table.filter(pc.equal(table["task"], task.name))
    table = table.take(pc.index_in(pa.array(keys, pa.string()), value_set=table["key"].combine_chunks()))
    return np.array(table["probabilities"].to_pylist(), np.float64), np.asarray(table["code"].to_numpy(), np.int64)


def make_template(
    folder: Path, home: Path, simulation: Simulation, tell: Callable[[str, int, int], None]
) -> tuple[Catalog, Simulation]:  # fmt: skip
    """A workspace with the data set, its labels held back, and its features; and the simulation with its size."""
    from curation.ingestion.dataset import Dataset
    from curation.ingestion.ingest import ingest
    from samplers.pack.pack_writer import make_pack  # loads scipy
    from training.evaluation.features import embed
    from training.evaluation.image_size import fitted_size

    dataset = Dataset.load(folder).with_reader({"held_back": True})
    tasks = {task.name: task for task in dataset.task}
    if simulation.task not in tasks:
        raise NotFound(f"task {simulation.task!r}: {folder} declares {', '.join(tasks)}; correct it")
    for label in simulation.labels:
        if label not in tasks[simulation.task].classes or not tasks[simulation.task].outputs:
            raise BadInput(f"class {label!r}: {simulation.task} has no such class to predict; correct it")
    if not dataset.split.test and dataset.split.by != "given":
        raise BadInput(f"{folder}: declares no test split, so nothing could be judged; add test = 0.25 to [split]")
    catalog = Catalog.create(home)
    ingest(catalog, dataset, author=AUTHOR, progress=tell)
    if simulation.fitted and simulation.loop.recipe.embeddings:
        with catalog.read() as now:
            recipe = replace(simulation.loop.recipe, size=fitted_size(now))
        simulation = replace(simulation, loop=replace(simulation.loop, recipe=recipe))
    embed(home, make_pack(catalog), simulation.loop.recipe, progress=lambda done, total: tell("embed", done, total))
    return catalog, simulation


def _workspace(template: Catalog, home: Path, simulation: Simulation, seed: int) -> Catalog:
    """A copy of the template for one seed: the classes thinned, a share of the held-back labels corrupted."""
    catalog = copy_workspace(template, home)
    held = pq.read_table(home / "oracle.parquet").cast(LABELS)
    _thin(catalog, held, simulation, seed)
    with whole(home / "oracle.parquet") as part:
        pq.write_table(_corrupted(held, catalog, simulation, seed), part)
    return catalog


def copy_workspace(template: Catalog, home: Path) -> Catalog:
    """A copy of a workspace that shares its embeddings and shards."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template.home, home, ignore=shutil.ignore_patterns("embeddings", "shards"))
    for name in ("embeddings", "shards"):
        (home / name).symlink_to((template.home / name).resolve())
    return Catalog.open(home)


def _thin(catalog: Catalog, held: pa.Table, simulation: Simulation, seed: int) -> None:
    """Exclude training samples of the wanted classes until each has its share; they become the rare slices."""
    held = held.filter(pc.equal(held["task"], simulation.task))
    with catalog.read() as now:
        samples, slices = now.samples(), now.slices()
        train = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))["key"]
    keys = {
        label: train.filter(
            pc.is_in(train, value_set=held["key"].filter(pc.equal(held["text"], label)).combine_chunks())
        ).to_pylist()
        for label in simulation.labels
    }
    others = len(train) - sum(map(len, keys.values()))
    kept = round(others * simulation.share / (1 - len(keys) * simulation.share))
    out: list[str] = []
    for number, (label, mine) in enumerate(keys.items()):
        if not min(kept, len(mine)):
            raise BadInput(
                f"class {label!r}: {len(mine)} of {len(train):,} training samples; thinned to {simulation.share:.3%} "
                "none is left; raise the share, or name another class"
            )
        out += np.random.default_rng([seed, 3, number]).permutation(mine)[kept:].tolist()
    with catalog.commit(author=AUTHOR, message=f"thin {', '.join(keys)}") as change:
        if out:
            change.add_attributes(pa.table({"key": pa.array(out, pa.string()), "excluded": [True] * len(out)}))
        for part in slices.values():
            change.add_slice(part.name, part.predicate, task=part.task, rare=False)
        for name, predicate in simulation.slices.items():
            change.add_slice(name, predicate, task=simulation.task, rare=True)


def _corrupted(held: pa.Table, catalog: Catalog, simulation: Simulation, seed: int) -> pa.Table:
    """The held-back labels, a share of each task's with another class, or with another sample's value."""
    generator = np.random.default_rng([seed, 4])
    with catalog.read() as now:
        tasks = now.tasks()
    parts = []
    for name, task in tasks.items():
        rows = held.filter(pc.equal(held["task"], name))
        wrong = generator.random(len(rows)) < simulation.wrong
        if task.kind in ("binary", "categorical"):
            text = rows["text"].to_pylist()
            for row in np.flatnonzero(wrong).tolist():
                text[row] = str(generator.choice([label for label in task.classes if label != text[row]]))
            rows = rows.set_column(rows.schema.get_field_index("text"), "text", pa.array(text, pa.string()))
        elif task.kind == "regression":
            number = rows["number"].to_numpy().copy()
            number[wrong] = generator.permutation(number)[wrong]
            rows = rows.set_column(rows.schema.get_field_index("number"), "number", pa.array(number))
        elif task.kind == "multilabel":
            order = np.arange(len(rows))
            order[wrong] = generator.permutation(order)[wrong]
            for column in ("names", "looked"):
                at = rows.schema.get_field_index(column)
                rows = rows.set_column(at, column, rows[column].take(pa.array(order)))
        parts.append(rows)
    return pa.concat_tables(parts)
