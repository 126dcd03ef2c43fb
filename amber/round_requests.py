"""The label requests of a round of the loop: made, answered, and made again for what came back without a value."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput

if TYPE_CHECKING:
    from curation.requests.proposals import Proposal

__all__ = ["Answer", "answers_of", "foreign_commit", "request_labels_of"]

Answer = Callable[[str], object]
"""A function that answers every open request in a commit with the given batch id, and returns after that commit."""

ASKS, ANSWERS = "ask for ", ("the oracle answers", "people are done with")
"""How the messages of the loop's own commits begin."""

REFILLS = 3
"""A round requests labels again, at most so many times, for those that came back without a value."""


def request_labels_of(catalog: Catalog, proposal: "Proposal", step: str, *, author: str, answer: Answer) -> None:
    """Request labels and have them answered, again for those that came back without a value: unsure, inapplicable,
    skipped, or unknown to the oracle."""
    from curation.requests.proposals import propose

    missing = proposal.budget
    for again in range(REFILLS + 1):
        ask, done = _batches(step, again)
        if not _answered(catalog, ask, done):
            propose(catalog, replace(proposal, budget=missing), author=author, batch=ask)
            answer(done)
        with catalog.read() as now:
            opened = [_opened(now, step, turn) for turn in range(again + 1)]
            missing = min(proposal.budget, sum(opened)) - _valued(now, step)
        if missing <= 0 or not opened[-1]:
            return


def answers_of(now: Snapshot, step: str) -> list[int]:
    """The commits that answered a step's requests, oldest first."""
    found = [now.batch(_batches(step, again)[1]) for again in range(REFILLS + 1)]
    return [commit for commit in found if commit is not None]


def foreign_commit(commit: int | None, batch: str) -> BadInput:
    """The error for a commit that has a batch id of the loop and is not its own."""
    return BadInput(
        f"commit {commit}: has the batch id {batch!r} of this loop, but the loop did not make it; run the loop with "
        "another --seed"
    )


def _batches(step: str, again: int) -> tuple[str, str]:
    """Batch ids of the requests of a step and of their answers; `again` counts the refills."""
    return (f"{step}:ask", f"{step}:answer") if not again else (f"{step}:ask:{again}", f"{step}:answer:{again}")


def _opened(now: Snapshot, step: str, again: int) -> int:
    """How many requests a batch of a step made."""
    commit = now.batch(_batches(step, again)[0])
    return 0 if commit is None else now.requests.opened_by(commit)


def _valued(now: Snapshot, step: str) -> int:
    """How many answered requests of a step have a label with a value."""
    asked = now.requests.answered_by(answers_of(now, step))
    count = 0
    for name in pc.unique(asked["task"]).to_pylist():
        labels = now.labels(name)
        known = labels.filter(pc.equal(labels["state"], KNOWN))["sample_id"].to_numpy()
        count += int(np.isin(asked.filter(pc.equal(asked["task"], name))["sample_id"].to_numpy(), known).sum())
    return count


def _answered(catalog: Catalog, ask: str, done: str) -> bool:
    """Whether the requests of the batch `ask` were answered by `done`; BadInput when another commit has their ids.

    The commit of the answers follows that of the requests. It closes requests, or it adds no label and says that it
    found none to close.
    """
    with catalog.read() as now:
        asked, answered = (now.batch(batch) for batch in (ask, done))
        if asked is not None and not _message(now, asked).startswith(ASKS):
            raise foreign_commit(asked, ask)
        if answered is None:
            return False
        if asked is None or asked > answered:
            raise foreign_commit(answered, done)
        before, after = (now.earlier(commit).counts() for commit in (answered - 1, answered))
        if before["request_event"] == after["request_event"] and not (
            before["label_event"] == after["label_event"] and _message(now, answered).startswith(ANSWERS)
        ):
            raise foreign_commit(answered, done)
    return True


def _message(now: Snapshot, commit: int) -> str:
    log = now.earlier(commit).log()
    return str(log["message"][0].as_py())
