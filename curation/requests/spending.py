"""Where a budget of label requests goes, and why a task gets fewer than its share."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from curation.catalog.snapshot import Snapshot
from curation.requests.candidates import Candidates
from curation.requests.proposals import Proposal, choose_requests, weights_of

__all__ = ["Spent", "spending"]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Requests of one (task, slice), slice "" being the whole task: how many, by arm, and what limits the task."""

    task: str
    slice: str
    requests: int
    arms: dict[str, int]
    why: str


def spending(now: Snapshot, proposal: Proposal, *, home: Path) -> list[Spent]:
    """A row for each (task, slice) that gets requests, and for each task that gets none, by task.

    >>> from curation.requests.proposals import Proposal
    >>> rows = spending(now, Proposal(budget=20, seed=0, importance={"car": 1.0}), home=home)
    >>> sum(row.requests for row in rows), next(row.why for row in rows if row.task == "bike")
    (20, 'importance 0')
    """
    candidates = Candidates(now, home, run=proposal.run, named=proposal.named)
    weights = weights_of(now, proposal, candidates)
    names = {id_: name for name, id_ in now.task_ids().items()}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in choose_requests(now, proposal, home):
        cell = names[int(str(row["task_id"]))], str(row["slice"])
        counts.setdefault(cell, Counter())[str(row["arm"])] += 1
    requested = Counter(dict.fromkeys(candidates.tasks, 0))
    for (name, _), arms in counts.items():
        requested[name] += arms.total()
    why = {name: _limits(candidates, name, weights[name], requested[name]) for name in candidates.tasks}
    rows = [
        Spent(task=name, slice=slice_, requests=arms.total(), arms=dict(sorted(arms.items())), why=why[name])
        for (name, slice_), arms in counts.items()
    ]
    rows += [Spent(task=name, slice="", requests=0, arms={}, why=why[name]) for name, n in requested.items() if not n]
    return sorted(rows, key=lambda row: (list(candidates.tasks).index(row.task), row.slice))


def _limits(candidates: Candidates, task: str, weight: float, requested: int) -> str:
    """Why a task gets no more: it has no importance, it does not apply, or no sample is left."""
    if not weight:
        return "importance 0"
    parts = []
    for count, words in (
        (int(candidates.inapplicable[task].sum()), "known not to apply"),
        (int(candidates.predicted_inapplicable[task].sum()), "predicted not to apply"),
    ):
        if count:
            parts.append(f"{count:,} {words}")
    left = int(candidates.open[task].sum()) - requested
    if left <= 0:
        parts.append("no sample left")
    return ", ".join(parts)
