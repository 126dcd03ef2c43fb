"""Vectors and labels for `make bench-heads`: a declared data set, embedded once, with parts of its labels known."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from torch import Tensor

from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.images.embeddings import Embeddings
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.plan.plan import PlanTask
from samplers.policy.policy import Policy
from training.evaluation.features import embed
from training.evaluation.image_size import fitted_size
from training.loop.task_labels import TaskLabels
from training.loop.trainer import train
from training.network.model import Standardise
from training.recipe import Recipe

__all__ = ["DATASETS", "AllLabels", "all_labels", "balanced_labels", "declared", "frozen_streets", "score", "streets"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DATASETS = Path(__file__).resolve().parent.parent / "datasets"
KINDS = ("binary", "categorical", "regression")
AUTHOR = "bench"


@dataclass(frozen=True, kw_only=True)
class AllLabels:
    """A data set: `features` [S, D] float32 as heads read them, splits and groups [S], and each task's values [S].

    Values are NaN where unknown. `catalog` and `pack` are where they come from.
    """

    name: str
    catalog: Catalog
    pack: Pack
    features: Tensor
    split: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    tasks: dict[str, Task]
    values: dict[str, Floats]

    def known(self, fraction: float, seed: int) -> list[TaskLabels]:
        """Labels of every task: its own random part of those of the training split, balanced over classes."""
        generator = np.random.default_rng(seed)
        found = []
        for name, values in self.values.items():
            labelled = np.flatnonzero((self.split == "train") & np.isfinite(values))
            chosen = np.sort(generator.permutation(labelled)[: max(10, round(fraction * len(labelled)))])
            found.append(self.labels(self.tasks[name], chosen, values[chosen]))
        return found

    def test(self, task: str) -> tuple[Ints, Floats]:
        """Rows and values of the known labels of the test split."""
        values = self.values[task]
        rows = np.flatnonzero((self.split == "test") & np.isfinite(values))
        return rows, values[rows]

    def labels(self, task: Task, rows: Ints, values: Floats) -> TaskLabels:
        """Labels of a task on these rows, balanced over classes."""
        return balanced_labels(task, rows, values, self.groups[rows], importance=1 / len(self.values))


def balanced_labels(
    task: Task, rows: Ints, values: Floats, groups: npt.NDArray[np.str_], *, importance: float = 1.0
) -> TaskLabels:
    """Labels of a task, class codes or numbers [n], on `rows` [n] of these groups [n]: each class weighs the same."""
    numeric = task.kind == "regression"
    mean, deviation = (float(values.mean()), float(values.std()) or 1.0) if numeric else (0.0, 1.0)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    weights = np.full(len(rows), 1 / len(rows)) if numeric else 1 / (len(counts) * counts[place])
    planned = PlanTask(
        task=task, owner=task.owner, share=1, importance=importance, rule="balanced",
        constant_loss=0.5 if numeric else max(0.01, float(np.log(len(counts)))), mean=mean, deviation=deviation,
        labelled=(), class_factor=None, strata=(),
    )  # fmt: skip
    return TaskLabels(task=planned, rows=rows, values=(values - mean) / deviation, weights=weights, names=groups)


def declared(folder: Path, home: Path) -> AllLabels:
    """A declared data set with all its labels, on the frozen EfficientNet at the size of its images."""
    catalog = Catalog.create(home)
    dataset = Dataset.load(folder)
    if getattr(dataset.reader, "held_back", False):
        dataset = dataset.with_reader({"held_back": False})
    ingest(catalog, dataset, author=AUTHOR)
    pack = make_pack(catalog)
    with catalog.read() as now:
        recipe = Recipe.of("efficientnet_lite0", size=fitted_size(now))
    embed(home, pack, recipe)
    return all_labels(folder.name, catalog, pack, recipe)


def streets(home: Path, images: int, draws: int) -> AllLabels:
    """Streets on a frozen trunk: that of a network trained from pixels on all its imported labels."""
    os.environ["AMBER_CACHE"] = str(home / "images")
    catalog = Catalog.create(home)
    ingest(catalog, Dataset.load(DATASETS / "streets").with_reader({"images": images}), author=AUTHOR)
    pack = make_pack(catalog)
    small = Recipe.of("small")
    run = train(
        small, make_plan(catalog, Policy.load(DATASETS / "streets" / "policy.toml"), pack, draws=draws), catalog
    )
    recipe = Recipe(trunk=f"run:{run.id}", size=small.size)
    embed(home, pack, recipe)
    return all_labels("streets", catalog, pack, recipe)


def frozen_streets(home: Path, images: int) -> tuple[Catalog, Pack, Recipe]:
    """Streets on the frozen EfficientNet: the workspace with its imported labels, its pack, and an exact recipe."""
    os.environ["AMBER_CACHE"] = str(home.parent / "images")
    catalog = Catalog.create(home)
    ingest(catalog, Dataset.load(DATASETS / "streets").with_reader({"images": images}), author=AUTHOR)
    pack = make_pack(catalog)
    recipe = Recipe.of("efficientnet_lite0", size=(80, 128), heads="exact", threads=1)
    embed(home, pack, recipe)
    return catalog, pack, recipe


def score(labels: TaskLabels, outputs: Floats, truth: Floats) -> float:
    """Points of a hundred: balanced accuracy of outputs [m, K], or minus the MAE over that of the best constant."""
    if labels.numeric:
        return number_points(outputs[:, 0] * labels.task.deviation + labels.task.mean, truth)
    predicted = (outputs[:, 0] > 0).astype(np.int64) if labels.outputs == 1 else outputs.argmax(axis=1)
    return class_points(predicted, truth)


def class_points(predicted: npt.NDArray[np.integer], truth: Floats) -> float:
    """100 times the mean recall over the classes of `truth`."""
    return 100 * float(np.mean([(predicted[truth == code] == code).mean() for code in np.unique(truth)]))


def number_points(predicted: Floats, truth: Floats) -> float:
    """Minus 100 times the mean absolute error over that of the median."""
    constant = float(np.abs(truth - np.median(truth)).mean())
    return -100 * float(np.abs(predicted - truth).mean()) / constant


def all_labels(name: str, catalog: Catalog, pack: Pack, recipe: Recipe) -> AllLabels:
    """All labels of a workspace whose pack is embedded as the recipe says."""
    embeddings = Embeddings.open(catalog.home, recipe.embeddings)
    with catalog.read() as now:
        samples = now.samples()
        tasks = {task.name: task for task in now.tasks().values() if task.kind in KINDS}
        values = {name: _values(now, task, samples["sample_id"].to_numpy()) for name, task in tasks.items()}
    with torch.no_grad():
        vectors = torch.from_numpy(np.array(embeddings.vectors[embeddings.rows(samples["key"].to_pylist())]))
        features = Standardise(embeddings.mean, embeddings.scale, embeddings.widths)(vectors)
    return AllLabels(
        name=name, catalog=catalog, pack=pack, features=features, tasks=tasks, values=values,
        split=np.asarray(samples["split"].to_pylist(), str), groups=np.asarray(samples["group"].to_pylist(), str),
    )  # fmt: skip


def _values(now: Snapshot, task: Task, ids: npt.NDArray[np.integer]) -> Floats:
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], 1))
    values = np.full(len(ids), np.nan)
    order = np.argsort(ids)
    places = order[np.searchsorted(ids[order], known["sample_id"].to_numpy())]
    values[places] = known["number" if task.kind == "regression" else "code"].to_numpy()
    return values
