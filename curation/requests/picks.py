"""From scores to label requests of one task: open rows, the highest score first, one of each group first."""

from collections.abc import Iterator, Sequence

from curation.arrays import Floats
from curation.catalog.tasks import Task
from curation.requests.candidates import Candidates
from curation.requests.strategies import Pick, best_first

__all__ = ["MARGIN", "best_picks"]

MARGIN = "margin to the next class is small: 1 - margin ="


def best_picks(
    candidates: Candidates, task: Task, scores: Floats, why: str, count: int, taken: Sequence[int] = ()
) -> Iterator[Pick]:
    """The open rows of the highest scores [N] above 0, without those that are `taken`."""
    open_ = candidates.open[task.name].copy()
    open_[list(taken)] = False
    for row in best_first(scores, open_, candidates.groups)[:count].tolist():
        yield Pick(row=row, arm="mined", reason=f"{why} {scores[row]:.3f}")
