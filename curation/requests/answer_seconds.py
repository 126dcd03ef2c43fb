"""How long an answer to a task takes people, by what the labelling server measured."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Floats
from curation.catalog.snapshot import Snapshot

__all__ = ["FEWEST_ANSWERS", "median_seconds", "relative_costs", "seconds_of_answers"]

FEWEST_ANSWERS: Final = 10
"""A task is measured from this many timed answers on."""


def median_seconds(now: Snapshot) -> dict[str, float]:
    """The median seconds of an answer, by task, of tasks with at least `FEWEST_ANSWERS` timed answers.

    The seconds of a page with several tasks are divided evenly among them. Skipped pages and answers without a time do
    not count.
    """
    answers = now.requests.answers()
    answers = answers.filter(pc.and_(pc.greater(answers["seconds"], 0), pc.not_equal(answers["outcome"], "skipped")))
    each = seconds_of_answers(answers)
    ids = answers["task_id"].to_numpy()
    named = {name: each[ids == id_] for name, id_ in now.task_ids().items()}
    return {name: float(np.median(own)) for name, own in named.items() if len(own) >= FEWEST_ANSWERS}


def seconds_of_answers(answers: pa.Table) -> Floats:
    """The seconds of each answer [n]: those of its page, divided evenly among the page's tasks in `answers`."""
    page = answers.select(["server", "project", "annotation"]).to_pydict()
    names = np.array([" ".join(map(str, row)) for row in zip(*page.values(), strict=True)], np.str_)
    _, place, tasks = np.unique(names, return_inverse=True, return_counts=True)
    return np.asarray(answers["seconds"].to_numpy() / tasks[place], np.float64)


def relative_costs(seconds: Mapping[str, float], tasks: Iterable[str]) -> dict[str, float]:
    """The cost of one label of each task, over that of the median measured task; 1 where nothing was measured.

    >>> relative_costs({"car": 2.0, "boxes": 30.0, "light": 4.0}, ["car", "boxes", "speed"])
    {'car': 0.5, 'boxes': 7.5, 'speed': 1.0}
    """
    middle = median(seconds.values()) if seconds else 1.0
    return {task: seconds.get(task, middle) / middle for task in tasks}
