"""Declaring a slice: what a predicate would hold before it is declared, and the declaration itself."""

import time
from typing import Final

import numpy as np

from amber.service.access import Workspace, batch_of
from amber.service.facts.run_choice import chosen_run
from amber.service.facts.slice_pictures import picture_rows
from amber.service.models.slices import NewSlice, SlicePreview, SliceSize
from amber.service.tokens import Token
from curation.catalog.arrow_query import scalar
from curation.catalog.catalog import Catalog
from curation.catalog.sample_rows import samples_sql
from curation.catalog.slice_vetting import vet
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound

__all__ = ["SIZE_SECONDS", "declare_slice", "preview_slice", "sizes_over_commits"]

COUNT_SECONDS: Final = 5.0
"""Longest time to count what a predicate holds."""

SIZE_SECONDS: Final = 5.0
COMMITS: Final = 12
"""Longest time to count a slice at older commits, and at how many."""

EXAMPLES: Final = 6


def preview_slice(workspace: Workspace, predicate: str, task: str = "", run: str = "") -> SlicePreview:
    """How many samples a predicate holds, and `EXAMPLES` of them, spread over all; predictions are those of `run`.

    BadInput says which part of the predicate fails, or that it takes longer than `COUNT_SECONDS` to count.
    """
    catalog = workspace.catalog
    with catalog.read() as now:
        canonical, choice = vet(predicate, now.frame()), chosen_run(catalog.home, now, run)
        asked = now.task(task) if task else None
        ids = now.members(canonical, predictions=choice.file, seconds=COUNT_SECONDS)
        some = (
            ids[np.unique(np.linspace(0, len(ids) - 1, min(EXAMPLES, len(ids))).astype(np.int64))] if len(ids) else ids
        )
        rows = now.view.table(f"FROM ({samples_sql(now.view.of(some))}) ORDER BY sample_id").to_pylist()
        return SlicePreview(
            predicate=canonical, samples=len(ids), run=choice.run,
            of=int(scalar(now.view.connection, f"SELECT count(*) FROM ({now.view.samples_sql})")),
            examples=picture_rows(now, workspace, rows, asked, choice),
        )  # fmt: skip


def declare_slice(catalog: Catalog, wanted: NewSlice, token: Token) -> Slice:
    """Declare a slice as the owner of `token`; the same batch again changes nothing.

    BadInput for a predicate that is not sound, a bad name, and a name that is taken unless it is to be replaced;
    NotFound for an unknown task.
    """
    with catalog.read() as now:
        _refuse_taken(now, wanted, batch := batch_of(token, wanted.batch))
        checked = now.check_slice(wanted.predicate, seconds=COUNT_SECONDS)
    with catalog.commit(author=token.name, message=f"slice {wanted.name}", batch=batch) as change:
        if not change.repeated:
            _refuse_taken(change.now, wanted, batch)
        return change.add_slice(wanted.name, wanted.predicate, task=wanted.task, rare=wanted.rare, checked=checked)


def sizes_over_commits(now: Snapshot, part: Slice, predictions: str | None) -> list[SliceSize]:
    """How many samples a slice held after up to `COMMITS` commits, spread over the log, the oldest first.

    The predicate is the newest one; commits at which its columns did not exist are left out, and older ones where
    counting takes longer than `SIZE_SECONDS` in all.
    """
    log = now.log().select(["id", "committed_at"]).to_pylist()
    places = np.unique(np.linspace(0, len(log) - 1, min(COMMITS, len(log))).astype(int)).tolist() if log else []
    found, left = list[SliceSize](), SIZE_SECONDS
    for place in places:
        row, began = log[place], time.monotonic()
        try:
            ids = now.earlier(row["id"]).members(part.predicate, predictions=predictions, seconds=max(left, 0.05))
        except (BadInput, NotFound):
            if (left := left - (time.monotonic() - began)) <= 0:
                break
            continue
        found.append(SliceSize(commit=row["id"], at=row["committed_at"], samples=len(ids)))
        left -= time.monotonic() - began
    return found[::-1]


def _refuse_taken(now: Snapshot, wanted: NewSlice, batch: str) -> None:
    known = now.slices().get(wanted.name)
    if known and not wanted.replace and not now.has(batch):
        raise BadInput(f"slice {wanted.name!r}: exists ({known.predicate}); choose another name, or have it replaced")
