"""Pages of long lists, by keyset: each page begins after the position at which the one before ended.

Samples and labels are listed by `sample_id`, the order in which both are stored. A query of a range of ids reads a few
blocks of the file, so a page costs the same anywhere in a list of any length. (To find a place in the order of keys,
DuckDB would read all keys.) Other lists are short, and sorted by columns of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curation.arrays import Ints
from curation.catalog.view import View

__all__ = ["LOOKED", "RANGE", "Page", "Position", "keyset_page", "page_by_id"]

Position = tuple[Any, ...]
"""Values of the columns that sort a list, in the last row of a page; () is before the first row."""

LOOKED: Final = 250_000
"""Ids that one page looks at: where few samples match, a page is short, so that it costs no more than another."""

RANGE: Final = 30_720
WIDER: Final = 4
"""Ids in the first range of a list that lacks many samples, and how much larger the next range is at most: by what was
found, it should hold one and a half times as many rows as are still missing."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Rows of a list, and the position after which the next page begins; None at the end of the list."""

    rows: pa.Table
    next: Position | None


def page_by_id(
    view: View, after: Position, limit: int, find: Callable[[View, int], Ints], rows: Callable[[View], str], *,
    width: int,
) -> Page:  # fmt: skip
    """The rows with the next `limit` ids after the id `after`, from ranges of ids: the first has `width`.

    `find` returns the first so many ids of a view of one range, sorted; `rows` is the SQL of the rows of a view of the
    ids that were found, some of which may have none. At most `LOOKED` ids are looked at. So a page may have fewer rows,
    or none, before the end.
    """
    first = start = int(after[0]) if after else -1
    last = int(view.rows("SELECT coalesce(max(sample_id), -1) FROM sample WHERE commit_id <= ?", [view.commit])[0][0])
    parts: list[Ints] = []
    left = limit
    while not parts or (left and start < last and start - first < LOOKED):
        upto = min(start + width, last, first + LOOKED)
        part = find(view.between(start, upto), left)
        parts.append(part)
        width = min(WIDER * width, 3 * (upto - start) * left // (2 * len(part)) if len(part) else WIDER * width)
        start = int(part[-1]) if len(part) == left else upto
        left -= len(part)
    found = view.of(np.concatenate(parts))
    return Page(rows=view.table(f"{rows(found)} ORDER BY sample_id"), next=(start,) if start < last else None)


def keyset_page(
    view: View, query: str, order: Sequence[str], after: Position, limit: int, parameters: Sequence[Any] = ()
) -> Page:
    """The next `limit` rows of `query` after the position `after`, sorted by the columns `order`."""
    columns = ", ".join(f'"{name}"' for name in order)
    later = f"WHERE ({columns}) > ({', '.join('?' for _ in order)})" if after else ""
    rows = view.table(f"SELECT * FROM ({query}) {later} ORDER BY {columns} LIMIT {limit + 1}", [*parameters, *after])
    more, rows = len(rows) > limit, rows.slice(0, limit)
    last = rows.slice(limit - 1).select(list(order)).to_pylist() if more else []
    return Page(rows=rows, next=tuple(last[0].values()) if last else None)
