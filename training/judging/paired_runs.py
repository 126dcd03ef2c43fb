"""Two runs beside each other: their predictions for the same labels of one evaluation split, and the slices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np
import pyarrow as pa

from curation.arrays import Bools
from curation.catalog.predicate_tree import PREDICTED
from curation.catalog.slices import Slice, columns_of
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.requests.evaluation_labels import SPLIT
from training.evaluation.figures import Labelled, labelled
from training.evaluation.labelled_boxes import LabelledBoxes
from training.evaluation.labelled_classes import LabelledClasses
from training.evaluation.predictions import LabelledPredictions, PredictionsFile, Samples
from training.judging.judging_labels import RunPair

__all__ = ["AnyPair", "PairedBoxes", "PairedClasses", "PairedPredictions", "PairedRuns", "Unequal"]


Part = TypeVar("Part", LabelledPredictions, LabelledBoxes, LabelledClasses)


@dataclass(frozen=True, kw_only=True)
class _Pair(Generic[Part]):
    """What two runs predict for the same n images or labels of one task: `first.rows` and `second.rows` are equal."""

    task: Task
    first: Part
    second: Part

    def at(self, samples: Bools) -> Self:
        """Only what is predicted for the samples that are marked in `samples`."""
        return type(self)(task=self.task, first=self.first.at(samples), second=self.second.at(samples))


class PairedPredictions(_Pair[LabelledPredictions]):
    """The predictions of two runs for the same labels of one class or number."""


class PairedBoxes(_Pair[LabelledBoxes]):
    """The predicted boxes of two runs for the same images whose boxes are known."""


class PairedClasses(_Pair[LabelledClasses]):
    """The predictions of two runs of a multilabel task for the same images with a known label."""


AnyPair = PairedPredictions | PairedBoxes | PairedClasses


@dataclass(frozen=True, kw_only=True)
class Unequal:
    """How many known labels of a task only one of the runs predicts: the two were not judged on the same images."""

    only_first: int
    only_second: int


@dataclass(frozen=True, kw_only=True)
class PairedRuns:
    """Two runs on one evaluation split, by the labels that are known now and that both predict.

    `tasks` are those that both predict; `unequal` names those of which one run predicts more labels than the other.
    `slices` are those that both runs allow to evaluate, and `inside` (slice -> members on the split, "" for
    everything) masks over `samples`. A slice that reads predictions holds the images that are in it by the predictions
    of either run, so it does not change when the two are exchanged. `left_out` says of each other slice why it is not
    evaluated. `alike` are the tasks of which both predict the same, to the bit, for every image of the catalog.
    """

    runs: tuple[str, str]
    split: str
    samples: Samples
    tasks: Mapping[str, AnyPair]
    unequal: Mapping[str, Unequal]
    slices: Mapping[str, Slice]
    inside: Mapping[str, Bools]
    left_out: Mapping[str, str]
    alike: frozenset[str] = frozenset()

    @classmethod
    def load(
        cls, now: Snapshot, home: Path, first: str, second: str, *, split: str = "test", tasks: Sequence[str] = ()
    ) -> Self:
        """The runs whose ids begin so, for `tasks` (default: all that both predict).

        BadInput where they are one run, or do not both predict a task.
        """
        ids = now.runs.full_id(first), now.runs.full_id(second)
        if ids[0] == ids[1]:
            raise BadInput(f"run {ids[0]!r}: cannot be compared with itself; name two runs of `amber runs`")
        return cls._of(now, home, ids, split, tasks)

    @classmethod
    def alone(cls, now: Snapshot, home: Path, run: str, *, split: str = "test", tasks: Sequence[str] = ()) -> Self:
        """One run in both places, for figures that are judged by themselves; raises what `load` raises."""
        id_ = now.runs.full_id(run)
        return cls._of(now, home, (id_, id_), split, tasks)

    @classmethod
    def _of(cls, now: Snapshot, home: Path, ids: tuple[str, str], split: str, tasks: Sequence[str]) -> Self:
        files = tuple(now.runs.predictions_file(home, id_) for id_ in ids)
        samples = Samples.at(now)
        judged = np.asarray(samples.splits == split, np.bool_)
        read = [PredictionsFile(file) for file in files]
        predicted = [set(file.tasks) for file in read]
        common = _common(now, ids, predicted, tasks)
        paired, unequal, alike = {}, {}, set()
        for task, *tables in _by_task(common, read):
            both = [labelled(now, task, samples, table) for table in tables]
            if split == SPLIT and ids[0] != ids[1]:
                drawn = RunPair(run=ids[1], base=ids[0], predictions=(tables[1], tables[0]))
                both = [
                    drawn.weighed(now, part, task) if isinstance(part, LabelledPredictions) else part for part in both
                ]
            paired[task.name], difference = _paired(task, *(part.at(judged) for part in both))
            if difference.only_first or difference.only_second:
                unequal[task.name] = difference
            if _alike(*tables):
                alike.add(task.name)
        left_out = _left_out(now.slices(), ids, predicted)
        slices = {name: part for name, part in now.slices().items() if name not in left_out}
        inside = {name: part & judged for name, part in _members(now, slices, files, samples).items()}
        return cls(
            runs=ids, split=split, samples=samples, tasks=paired, unequal=unequal, slices=slices, left_out=left_out,
            inside={"": judged, **inside}, alike=frozenset(alike),
        )  # fmt: skip

    @property
    def base(self) -> str:
        """The id of the first run; "" where one run is in both places."""
        return self.runs[0] if self.runs[0] != self.runs[1] else ""

    def cell(self, task: str, slice_: str) -> AnyPair:
        """The predictions of both runs for the labels of one (task, slice)."""
        return self.tasks[task].at(self.inside[slice_])

    def cells(self) -> list[tuple[str, str]]:
        """Every (task, slice) in which the task is reported, everything first."""
        return [
            (task, name) for task in self.tasks for name in self.inside
            if not name or self.slices[name].task in ("", task)
        ]  # fmt: skip


def _common(now: Snapshot, runs: tuple[str, str], predicted: Sequence[set[str]], names: Sequence[str]) -> list[Task]:
    """The tasks that both runs predict, or those of `names`; BadInput where one of the runs does not predict them."""
    for name in names:
        now.task(name)
        for run, found in zip(runs, predicted, strict=True):
            if name not in found:
                raise BadInput(
                    f"run {run}: does not predict {name} (it predicts {', '.join(sorted(found))}); name a run that does"
                )
    common = [task for task in now.tasks().values() if task.name in predicted[0] & predicted[1] and _judged(task)]
    if not common:
        told = [", ".join(sorted(found)) or "nothing" for found in predicted]
        raise BadInput(
            f"runs {runs[0]} and {runs[1]}: have no task in common ({told[0]}; {told[1]}); name runs of the same tasks"
        )
    return [task for task in common if not names or task.name in names]


def _by_task(tasks: Sequence[Task], files: Sequence[PredictionsFile]) -> Iterator[tuple[Task, pa.Table, pa.Table]]:
    """Each task with the rows of both files, of which those of one task are in memory, and of the next."""
    names = [task.name for task in tasks]
    for task, first, second in zip(tasks, *(file.each(names) for file in files), strict=True):
        yield task, first[1], second[1]


def _alike(first: pa.Table, second: pa.Table) -> bool:
    """Whether two tables of predictions of a task say the same, of the same images in the same order."""
    names = sorted(set(first.column_names) & set(second.column_names))
    return bool(len(first) and first.select(names).equals(second.select(names)))


def _judged(task: Task) -> bool:
    """Whether predictions of this kind can be judged."""
    return bool(task.outputs) or task.kind == "detection"


def _paired(task: Task, first: Labelled, second: Labelled) -> tuple[AnyPair, Unequal]:
    """Both runs on the labels that both predict, and how many only one does."""
    common = np.intersect1d(first.rows, second.rows)
    alone = Unequal(only_first=len(first.rows) - len(common), only_second=len(second.rows) - len(common))
    if isinstance(first, LabelledBoxes) and isinstance(second, LabelledBoxes):
        mask = np.zeros(len(first.samples.ids), np.bool_)
        mask[common] = True
        return PairedBoxes(task=task, first=first.at(mask), second=second.at(mask)), alone
    if isinstance(first, LabelledClasses) and isinstance(second, LabelledClasses):
        lists = [part.taken(np.isin(part.rows, common)) for part in (first, second)]
        return PairedClasses(task=task, first=lists[0], second=lists[1]), alone
    assert isinstance(first, LabelledPredictions)
    assert isinstance(second, LabelledPredictions)
    both = [part.taken(np.isin(part.rows, common)) for part in (first, second)]
    return PairedPredictions(task=task, first=both[0], second=both[1]), alone


def _left_out(slices: Mapping[str, Slice], runs: tuple[str, str], predicted: list[set[str]]) -> dict[str, str]:
    """For each slice that reads what one of the runs does not predict, which run and what."""
    found = {}
    for name, part in slices.items():
        read = {column for family, column in columns_of(part.predicate) if family in PREDICTED}
        for run, names in zip(runs, predicted, strict=True):
            if missing := sorted(read - names):
                found[name] = f"reads pred.{missing[0]}, which run {run} does not predict"
    return found


def _members(now: Snapshot, slices: Mapping[str, Slice], files: tuple[Path, ...], samples: Samples) -> dict[str, Bools]:
    """The samples that are in each slice by either run's predictions."""
    inside: dict[str, Bools] = {name: np.zeros(len(samples.ids), np.bool_) for name in slices}
    for at, file in enumerate(files):
        read = {name: part.predicate for name, part in slices.items() if part.reads_predictions or not at}
        for name, ids in now.members_of(read, predictions=str(file)).items():
            inside[name] |= samples.marked(ids)
    return inside
