"""Other runs of the workspace, judged by the same labels: the run before, and the runs of a loop's rounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.catalog.snapshot import Snapshot
from curation.errors import Damaged, NotFound
from training.evaluation.figures import Labelled, labelled
from training.evaluation.metrics import ConfusionSums, RankingSums
from training.evaluation.predictions import LabelledPredictions, PredictionsFile
from training.imported import beside_of
from training.report.run_results import RunResults, class_name, confusion_of, registered_run, verified_predictions
from training.run_list import run_before as before_it

__all__ = ["RaisedByRate", "RunBefore", "confusions", "raised_by_rate", "run_before"]


@dataclass(frozen=True, kw_only=True)
class RunBefore:
    """The run that another one is compared with, `relation` in words, its predictions by task, and what stands
    beside its figures."""

    id: str
    relation: str
    predictions: Mapping[str, Labelled]
    beside: str = ""


@dataclass(frozen=True, kw_only=True)
class RaisedByRate:
    """A slice whose recall of a class rose only because the class is predicted more often, at the cost of precision.

    Recall is on the slice; precision and the number of predictions are on all of test. Each pair is before, now.
    `at_new_rate` is the recall of the run before if it predicted the class as often as this run does, for the images
    with the highest probabilities.
    """

    task: str
    slice: str
    name: str
    recall: tuple[float, float]
    precision: tuple[float | None, float | None]
    predicted: tuple[int, int]
    at_new_rate: float


def run_before(now: Snapshot, home: Path, run: str, results: RunResults, *, parent: str = "") -> RunBefore | None:
    """The `parent` of a run if it was evaluated, else the run that was evaluated last before it.

    None when there is none, or when its predictions are missing or have changed.
    """
    id_ = before_it(home, now, run)
    predictions = _predictions(now, home, id_, results) if id_ else None
    if predictions is None:
        return None
    relation = "its parent" if id_ == parent else "the run evaluated before it"
    return RunBefore(id=id_, relation=relation, predictions=predictions, beside=beside_of(home, id_))


def confusions(
    now: Snapshot, home: Path, runs: Iterable[str], results: RunResults
) -> dict[tuple[str, str], ConfusionSums]:
    """Confusion sums on test by (run, task), of those runs whose predictions are in this workspace and unchanged."""
    found = {}
    for id_ in dict.fromkeys(runs):
        for task, predicted in (_predictions(now, home, id_, results) or {}).items():
            if results.tasks[task].classes and isinstance(predicted, LabelledPredictions):
                sums = confusion_of(results.tasks[task], predicted.at(results.test), results.samples)
                found[id_, task] = sums
    return found


def raised_by_rate(results: RunResults, before: RunBefore | None) -> list[RaisedByRate]:
    """The (slice, class) pairs on test whose recall rose, but no higher than if the run before predicted as often.

    The slice "" is all images of the class, unless another slice holds them all. Both runs are judged on the images
    that both predict. Where no probabilities were recorded, nothing is found.
    """
    found = []
    for name, old in (before.predictions if before else {}).items():
        task, both = results.tasks[name], np.zeros(len(results.test), np.bool_)
        if not task.classes or name not in results.predictions or not isinstance(old, LabelledPredictions):
            continue
        rows = np.intersect1d(results.predictions[name].rows, old.rows)
        both[rows] = results.test[rows]
        pair = old.at(both), results.predictions[name].at(both)
        for code in np.unique(pair[1].truth).astype(int).tolist():
            own = pair[1].rows[pair[1].truth == code]
            slices = [slice_ for slice_ in results.inside if slice_ and results.only_class(name, slice_) == code]
            whole = any(results.inside[slice_][own].all() for slice_ in slices)
            found += [_compared(results, name, slice_, code, *pair) for slice_ in (*slices, *([] if whole else [""]))]
    return [part for part in found if part is not None]


def _compared(
    results: RunResults, name: str, slice_: str, code: int, old: LabelledPredictions, new: LabelledPredictions
) -> RaisedByRate | None:
    """`old` and `new` are of the same images of test."""
    weights = new.weights
    own = (new.truth == code) & results.inside[slice_][new.rows]
    if not own.any() or not np.isfinite(old.probabilities).all():
        return None
    predicted = old.predicted == code, new.predicted == code
    rates = [float(weights[part].sum()) for part in predicted]
    recalls = [float(np.average(part[own], weights=weights[own])) for part in predicted]
    scores = old.probabilities[:, code]
    threshold = RankingSums.of(old.truth == code, scores, weights).threshold_at(rates[1])
    at_new_rate = float(np.average(scores[own] >= threshold, weights=weights[own]))
    precision = [confusion_of(results.tasks[name], part, results.samples).precision(code).value for part in (old, new)]
    fell = precision[0] is None or precision[1] is None or precision[1] < precision[0]
    if not fell or rates[1] <= rates[0] or not recalls[0] < recalls[1] <= at_new_rate:
        return None
    return RaisedByRate(
        task=name, slice=slice_, name=class_name(results.tasks[name], code), recall=(recalls[0], recalls[1]),
        precision=(precision[0], precision[1]), at_new_rate=at_new_rate,
        predicted=(int(predicted[0].sum()), int(predicted[1].sum())),
    )  # fmt: skip


def _predictions(now: Snapshot, home: Path, id_: str, results: RunResults) -> dict[str, Labelled] | None:
    """The predictions of another run for the tasks of `results`, by task; None where they are missing or changed."""
    try:
        file = PredictionsFile(verified_predictions(home, registered_run(now, id_)))
    except (Damaged, NotFound):
        return None
    both = [name for name in results.judged if name in file.tasks]
    return {name: labelled(now, results.tasks[name], results.samples, table) for name, table in file.each(both)}
