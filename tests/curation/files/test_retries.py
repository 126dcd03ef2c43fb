"""Retries: how often, how long between, and what is raised in the end."""

import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.files.retries import Backoff, retried


def failing(times: int, error: Exception) -> tuple[Callable[[], int], list[float]]:
    """Work that fails so many times and then returns 7, and the times at which it was called."""
    calls: list[float] = []

    def work() -> int:
        calls.append(time.monotonic())
        if len(calls) <= times:
            raise error
        return 7

    return work, calls


@pytest.mark.parametrize("times", [0, 1, 4])
def test_work_is_repeated_until_it_succeeds(times: int) -> None:
    work, calls = failing(times, OSError("busy"))
    assert retried(work, OSError, Backoff(first=0.001, tries=5)) == 7
    assert len(calls) == times + 1


def test_the_last_failure_is_raised_after_so_many_tries() -> None:
    work, calls = failing(9, OSError("busy"))
    with pytest.raises(OSError, match="busy"):
        retried(work, OSError, Backoff(first=0.001, tries=3))
    assert len(calls) == 3


def test_other_exceptions_pass_at_once() -> None:
    work, calls = failing(9, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        retried(work, (OSError, KeyError), Backoff(first=0.001, tries=3))
    assert len(calls) == 1


def test_patience_ends_the_tries_before_a_wait_that_would_exceed_it() -> None:
    work, calls = failing(99, OSError("busy"))
    begun = time.monotonic()
    with pytest.raises(OSError, match="busy"):
        retried(work, OSError, Backoff(first=0.05, longest=0.05, patience=0.22))
    assert 2 <= len(calls) <= 5
    assert calls[-1] - begun <= 0.22 + 0.2  # a loaded machine wakes late


def test_waits_double() -> None:
    work, calls = failing(3, OSError("busy"))
    retried(work, OSError, Backoff(first=0.02, tries=4))
    gaps = [later - before for before, later in pairwise(calls)]
    assert all(gap >= least for gap, least in zip(gaps, (0.02, 0.04, 0.08), strict=True))


@given(st.floats(0.001, 10), st.floats(0.001, 60), st.integers(1, 5_000))
def test_waits_never_shrink_and_stay_within_the_longest(first: float, longest: float, tried: int) -> None:
    backoff = Backoff(first=first, longest=longest)
    assert backoff.wait(tried) <= backoff.wait(tried + 1) <= longest


@given(st.floats(0, 1), st.integers(1, 9))
def test_chance_shortens_a_wait_at_most_by_the_jitter(jitter: float, tried: int) -> None:
    longest = Backoff(first=1.0).wait(tried)
    assert (1 - jitter) * longest <= Backoff(first=1.0, jitter=jitter).wait(tried) <= longest


def test_clients_that_failed_together_return_apart() -> None:
    assert len({Backoff(first=1.0, jitter=0.5).wait(3) for _ in range(20)}) > 1
