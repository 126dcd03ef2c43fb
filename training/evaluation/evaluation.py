"""Evaluation: a run's predictions for every sample, and its figures on every (task, slice) of the evaluation splits."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from curation.arrays import Floats
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.files.locks import in_use
from curation.files.progress import Progress
from curation.images.embeddings import Embeddings
from curation.ingestion.leaks import refuse_leaks
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan, PlanTask
from samplers.streaming.frame_pairs import FramePairs, pairs_of
from samplers.streaming.stream import sweep
from training.evaluation.class_rates import class_shift, drawn_presence, shifted
from training.evaluation.figures import slice_errors
from training.evaluation.image_size import BATCH, images_at_once
from training.evaluation.known_boxes import Given, known_boxes
from training.evaluation.labelled_classes import any_class_table
from training.evaluation.learned_tasks import learned_priors, learned_tasks
from training.evaluation.pair_inputs import pixels_of, vectors_of
from training.evaluation.predicted_boxes import BOX, found_boxes, likeliest
from training.evaluation.predictions import filled, number_table, schema_of, write_predictions
from training.network.model import load_any
from training.run import Run

__all__ = ["current_task", "evaluate", "natural_probabilities", "predict"]


def evaluate(
    run: Run, catalog: Catalog, *, author: str, batch: str | None = None, progress: Progress | None = None
) -> pa.Table:
    """Predict every image of the run's pack; record the run, its predictions and its figures in one commit.

    Returns the figures: run, task, slice ("" is everything), split, metric, n, groups, value, low, high. Class
    probabilities are natural ones: the plan's class factor is divided out and the natural prior put in. The predicted
    class follows from them by the `decide` of the task's current definition. Samples that carry a `propensity` are
    weighted by its inverse. `progress` is called with the images done and all images. BadInput where the plan drew from
    a group that is now in an evaluation split.
    """
    path = catalog.home / "runs" / run.id / "predictions.parquet"
    tasks, tables = _predictions(run, catalog, progress)
    write_predictions(path, tables, schema_of(tasks))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with catalog.commit(
        author=author, message=f"evaluate run {run.id}", batch=batch or f"evaluate:{run.id}:{digest}"
    ) as change:
        errors = slice_errors(change.now, run.id, tasks, path)
        change.add_run(run.id, plan=run.plan, predictions=str(path.relative_to(catalog.home)), sha256=digest)
        change.add_slice_errors(errors)
    return errors


def predict(
    run: Run, catalog: Catalog, *, progress: Progress | None = None, priors: Mapping[str, Floats] | None = None
) -> tuple[list[Task], pa.Table]:
    """The tasks of a run as they are defined now, and its predictions as `evaluate` records them; records nothing.

    The table has the columns key, task, code, number, confidence and probabilities, a row for each task and image of
    the run's pack. `progress` and BadInput are those of `evaluate`. `priors` are those of `learned_priors`, where they
    have been read for another run of the plan.
    """
    tasks, tables = _predictions(run, catalog, progress, priors)
    schema = schema_of(tasks)
    return tasks, pa.concat_tables(filled(table, schema) for table in tables)


def _predictions(
    run: Run, catalog: Catalog, progress: Progress | None, given_priors: Mapping[str, Floats] | None = None
) -> tuple[list[Task], Iterator[pa.Table]]:
    """The tasks of a run as they are defined now, and the rows of each for the predictions file."""
    plan = Plan.open(catalog.home, run.plan)
    with catalog.read() as now:
        refuse_leaks(now, plan.keys)
        tasks = [current_task(now, task.task) for task in plan.tasks]
        known = known_boxes(now, plan)
    learned = learned_tasks(catalog.home, run)
    priors = learned_priors(catalog, learned) if given_priors is None else given_priors
    pack = Pack.open(catalog.home, plan.pack_hash)
    with in_use(catalog.home):
        outputs, given = _predict(run, plan, pack, catalog.home, known, progress)
    named = pack.keys
    sizes = pack.sizes(named.to_pylist())
    shifts = {
        part.task.name: class_shift(drawn_presence(part.plan, part.code), priors[part.task.name])
        for part in learned if part.task.task.kind == "multilabel"
    }  # fmt: skip

    def rows(trained: PlanTask, task: Task, found: Floats) -> pa.Table:
        if task.kind == "detection":
            return found_boxes(task.name, named, found, sizes, run.id, trained.attributes, given.get(task.name))
        found = shifted(found, shifts[task.name]) if task.name in shifts else found
        return _rows(trained, task, named, found, priors)

    return tasks, (rows(*each) for each in zip([part.task for part in learned], tasks, outputs, strict=True))


def current_task(now: Snapshot, trained: Task) -> Task:
    """The task as it is defined now: its owner may have changed how it decides. As trained if its classes differ."""
    current = now.tasks().get(trained.name, trained)
    return current if (current.kind, current.classes) == (trained.kind, trained.classes) else trained


@torch.inference_mode()
def _predict(
    run: Run, plan: Plan, pack: Pack, home: Path, known: Mapping[str, pa.Table], progress: Progress | None
) -> tuple[list[Floats], dict[str, pa.Array]]:
    """Of the pack's images, for each task its class probabilities [n, C], its numbers [n], or its boxes [n, M, 6 + 2 K]
    (`found_boxes`); and what it says of attributes of the `known` boxes (`GIVEN`), by task."""
    torch.set_num_threads(run.recipe.threads)
    network = load_any(run, plan.tasks, home)
    given = [Given(plan, code, known[t.name], pack) for code, t in enumerate(plan.tasks) if t.name in known]
    parts: list[list[Floats]] = [[] for _ in plan.tasks]
    done = 0
    for inputs in _batches(run, pack, home, pairs_of(plan, home, pack)):
        outputs = network(inputs)
        for code, part in enumerate(parts):
            part.append(_answers(network.answers(outputs, code), plan.tasks[code]))
        for each in given:
            each.add(network, outputs, done)
        done += len(inputs)
        if progress:
            progress(done, pack.images)
    return [np.concatenate(part) for part in parts], {each.name: each.column() for each in given}


def _answers(answers: Tensor, task: PlanTask) -> Floats:
    """Answers of a batch; of attributes of boxes, only the likeliest class."""
    found = answers.double().numpy()
    if not task.attributes:
        return np.asarray(found, np.float64)
    return np.concatenate([found[..., :BOX], likeliest(found[..., BOX:], task.attributes)], axis=-1)


def _batches(run: Run, pack: Pack, home: Path, pairs: FramePairs | None) -> Iterator[Tensor]:
    """The network's inputs for every image of the pack, in the pack's order: cached features, or pixels."""
    if run.recipe.embeddings:
        embeddings, keys = Embeddings.open(home, run.recipe.embeddings), pack.keys.to_pylist()
        for start in range(0, len(keys), BATCH):
            yield vectors_of(embeddings, keys[start : start + BATCH], pairs)
        return
    rows, recipe = np.arange(len(pack.keys), dtype=np.int32), run.recipe
    at_once = images_at_once(recipe.size)
    for batch in sweep(pack, rows, at_once, size=recipe.size, threads=recipe.threads, pairs=pairs):
        yield pixels_of(batch)


def _rows(trained: PlanTask, task: Task, keys: pa.Array, predicted: Floats, priors: Mapping[str, Floats]) -> pa.Table:
    """Rows of the predictions file for a task, from the network's numbers [n] or probabilities [n, C]."""
    if not task.classes:
        return number_table(task.name, keys, predicted)
    prior = priors[task.name]
    return any_class_table(task, keys, natural_probabilities(trained, predicted, prior), prior)


def natural_probabilities(task: PlanTask, answers: Floats, prior: Floats) -> Floats:
    """Class probabilities [n, C] in nature, from those under the task's own draws.

    Where the rate of a label factors as b(slice) c(class), the network learns p(y|x) x c(y) of the labels it saw. With
    n_y labels of class y, dividing by c(y) n_y and multiplying by the natural prior [C] gives natural probabilities.
    Where the rate does not factor (a cap binds, several classes), the probabilities stay unchanged.
    """
    if task.class_factor is None:
        return answers
    seen = np.asarray(task.class_factor) * np.asarray(task.labelled, np.float64)
    natural = answers * np.where(seen > 0, prior / np.where(seen > 0, seen, 1.0), 0.0)
    return np.asarray(natural / np.maximum(natural.sum(axis=1, keepdims=True), 1e-300), np.float64)
