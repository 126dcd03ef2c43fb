"""What to train again: what changed about each task, and what a head solved again on cached features gains by it."""

from collections.abc import Sequence

from amber.extras import need_extra
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError
from training.judging.queue import FEWEST_GROUPS, QueueRow, RefitGain, queue_rows, refit_gain
from training.judging.task_changes import task_changes

__all__ = ["queue"]


def queue(
    catalog: Catalog,
    now: Snapshot,
    *,
    tasks: Sequence[str] = (),
    measure: bool = True,
    embeddings: str = "",
    run: str = "",
) -> tuple[list[QueueRow], list[str]]:
    """A row for each task (or each of `tasks`), those with the most to train first; and notes.

    With `measure`, the head of each task whose labels changed is solved again on the features of its newest run, or on
    `embeddings`, with the labels before and with those known now. With `run`, what changed is counted since that run
    and those that it continues. NotFound for an unknown task.
    """
    for name in tasks:
        now.task(name)
    changes, notes = task_changes(now, catalog.home, run=run)
    changes = [change for change in changes if not tasks or change.task in tasks]
    gains, unmeasured = dict[str, RefitGain](), dict[str, str]()
    changed = [change for change in changes if change.run and change.stale and not change.classes]
    for learned in dict.fromkeys(change.run for change in changed):
        names = [change.task for change in changed if change.run == learned]
        if not measure:
            unmeasured |= dict.fromkeys(names, "--no-measure was given")
            continue
        found, missing = _gains(catalog, now, learned, names, embeddings)
        gains |= found
        unmeasured |= missing
    return queue_rows(changes, gains, unmeasured), notes


def _gains(
    catalog: Catalog, now: Snapshot, run: str, names: Sequence[str], embeddings: str
) -> tuple[dict[str, RefitGain], dict[str, str]]:
    """The measured gain of each of a run's tasks, and why others have none."""
    need_extra("train")
    from training.loop.refits import refits_of, why_not_refitted

    try:
        refits = refits_of(catalog, now, run, tasks=names, embeddings=embeddings, fewest=FEWEST_GROUPS)
    except AmberError as error:
        return {}, dict.fromkeys(names, str(error))
    gains, unmeasured = dict[str, RefitGain](), dict[str, str]()
    for name in names:
        refit = refits.get(name)
        gain = refit_gain(refit.gain(), refit.judged_on) if refit else None
        if gain:
            gains[name] = gain
        else:
            few = f"fewer than {FEWEST_GROUPS} groups with cached features have a label to judge by"
            unmeasured[name] = why_not_refitted(catalog, now, run, name) or few
    return gains, unmeasured
