"""Label requests: which (sample, task) people are asked to label next, and why.

Every candidate is a training sample, so mining never touches evaluation. A part of each budget, the random arm, is
drawn uniformly with its propensity stored: it keeps the frequency of common classes estimable. The rest is spread over
(task, slice) cells by importance, error, yield and how few labels are known, and mined inside each cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.requests.answer_seconds import median_seconds, relative_costs
from curation.requests.budget import largest_remainder, spread
from curation.requests.candidates import Candidates
from curation.requests.ranking import STRATEGIES, Strategy, rank
from curation.requests.strategies import Pick, at_random
from curation.requests.trigger_arms import TriggerArms
from curation.requests.triggers import Triggers

__all__ = ["Chosen", "Proposal", "Strategy", "choose", "choose_requests", "propose", "weights_of"]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """How to spend one budget of labels.

    `random_share` (0 to 1) of the `budget` goes to the random arm; 1 gives a random baseline. `importance` weighs
    tasks (default: all alike). `run` is the id, or its beginning, of the run whose predictions are mined. Without a
    run, and for a slice that no known label can make, several strategies over `embeddings` look for it
    (`curation.requests.cold_start`), with `like`, a sample that shows what is wanted, or `example`, the features [D] of
    an image, among them.

    `strategy` is one of `STRATEGIES`. The default chooses by what is known (`curation.requests.ranking`). "random" is
    a `random_share` of 1. The others are published ones (`curation.requests.published`), to compare with: they spread
    the budget over tasks, without rare slices.

    `triggers` are names of triggers of the run (and of `against`, a second run) that share the mined part of the budget
    with mining, by what each found before (`curation.requests.trigger_arms`).

    >>> Proposal(budget=100, seed=0).random_share
    0.15
    >>> Proposal(budget=0, seed=0)
    Traceback (most recent call last):
    curation.errors.BadInput: budget 0: must be at least 1 label; raise it
    """

    budget: int
    seed: int
    random_share: float = 0.15
    importance: Mapping[str, float] | None = None
    run: str = ""
    embeddings: str = ""
    cost: float = 1.0
    like: str = ""
    strategy: Strategy = "mined"
    triggers: tuple[str, ...] = ()
    against: str = ""
    example: npt.NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise BadInput(f"budget {self.budget}: must be at least 1 label; raise it")
        if not 0 <= self.random_share <= 1:
            raise BadInput(f"random share {self.random_share}: must be in [0, 1]; correct it")
        if self.strategy not in STRATEGIES:
            raise BadInput(f"strategy {self.strategy!r}: must be one of {', '.join(STRATEGIES)}; correct it")
        wrong = [name for name, weight in (self.importance or {}).items() if not 0 <= weight < float("inf")]
        if wrong:
            raise BadInput(f"importance of {wrong[0]}: must be 0 or more, and finite; correct it")
        if self.triggers and not self.run:
            raise BadInput(
                f"triggers {', '.join(self.triggers)}: need a run whose predictions fire them; train one first"
            )

    @property
    def at_random(self) -> bool:
        """Whether every label is drawn at random."""
        return self.random_share == 1 or self.strategy == "random"

    @property
    def named(self) -> tuple[str, ...]:
        """The tasks that it names, with an importance above 0."""
        return tuple(name for name, weight in (self.importance or {}).items() if weight)


def propose(catalog: Catalog, proposal: Proposal, *, author: str, batch: str) -> int:
    """Add open label requests for `proposal` in one commit; returns how many.

    The same `batch` again is a no-op that returns 0. NotFound when a task, the run or the embeddings are missing.

    >>> propose(catalog, Proposal(budget=20, seed=0), author="ada", batch="monday")
    20
    >>> propose(catalog, Proposal(budget=20, seed=0), author="ada", batch="monday")
    0
    """
    with catalog.commit(author=author, message=f"ask for {proposal.budget} labels", batch=batch) as change:
        if change.repeated:
            return 0
        rows = choose_requests(change.now, proposal, catalog.home)
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
        return len(rows)


def choose_requests(now: Snapshot, proposal: Proposal, home: Path) -> list[dict[str, object]]:
    """The requests that `propose` adds, as rows of `REQUESTS`, the first to be labelled first; changes nothing.

    At most `budget` rows: fewer only where no task with importance has a sample left to label.
    """
    return choose(now, proposal, home).rows


def choose(now: Snapshot, proposal: Proposal, home: Path) -> "Chosen":
    """The same with the candidates that they were chosen from; `open` marks those that are left."""
    if proposal.run:
        proposal = replace(proposal, run=now.runs.full_id(proposal.run))
    candidates = Candidates(
        now, home, run=proposal.run, embeddings=proposal.embeddings, like=proposal.like, example=proposal.example,
        named=proposal.named,
    )  # fmt: skip
    weights, seconds = weights_of(now, proposal, candidates), median_seconds(now)
    chosen = Chosen(
        candidates=candidates, proposal=proposal, task_ids=now.task_ids(), weights=weights, seconds=seconds,
        costs=relative_costs(seconds, candidates.tasks),
    )  # fmt: skip
    arms = _trigger_arms(proposal, candidates, home)
    at_random = proposal.budget if proposal.at_random else round(proposal.budget * proposal.random_share)
    _add_at_random(chosen, at_random, arm="random")
    by_slice = proposal.strategy == "mined"
    for task, slice_, count in (
        spread(candidates, weights, chosen.left, run=proposal.run, by_slice=by_slice, costs=chosen.costs)
        if chosen.left
        else []
    ):
        part = candidates.tasks[task]
        fired = arms.picks(part, slice_, count) if arms else []
        chosen.add_picks(task, slice_, fired)
        if left := count - len(fired):
            mined = rank(candidates, part, slice_, left, chosen.seed(task), strategy=proposal.strategy)
            chosen.add_picks(task, slice_, mined)
    arm = "random" if proposal.at_random else "spare"
    while chosen.left and _add_at_random(chosen, chosen.left, arm=arm):
        pass
    return chosen


def weights_of(now: Snapshot, proposal: Proposal, candidates: Candidates) -> dict[str, float]:
    """The importance of each task that can be requested; NotFound when the proposal names a task that the catalog
    lacks."""
    if not proposal.importance:
        return dict.fromkeys(candidates.tasks, 1.0)
    for name, weight in proposal.importance.items():
        if weight:
            now.task(name)
    return {name: proposal.importance.get(name, 0.0) for name in candidates.tasks}


def _trigger_arms(proposal: Proposal, candidates: Candidates, home: Path) -> TriggerArms | None:
    """The triggers that share the budget with mining; None without any."""
    if not proposal.triggers:
        return None
    triggers = Triggers.open(candidates.now, home, proposal.run, against=proposal.against)
    return TriggerArms.of(candidates, triggers, home, proposal.triggers)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The requests chosen so far; `add` also closes the sample's row to further requests of the task.

    Each task has its importance in `weights` and the cost of a label in `costs`, measured ones their `seconds` too.
    """

    candidates: Candidates
    proposal: Proposal
    task_ids: Mapping[str, int]
    weights: Mapping[str, float]
    seconds: Mapping[str, float]
    costs: Mapping[str, float]
    rows: list[dict[str, object]] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Labels of the budget that are not spent."""
        return self.proposal.budget - len(self.rows)

    def seed(self, task: str) -> list[int]:
        """Seed of the next draw for a task: it differs between tasks and after every request."""
        return [self.proposal.seed, self.task_ids[task], len(self.rows)]

    def add_picks(self, task: str, slice_: Slice | None, picks: Sequence[Pick]) -> None:
        """Add the picks for a slice of a task (None: the whole task)."""
        for pick in picks:
            self.add(task, pick.row, arm=pick.arm, slice_=slice_.name if slice_ else "", reason=pick.reason)

    def add(self, task: str, row: int, *, arm: str, reason: str, slice_: str = "", propensity: float = 1.0) -> None:
        self.candidates.open[task][row] = False
        self.rows.append(
            {
                "sample_id": int(self.candidates.ids[row]), "task_id": self.task_ids[task], "arm": arm,
                "slice": slice_, "reason": reason, "run": self.proposal.run, "priority": len(self.rows),
                "propensity": propensity, "cost": self.proposal.cost * self.costs[task],
            }
        )  # fmt: skip


def _add_at_random(chosen: Chosen, count: int, *, arm: str) -> int:
    """Draw (task, sample) pairs uniformly: `count` is split over tasks by weight, then samples are drawn in each.

    The budget that mining could not spend is drawn in the same way, but as the arm "spare": mining chose first, so
    these samples are not representative. Returns how many were added: fewer than `count` where a task runs dry.
    """
    before = len(chosen.rows)
    reason = "drawn at random" if arm == "random" else "nothing left to mine; drawn at random"
    open_ = chosen.candidates.open
    wanted = {name: weight for name, weight in chosen.weights.items() if weight > 0 and open_[name].any()}
    for task, share in largest_remainder(wanted, count).items():
        rows, propensity = at_random(open_[task], share, chosen.seed(task))
        for row in rows.tolist():
            chosen.add(task, row, arm=arm, reason=reason, propensity=propensity)
    return len(chosen.rows) - before
