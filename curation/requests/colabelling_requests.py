"""Requests that let two tasks be known on the same images: the label that is missing where the other one is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np

from curation.analysis.colabelling import colabelled
from curation.arrays import Ints
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.requests.candidates import Candidates
from curation.requests.evaluation_labels import request_rows

__all__ = ["ARM", "CoLabelling", "co_labellings", "rows_to_co_label"]

ARM: Final = "together"
"""The arm of these requests."""


@dataclass(frozen=True, kw_only=True)
class CoLabelling:
    """Two tasks: how many training samples each is `known` on, and how many have `both` labels."""

    one: str
    other: str
    known: tuple[int, int]
    both: int

    @property
    def share(self) -> float:
        """The part of the labels of the task with more that lie where both are known; 0 where neither has a label."""
        return self.both / max(1, *self.known)

    def missing(self, wanted: float) -> int:
        """Labels of the task with fewer, on images where the other is known, until the share is at least `wanted`."""
        return max(0, int(np.ceil(wanted * max(self.known) - 1e-9)) - self.both)


def co_labellings(now: Snapshot, tasks: Sequence[str] = ()) -> list[CoLabelling]:
    """Every pair of `tasks` (default: all), in their order, over the samples that may be trained on.

    NotFound for a task that the catalog has not.

    >>> [(pair.one, pair.other, pair.both) for pair in co_labellings(now, ["color", "car"])]
    [('color', 'car', 0)]
    """
    every = list(now.tasks())
    names = [now.task(name).name for name in tasks] or every
    counts = colabelled(now, now.training_ids())
    place = {name: code for code, name in enumerate(every)}
    return [
        CoLabelling(
            one=one, other=other, both=int(counts[place[one], place[other]]),
            known=(int(counts[place[one], place[one]]), int(counts[place[other], place[other]])),
        )
        for at, one in enumerate(names) for other in names[at + 1 :]
    ]  # fmt: skip


def rows_to_co_label(
    now: Snapshot, home: Path, pairs: Sequence[tuple[str, str]], count: int, *, seed: int = 0, run: str = ""
) -> list[dict[str, object]]:
    """Rows of `REQUESTS` for `count` labels that make the `pairs` known together; the pairs take turns.

    Each is of a training sample of which one task is known and the other may be requested, drawn uniformly among those
    of its pair, of the task with fewer labels first. BadInput where fewer than `count` are there.
    """
    candidates, ids = Candidates(now, home), now.task_ids()
    if closed := [name for pair in pairs for name in pair if name not in candidates.open]:
        raise BadInput(f"task {closed[0]}: no label of it can be requested; leave it out")
    generator = np.random.default_rng(seed)
    turns = [_turns(now, candidates, pair, generator) for pair in pairs]
    found, taken = list[tuple[str, str, int, int]](), set[tuple[str, int]]()
    for turn in zip_longest(*turns):
        for task, other, place, of in filter(None, turn):
            if (task, place) not in taken:
                taken.add((task, place))
                found.append((task, other, place, of))
    if not 1 <= count <= len(found):
        what = ", ".join(f"{one} and {other}" for one, other in pairs) or "no pair of tasks"
        rest = f"ask for 1 to {len(found):,}" if found else "there is nothing to ask"
        raise BadInput(f"--ask {count}: {len(found):,} labels would make {what} known together; {rest}")
    rows = list[dict[str, object]]()
    for priority, (task, other, place, of) in enumerate(found[:count]):
        (row,) = request_rows(
            candidates.ids[[place]], np.array([min(1.0, count / of)]), task_id=ids[task], arm=ARM, run=run,
            reason=f"{other} is known here, and the two are seldom known together",
        )  # fmt: skip
        rows.append({**row, "priority": priority})
    return rows


def _turns(
    now: Snapshot, candidates: Candidates, pair: tuple[str, str], generator: np.random.Generator
) -> list[tuple[str, str, int, int]]:
    """Task to request, the task that is known, row among the candidates, and how many there are, in random order."""
    known = {name: _known_rows(now, candidates, name) for name in pair}
    found = []
    for task, other in sorted((pair, pair[::-1]), key=lambda each: len(known[each[0]])):
        rows = known[other][candidates.open[task][known[other]]]
        found += [(task, other, int(row), len(rows)) for row in generator.permutation(rows)]
    return found


def _known_rows(now: Snapshot, candidates: Candidates, task: str) -> Ints:
    labels = now.labels.known()
    mine = np.asarray(labels["task_id"].to_numpy(), np.int64) == now.task_ids()[task]
    ids = np.asarray(labels["sample_id"].to_numpy(), np.int64)[mine]
    return np.flatnonzero(np.isin(candidates.ids, ids)).astype(np.int64)
