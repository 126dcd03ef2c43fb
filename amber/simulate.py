"""Simulations: the loop on a data set whose labels are all known, beside the usual ways to choose what to label.

Every label of the training samples is held back, a share of them is corrupted, and one class is thinned. Each seed and
arm then runs the same loop from the same start; only its requests differ.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from amber.loop import Loop, Round, run_loop
from curation.arrays import Bools, Floats
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.files.atomic import whole

__all__ = ["ARMS", "Beside", "Point", "Simulation", "average_precision", "labelled_test_samples", "simulate"]

Beside = Callable[[Catalog, "Simulation", str], tuple[Floats, Bools]]
"""Other heads on the labels of a workspace, given a run: scores [n] of the wanted class, and whether it is predicted
[n], in the order of `labelled_test_samples`."""

ARMS: Final[dict[str, dict[str, Any]]] = {
    "mined": {}, "random": {"random_share": 1.0}, "margin": {"strategy": "margin"}, "entropy": {"strategy": "entropy"},
}  # fmt: skip
"""The settings of the loop by which arms differ."""

WANTED: Final = "wanted"
"""The name of the slice that holds the thinned class."""
AUTHOR: Final = "simulation"


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Which class is wanted, how rare it is made, and the loop that every arm runs.

    `task` and `label` name the class; `share` in (0, 1) is its share of the training pool after thinning (a class that
    is rarer stays as it is). `wrong` in [0, 1) of the answers are corrupted: another class, or another sample's value.
    """

    task: str
    label: str
    share: float = 0.01
    wrong: float = 0.05
    loop: Loop = field(default_factory=lambda: Loop(rounds=5, budget=60, start=1_000))

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise BadInput(f"share {self.share}: must be above 0 and below 1; correct it")
        if not 0 <= self.wrong < 1:
            raise BadInput(f"wrong {self.wrong}: must be at least 0 and below 1; correct it")

    @property
    def predicate(self) -> str:
        """The slice of the wanted class."""
        quoted = self.label.replace("'", "''")
        return f"label.{self.task} = " + ("TRUE" if self.label == "true" else f"'{quoted}'")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One arm and seed after a round: labels bought, how many of them are of the wanted class, and its figures on test:
    average precision (`ap`), precision, recall, F1; `tasks` has the figure of each task."""

    arm: str
    seed: int
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

    `beside` adds other heads, by name, on the labels that the mined arm bought. BadInput when the task, the class or an
    arm is unknown, or when thinning leaves no sample of the class.
    """
    for arm in arms:
        if arm not in ARMS:
            raise BadInput(f"arm {arm!r}: must be one of {', '.join(ARMS)}; correct it")
    tell = progress or (lambda stage, done, total: None)
    template = _template(folder, home / "template", simulation, tell)
    for turn, seed in enumerate(seeds):
        for number, arm in enumerate(arms):
            tell("simulate", turn * len(arms) + number, len(seeds) * len(arms))
            workspace = home / f"{arm}-{seed}"
            catalog = _workspace(template, workspace, simulation, seed)
            recipe = replace(simulation.loop.recipe, seed=seed)
            loop = replace(simulation.loop, seed=seed, recipe=recipe, start_random_share=1.0, **ARMS[arm])
            others = (beside or {}) if arm == "mined" else {}
            yield from _points(catalog, simulation, loop, arm, others)
            shutil.rmtree(workspace)


def _points(
    catalog: Catalog, simulation: Simulation, loop: Loop, arm: str, beside: Mapping[str, Beside]
) -> Iterator[Point]:
    """The points of one loop; those of other heads follow the last one."""
    for step in run_loop(catalog, loop, author=AUTHOR):
        with catalog.read() as now:
            task, (keys, positive) = now.task(simulation.task), labelled_test_samples(now, simulation)
        scores, predicted = _predictions(catalog.home / "runs" / step.run, simulation, keys, task)
        tasks = {
            row["task"]: row["value"] for row in step.figures
            if row["split"] == "test" and not row["slice"] and row["value"] is not None
        }  # fmt: skip
        yield _point(arm, loop, step, tasks, _figures(scores, predicted, positive))
    for name, heads in beside.items():
        yield _point(name, loop, step, {}, _figures(*heads(catalog, simulation, step.run), positive))


def _point(arm: str, loop: Loop, step: Round, tasks: dict[str, float], figures: dict[str, float]) -> Point:
    return Point(
        arm=arm, seed=loop.seed, labels=step.labels, found=step.found.get(WANTED, 0), tasks=tasks, ap=figures["ap"],
        precision=figures["precision"], recall=figures["recall"], f1=figures["f1"],
    )  # fmt: skip


def labelled_test_samples(now: Snapshot, simulation: Simulation) -> tuple[list[str], Bools]:
    """Keys of the test samples with a known label of the task, by key, and whether each is of the wanted class."""
    samples, task = now.samples(), now.task(simulation.task)
    labels = now.labels(task.name)
    labels = labels.filter(pc.equal(labels["state"], KNOWN))
    row = pc.index_in(samples["sample_id"], value_set=labels["sample_id"].combine_chunks())
    usable = pc.and_(pc.equal(samples["split"], "test"), pc.is_valid(row))
    codes = labels["code"].take(row.filter(usable)).to_numpy()
    return samples["key"].filter(usable).to_pylist(), np.asarray(codes == task.classes.index(simulation.label))


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


def _predictions(folder: Path, simulation: Simulation, keys: list[str], task: Task) -> tuple[Floats, Bools]:
    """The chance of the wanted class, and whether the run predicts it, for each of `keys`."""
    table = pq.read_table(folder / "predictions.parquet")
    table = table.filter(pc.equal(table["task"], task.name))
    table = table.take(pc.index_in(pa.array(keys, pa.string()), value_set=table["key"].combine_chunks()))
    code = task.classes.index(simulation.label)
    chances = np.array(table["probabilities"].to_pylist(), np.float64)[:, code]
    return chances, np.asarray(table["code"].to_numpy() == code, np.bool_)


def _template(folder: Path, home: Path, simulation: Simulation, tell: Callable[[str, int, int], None]) -> Catalog:
    """A workspace with the data set, its labels held back, and its features."""
    from curation.ingestion.dataset import Dataset
    from curation.ingestion.ingest import ingest
    from samplers.pack.pack_writer import make_pack  # loads scipy
    from training.evaluation.features import embed

    dataset = Dataset.load(folder).with_reader({"held_back": True})
    tasks = {task.name: task for task in dataset.task}
    if simulation.task not in tasks:
        raise NotFound(f"task {simulation.task!r}: {folder} declares {', '.join(tasks)}; correct it")
    if simulation.label not in tasks[simulation.task].classes or not tasks[simulation.task].outputs:
        raise BadInput(f"class {simulation.label!r}: {simulation.task} has no such class to predict; correct it")
    if not dataset.split.test and dataset.split.by != "given":
        raise BadInput(f"{folder}: declares no test split, so nothing could be judged; add test = 0.25 to [split]")
    catalog = Catalog.create(home)
    ingest(catalog, dataset, author=AUTHOR, progress=tell)
    embed(home, make_pack(catalog), simulation.loop.recipe, progress=lambda done, total: tell("embed", done, total))
    return catalog


def _workspace(template: Catalog, home: Path, simulation: Simulation, seed: int) -> Catalog:
    """A copy of the template for one seed: the class thinned, a share of the held-back labels corrupted."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template.home, home, ignore=shutil.ignore_patterns("embeddings", "shards"))
    for name in ("embeddings", "shards"):
        (home / name).symlink_to((template.home / name).resolve())
    catalog = Catalog.open(home)
    held = pq.read_table(home / "oracle.parquet").cast(LABELS)
    _thin(catalog, held, simulation, seed)
    with whole(home / "oracle.parquet") as part:
        pq.write_table(_corrupted(held, catalog, simulation, seed), part)
    return catalog


def _thin(catalog: Catalog, held: pa.Table, simulation: Simulation, seed: int) -> None:
    """Exclude training samples of the wanted class until it has its share, and make it the one rare slice."""
    mine = pc.and_(pc.equal(held["task"], simulation.task), pc.equal(held["text"], simulation.label))
    with catalog.read() as now:
        samples, slices = now.samples(), now.slices()
        train = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))["key"]
    keys = train.filter(pc.is_in(train, value_set=held["key"].filter(mine).combine_chunks())).to_pylist()
    kept = round((len(train) - len(keys)) * simulation.share / (1 - simulation.share))
    if not min(kept, len(keys)):
        raise BadInput(
            f"class {simulation.label!r}: {len(keys)} of {len(train):,} training samples; thinned to "
            f"{simulation.share:.3%} none is left; raise the share, or name another class"
        )
    out = np.random.default_rng([seed, 3]).permutation(keys)[kept:].tolist()
    with catalog.commit(author=AUTHOR, message=f"thin {simulation.label}") as change:
        if out:
            change.add_attributes(pa.table({"key": pa.array(out, pa.string()), "excluded": [True] * len(out)}))
        for part in slices.values():
            change.add_slice(part.name, part.predicate, task=part.task, rare=False)
        change.add_slice(WANTED, simulation.predicate, task=simulation.task, rare=True)


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
        parts.append(rows)
    return pa.concat_tables(parts)
