"""The queue of requests: what withdrawing and raising change, what they refuse, and how fast it empties."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.homes import copy_home, make_home
from support.label_requests import ask

from curation.catalog.catalog import Catalog
from curation.catalog.commit import PendingCommit
from curation.errors import BadInput, NotFound
from curation.requests.request_queue import pace, put_first, withdraw


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Six requests, of which the last is answered and the one before withdrawn."""
    catalog = make_home(tmp_path_factory.mktemp("queue"), samples=20)
    ask(catalog, (0, "color"), (1, "car"), (2, "color"), (3, "car"), (4, "color"), (5, "color"))
    with catalog.commit(author="ada", message="close") as change:
        change.close_requests([5], state="answered")
        change.close_requests([4], state="withdrawn")
    return catalog


@pytest.fixture
def catalog(made: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(made, tmp_path)


def do(catalog: Catalog, what: Callable[[PendingCommit, list[int]], int], *ids: int, batch: str | None = None) -> int:
    with catalog.commit(author="ann", message=what.__name__, batch=batch) as change:
        return what(change, list(ids))


def queue(catalog: Catalog) -> list[int]:
    with catalog.read() as now:
        return now.requests.page("open").rows["request_id"].to_pylist()


def test_raised_requests_come_first_in_their_order(catalog: Catalog) -> None:
    assert do(catalog, put_first, 3, 2, batch="b") == 2
    assert (queue(catalog), do(catalog, put_first, 3, 2, batch="b")) == ([2, 3, 0, 1], 0)
    assert do(catalog, put_first, 1) == 1
    assert queue(catalog) == [1, 2, 3, 0]
    with catalog.read() as now:
        before, counts = now.digest, now.counts()["request_event"]
        assert [row["author"] for row in now.log().to_pylist()[:2]] == ["ann", "ann"]
    assert do(catalog, put_first, 2, 1) == 0
    with catalog.read() as now:
        assert now.counts()["request_event"] == counts
        assert now.digest != before  # the commit itself
    ask(catalog, (7, "car"))
    assert queue(catalog)[0] == 1


def test_a_raise_is_reverted_and_opens_nothing(catalog: Catalog) -> None:
    do(catalog, put_first, 3)
    with catalog.read() as now:
        raised = now.commit
        assert now.requests.opened_by(raised) == 0
        assert now.requests.opened_by(raised - 2) == 6
    with catalog.commit(author="ann", message="undo") as change:
        change.revert(raised)
    assert queue(catalog) == [0, 1, 2, 3]


def test_withdrawing_is_idempotent(catalog: Catalog) -> None:
    assert do(catalog, withdraw, 1, 4) == 1
    assert do(catalog, withdraw, 1, 4) == 0
    assert queue(catalog) == [0, 2, 3]
    assert do(catalog, withdraw) == 0


@pytest.mark.parametrize(
    ("what", "ids", "why"),
    [
        (withdraw, [0, 5], "request 5: pictures/00005 was answered for color"),
        (put_first, [0, 5], "request 5: is answered, and only open ones"),
        (put_first, [4], "request 4: is withdrawn"),
        (withdraw, [99, 98], "request 98: there is no such request"),
        (put_first, [99], "request 99: there is no such request"),
    ],
)
def test_what_is_refused_changes_nothing(
    catalog: Catalog, what: Callable[[PendingCommit, list[int]], int], ids: list[int], why: str
) -> None:
    with pytest.raises((BadInput, NotFound), match=why):
        do(catalog, what, *ids)
    assert queue(catalog) == [0, 1, 2, 3]


def test_priorities_fit_and_are_given_when_a_request_is_opened(catalog: Catalog) -> None:
    with catalog.commit(author="ann", message="m") as change:
        for priorities, why in (({0: 2**31}, "not within"), ({77: 1}, "no such request")):
            with pytest.raises((BadInput, NotFound), match=why):
                change.requests.prioritise(priorities)
        assert change.requests.prioritise({0: 0}) == 0
        assert change.requests.prioritise({0: 2**31 - 1, 1: 5}) == 2
    assert queue(catalog) == [2, 3, 1, 0]


def test_pages_are_filtered(catalog: Catalog) -> None:
    with catalog.read() as now:
        pages = now.requests.page
        assert pages("open", task="color").rows["request_id"].to_pylist() == [0, 2]
        assert pages("open", task="car", arm="random", limit=1).rows["request_id"].to_pylist() == [1]
        after = pages("open", task="car", limit=1).next or ()
        assert pages("open", after, task="car").rows["request_id"].to_pylist() == [3]
        assert len(pages("open", slice="night").rows) == 0
        assert pages("answered").rows["request_id"].to_pylist() == [5]
        with pytest.raises(NotFound, match="did you mean 'color'"):
            pages("open", task="colour")


def test_the_pace_is_that_of_the_last_week(catalog: Catalog) -> None:
    now_ = datetime.now(UTC).replace(tzinfo=None)
    with catalog.read() as now:
        car, color = pace(now, now_ + timedelta(days=2))
        assert (car.task, car.open, car.answered, car.rate, car.days, car.hours) == ("car", 2, 0, None, None, None)
        assert (color.open, color.answered, color.withdrawn, color.cost) == (2, 1, 1, 4.0)
        assert color.rate == pytest.approx(0.5, rel=0.01)
        assert color.days == pytest.approx(4, rel=0.01)
        later = pace(now, now_ + timedelta(days=8))[1]
        assert (later.open, later.rate, later.days) == (2, None, None)
        assert pace(now, now_)[1].rate == 1.0  # over one day at least
