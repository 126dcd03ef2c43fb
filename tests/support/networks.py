"""Runs on a small catalog, and what they recorded."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import Catalog
from samplers import Policy, make_pack, make_plan
from training import Recipe, Run, train
from training.evaluation.features import embed

__all__ = ["recorded", "trained"]


def trained(catalog: Catalog, **words: Any) -> Run:
    """A run of 128 draws; images of 32 x 48 pixels unless `words` (of a recipe) say otherwise."""
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    pack = make_pack(catalog)
    plan, recipe = make_plan(catalog, policy, pack, draws=128), Recipe.parse({"size": (32, 48), "threads": 1} | words)
    embed(catalog.home, pack, recipe)
    return train(recipe, plan, catalog)


def recorded(catalog: Catalog, run: Run, task: str, keys: list[str]) -> np.ndarray:
    """The recorded probabilities or numbers of a task for these keys."""
    table = pq.read_table(catalog.home / "runs" / run.id / "predictions.parquet")
    rows = {row["key"]: row for row in table.filter(pc.equal(table["task"], task)).to_pylist()}
    return np.array([rows[key]["probabilities"] or rows[key]["number"] for key in keys])
