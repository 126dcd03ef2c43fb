"""One figure that a gate has judged, and its outcome."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["JudgedFigure", "Outcome"]

Outcome = Literal["pass", "block", "not enough data"]


@dataclass(frozen=True, kw_only=True)
class JudgedFigure:
    """One measure on one slice (or of the team), in its own `unit`, over n labels of `groups` groups.

    `base` and `run` are the values of the two runs, `drop` by how much the run is worse, `high` the upper bound of the
    true drop (one-sided 95%), `margin` the smallest drop that matters. `p` says how likely such a drop is by chance,
    adjusted for all that is judged. `groups_needed` would do, if the two runs were equal; None where it passes.

    For a floor, `base` is the floor, `drop` by how much the run misses it, and the margin is 0.
    """

    what: str
    task: str
    slice: str
    measure: str
    unit: str
    n: int
    groups: int
    base: float
    run: float
    drop: float
    high: float
    margin: float
    p: float
    outcome: Outcome
    groups_needed: int | None
