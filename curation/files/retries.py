"""One way to repeat what a network or a server may refuse for a moment: try again, a little later each time.

Written here rather than taken from a library: two of its users keep the results of earlier tries, and all turn the last
failure into a message of their own.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

__all__ = ["Backoff", "retried"]

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How often to try, and how long to wait between tries.

    The wait after the first try is `first` seconds, each further one twice as long, at most `longest`. `jitter`, from 0
    to 1, is the largest part of a wait that chance takes off: clients that failed together should not return together.
    After `tries` tries, or when the next wait would end more than `patience` seconds after the start, none follows.

    >>> [Backoff(first=0.1, longest=0.3).wait(tried) for tried in (1, 2, 3)]
    [0.1, 0.2, 0.3]
    """

    first: float
    longest: float = inf
    jitter: float = 0.0
    tries: int | None = None
    patience: float = inf

    def wait(self, tried: int) -> float:
        """Seconds to wait after try number `tried` (from 1), shortened by chance where there is `jitter`."""
        longest = min(self.first * 2.0 ** min(tried - 1, 64), self.longest)
        return longest * random.uniform(1 - self.jitter, 1)


def retried(
    work: Callable[[], Result],
    on: type[Exception] | tuple[type[Exception], ...],
    backoff: Backoff,
) -> Result:
    """What `work()` returns; it is called again after an exception of `on`, and the last such exception is raised.

    >>> answers = iter([OSError("busy"), 7])
    >>> def ask() -> int:
    ...     answer = next(answers)
    ...     if isinstance(answer, OSError):
    ...         raise answer
    ...     return answer
    >>> retried(ask, OSError, Backoff(first=0.001, tries=2))
    7
    """
    deadline, tried = time.monotonic() + backoff.patience, 0
    while True:
        try:
            return work()
        except on:
            tried += 1
            wait = backoff.wait(tried)
            if tried == backoff.tries or time.monotonic() + wait > deadline:
                raise
        time.sleep(wait)
