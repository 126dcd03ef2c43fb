"""What a commit changes about open label requests besides opening and closing them: their places in the queue."""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from curation.catalog.event_writer import Writer
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound

__all__ = ["PendingRequests"]

LIMIT: Final = 2**31 - 1
"""The largest priority; the smallest is its negative."""


class PendingRequests:
    """`change.requests`: what a commit changes about the queue."""

    def __init__(self, writer: Writer, now: Snapshot) -> None:
        self._writer, self._now = writer, now

    def prioritise(self, priorities: Mapping[int, int]) -> int:
        """Give open requests other priorities, by request id; the smallest is asked first. Returns how many changed.

        A request that has its priority already is left alone. NotFound for an unknown request; BadInput for one that is
        not open, or that this commit opened, and for a priority beyond 2^31 - 1.
        """
        wanted = pa.table(
            {"request_id": pa.array(priorities.keys(), pa.int64()), "wanted": pa.array(priorities.values(), pa.int64())}
        )
        rows = self._writer.sql(
            """SELECT wanted.request_id AS asked, wanted.wanted, current.*, opened FROM wanted
            LEFT JOIN current USING (request_id)
            LEFT JOIN (SELECT request_id, min(commit_id) AS opened FROM request_event GROUP BY ALL) USING (request_id)
            ORDER BY asked""",
            wanted=wanted, current=self._now.requests(),
        )  # fmt: skip
        for row in rows.to_pylist():
            self._refuse(row)
        moved = self._writer.sql(
            """SELECT * EXCLUDE (asked, wanted, opened, key, task) REPLACE (CAST(wanted AS INTEGER) AS priority)
            FROM moved WHERE wanted <> priority ORDER BY request_id""",
            moved=rows,
        )  # fmt: skip
        self._writer.append("request_event", moved)
        return 0 if self._writer.repeated else len(moved)

    def _refuse(self, row: Mapping[str, object]) -> None:
        """Refuse a request whose place cannot change."""
        name, wanted = f"request {row['asked']}", int(str(row["wanted"]))
        if row["state"] is None:
            raise NotFound(f"{name}: there is no such request; `amber request` lists them")
        if row["state"] != "open":
            raise BadInput(f"{name}: is {row['state']}, and only open ones are in the queue; leave it out")
        if row["opened"] == self._writer.id and not self._writer.repeated:
            raise BadInput(f"{name}: was opened in this commit; give it its priority when it is opened")
        if abs(wanted) > LIMIT:
            raise BadInput(f"{name}: priority {wanted} is not within -{LIMIT} to {LIMIT}; choose another")
