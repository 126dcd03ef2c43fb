"""The queue of label requests: withdrawing requests, putting them first, and how fast it empties."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.commit import PendingCommit
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from curation.requests.answer_seconds import median_seconds

__all__ = ["WINDOW", "Pace", "pace", "put_first", "withdraw"]

WINDOW: Final = timedelta(days=7)
"""How far back the rate of answers is measured: a week has its working days and its weekend."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The requests of one task by state, and how fast they are answered.

    `seconds` is the median time of an answer (None: fewer than ten were timed), `cost` the sum of the costs of open
    requests. `rate` is requests answered a day over the last week (since the first request of the task where that is
    later, but over one day at least), `days` the time until the open ones are answered at that rate. None: no data, or
    none was answered in that time.
    """

    task: str
    open: int
    answered: int
    withdrawn: int
    cost: float
    seconds: float | None
    rate: float | None
    days: float | None

    @property
    def hours(self) -> float | None:
        """The hours of work that the open requests take; None where answers were not timed."""
        return None if self.seconds is None else self.open * self.seconds / 3600


def withdraw(change: PendingCommit, request_ids: Iterable[int]) -> int:
    """Withdraw requests; returns how many were open. One that is withdrawn already is left alone.

    NotFound for an unknown request, BadInput for one that was answered: its label stays.
    """
    rows = _named(change.now, request_ids)
    for row in rows:
        if row["state"] == "answered":
            raise BadInput(
                f"request {row['request_id']}: {row['key']} was answered for {row['task']}; leave it out, or retract "
                "its label"
            )
    open_ = [row["request_id"] for row in rows if row["state"] == "open"]
    change.close_requests(open_, state="withdrawn")
    return 0 if change.repeated else len(open_)


def put_first(change: PendingCommit, request_ids: Iterable[int]) -> int:
    """Put open requests before all others, in their present order; returns how many moved: 0 where they are first.

    NotFound for an unknown request, BadInput for one that is not open.
    """
    chosen = {row["request_id"] for row in _named(change.now, request_ids)}
    open_ = change.now.requests("open").sort_by([("priority", "ascending"), ("request_id", "ascending")])
    order, priorities = open_["request_id"].to_pylist(), open_["priority"].to_pylist()
    mine = [id_ for id_ in order if id_ in chosen]
    change.requests.prioritise(dict.fromkeys(sorted(chosen - {*mine}), 0))  # refuses those that are not open
    if not mine or mine == order[: len(mine)]:
        return 0
    others = [priority for id_, priority in zip(order, priorities, strict=True) if id_ not in chosen]
    first = min(0, min(others, default=0)) - len(mine)
    return change.requests.prioritise({id_: first + place for place, id_ in enumerate(mine)})


def pace(now: Snapshot, at: datetime | None = None) -> list[Pace]:
    """A row for each task that was ever requested, by name; `at` is the present time (UTC without a zone)."""
    at = at or datetime.now(UTC).replace(tzinfo=None)
    times = {row["id"]: row["committed_at"] for row in now.log().to_pylist()}
    requests, seconds = now.requests.moments(), median_seconds(now)
    found = []
    for task in sorted(pc.unique(requests["task"]).to_pylist()):
        mine = requests.filter(pc.equal(requests["task"], task))
        found.append(_pace(task, mine, [times[id_] for id_ in mine["moved"].to_pylist()], times, seconds.get(task), at))
    return found


def _pace(
    task: str, mine: pa.Table, moved: list[datetime], times: dict[int, datetime], seconds: float | None, at: datetime
) -> Pace:
    states = mine["state"].to_pylist()
    since = max(at - WINDOW, times[pc.min(mine["opened"]).as_py()])
    done = sum(state == "answered" and when >= since for state, when in zip(states, moved, strict=True))
    rate = done / max((at - since) / timedelta(days=1), 1.0)
    waiting = states.count("open")
    cost = pc.sum(mine.filter(pc.equal(mine["state"], "open"))["cost"]).as_py() or 0.0
    return Pace(
        task=task, open=waiting, answered=states.count("answered"), withdrawn=states.count("withdrawn"), cost=cost,
        seconds=seconds, rate=rate or None, days=waiting / rate if rate else None,
    )  # fmt: skip


def _named(now: Snapshot, request_ids: Iterable[int]) -> list[dict[str, Any]]:
    """The current rows of requests; NotFound where one is unknown."""
    wanted = sorted(set(request_ids))
    requests = now.requests()
    mine = pc.is_in(requests["request_id"], value_set=pa.array(wanted, pa.int64()))
    rows: list[dict[str, Any]] = requests.filter(mine).to_pylist()
    if missing := set(wanted) - {row["request_id"] for row in rows}:
        raise NotFound(f"request {min(missing)}: there is no such request; `amber request` lists them")
    return rows
