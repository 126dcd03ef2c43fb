"""What each arm of label requests found: rare samples, and errors of the run that the requests were made with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.arrays import Bools, Floats
from curation.catalog.snapshot import Snapshot
from curation.requests.outcomes import Outcomes
from curation.rows import tabled
from training.evaluation.intervals import Figure, proportion

__all__ = ["ArmFigures", "arm_figures"]


@dataclass(frozen=True, kw_only=True)
class ArmFigures:
    """The requests of one arm: how many were made and `answered`; the share of the answers that are of a rare slice of
    their task (`rare`), and the share about which the run that they were made with was `wrong` (`Outcomes`).

    The shares are those of what was requested, not of all images: only the random arm stands for these.
    """

    arm: str
    requested: int
    answered: int
    rare: Figure
    wrong: Figure


@tabled(ArmFigures)
def arm_figures(now: Snapshot, home: Path) -> list[ArmFigures]:
    """The arms in the order of their first request; Damaged when predictions changed since they were recorded.

    >>> [part.arm for part in arm_figures(now, home)]
    []
    """
    outcomes = Outcomes.at(now, home)
    _, groups = np.unique(outcomes.groups, return_inverse=True)

    def share(values: Floats, mine: Bools) -> Figure:
        told = mine & np.isfinite(values)
        return proportion(values[told], np.ones(int(told.sum())), groups[told])

    found = []
    for arm in dict.fromkeys(outcomes.arms.tolist()):
        mine: Bools = np.asarray(outcomes.arms == arm, np.bool_)
        found.append(
            ArmFigures(
                arm=arm, requested=int(mine.sum()), answered=int((mine & outcomes.answered).sum()),
                rare=share(outcomes.rare, mine), wrong=share(outcomes.wrong, mine),
            )
        )  # fmt: skip
    return found
