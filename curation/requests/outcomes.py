"""What label requests found: whether the run that they were made with was wrong, and whether the sample is rare."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task

__all__ = ["Outcomes", "values_of_samples"]


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The R label requests that were not withdrawn: `arms`, `tasks` and group names [R], and which are `answered` [R].

    `wrong` [R] is 1 where the answer is another class than the run that the request names predicts, or a number that is
    farther from it than the labels are from their median in the mean; else 0. `rare` [R] is 1 where the sample is in a
    rare slice of the task. Both are NaN where that is unknown: no answer, no such run any more, no rare slice of the
    task, or a task of boxes or of several classes.
    """

    arms: npt.NDArray[np.object_]
    tasks: npt.NDArray[np.object_]
    groups: npt.NDArray[np.object_]
    answered: Bools
    wrong: Floats
    rare: Floats

    @classmethod
    def at(cls, now: Snapshot, home: Path) -> "Outcomes":
        """Those of a snapshot of the workspace `home`; Damaged when predictions of a run that
        an answered request names changed since they were recorded."""
        requests = now.requests()
        requests = requests.filter(pc.not_equal(requests["state"], "withdrawn"))
        samples = now.samples("sample_id", "group")
        where = pc.index_in(requests["sample_id"], value_set=samples["sample_id"].combine_chunks())
        ids = np.asarray(requests["sample_id"].to_numpy(), np.int64)
        tasks, runs = _texts(requests["task"]), _texts(requests["run"])
        answered = np.asarray(pc.equal(requests["state"], "answered").to_numpy(), np.bool_)
        wrong, rare = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        declared, files = now.tasks(), _files(now, home, set(runs[answered]))
        for name in dict.fromkeys(tasks[answered].tolist()):
            mine = answered & (tasks == name)
            labels = now.labels(name)
            known = labels.filter(pc.equal(labels["state"], KNOWN))
            labelled = mine & np.isin(ids, known["sample_id"].to_numpy())
            if (members := _rare(now, name)) is not None:
                rare[labelled] = np.isin(ids[labelled], members)
            for run in dict.fromkeys(runs[labelled].tolist()) if declared[name].single else ():
                if run in files:
                    rows = np.flatnonzero(labelled & (runs == run))
                    wrong[rows] = _wrong(now, declared[name], known, files[run], ids[rows])
        return cls(
            arms=_texts(requests["arm"]), tasks=tasks, groups=_texts(samples["group"].take(where)),
            answered=answered, wrong=wrong, rare=rare,
        )  # fmt: skip

    def hits(self, task: str, arm: str) -> tuple[int, int]:
        """Of the answered requests of an arm for a task: how many found a rare sample or an error of the run, and how
        many there are of which that is known."""
        mine = (self.tasks == task) & (self.arms == arm)
        told = mine & (np.isfinite(self.wrong) | np.isfinite(self.rare))
        return int(((self.wrong == 1) | (self.rare == 1))[told].sum()), int(told.sum())


def values_of_samples(table: pa.Table, column: str, ids: Ints) -> Floats:
    """A column of numbers of a table (sample_id, ...) for the samples `ids` [n]; NaN for one that the table lacks."""
    where = pc.index_in(pa.array(ids), value_set=table["sample_id"].combine_chunks())
    return np.asarray(pc.cast(table[column].take(where), pa.float64()).to_numpy(), np.float64)


def _files(now: Snapshot, home: Path, named: Set[str]) -> Mapping[str, str]:
    """The predictions file of each `named` run whose file is there."""
    rows = [row for row in now.runs().to_pylist() if row["run"] in named]
    listed = {str(row["run"]): home / str(row["predictions"]) for row in rows}
    return {run: str(now.runs.predictions_file(home, run)) for run, path in listed.items() if path.is_file()}


def _rare(now: Snapshot, task: str) -> Ints | None:
    """Ids of the samples in any rare slice of a task that reads no prediction; None where it has none."""
    rare = [part for part in now.slices().values() if part.rare and part.task == task and not part.reads_predictions]
    return np.unique(np.concatenate([now.members(part.predicate) for part in rare])) if rare else None


def _wrong(now: Snapshot, task: Task, known: pa.Table, file: str, ids: Ints) -> Floats:
    """Whether a run is wrong about the samples `ids` [n], whose labels are among the `known`; NaN where it says
    nothing."""
    column = "code" if task.classes else "number"
    predicted = now.runs.predictions(task.name, file)
    sides = [values_of_samples(table, column, ids) for table in (known, predicted)]
    distance = np.abs(sides[0] - sides[1])
    if task.classes:
        return np.where(np.isfinite(distance), distance > 0, np.nan)
    numbers = known["number"].to_numpy()
    return np.where(np.isfinite(distance), distance > np.abs(numbers - np.median(numbers)).mean(), np.nan)


def _texts(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    return np.asarray(column.to_pylist(), dtype=object)
