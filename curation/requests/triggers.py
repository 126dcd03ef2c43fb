"""Triggers: named conditions over what a run predicts. Each image fires a trigger once.

They are predicates in the language of slices: the built-in ones (`trigger_views`), and every declared slice that reads
predictions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from curation.arrays import Floats, Ints
from curation.catalog.arrow_query import quoted
from curation.catalog.attributes import NAME
from curation.catalog.predicate_tree import PREDICTED, quoted_name
from curation.catalog.slice_vetting import vet
from curation.catalog.slices import Slice, columns_of
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.requests.outcomes import values_of_samples
from curation.requests.trigger_views import AGAINST_LABEL, BUILT_IN, built_in

__all__ = ["Trigger", "Triggers", "check_names"]


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A condition over predictions that puts the label of `task` in question. `predicate` is canonical, `why` is the
    reason of its requests."""

    name: str
    task: str
    predicate: str
    why: str = "its condition holds"

    @property
    def arm(self) -> str:
        """The arm of its requests."""
        return f"trigger:{self.name}"

    @property
    def asks_again(self) -> bool:
        """Whether it reads the label of its task, and so may ask for this label again."""
        return ("label", self.task) in columns_of(self.predicate)

    @property
    def possible(self) -> str:
        """The predicate of the images that could fire it: all predictions that it reads are there, and for
        `against_label` the label."""
        read = [f"{family}.{quoted_name(name)}.value" for family, name in _predicted(self.predicate)]
        read += [f'"label".{quoted_name(self.task)}'] if self.name == AGAINST_LABEL else []
        return f"({' AND '.join(f'({column} IS NOT NULL)' for column in read)})"


@dataclass(frozen=True, kw_only=True)
class Triggers:
    """The triggers of a run at a snapshot. `tasks` are the tasks of classes and numbers that it predicts, `file` is the
    Parquet file of its predictions, and `other` that of the run that it is compared with ("" for none)."""

    now: Snapshot
    run: str
    tasks: Sequence[Task]
    file: str
    other: str = ""

    @classmethod
    def open(cls, now: Snapshot, home: Path, run: str, *, against: str = "") -> Self:
        """The triggers of the run whose id begins so, and of a second run; NotFound where there is none, BadInput
        where both are one run, Damaged when predictions changed."""
        ids = [now.runs.full_id(name) for name in (run, against) if name]
        if ids[1:] == ids[:1]:
            raise BadInput(f"--against {against}: is the run itself; name another, `amber runs` lists them")
        files = [str(now.runs.predictions_file(home, id_)) for id_ in ids]
        predicted = _tasks_in(now, files[0])
        tasks = [task for name, task in now.tasks().items() if name in predicted and task.outputs]
        return cls(now=now, run=ids[0], tasks=tasks, file=files[0], other=files[1] if against else "")

    def check_task(self, name: str) -> None:
        """BadInput where the run predicts no class or number of a task; NotFound where there is none."""
        if self.now.task(name).name not in self._own:
            raise BadInput(f"task {name}: run {self.run} predicts no class or number of it; name one that it predicts")

    def named(self, names: Sequence[str] = ()) -> list[Trigger]:
        """The triggers of these names; without names, all that the run allows. BadInput where a name is no trigger."""
        slices = _free_slices(self.now)
        for name in names:
            self._check(name, slices)
        usable = [name for name in BUILT_IN if name != "disagree" or self.other]
        usable += [name for name, part in slices.items() if not self._missing(part)]
        return [part for name in dict.fromkeys(names or usable) for part in self._triggers(name, slices)]

    def where(self, predicate: str, name: str) -> list[Trigger]:
        """A predicate that is not declared, as triggers of this name; BadInput where it is not sound or reads no
        prediction, or another trigger has the name."""
        if not re.fullmatch(NAME, name):
            raise BadInput(f"trigger {name!r}: is no name for a condition; take lower-case letters, digits and _")
        if name in {*BUILT_IN, *self._slices()}:
            raise BadInput(f"trigger {name!r}: another trigger has this name; give the condition a free one")
        try:
            part = Slice(name=name, predicate=vet(predicate, self.now.frame(other=True)))
        except BadInput as error:
            raise BadInput(f"trigger {name!r}: {str(error).removeprefix('slice ')}") from None
        if not part.reads_predictions:
            raise BadInput(f"trigger {name!r}: {predicate!r} reads no prediction; write a condition on pred.TASK")
        self._check(name, {name: part})
        return self._of(part)

    def fired(self, trigger: Trigger) -> tuple[Ints, Ints]:
        """Ids of the images that fire a trigger, and of those that could; both sorted, of any split."""
        able = self._members(trigger.possible)
        return np.intersect1d(self._members(trigger.predicate), able), able

    def confidence(self, task: str, ids: Ints) -> Floats:
        """The run's confidence in what it predicts for the samples `ids` [n]; NaN where it predicts nothing."""
        return values_of_samples(self.now.runs.predictions(task, self.file), "confidence", ids)

    @property
    def hidden(self) -> list[str]:
        """The slices that read predictions but are no triggers, since a built-in trigger has their name."""
        return [name for name in self._slices() if name in BUILT_IN]

    @property
    def _own(self) -> list[str]:
        return [task.name for task in self.tasks]

    def _slices(self) -> dict[str, Slice]:
        return _slices_over_predictions(self.now)

    def _triggers(self, name: str, slices: dict[str, Slice]) -> list[Trigger]:
        if name not in BUILT_IN:
            return self._of(slices[name])
        frame, tasks = self.now.frame(other=bool(self.other)), self.tasks
        if name == "disagree":
            theirs = _tasks_in(self.now, self.other)
            tasks = [task for task in tasks if task.name in theirs]
        return [
            Trigger(name=name, task=task, predicate=vet(predicate, frame), why=BUILT_IN[name])
            for task, predicate in built_in(name, self.now, tasks, self.file, self.other)
        ]

    def _of(self, part: Slice) -> list[Trigger]:
        """A slice as a trigger of its own task, or of each task of which it reads predictions."""
        read = [name for _, name in _predicted(part.predicate)]
        of = [part.task] if part.task else [name for name in self._own if name in read]
        return [Trigger(name=part.name, task=name, predicate=part.predicate) for name in of if name in self._own]

    def _missing(self, part: Slice) -> list[str]:
        """The tasks of which a slice reads predictions that the run lacks."""
        return [name for _, name in _predicted(part.predicate) if name not in self._own]

    def _check(self, name: str, slices: dict[str, Slice]) -> None:
        _check_name(name, slices, compared=bool(self.other))
        if name in BUILT_IN:
            return
        compared = _compared(slices[name])
        if missing := self._missing(slices[name]):
            raise BadInput(f"trigger {name!r}: run {self.run} does not predict {missing[0]}; name a run that does")
        if compared and (lacking := sorted({*compared} - _tasks_in(self.now, self.other))):
            raise BadInput(f"trigger {name!r}: the run of --against does not predict {lacking[0]}; name another")

    def _members(self, predicate: str) -> Ints:
        return self.now.members(predicate, predictions=self.file, other=self.other or None)


def check_names(now: Snapshot, names: Sequence[str], *, against: str = "") -> None:
    """Refuse, before there is a run, names that are no triggers, or that need a second run where `against` names
    none; NotFound where it names no run."""
    slices = _free_slices(now)
    if against:
        now.runs.full_id(against)
    for name in names:
        _check_name(name, slices, compared=bool(against))


def _check_name(name: str, slices: Mapping[str, Slice], *, compared: bool) -> None:
    """BadInput where a name is no trigger, or one that needs a second run and has none."""
    if not compared and (name == "disagree" or (name in slices and _compared(slices[name]))):
        raise BadInput(f"trigger {name!r}: needs a second run; name it by --against RUN")
    if name not in BUILT_IN and name not in slices:
        known = ", ".join([*BUILT_IN, *slices])
        raise BadInput(f"trigger {name!r}: must be one of {known}; declare a slice over pred.TASK, or correct it")


def _slices_over_predictions(now: Snapshot) -> dict[str, Slice]:
    return {name: part for name, part in now.slices().items() if part.reads_predictions}


def _free_slices(now: Snapshot) -> dict[str, Slice]:
    """The declared slices that are triggers: they read predictions, and no built-in trigger has their name."""
    return {name: part for name, part in _slices_over_predictions(now).items() if name not in BUILT_IN}


def _compared(part: Slice) -> list[str]:
    """The tasks of which a slice reads the predictions of a second run."""
    return [task for family, task in _predicted(part.predicate) if family == "pred_other"]


def _tasks_in(now: Snapshot, predictions: str) -> set[str]:
    """The tasks in a Parquet file of predictions."""
    return {str(name) for (name,) in now.view.rows(f"SELECT DISTINCT task FROM read_parquet({quoted(predictions)})")}


def _predicted(predicate: str) -> list[tuple[str, str]]:
    """The columns of predictions that a canonical predicate reads."""
    return [part for part in columns_of(predicate) if part[0] in PREDICTED]
