"""The queue of tasks: what changed since the newest run that learned each, and what to train again.

The rule reads what changed and one measurement, the gain of a head solved again on the labels known now:

    nothing   nothing changed; or the head gains nothing that is shown, and the labels did not grow by `GREW` times
    head      the classes changed; or the gain is shown; or no run learned it, on a frozen trunk
    branch    the head gains nothing that is shown although the labels grew by `GREW` times, and it reads the trunk
    trunk     the same, where the head reads a layer of its own already, or no run learned the task at all
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from curation.rows import tabled
from training.evaluation.paired import SeedValues, estimate
from training.judging.comparison import ALPHA
from training.judging.measures import Measure
from training.judging.paired_runs import PairedPredictions
from training.judging.swaps import Swaps
from training.judging.task_changes import TaskChange

__all__ = ["ACTIONS", "FEWEST_GROUPS", "GREW", "Action", "QueueRow", "RefitGain", "queue_rows", "refit_gain"]

Action = Literal["nothing", "head", "branch", "trunk"]
ACTIONS: Final[tuple[Action, ...]] = ("trunk", "branch", "head", "nothing")
"""What is trained again, the most first."""

GREW: Final = 2.0
"""Where the labels grew at least so many times and a head on the features gains nothing, the features are the limit."""

FEWEST_GROUPS: Final = 10
"""Groups of judged labels below which no gain is measured."""


@dataclass(frozen=True, kw_only=True)
class RefitGain:
    """What a head with the labels known now gains over one with those before, paired on n labels of `groups` groups.

    `before`, `now` and the gain with its 95% interval `low` to `high` are in `unit` ("points" of a hundred, or that of
    the numbers); a gain above 0 is better for every metric. `p` is the chance of such a gain if exchanging the heads
    within groups changed nothing. `judged_on` names the labels that judge.
    """

    metric: str
    unit: str
    before: float
    now: float
    gain: float
    low: float
    high: float
    p: float
    n: int
    groups: int
    judged_on: str

    @property
    def shown(self) -> bool:
        """Whether the interval lies above 0, and so few exchanges give such a gain."""
        return self.low > 0 and self.p <= ALPHA


@dataclass(frozen=True, kw_only=True)
class QueueRow:
    """One task: what changed, the measured gain of its head (None: not measured, `unmeasured` says why), what to train
    again, and why."""

    change: TaskChange
    gain: RefitGain | None
    unmeasured: str
    action: Action
    why: str


def refit_gain(pair: PairedPredictions, judged_on: str) -> RefitGain | None:
    """The gain of the second head of a pair in the task's own metric; None below `FEWEST_GROUPS` groups of labels.

    The interval is Student's over groups (`training.evaluation.paired`): it is for these two heads, and allows for the
    images that judge them. With few labels of a class it is too narrow, so the exact test of a comparison is beside it.
    """
    first, second = (SeedValues.of(pair.task, [part], part.samples) for part in (pair.first, pair.second))
    groups = len(np.unique(pair.first.groups))
    if first is None or second is None or groups < FEWEST_GROUPS:
        return None
    measure = Measure.of(pair.task)
    sums = measure.sums(PairedPredictions(task=pair.task, first=pair.second, second=pair.first))
    if sums is None:
        return None
    found = estimate([second.minus(first)])
    assert found.low is not None
    assert found.high is not None
    scale = measure.scale * measure.sign
    low, high = sorted((scale * found.low, scale * found.high))
    before, now = (measure.scale * float(part.by_seed()[0]) for part in (first, second))
    return RefitGain(
        metric=measure.text, unit=measure.unit, before=before, now=now, gain=scale * found.value, low=low, high=high,
        p=float(Swaps.of([sums]).step_down("drop")[0]), n=len(pair.first.rows), groups=groups, judged_on=judged_on,
    )  # fmt: skip


@tabled(QueueRow)
def queue_rows(
    changes: list[TaskChange], gains: Mapping[str, RefitGain], unmeasured: Mapping[str, str]
) -> list[QueueRow]:
    """A row for each task, those with the most to train first; `unmeasured` says why a changed task has no gain."""
    rows = []
    for change in changes:
        gain, missing = gains.get(change.task), unmeasured.get(change.task, "")
        action, why = _action(change, gain, missing)
        rows.append(QueueRow(change=change, gain=gain, unmeasured=missing, action=action, why=why))
    return sorted(rows, key=lambda row: (ACTIONS.index(row.action), -(row.gain.low if row.gain else 0.0)))


def _action(change: TaskChange, gain: RefitGain | None, unmeasured: str) -> tuple[Action, str]:
    if not change.stale:
        return "nothing", "nothing changed"
    if not change.labels:
        return "nothing", "no label of it is known"
    if not change.run:
        return ("head" if change.frozen else "trunk"), "no run that can be read learned it"
    if change.classes:
        return "head", f"its classes changed: {', '.join(change.classes)}"
    if gain and gain.shown:
        return "head", "the interval of the gain lies above 0, and exchanging the heads shows it"
    what = "the head gains nothing that is shown" if gain else f"not measured: {unmeasured}"
    grown = change.labels / max(1, change.labels_before)
    if grown < GREW:
        return "nothing", what
    growth = f"labels grew {grown:.1f} times, and {what}"
    return ("trunk", growth) if change.has_branch or not change.frozen else ("branch", growth)
