"""Tasks, recipes and a workspace with cached features, on which a training takes a second."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from support.homes import make_home

from curation import Catalog, Task
from curation.images import embeddings
from samplers import Plan, Policy, make_pack, make_plan
from samplers.plan.plan import PlanTask
from training import Recipe
from training.network.trunks import SmallTrunk

WIDTH = 12
KINDS = {"car": "binary", "color": "categorical", "speed": "regression", "dusk": "binary", "sign": "categorical"}
CLASSES = {"color": ("red", "yellow", "green"), "sign": ("a", "b", "c", "d", "e")}


def plan_task(name: str, **more: object) -> PlanTask:
    """A task of a plan, by name; `more` are fields of it."""
    kind = KINDS[name]
    regression = {"unit": "m", "metric": "mae"} if kind == "regression" else {}
    task = Task.model_validate(
        {"name": name, "kind": kind, "classes": CLASSES.get(name, ()), "owner": "ada"} | regression
    )
    fields = {"share": 1, "importance": 0.2, "constant_loss": 1.0, "mean": 0.0, "deviation": 1.0, "labelled": ()}
    rest = {"owner": "ada", "rule": "natural", "class_factor": None, "strata": ()}
    return PlanTask(**{"task": task, **fields, **rest, **more})  # type: ignore[arg-type]


def own_trunk() -> SmallTrunk:
    """A trunk of one's own."""
    return SmallTrunk()


def no_trunk() -> int:
    """What is no trunk."""
    return 3


TASKS = [plan_task(name) for name in KINDS]


def recipe(**changed: object) -> Recipe:
    """A recipe on features, for trees unless `changed` says nothing."""
    return Recipe.parse({"heads": "drawn", "size": (32, 32), "global_batch": 16, "hidden": 8, "threads": 1} | changed)


def make_features(folder: Path, *, samples: int = 160, width: int = WIDTH) -> Catalog:
    """A workspace with groups in train, validation and test, and vectors in place of those of a pretrained trunk."""
    catalog = make_home(folder, samples=samples)
    with catalog.commit(author="ada", message="validation") as change:
        found = change.now.samples().to_pylist()
        held = [row["key"] for row in found if int(row["group"].split("-")[1]) % 5 == 1]
        change.add_attributes(pa.table({"key": held, "split": ["validation"] * len(held)}))
    keys = make_pack(catalog).keys.to_pylist()
    with catalog.read() as now:
        colors = {row["sample_id"]: row["code"] for row in now.labels("color").to_pylist()}
        ids = {row["key"]: row["sample_id"] for row in now.samples().to_pylist()}
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(len(keys), width))
    for row, key in enumerate(keys):
        if (code := colors.get(ids[key])) is not None:
            vectors[row, int(code)] += 2.0
    with embeddings.writing(catalog.home, recipe().embeddings, keys, [("made", width)]) as written:
        written[:] = vectors.astype(np.float16)
    return catalog


def planned(catalog: Catalog, draws: int = 640, **importances: float) -> Plan:
    """A plan over all labelled tasks."""
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    return make_plan(catalog, policy, make_pack(catalog), draws=draws)
