"""Data sets for the trainer: workspaces of which each task knows only a part of its training labels."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from amber.replayed_data import copy_workspace
from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import read_held_back
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers import Plan, Policy, make_pack, make_plan
from training.evaluation.features import embed
from training.evaluation.image_size import fitted_size
from training.recipe import Recipe

__all__ = ["CARDS", "KNOWN", "THREADS", "cards", "evenly_planned", "on_features", "size_of", "streets"]

CARDS = os.environ.get("DATA", "")
"""The folder of a data set whose labels are all known; without it there are no rows of one."""

THREADS = int(os.environ.get("THREADS", "2"))

KNOWN = float(os.environ.get("KNOWN", "0.12"))
"""Part of each task's training labels that is known in such a data set."""

STREETS = Path(__file__).resolve().parent.parent / "datasets" / "streets"
AUTHOR = "bench"


def cards(folder: Path, seed: int) -> Catalog:
    """The declared data set of `CARDS` with its features; each task knows a random part of its training labels."""
    template = folder / "template"
    if not template.exists():
        made = Catalog.create(template)
        ingest(made, Dataset.load(Path(CARDS)).with_reader({"held_back": True}), author=AUTHOR)
        _embedded(made)
    catalog = copy_workspace(Catalog.open(template), folder / f"seed-{seed}")
    held = read_held_back(catalog.home)
    generator = np.random.default_rng(seed)
    tasks = np.asarray(held["task"].to_pylist(), str)
    chosen = [generator.permutation(np.flatnonzero(tasks == name)) for name in np.unique(tasks)]
    rows = np.concatenate([mine[: round(KNOWN * len(mine))] for mine in chosen])
    with catalog.commit(author=AUTHOR, message="known", batch="known") as change:
        change.add_labels(held.take(pa.array(np.sort(rows))), source="import")
    return catalog


def streets(folder: Path, seed: int, images: int, *, features: bool) -> Catalog:
    """Road scenes of one seed with the labels that come with them; with the features of a pretrained trunk, or not."""
    os.environ["AMBER_CACHE"] = str(folder / f"images-{seed}")
    catalog = Catalog.create(folder / f"streets-{seed}-{features}")
    if not (catalog.home / "packs").exists():
        ingest(catalog, Dataset.load(STREETS).with_reader({"images": images, "seed": seed}), author=AUTHOR, seed=seed)
        _embedded(catalog) if features else make_pack(catalog)
    return catalog


def evenly_planned(catalog: Catalog, steps: int) -> Plan:
    """A plan of so many batches of 64 draws, in which all tasks have one share and every class counts alike."""
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    return make_plan(catalog, policy, make_pack(catalog), draws=64 * steps)


def on_features(catalog: Catalog, seed: int, **changed: object) -> dict[str, object]:
    """The recipe of one hidden layer for all tasks, on cached features."""
    return {
        "heads": "drawn", "size": size_of(catalog), "tree": "shared", "hidden": 512, "dropout": 0.3, "seed": seed,
        "global_batch": 64, "learning_rate": 1e-3, "schedule": "constant", "weight_decay": 0.01, "threads": THREADS,
        **changed,
    }  # fmt: skip


def size_of(catalog: Catalog) -> tuple[int, int]:
    """The size at which the pretrained trunk sees the images."""
    with catalog.read() as now:
        return fitted_size(now)


def _embedded(catalog: Catalog) -> None:
    embed(catalog.home, make_pack(catalog), Recipe.of("efficientnet_lite0", size=size_of(catalog), threads=1))
