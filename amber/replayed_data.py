"""What simulations replay: a data set whose labels are held back, with wanted classes thinned and wrong answers."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from amber.loop import Loop
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.files.atomic import whole

__all__ = ["AUTHOR", "Simulation", "copy_workspace", "make_template", "make_workspace"]

AUTHOR: Final = "simulation"


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Which classes are wanted, how rare they are made, and the loop that every arm runs.

    `task` and `labels` name the classes; a task of numbers has no `labels`, and nothing is thinned. `share` in (0, 1)
    is the share of each class in the training pool after thinning (a class that is rarer stays as it is). `wrong` in
    [0, 1) of the answers are corrupted: another class, or another sample's value. `known` in (0, 1) is the share of
    each task's labels at the start; without it the loop's `start` counts them. After the start, labels of the task
    alone are requested. With `fitted`, a frozen trunk sees images in the size that fits the data set, instead of the
    recipe's.
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

    def slice_name(self, number: int) -> str:
        """The name of the slice of the wanted class of this number."""
        return f"wanted_{number}"

    def predicate(self, task: Task, label: str) -> str:
        """The predicate of a wanted class."""
        quoted = label.replace("'", "''")
        if task.kind == "multilabel":
            return f"list_contains(label.{task.name}, '{quoted}')"
        return f"label.{task.name} = " + ("TRUE" if label == "true" else f"'{quoted}'")


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
    task = tasks[simulation.task]
    if not task.outputs:
        raise BadInput(f"task {task.name!r}: a simulation has no strategy for boxes; name another task")
    if bool(task.classes) != bool(simulation.labels):
        raise BadInput(f"task {task.name!r}: {'name' if task.classes else 'it has numbers, leave out'} the class")
    for label in simulation.labels:
        if label not in task.classes:
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


def make_workspace(template: Catalog, home: Path, simulation: Simulation, seed: int) -> Catalog:
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
        samples, slices, task = now.samples(), now.slices(), now.task(simulation.task)
        train = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))["key"]
    keys = {
        label: train.filter(
            pc.is_in(train, value_set=held["key"].filter(_has(held, task, label)).combine_chunks())
        ).to_pylist()
        for label in simulation.labels
    }
    others = len(train) - len(set(chain(*keys.values())))
    kept = round(others * simulation.share / (1 - len(keys) * simulation.share))
    out: list[str] = []
    for number, (label, mine) in enumerate(keys.items()):
        if not min(kept, len(mine)):
            raise BadInput(
                f"class {label!r}: {len(mine)} of {len(train):,} training samples; thinned to {simulation.share:.3%} "
                "none is left; raise the share, or name another class"
            )
        out += np.random.default_rng([seed, 3, number]).permutation(mine)[kept:].tolist()
    pool = pc.sum(pc.is_in(train, value_set=held["key"].combine_chunks())).as_py() - len(out)
    if (loop := simulation.loop).rounds * loop.budget > pool:
        raise BadInput(
            f"budget {loop.budget} in {loop.rounds} rounds: the pool holds {pool:,} labels of {task.name}; lower it"
        )
    with catalog.commit(author=AUTHOR, message=f"thin {', '.join(keys) or 'nothing'}") as change:
        if out:
            change.add_attributes(pa.table({"key": pa.array(out, pa.string()), "excluded": [True] * len(out)}))
        for part in slices.values():
            change.add_slice(part.name, part.predicate, task=part.task, rare=False)
        for number, label in enumerate(simulation.labels):
            name, predicate = simulation.slice_name(number), simulation.predicate(task, label)
            change.add_slice(name, predicate, task=simulation.task, rare=True)


def _has(held: pa.Table, task: Task, label: str) -> pa.Array:
    """Which held-back labels are, or hold, the class."""
    if task.kind != "multilabel":
        return pc.equal(held["text"], label)
    return pa.array([label in (names or ()) for names in held["names"].to_pylist()], pa.bool_())


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
