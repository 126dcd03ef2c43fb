"""Ctrl-C that is never lost.

Python raises KeyboardInterrupt wherever the main thread is. Inside a callback of C code, or while a C extension is
imported, a library may swallow it, and the command would go on. So the signal is remembered as well, and whoever
reports progress raises it again.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["raise_pending", "remembered"]

_pending: list[int] = []
"""The interrupts since `remembered` began; signals belong to the process, and so does this list."""


@contextmanager
def remembered() -> Iterator[None]:
    """Remember each Ctrl-C inside this block; leave a handler that is not Python's own as it is."""
    _pending.clear()
    try:
        ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if ours:
            signal.signal(signal.SIGINT, _interrupt)
    except ValueError:  # only the main thread receives signals
        ours = False
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def raise_pending() -> None:
    """Raise KeyboardInterrupt if one was raised before and got lost on its way."""
    if _pending:
        _pending.clear()
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _pending.append(number)
    signal.default_int_handler(number, frame)
