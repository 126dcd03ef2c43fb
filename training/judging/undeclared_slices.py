"""Which slices of a run's errors to declare: what `discovery` finds over the conditions of `literals`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.arrays import Bools
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.read_back import read_parquet
from curation.images.embeddings import Embeddings, principal_directions
from curation.requests.clusters import k_means
from curation.rows import tabled
from training.evaluation.group_order import groups_first
from training.evaluation.intervals import Figure, mean_of, proportion
from training.evaluation.predictions import LabelledPredictions, Samples, labelled_predictions
from training.judging.discovery import Candidate, Conditions, JudgedErrors, confirmed_p, found_on
from training.judging.literals import KINDS, Literal, literals_of

__all__ = ["RATE", "UndeclaredSlice", "undeclared_slices"]

RATE = 0.05
"""The false discovery rate among what is reported, over all tasks."""
CLUSTERS, WIDTH = 20, 64
EXAMPLES = 12


@dataclass(frozen=True, kw_only=True)
class UndeclaredSlice:
    """A slice on which a run's errors of `task` are larger than elsewhere.

    `predicate` is canonical, "" for a cluster of embeddings, which no predicate names; `name` is free to declare it by.
    `error` is the share predicted wrong, or the mean absolute error, inside, and `outside` that of all other images,
    both on the half of the groups that did not choose the slice. `images` and `groups` are those of both halves; `p`
    is for this test alone, `q` the false discovery rate at which it is found among all tasks. `examples` are keys of
    images with large errors, of different groups.
    """

    task: str
    name: str
    predicate: str
    images: int
    groups: int
    error: Figure
    outside: Figure
    p: float
    q: float
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A task's predictions of labelled images, the literals over them, and the half of the groups that chooses."""

    task: Task
    predictions: LabelledPredictions
    literals: Sequence[Literal]
    half: Bools

    @cached_property
    def errors(self) -> JudgedErrors:
        wrong = self.predictions.errors
        size = wrong if self.task.kind == "regression" else np.asarray(wrong > 0, np.float64)
        return JudgedErrors(errors=size, weights=self.predictions.weights, groups=self.predictions.groups)

    @cached_property
    def conditions(self) -> Conditions:
        columns = {name: code for code, name in enumerate(dict.fromkeys(part.column for part in self.literals))}
        return Conditions(
            holds=np.stack([part.holds for part in self.literals]),
            columns=np.array([columns[part.column] for part in self.literals]),
            alone=np.array([not part.text for part in self.literals]),
        )


@tabled(UndeclaredSlice)
def undeclared_slices(
    now: Snapshot, home: Path, run: str, *, split: str = "validation", tasks: Sequence[str] = (), embeddings: str = "",
    seed: int = 0,
) -> list[UndeclaredSlice]:  # fmt: skip
    """The slices of a split on which the errors of the run whose id begins so are larger than elsewhere, surest first.

    For `tasks`, by default all of classes and numbers that the run predicts; clusters of `embeddings` ("": none) are
    searched too. `seed` draws the half of the groups that chooses. BadInput where the run does not predict a task, or
    no task has labels in enough groups.

    >>> [(found.task, found.predicate) for found in undeclared_slices(now, home, run)]
    []
    """
    id_, samples = now.runs.full_id(run), Samples.at(now)
    table = read_parquet(now.runs.predictions_file(home, id_), "evaluate the run again")
    judged = [
        part
        for task in _tasks(now, id_, set(table["task"].unique().to_pylist()), tasks)
        if (part := _judged(now, task, samples, table, split, seed)) is not None
    ]
    if not judged:
        raise BadInput(f"run {id_}: no task has known labels in two groups of {split}; label more, or name a split")
    found = list[tuple[_Judged, Candidate, float]]()
    for part in judged:
        if embeddings:
            part = replace(part, literals=[*part.literals, *_clusters(home, embeddings, part, seed)])
        found += _searched(part)
    return _reported(now, found)


def _tasks(now: Snapshot, run: str, predicted: set[str], names: Sequence[str]) -> list[Task]:
    for name in names:
        if now.task(name).kind not in KINDS or name not in predicted:
            raise BadInput(f"task {name}: run {run} predicts no class or number of it; name one that it predicts")
    every = [name for name, task in now.tasks().items() if name in predicted and task.kind in KINDS]
    return [now.task(name) for name in names or every]


def _judged(now: Snapshot, task: Task, samples: Samples, table: pa.Table, split: str, seed: int) -> _Judged | None:
    predictions = labelled_predictions(now, task, samples, table)
    predictions = predictions.at(np.asarray(samples.splits == split, np.bool_))
    groups = np.unique(predictions.groups)
    if len(groups) < 2:
        return None
    chosen = groups[np.random.default_rng((seed, now.task_ids()[task.name])).permutation(len(groups)) % 2 == 0]
    rows = predictions.rows
    keys = samples.keys.take(rows)
    return _Judged(
        task=task, predictions=predictions, half=np.isin(predictions.groups, chosen),
        literals=literals_of(now, samples.ids[rows], task.name, table, keys),
    )  # fmt: skip


def _clusters(home: Path, model: str, judged: _Judged, seed: int) -> list[Literal]:
    """The clusters of the embeddings of the judged images; a literal without text for each."""
    vectors, generator = Embeddings.open(home, model), np.random.default_rng(seed)
    keys = judged.predictions.samples.keys.take(judged.predictions.rows).to_pylist()
    if not vectors.covers(keys):
        raise BadInput(f"embeddings {model}: do not cover the images of the split; `amber train` makes them for all")
    standardised = vectors.standardised(vectors.rows(keys))
    places = standardised @ principal_directions(standardised, WIDTH, generator)
    codes = k_means(np.asarray(places, np.float32), min(CLUSTERS, len(keys)), generator)
    return [Literal(text="", column="cluster", holds=codes == code) for code in np.unique(codes).tolist()]


def _searched(judged: _Judged) -> list[tuple[_Judged, Candidate, float]]:
    """Each candidate of a task with its p on the other half."""
    if not judged.literals:
        return []
    errors, conditions, half = judged.errors, judged.conditions, judged.half
    found = found_on(errors.at(half), conditions.at(half))
    p = confirmed_p(errors.at(~half), conditions.at(~half), found)
    return [(judged, candidate, float(value)) for candidate, value in zip(found, p, strict=True)]


def _reported(now: Snapshot, found: Sequence[tuple[_Judged, Candidate, float]]) -> list[UndeclaredSlice]:
    from scipy import stats

    if not found:
        return []
    q = stats.false_discovery_control([p for _, _, p in found])
    named, rows = set(now.slices()), list[UndeclaredSlice]()
    for (judged, candidate, p), rate in sorted(
        zip(found, q.tolist(), strict=True), key=lambda row: (row[1], row[0][2])
    ):
        if rate <= RATE:
            rows.append(_slice(now, judged, candidate, p, rate, named))
            named.add(rows[-1].name)
    return rows


def _slice(
    now: Snapshot, judged: _Judged, candidate: Candidate, p: float, q: float, named: set[str]
) -> UndeclaredSlice:
    predictions, errors = judged.predictions, judged.errors
    inside = judged.conditions.inside(candidate)
    texts = [judged.literals[number].text for number in candidate]
    predicate = now.check_slice(" AND ".join(texts)) if all(texts) else ""
    worst = np.flatnonzero(inside)[np.argsort(-errors.errors[inside], kind="stable")]
    first = groups_first(worst, predictions.groups)[:EXAMPLES]
    return UndeclaredSlice(
        task=judged.task.name, name=_name(judged, candidate, named), predicate=predicate, images=int(inside.sum()),
        groups=errors.groups_of(inside), error=_figure(judged, inside & ~judged.half),
        outside=_figure(judged, ~inside & ~judged.half), p=p, q=q,
        examples=tuple(str(predictions.samples.keys[int(predictions.rows[row])]) for row in first.tolist()),
    )  # fmt: skip


def _figure(judged: _Judged, here: Bools) -> Figure:
    part = judged.errors.at(here)
    of = mean_of if judged.task.kind == "regression" else proportion
    return of(part.errors, part.weights, part.groups)


def _name(judged: _Judged, candidate: Candidate, named: set[str]) -> str:
    """A free name for a slice: the task, and the columns and values of its conditions."""
    words = [judged.literals[number].text or f"cluster {number}" for number in candidate]
    text = "".join(letter if letter.isalnum() else "_" for letter in "_".join([judged.task.name, *words]).lower())
    short = "_".join(part for part in text.split("_") if part and part not in ("attr", "label", "pred", "value"))[:60]
    tries = [short, *(f"{short}_{number}" for number in range(2, len(named) + 3))]
    return next(name for name in tries if name not in named)
