"""Evaluation: what a run says of every sample, and its figures on every (task, slice) of the evaluation splits."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from curation.analysis.priors import natural_prior
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.files.atomic import whole
from curation.images.embeddings import Embeddings
from curation.ingest.leaks import refuse_leaks
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan, PlanTask
from samplers.stream.stream import sweep
from training.evaluation.intervals import Figure, balanced, mean_of, proportion
from training.network.model import as_pixels, load_network
from training.run import Run

__all__ = ["evaluate", "natural_probabilities", "slice_errors"]

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

BATCH = 256
SPLITS = ("validation", "test")

ERRORS = pa.schema(
    [
        ("run", pa.string()),
        ("task", pa.string()),
        ("slice", pa.string()),
        ("split", pa.string()),
        ("metric", pa.string()),
        ("n", pa.int64()),
        ("groups", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)


def evaluate(
    run: Run, catalog: Catalog, *, author: str, batch: str | None = None, progress: Progress | None = None
) -> pa.Table:
    """Predict every image of the run's pack; record the run, its predictions and its figures in one commit.

    Returns the figures: run, task, slice ("" is everything), split, metric, n, groups, value, low, high. Class
    probabilities are natural ones: the plan's class factor is divided out and the natural prior put in. A task judged
    by `balanced_accuracy` decides as if all classes were equally common, the others take the likeliest class. Samples
    that carry a `propensity` weigh by its inverse. BadInput where the plan drew from a group that is evaluated by now.
    """
    plan = Plan.open(catalog.home, run.plan)
    path = catalog.home / "runs" / run.id / "predictions.parquet"
    with catalog.read() as now:
        refuse_leaks(now, plan.keys)
    with catalog.read(plan.commit) as then:
        priors = {task.name: natural_prior(then, task.task) for task in plan.tasks if task.task.classes}
    keys, answers = _answers(run, plan, catalog.home, progress)
    predictions = pa.concat_tables(
        [_prediction_rows(task, keys, answers[code], priors.get(task.name)) for code, task in enumerate(plan.tasks)]
    )
    with whole(path) as part:
        pq.write_table(predictions, part)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with catalog.commit(
        author=author, message=f"evaluate run {run.id}", batch=batch or f"evaluate:{run.id}:{digest}"
    ) as change:
        errors = slice_errors(change.now, run.id, [task.task for task in plan.tasks], path)
        change.add_run(run.id, plan=plan.hash, predictions=str(path.relative_to(catalog.home)), sha256=digest)
        change.add_slice_errors(errors)
    return errors


def slice_errors(now: Snapshot, run: str, tasks: list[Task], predictions: Path) -> pa.Table:
    """Figures of a predictions file on every (task, slice, split) against the labels that are known at `now`."""
    samples = now.samples()
    weights = _weights(now, samples["sample_id"].to_numpy())
    _, groups = np.unique(np.asarray(samples["group"].to_pylist(), dtype=object).astype(str), return_inverse=True)
    splits = np.asarray(samples["split"].to_pylist(), dtype=object)
    ids = samples["sample_id"].to_numpy()
    inside: dict[str, npt.NDArray[np.bool_]] = {"": np.ones(len(ids), np.bool_)}
    for name, part in now.slices().items():
        inside[name] = np.isin(ids, now.members(part.predicate, predictions=str(predictions)))
    table = pq.read_table(predictions)
    rows = []
    for task in tasks:
        truth, predicted = _truth(now, task, ids), _predicted(table, task, samples["key"].to_pylist())
        usable = np.isfinite(truth) & np.isfinite(predicted)
        for name, members in inside.items():
            if name and now.slices()[name].task not in ("", task.name):
                continue
            for split in SPLITS:
                here = usable & members & (splits == split)
                figure = _figure(task, truth[here], predicted[here], weights[here], groups[here])
                rows.append({"run": run, "task": task.name, "slice": name, "split": split, "metric": task.metric,
                             **vars(figure)})  # fmt: skip
    return pa.Table.from_pylist(rows, ERRORS)


def _figure(task: Task, truth: Floats, predicted: Floats, weights: Floats, groups: npt.NDArray[np.int64]) -> Figure:
    if task.metric == "mae":
        return mean_of(np.abs(truth - predicted), weights, groups)
    right = (truth == predicted).astype(np.float64)
    if task.metric == "balanced_accuracy":
        return balanced(right, truth.astype(np.int64), weights, groups)
    return proportion(right, weights, groups)


def _weights(now: Snapshot, ids: npt.NDArray[np.int64]) -> Floats:
    """1 / propensity of each sample: how many samples of the natural mixture it stands for."""
    weights = np.ones(len(ids))
    if "propensity" in now.attributes():
        stored = now.attribute("propensity")
        order = np.argsort(ids)
        weights[order[np.searchsorted(ids[order], stored["sample_id"].to_numpy())]] = 1 / stored["value"].to_numpy()
    return weights


def _truth(now: Snapshot, task: Task, ids: npt.NDArray[np.int64]) -> Floats:
    """Known labels [n] in the order of `ids`, NaN where there is none."""
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], 1))
    values = known["number" if task.kind == "regression" else "code"].to_numpy()
    truth = np.full(len(ids), np.nan)
    order = np.argsort(ids)
    truth[order[np.searchsorted(ids[order], known["sample_id"].to_numpy())]] = values
    return truth


def _predicted(table: pa.Table, task: Task, keys: list[str]) -> Floats:
    mine = table.filter(pc.equal(table["task"], task.name))
    values = mine["number" if task.kind == "regression" else "code"].to_pylist()
    of = dict(zip(mine["key"].to_pylist(), values, strict=True))
    return np.asarray([of.get(key, np.nan) for key in keys], np.float64)


@torch.inference_mode()
def _answers(run: Run, plan: Plan, home: Path, progress: Progress | None) -> tuple[list[str], list[Floats]]:
    """Keys of the pack's images, and for each task its class probabilities [n, C] or its numbers [n]."""
    torch.set_num_threads(run.recipe.threads)
    network = load_network(run, plan.tasks, home)
    pack = Pack.open(home, plan.pack_hash)
    keys = pack.keys.to_pylist()
    parts: list[list[Tensor]] = [[] for _ in plan.tasks]
    done = 0
    for inputs in _everything(run, pack, home):
        outputs = network(inputs)
        for code, part in enumerate(parts):
            part.append(network.answers(outputs, code).double())
        done += len(inputs)
        if progress:
            progress(done, len(keys))
    return keys, [torch.cat(part).numpy() for part in parts]


def _everything(run: Run, pack: Pack, home: Path) -> Iterator[Tensor]:
    """What the network reads of every image of the pack, in its order."""
    if run.recipe.embeddings:
        embeddings = Embeddings.open(home, run.recipe.embeddings)
        rows = embeddings.rows(pack.keys.to_pylist())
        for start in range(0, len(rows), BATCH):
            yield torch.from_numpy(np.array(embeddings.vectors[rows[start : start + BATCH]]))
        return
    for batch in sweep(
        pack, np.arange(len(pack.keys), dtype=np.int32), BATCH, size=run.recipe.size, threads=run.recipe.threads
    ):
        yield as_pixels(torch.from_numpy(batch.images[batch.rows >= 0]))


def _prediction_rows(task: PlanTask, keys: list[str], answers: Floats, prior: Floats | None) -> pa.Table:
    """Rows of the predictions file for one task: key, task, code, number, confidence, probabilities."""
    if prior is None:
        columns: Mapping[str, pa.Array] = {
            "code": pa.nulls(len(keys), pa.int32()),
            "number": pa.array(answers, pa.float64()),
            "confidence": pa.nulls(len(keys), pa.float64()),
            "probabilities": pa.nulls(len(keys), pa.list_(pa.float64())),
        }
    else:
        natural = natural_probabilities(task, answers, prior)
        deciding = natural / prior if task.task.metric == "balanced_accuracy" else natural
        code = deciding.argmax(axis=1)
        columns = {
            "code": pa.array(code, pa.int32()),
            "number": pa.nulls(len(keys), pa.float64()),
            "confidence": pa.array(natural[np.arange(len(keys)), code], pa.float64()),
            "probabilities": pa.FixedSizeListArray.from_arrays(natural.ravel(), natural.shape[1]).cast(
                pa.list_(pa.float64())
            ),
        }
    return pa.table({"key": pa.array(keys, pa.string()), "task": pa.array([task.name] * len(keys)), **columns})


def natural_probabilities(task: PlanTask, answers: Floats, prior: Floats) -> Floats:
    """Class probabilities [n, C] in nature, from those under the task's own draws.

    Where the rate of a label factors as b(slice) c(class), the network learns p(y|x) x c(y) of the labels it saw; with
    n_y labels of class y, dividing by c(y) n_y and multiplying by the natural prior gives the natural probabilities.
    Where it does not factor (a cap binds), they are left as they are.
    """
    if task.class_factor is None:
        return answers
    seen = np.asarray(task.class_factor) * np.asarray(task.labelled, np.float64)
    natural = answers * np.where(seen > 0, prior / np.where(seen > 0, seen, 1.0), 0.0)
    return np.asarray(natural / np.maximum(natural.sum(axis=1, keepdims=True), 1e-300), np.float64)
