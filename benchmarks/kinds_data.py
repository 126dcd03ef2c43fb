"""Images with the presence of several classes for `make bench-kinds`, on features of the frozen pretrained trunk."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from torch import Tensor

from benchmarks.table import small
from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import FILE, read_held_back
from curation.catalog.presence import presence_of_labels
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.images.embeddings import Embeddings
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers.pack.pack_writer import make_pack
from training.evaluation.features import embed
from training.evaluation.image_size import fitted_size
from training.evaluation.predictions import rows_of
from training.network.model import Standardise
from training.recipe import Recipe

__all__ = ["Several", "several"]

DATA = os.environ.get("DATA", "")
DATASETS = Path(__file__).resolve().parent.parent / "datasets"
IMAGES = int(os.environ.get("IMAGES", "400" if small() else "2000"))
FLAGS = ("light_present", "pedestrian", "car", "stop_sign", "bicycle")
"""The binary tasks of `streets` that are one task of several classes here."""


@dataclass(frozen=True, kw_only=True)
class Several:
    """n images: `features` [n, D] float32 as heads read them, `states` [n, C] (1, 0, or -1: unknown), `splits` and
    `groups` [n], and the keys in the workspace `catalog`."""

    name: str
    catalog: Catalog
    keys: list[str]
    classes: tuple[str, ...]
    features: Tensor
    states: npt.NDArray[np.int8]
    splits: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]

    def rows(self, *splits: str) -> npt.NDArray[np.int64]:
        """The images of these splits with a known class."""
        return np.flatnonzero(np.isin(self.splits, splits) & (self.states >= 0).any(axis=1))


@cache
def several() -> Several:
    """The data of this call: `streets`, with all labels, or the declared data set in DATA."""
    home = Path(mkdtemp(prefix="bench-kinds-"))
    os.environ.setdefault("AMBER_CACHE", str(home / "images"))
    folder = Path(DATA) if DATA else DATASETS / "streets"
    dataset = Dataset.load(folder)
    if not DATA:
        dataset = dataset.with_reader({"images": IMAGES})
    if getattr(dataset.reader, "held_back", False):
        dataset = dataset.with_reader({"held_back": False})
    catalog = Catalog.create(home / "home")
    ingest(catalog, dataset, author="bench")
    pack = make_pack(catalog)
    with catalog.read() as now:
        recipe = Recipe.of("efficientnet_lite0", size=fitted_size(now))
    embed(catalog.home, pack, recipe)
    return _read(folder.name, catalog, recipe)


def _read(name: str, catalog: Catalog, recipe: Recipe) -> Several:
    embeddings = Embeddings.open(catalog.home, recipe.embeddings)
    with catalog.read() as now:
        samples = now.samples()
        classes, states = _states(now, samples["sample_id"].to_numpy())
    keys = samples["key"].to_pylist()
    if (catalog.home / FILE).exists():
        _add_held_back(catalog, keys, states)
    with torch.no_grad():
        vectors = torch.from_numpy(np.array(embeddings.vectors[embeddings.rows(keys)]))
        features = Standardise(embeddings.mean, embeddings.scale, embeddings.widths)(vectors)
    return Several(
        name=name, catalog=catalog, keys=keys, classes=classes, features=features, states=states,
        splits=np.asarray(samples["split"].to_pylist(), str), groups=np.asarray(samples["group"].to_pylist(), str),
    )  # fmt: skip


def _states(now: Snapshot, ids: npt.NDArray[np.int64]) -> tuple[tuple[str, ...], npt.NDArray[np.int8]]:
    """The classes, and their states [n, C]: of the multilabel task, of the boxes of one, or of the flags of streets."""
    tasks = now.tasks()
    listed = [task for task in tasks.values() if task.kind in ("multilabel", "detection")]
    if not DATA:
        return FLAGS, np.stack([_column(now, tasks[name], ids)[:, 0] for name in FLAGS], axis=1)
    if not listed:
        raise SystemExit(f"DATA={DATA}: declares no task of several classes and none of boxes; name another folder")
    return listed[0].classes, _column(now, listed[0], ids)


def _add_held_back(catalog: Catalog, keys: list[str], states: npt.NDArray[np.int8]) -> None:
    """Fill in what the data set holds back for its oracle: the labels of flags."""
    held, places = read_held_back(catalog.home), {key: row for row, key in enumerate(keys)}
    for code, name in enumerate(FLAGS):
        for row in held.filter(pc.equal(held["task"], name)).select(["key", "text"]).to_pylist():
            states[places[row["key"]], code] = row["text"] == "true"


def _column(now: Snapshot, task: Task, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """The states [n, C] of one task; of a flag [n, 1]."""
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], KNOWN))
    rows = rows_of(ids, known)
    found = np.full((len(ids), 1 if task.kind == "binary" else len(task.classes)), -1, np.int8)
    if task.kind == "multilabel":
        found[rows] = presence_of_labels(known, len(task.classes))
    elif task.kind == "binary":
        found[rows, 0] = known["code"].to_numpy()
    else:
        found[rows] = 0
        for row, boxes in zip(rows.tolist(), known["boxes"].to_pylist(), strict=True):
            found[row, [box["code"] for box in boxes]] = 1
    return found
