"""Evaluated runs whose predictions are planted: probabilities of known quality, for pages and figures about classes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from support.homes import make_home

from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training import Recipe, Run
from training.evaluation.decisions import decided
from training.evaluation.figures import slice_errors

__all__ = ["SAMPLES", "Floats", "noisy", "plant_run", "planted_home"]

Floats = npt.NDArray[np.float64]
SAMPLES = 800


def planted_home(folder: Path) -> tuple[Catalog, Plan]:
    """The pictures of `make_home`, of which three tenths each are for validation and for test, and a plan."""
    catalog = make_home(folder, samples=SAMPLES)
    splits = ["test", "validation", "validation", "validation", "test", "test", *["train"] * 4]
    with catalog.commit(author="ada", message="splits") as change:
        keys = change.now.samples()["key"].to_pylist()
        of_key = [splits[number // 4 % 10] for number in range(SAMPLES)]
        change.add_attributes(pa.table({"key": keys, "split": of_key}))
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    return catalog, make_plan(catalog, policy, make_pack(catalog), draws=400)


def noisy(catalog: Catalog, task: Task, *, signal: float, raise_last: float = 1.0, seed: int = 0) -> Floats:
    """Class probabilities [n, C] that know the truth, where it is known, by so much; those of class 1 raised."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(SAMPLES, len(task.classes)))
    with catalog.read() as now:
        labels, ids = now.labels(task.name), now.samples()["sample_id"].to_numpy()
        known = labels.filter(pa.compute.equal(labels["state"], 1))
    rows = np.searchsorted(ids, known["sample_id"].to_numpy())
    logits[rows, known["code"].to_numpy()] += signal
    raised = np.exp(logits)
    raised[:, 1] *= raise_last
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)


def plant_run(
    catalog: Catalog, plan: Plan, id_: str, chances: Callable[[Task], Floats], *, recipe: Recipe | None = None,
    parent: str = "",
) -> Run:  # fmt: skip
    """Save and register a run that predicts these probabilities, and 40 for every number."""
    run = Run(
        id=id_, plan=plan.hash, commit=plan.commit, recipe=recipe or Recipe(), parent=parent,
        curve=[{"Draws": 64 * step, **{task.name: 1 / step for task in plan.tasks}} for step in range(1, 9)],
    )  # fmt: skip
    path = catalog.home / "runs" / id_ / "predictions.parquet"
    path.parent.mkdir(parents=True)
    run.save(catalog.home)
    with catalog.read() as now:
        keys, tasks = now.samples()["key"].to_pylist(), [now.task(task.name) for task in plan.tasks]
    pq.write_table(pa.concat_tables([_rows(task, keys, chances) for task in tasks]), path)
    with catalog.commit(author="ada", message=f"evaluate {id_}") as change:
        errors = slice_errors(change.now, id_, tasks, path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        change.add_run(id_, plan=plan.hash, predictions=str(path.relative_to(catalog.home)), sha256=sha256)
        change.add_slice_errors(errors)
    return run


def _rows(task: Task, keys: list[str], chances: Callable[[Task], Floats]) -> pa.Table:
    n, numbers = len(keys), not task.classes
    found = np.ones((n, 1)) if numbers else chances(task)
    code = decided(task, found, np.full(found.shape[1], 1 / found.shape[1])) if task.classes else None
    return pa.table(
        {
            "key": keys, "task": [task.name] * n,
            "code": pa.nulls(n, pa.int32()) if code is None else pa.array(code, pa.int32()),
            "number": pa.array([40.0] * n) if numbers else pa.nulls(n, pa.float64()),
            "confidence": pa.nulls(n, pa.float64()) if code is None else pa.array(found[np.arange(n), code]),
            "probabilities": pa.array([None] * n if numbers else found.tolist(), pa.list_(pa.float64())),
        }
    )  # fmt: skip
