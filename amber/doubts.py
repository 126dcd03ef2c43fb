"""Labels that are likely wrong: predictions that did not see them, from a run or held out, beside what is labelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amber.extras import need_extra
from curation.arrays import Bools, Floats, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.read_back import read_parquet
from curation.requests.evaluation_labels import request_rows
from curation.rows import Rows
from samplers.plan.plan import Plan
from training.evaluation.labelled_boxes import boxes_beside
from training.evaluation.predictions import LabelledPredictions, Samples, labelled_predictions
from training.imported import Imported, is_imported
from training.judging.box_doubts import BoxDoubt, doubted_boxes
from training.judging.doubts import Doubt, doubted_classes, doubted_numbers
from training.run import Run

__all__ = ["ARM", "DoubtedLabel", "Doubting", "doubted", "rows_to_ask"]

ARM: Final = "doubt"
"""The arm of requests that ask for a label again."""

SAME: Final = 1e-6
"""Numbers that differ by less are one label."""


@dataclass(frozen=True, kw_only=True)
class DoubtedLabel:
    """Labels of one group that say the same, or one box, and what is predicted instead.

    `keys` are the images, the most doubtful first; `what` is "label", or "missing", "spurious" or "badly placed" of a
    box; `given` and `suggested` are classes or numbers, for a box its class and corners (x, y, w, h in pixels). `sure`:
    few labels that are right are doubted so (`training.judging.doubts`); never said of a box.
    """

    task: str
    what: str
    keys: tuple[str, ...]
    given: str
    suggested: str
    doubt: float
    sure: bool


@dataclass(frozen=True, kw_only=True)
class Doubting:
    """Whose labels are doubted, and by what: a run by its id, the split, the tasks (none: all), what is held out
    together ("group" or "image"), and the features that held-out heads read ("": those of the run)."""

    run: str
    split: str = "train"
    tasks: Sequence[str] = ()
    by: Literal["group", "image"] = "group"
    embeddings: str = ""


def doubted(catalog: Catalog, now: Snapshot, doubting: Doubting) -> tuple[Rows[DoubtedLabel], list[str]]:
    """The doubted labels, the surest of each task first, and notes.

    Labels that the run was trained on are judged by heads that did not see them, all others by the run's own
    predictions. BadInput where the run predicts none of the tasks, or has no features to hold labels out.
    """
    samples = Samples.at(now)
    table = read_parquet(now.runs.predictions_file(catalog.home, doubting.run), "evaluate the run again")
    predicted = set(table["task"].unique().to_pylist())
    names = list(doubting.tasks) or [name for name in now.tasks() if name in predicted]
    if unknown := [name for name in names if now.task(name).name not in predicted]:
        raise BadInput(f"task {unknown[0]}: run {doubting.run} does not predict it; name one that it predicts")
    inside = np.asarray(samples.splits == doubting.split, np.bool_)
    seen, notes = _seen(catalog, now, doubting, samples)
    found = Rows[DoubtedLabel]([], DoubtedLabel)
    for name in names:
        task = now.task(name)
        if task.kind == "detection":
            if name in seen:
                notes.append(
                    f"task {name}: the run was trained on some of these boxes, and may repeat what is wrong there"
                )
            found += _of_boxes(now, task, samples, table, inside)
        elif task.kind != "multilabel":
            predictions = labelled_predictions(now, task, samples, table).at(inside)
            found += _of_labels(task, _unseen(predictions, seen.get(name)), doubting.by)
        else:
            notes.append(f"task {name}: labels of several classes are not doubted")
    return found, notes


def rows_to_ask(
    now: Snapshot, found: Sequence[DoubtedLabel], count: int, doubting: Doubting
) -> list[dict[str, object]]:
    """Rows of `REQUESTS` for the first label of each of the `count` surest doubts that nobody was asked about.

    The tasks take turns. BadInput where fewer than `count` are left.
    """
    requests = now.requests()
    held = requests.filter(pc.not_equal(requests["state"], "withdrawn")).to_pylist()
    asked = {(row["task"], row["key"]) for row in held if row["arm"] == ARM or row["state"] == "open"}
    left: dict[str, list[DoubtedLabel]] = {}
    for part in found:
        if not any((part.task, key) in asked for key in part.keys):
            asked.add((part.task, part.keys[0]))
            left.setdefault(part.task, []).append(part)
    places = [(place, part) for parts in left.values() for place, part in enumerate(parts)]
    turns = [part for _, part in sorted(places, key=lambda turn: turn[0])]
    if not 1 <= count <= len(turns):
        raise BadInput(
            f"--ask {count}: {len(turns):,} doubts of {doubting.split} can be asked about; "
            + (f"ask for 1 to {len(turns):,}" if turns else "there is nothing to ask")
        )
    samples, tasks = now.samples(), now.task_ids()
    ids = dict(zip(samples["key"].to_pylist(), samples["sample_id"].to_pylist(), strict=True))
    rows = list[dict[str, object]]()
    for part in turns[:count]:
        rows += request_rows(
            np.array([ids[part.keys[0]]]), np.ones(1), task_id=tasks[part.task], arm=ARM, run=doubting.run,
            reason=f"{part.what} {part.given}: {part.suggested} is predicted",
        )  # fmt: skip
    return [{**row, "priority": priority} for priority, row in enumerate(rows)]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Labels of a task that a run was trained on: positions in `Samples` [n], what was given [n], and what heads
    predict that did not see them; without `given`, the run's predictions for these images tell nothing."""

    rows: Ints
    given: Floats
    probabilities: Floats
    numbers: Floats

    @classmethod
    def untold(cls, rows: Ints) -> Self:
        """Images that the run was trained on, for which nothing that did not see them predicts."""
        return cls(rows=rows, given=np.full(len(rows), np.nan), probabilities=np.empty((0, 0)), numbers=np.empty(0))


def _seen(
    catalog: Catalog, now: Snapshot, doubting: Doubting, samples: Samples
) -> tuple[Mapping[str, "_Seen"], list[str]]:
    """The labels that the run was trained on, by task, with held-out predictions; and notes."""
    home, run = catalog.home, doubting.run
    if is_imported(home, run):
        keys = Imported.open(home, run).trained(home)
        if keys is None:
            return {}, ["it is unknown what the model was trained on; where it saw a wrong label it may repeat it"]
        return dict.fromkeys(now.tasks(), _Seen.untold(_positions(samples, keys))), []
    if doubting.split != "train":
        return {}, []
    need_extra("train")
    from training.loop.held_out import held_out

    keys = Plan.open(home, Run.open(home, run).plan).keys
    found = held_out(catalog, run, by=doubting.by, embeddings=doubting.embeddings)
    places = _positions(samples, keys)
    told = {
        name: _Seen(rows=places[part.rows], given=part.given, probabilities=part.probabilities, numbers=part.numbers)
        for name, part in found.items()
    }
    return {**dict.fromkeys(now.tasks(), _Seen.untold(places)), **told}, []


def _positions(samples: Samples, keys: pa.Array) -> Ints:
    """The position of each key in `samples`; -1 for one that is gone."""
    return np.asarray(pc.fill_null(pc.index_in(keys, value_set=samples.keys), -1).to_numpy(), np.int64)


def _unseen(predictions: LabelledPredictions, seen: _Seen | None) -> LabelledPredictions:
    """The same labels, each with a prediction that did not see it; those without one are left out."""
    if seen is None:
        return predictions
    place: Ints = np.full(len(predictions.samples.ids), -1, np.int64)
    there = seen.rows >= 0
    place[seen.rows[there]] = np.flatnonzero(there)
    held = np.flatnonzero(place[predictions.rows] >= 0)
    at = place[predictions.rows[held]]
    changed = np.abs(seen.given[at] - predictions.truth[held]) > SAME * (1 + np.abs(seen.given[at]))
    held, at = held[~changed], at[~changed]
    if not len(seen.numbers):
        return predictions.taken(np.setdiff1d(np.arange(len(predictions.rows)), held))
    chances, numbers = predictions.probabilities.copy(), predictions.predicted.copy()
    if chances.shape[1]:
        chances[held] = seen.probabilities[at]
    else:
        numbers[held] = seen.numbers[at]
    return replace(predictions, probabilities=chances, predicted=numbers)


def _of_labels(task: Task, predictions: LabelledPredictions, by: str) -> list[DoubtedLabel]:
    groups = predictions.groups if by == "group" else np.arange(len(predictions.rows))
    if task.kind == "regression":
        found = doubted_numbers(predictions.truth, predictions.predicted, groups)
        return [_label(task, predictions, part, f"{part.given:.4g}", f"{part.suggested:.4g}") for part in found]
    usable = np.flatnonzero(np.isfinite(predictions.probabilities).all(axis=1))
    predictions, groups = predictions.taken(usable), groups[usable]
    found = doubted_classes(predictions.truth.astype(np.int64), predictions.probabilities, groups)
    names = [str(name) for name in task.classes]
    return [_label(task, predictions, part, names[int(part.given)], names[int(part.suggested)]) for part in found]


def _label(task: Task, predictions: LabelledPredictions, part: Doubt, given: str, suggested: str) -> DoubtedLabel:
    rows, samples = predictions.rows[part.rows], predictions.samples
    return DoubtedLabel(
        task=task.name, what="label", given=given, suggested=suggested,
        keys=tuple(str(samples.keys[int(row)]) for row in rows), doubt=part.doubt, sure=part.sure,
    )  # fmt: skip


def _of_boxes(now: Snapshot, task: Task, samples: Samples, table: pa.Table, inside: Bools) -> list[DoubtedLabel]:
    _, known, predicted = boxes_beside(now, task, samples, table)
    known, predicted = known.taken(inside[known.images]), predicted.taken(inside[predicted.images])
    return [
        DoubtedLabel(
            task=task.name, what=part.what, doubt=part.doubt,
            keys=(str(samples.keys[part.image]),),
            given="nothing" if part.what == "missing" else _box(task, part, part.corners),
            suggested="nothing" if part.what == "spurious" else _box(task, part, part.suggested or part.corners),
            sure=False,
        )
        for part in sorted(doubted_boxes(known, predicted), key=lambda part: -part.doubt)
    ]  # fmt: skip


def _box(task: Task, part: BoxDoubt, corners: tuple[float, ...]) -> str:
    return f"{task.classes[part.code]} at {', '.join(f'{number:.0f}' for number in corners)}"
