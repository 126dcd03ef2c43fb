"""Importing predictions: a file of any model's predictions becomes a run without a plan, with figures by slice."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.analysis.priors import natural_prior
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.progress import StageProgress
from curation.files.read_back import sha256_of
from curation.ingestion.leaks import refuse_leaks
from training.evaluation.figures import slice_errors
from training.evaluation.labelled_classes import any_class_table
from training.evaluation.predictions import (
    PREDICTIONS,
    PredictionsFile,
    box_table,
    number_table,
    schema_of,
    write_predictions,
)
from training.foreign.boxes import BOX_COLUMNS, BoxStatement, box_statement, coco_results
from training.foreign.prediction_files import listed_keys, read_prediction_file
from training.foreign.statements import Statement, statements
from training.imported import AGAIN, Imported

__all__ = ["ImportedFigures", "evaluate_imported", "import_predictions"]

LONGEST: Final = 100
"""Characters of the name of a model."""


@dataclass(frozen=True, kw_only=True)
class ImportedFigures:
    """An imported run, its figures (columns of `training.evaluation.figures`), and notes for whoever imported it."""

    run: Imported
    figures: pa.Table
    notes: tuple[str, ...] = ()


def import_predictions(
    catalog: Catalog, file: Path, *, name: str, author: str, task: str = "", trained_on: Path | None = None,
    annotations: Path | None = None, progress: StageProgress | None = None,
) -> ImportedFigures:  # fmt: skip
    """Make a run of the predictions of the model `name` in `file`; the same file again changes nothing.

    The forms of the file are those of `training.foreign.statements` and `training.foreign.boxes`; `task` names the only
    task of a table that names none, `annotations` the COCO file that COCO results refer to. Probabilities become
    classes by each task's own rule. `trained_on` lists the keys of the images that the model was trained on; without it
    that is unknown, and stands so beside each figure. `progress` is called with a stage.

    BadInput, before anything is written, for a file that breaks a rule, and where a declared training image shares its
    group with an evaluation sample; NotFound for a file or a task that does not exist.
    """
    tell = progress or (lambda stage, done, total: None)
    name = _model_name(name)
    tell("read", 0, 3)
    with catalog.read() as now:
        samples, only = now.samples(), now.task(task) if task else None
        keys = samples["key"].combine_chunks()
        trained = listed_keys(trained_on) if trained_on else None
        notes = _check_training_list(now, trained, keys, trained_on)
        stated = _stated(now, file, annotations, only, samples)
        tell("check", 1, 3)
        notes += tuple(note for part in stated if isinstance(part, BoxStatement) for note in part.notes)
        made = _record(file, name, stated, trained, now.commit)
        path = catalog.home / "runs" / made.id / "predictions.parquet"
        schema = schema_of(part.task for part in stated)
        write_predictions(path, (_table(now, part, keys) for part in stated), schema)
    tell("judge", 2, 3)
    made, figures = _finish(catalog, made, path, trained, [part.task for part in stated], author)
    tell("judge", 3, 3)
    return ImportedFigures(run=made, figures=figures, notes=notes)


def evaluate_imported(catalog: Catalog, made: Imported, *, author: str) -> pa.Table:
    """Judge an imported run by the labels of now, and by the rules by which its tasks decide now; returns the figures.

    BadInput where the classes of a task have changed since, and where a declared training image has come to share its
    group with an evaluation sample; Damaged when its predictions are not what was written.
    """
    with catalog.read() as now:
        made.refuse_leaks(catalog.home, now)
        path = now.runs.predictions_file(catalog.home, made.id)
        tasks = [now.task(name) for name in made.tasks]
        before = now.earlier(made.commit).tasks()
        if changed := next((task.name for task in tasks if before[task.name].classes != task.classes), ""):
            raise BadInput(f"task {changed}: its classes have changed since run {made.id} was imported; {AGAIN}")
        stored = PredictionsFile(path)
        again = (_decided_again(now, task, stored.of(task.name)) for task in tasks)
        write_predictions(path, again, schema_of(tasks))
        batch = f"evaluate:{made.id}:{now.digest}"
    written = path, sha256_of(path)
    return _register(catalog, made, written, tasks, author=author, message=f"evaluate run {made.id}", batch=batch)


def _decided_again(now: Snapshot, task: Task, stored: pa.Table) -> pa.Table:
    """Stored predictions with the class that their probabilities give by the task's rule of now."""
    lists = stored["probabilities"].combine_chunks()
    if not task.outputs or not task.classes or lists.null_count:
        return stored
    chances = lists.flatten().to_numpy().reshape(len(stored), -1)
    return any_class_table(task, stored["key"].combine_chunks(), chances, natural_prior(now, task))


def _model_name(name: str) -> str:
    if not name.strip() or len(name) > LONGEST or not name.isprintable():
        raise BadInput(f"name {name[:LONGEST]!r}: must be 1 to {LONGEST} printable characters; name the model")
    return name.strip()


def _check_training_list(now: Snapshot, trained: pa.Array | None, keys: pa.Array, file: Path | None) -> tuple[str, ...]:
    """Refuse leaks and a list that names no sample of the catalog; a note says how many it names."""
    if trained is None:
        return (
            "it is unknown what the model was trained on, so its figures may be too good; --trained-on declares it",
        )
    known = int(pc.sum(pc.is_in(trained, value_set=keys)).as_py())
    if not known:
        raise BadInput(
            f"{file}: none of its {len(trained):,} keys is a sample of the catalog, so no leak could be seen "
            f"({trained[0].as_py()!r} is the first); write keys as the catalog has them"
        )
    refuse_leaks(now, trained)
    if known == len(trained):
        return ()
    return (f"{len(trained) - known:,} of the {len(trained):,} training images are no samples of the catalog",)


def _stated(
    now: Snapshot, file: Path, annotations: Path | None, only: Task | None, samples: pa.Table
) -> list[Statement] | list[BoxStatement]:
    """What the file states: boxes where it is JSON or has their columns, else classes and numbers."""
    if file.suffix.lower() == ".json":
        if annotations is None:
            raise BadInput(
                f"{file.name}: COCO results name images and categories by number; pass the file that they refer to by "
                "--annotations"
            )
        task = _box_task(now, only)
        return [box_statement(coco_results(file, annotations, samples), task, samples)]
    if annotations is not None:
        raise BadInput(f"--annotations {annotations}: only COCO results (.json) refer to such a file; leave it out")
    source = read_prediction_file(file)
    if set(BOX_COLUMNS[2:6]) <= set(source.table.column_names):
        return [box_statement(source, _box_task(now, only), samples)]
    return statements(source, samples["key"].combine_chunks(), now.tasks(), only=only.name if only else "")


def _box_task(now: Snapshot, only: Task | None) -> Task:
    """The task of boxes: the one that is named, or the only one of the catalog."""
    found = [only] if only else [task for task in now.tasks().values() if task.kind == "detection"]
    if len(found) != 1 or found[0].kind != "detection":
        listed = ", ".join(task.name for task in now.tasks().values() if task.kind == "detection") or "none"
        raise BadInput(f"--task {only.name if only else repr('')}: must be a detection task; the catalog has {listed}")
    return found[0]


def _record(
    file: Path, name: str, stated: Sequence[Statement | BoxStatement], trained: pa.Array | None, commit: int
) -> Imported:
    sha256 = sha256_of(file)
    id_ = hashlib.sha256(json.dumps(["imported", name, sha256]).encode()).hexdigest()[:16]
    return Imported(
        id=id_, model=name, file=file.name, sha256=sha256, commit=commit,
        tasks={part.task.name: len(part.samples) for part in stated},
        training_keys=None if trained is None else len(trained),
    )  # fmt: skip


def _table(now: Snapshot, part: Statement | BoxStatement, keys: pa.Array) -> pa.Table:
    """The rows of the predictions file for one task, ordered by key."""
    if isinstance(part, BoxStatement):
        return box_table(part.task.name, keys.take(pa.array(part.samples)), part.boxes)
    order = np.argsort(part.samples, kind="stable")
    n = len(order)
    mine = keys.take(pa.array(part.samples[order]))
    if part.chances is not None:
        return any_class_table(part.task, mine, part.chances[order], natural_prior(now, part.task))
    if part.numbers is not None:
        return number_table(part.task.name, mine, part.numbers[order])
    assert part.codes is not None
    assert part.confidence is not None
    sure = part.confidence[order]
    columns = [
        mine, pa.repeat(part.task.name, n), pa.array(part.codes[order], pa.int32()), pa.nulls(n, pa.float64()),
        pa.array(sure, mask=np.isnan(sure)), pa.nulls(n, pa.list_(pa.float64())),
    ]  # fmt: skip
    return pa.table(columns, schema=PREDICTIONS)


def _finish(
    catalog: Catalog, made: Imported, path: Path, trained: pa.Array | None, tasks: list[Task], author: str
) -> tuple[Imported, pa.Table]:
    """Write the other files of the run, and register it with its figures; the same again changes nothing."""
    home, folder, digest = catalog.home, path.parent, sha256_of(path)
    if trained is not None:
        with whole(folder / "trained_on.parquet") as part:
            pq.write_table(pa.table({"key": trained}), part)
        made = replace(made, training_sha256=sha256_of(folder / "trained_on.parquet"))
    batch = f"predictions:{made.id}:{digest}:{made.training_sha256}"
    if catalog.has(batch):
        made = replace(made, commit=Imported.open(home, made.id).commit)
    made.save(home)
    message = f"import predictions of {made.model}"
    return made, _register(catalog, made, (path, digest), tasks, author=author, message=message, batch=batch)


def _register(
    catalog: Catalog, made: Imported, written: tuple[Path, str], tasks: list[Task], *, author: str, message: str,
    batch: str,
) -> pa.Table:  # fmt: skip
    """Register predictions, `written` at a path with a sha256, with their figures in one commit; a batch that landed
    changes nothing."""
    path, digest = written
    with catalog.commit(author=author, message=message, batch=batch) as change:
        if change.repeated:
            return change.now.runs.slice_errors(made.id)
        figures = slice_errors(change.now, made.id, tasks, path)
        change.add_run(made.id, plan="", predictions=str(path.relative_to(catalog.home)), sha256=digest)
        change.add_slice_errors(figures)
    return figures.drop_columns(["run"])
