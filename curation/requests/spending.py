"""Where a budget of label requests goes, what it costs, and why a task gets fewer than its share."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.requests.proposals import Chosen, Proposal, choose

__all__ = ["Spent", "spend", "spending"]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Requests of one (task, slice), slice "" being the whole task: how many, by arm, the median `seconds` of an answer
    (None where too few were timed), and what limits the task."""

    task: str
    slice: str
    requests: int
    arms: dict[str, int]
    seconds: float | None
    why: str


def spend(catalog: Catalog, proposal: Proposal, *, author: str, batch: str) -> list[Spent]:
    """Add requests as `propose` does, and return where they go; none for a `batch` that was added before.

    BadInput, and nothing is added, where fewer labels than the budget can be requested.
    """
    with catalog.commit(author=author, message=f"ask for {proposal.budget} labels", batch=batch) as change:
        if change.repeated:
            return []
        chosen = choose(change.now, proposal, catalog.home)
        found = _spent(chosen)
        if chosen.left:
            why = "; ".join(f"{row.task}: {row.why}" for row in {row.task: row for row in found if row.why}.values())
            raise BadInput(
                f"budget {proposal.budget:,}: only {len(chosen.rows):,} labels can be requested ({why}); lower it"
            )
        change.add_requests(pa.Table.from_pylist(chosen.rows, REQUESTS))
        return found


def spending(now: Snapshot, proposal: Proposal, *, home: Path) -> list[Spent]:
    """A row for each (task, slice) that gets requests, and for each task that gets none, by task; changes nothing.

    >>> from curation.requests.proposals import Proposal
    >>> rows = spending(now, Proposal(budget=20, seed=0, importance={"car": 1.0}), home=home)
    >>> sum(row.requests for row in rows), next(row.why for row in rows if row.task == "bike")
    (20, 'importance 0')
    """
    return _spent(choose(now, proposal, home))


def _spent(chosen: Chosen) -> list[Spent]:
    names = {id_: name for name, id_ in chosen.task_ids.items()}
    tasks, counts = list(chosen.candidates.tasks), dict[tuple[str, str], Counter[str]]()
    for row in chosen.rows:
        cell = names[int(str(row["task_id"]))], str(row["slice"])
        counts.setdefault(cell, Counter())[str(row["arm"])] += 1
    for name in set(tasks) - {task for task, _ in counts}:
        counts[name, ""] = Counter()
    why = {name: _limits(chosen, name) for name in tasks}
    rows = [
        Spent(
            task=name, slice=slice_, requests=arms.total(), arms=dict(sorted(arms.items())),
            seconds=chosen.seconds.get(name), why=why[name],
        )
        for (name, slice_), arms in counts.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (tasks.index(row.task), row.slice))


def _limits(chosen: Chosen, task: str) -> str:
    """Why a task gets no more: it has no importance, it does not apply, or no sample is left."""
    candidates = chosen.candidates
    if not chosen.weights[task]:
        return "importance 0"
    parts = []
    for count, words in (
        (int(candidates.inapplicable[task].sum()), "known not to apply"),
        (int(candidates.predicted_inapplicable[task].sum()), "predicted not to apply"),
    ):
        if count:
            parts.append(f"{count:,} {words}")
    if not candidates.open[task].any():
        parts.append("no sample left")
    return ", ".join(parts)
