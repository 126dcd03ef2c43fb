"""What takes seconds and is asked for now and then: made once, in the background, and kept while there is room.

Whoever asks gets the value, or hears that it is being made and asks again. So a comparison of two runs, a report or the
difference that a commit made costs no page more than a moment, and two people who ask for one share it.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

from curation.errors import AmberError, Busy, Failed

__all__ = ["Asked", "Made", "Maker"]

Telling = Callable[[int, int], None]
"""Called with the parts done and all parts."""

Maker = Callable[[Telling], Any]
"""What makes a value."""

THREADS: Final = 2
KEPT: Final = 64
"""Values that are kept: those asked for last."""

MOST: Final = 32
"""Values that are being made or wait for a thread; more are refused."""

FAULTY: Final = 5.0
"""Seconds for which an error is repeated before the value is made again."""

PATIENCE: Final = 0.15
"""Seconds that a page waits."""

LOG: Final = logging.getLogger("amber.service")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What became of a value: `ready` with the `value`, or with the `error` that prevents it; else `done` of `total`
    parts are made, 0 of 0 where nobody counts them."""

    ready: bool
    value: Any = None
    error: AmberError | None = None
    done: int = 0
    total: int = 0


class _Making:
    """One value that is made, or was."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()
        self.parts = (0, 0)
        self.ended = 0.0

    def tell(self, done: int, total: int) -> None:
        self.parts = (done, total)


class Made:
    """Values by key; `close` ends the threads after the values that they make."""

    def __init__(self, *, threads: int = THREADS, kept: int = KEPT) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="amber-made")
        self._kept = kept
        self._known: OrderedDict[Hashable, _Making] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, key: Hashable, maker: Maker, *, patience: float = PATIENCE) -> Asked:
        """The value of `key`, which `maker` makes in another thread unless it is known; waits `patience` seconds.

        Busy where too many values wait.
        """
        making = self._making(key, maker)
        wait([making.future], timeout=patience)
        return _asked(making)

    def take(self, key: Hashable, maker: Maker, *, patience: float = 30.0) -> Any:
        """The value of `key`; raises the error that prevents it, or Busy where it is not made in `patience` seconds."""
        found = self.ask(key, maker, patience=patience)
        if not found.ready:
            raise Busy("service: this is being made; ask again in a moment")
        if found.error:
            raise found.error
        return found.value

    def known(self, key: Hashable) -> Asked | None:
        """What became of `key`, which is not made where nobody asked for it yet."""
        with self._lock:
            making = self._known.get(key)
        return _asked(making) if making else None

    def drop(self, key: Hashable) -> None:
        """Drop one value."""
        with self._lock:
            self._known.pop(key, None)

    def clear(self) -> None:
        """Drop every value, so that each is made again."""
        with self._lock:
            self._known.clear()

    def close(self) -> None:
        """Make nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _making(self, key: Hashable, maker: Maker) -> _Making:
        with self._lock:
            making = self._known.get(key)
            if making and not _is_over(making):
                self._known.move_to_end(key)
                return making
            if sum(not each.future.done() for each in self._known.values()) >= MOST:
                raise Busy("service: too much is being made; ask again in a moment")
            making = self._known[key] = _Making()
            self._known.move_to_end(key)
            for old in [name for name, each in self._known.items() if each.future.done()][: -self._kept]:
                del self._known[old]
        try:
            self._pool.submit(_make, making, maker)
        except RuntimeError:
            raise Busy("service: is stopping; ask again when it runs") from None
        return making


def _make(making: _Making, maker: Maker) -> None:
    try:
        value, error = maker(making.tell), None
    except AmberError as found:
        value, error = None, found
    except Exception as found:
        LOG.exception("making a part of a page failed")
        value, error = None, Failed(f"{type(found).__name__}: {found}")
    making.ended = time.monotonic()
    making.future.set_result((value, error))


def _is_over(making: _Making) -> bool:
    """Whether it ended in an error long enough ago to try again."""
    if not making.future.done() or making.future.result()[1] is None:
        return False
    return time.monotonic() - making.ended > FAULTY


def _asked(making: _Making) -> Asked:
    if not making.future.done():
        return Asked(ready=False, done=making.parts[0], total=making.parts[1])
    value, error = making.future.result()
    return Asked(ready=True, value=value, error=error)
