"""Doing what somebody wants with samples that they picked: the routes of the API and the pages call it alike."""

from collections.abc import Callable

from amber.service.access import batch_of
from amber.service.models.ledger import Done, DoubtPicked, PickedSamples, RequestPicked, TagPicked
from amber.service.tokens import Token
from curation.catalog.catalog import Catalog
from curation.catalog.commit import PendingCommit
from curation.catalog.snapshot import Snapshot
from curation.requests.manual_requests import ManualRows, mark_state, request_labels, tag

__all__ = ["pick"]


def pick(catalog: Catalog, wish: PickedSamples, token: Token) -> Done:
    """Request labels of samples, tag them, or mark them as unsure, as the owner of `token`.

    Nothing is committed where there is nothing to do, for a preview, and for a batch that was committed before.
    BadInput or NotFound for a name that does not fit.
    """
    find, add = _work(wish, token)
    with catalog.read() as now:
        found = find(now)
    commit = None
    if len(found.rows) and not wish.preview:
        batch = batch_of(token, wish.batch)
        with catalog.commit(author=token.name, message=wish.commit_message(), batch=batch) as change:
            found = ManualRows(rows=found.rows.slice(0, 0)) if change.repeated else find(change.now)
            add(change, found)
        commit = change.id
    return Done(
        author=token.name,
        done=len(found.rows),
        passed_over=dict(found.passed_over),
        noted=dict(found.noted),
        commit=commit,
    )


def _work(
    wish: PickedSamples, token: Token
) -> tuple[Callable[[Snapshot], ManualRows], Callable[[PendingCommit, ManualRows], object]]:
    """What finds the rows of a wish, and what adds them to a commit."""
    if isinstance(wish, RequestPicked):
        return (
            lambda now: request_labels(now, wish.keys, wish.tasks, wish.reason),
            lambda change, found: change.add_requests(found.rows),
        )
    if isinstance(wish, TagPicked):
        return (
            lambda now: tag(now, wish.keys, wish.tag, on=wish.on),
            lambda change, found: change.add_attributes(found.rows),
        )
    assert isinstance(wish, DoubtPicked)
    return (
        lambda now: mark_state(now, wish.keys, wish.task, wish.state, annotator=token.name),
        lambda change, found: change.add_labels(found.rows, source="human"),
    )
