"""Ctrl-C that is never lost.

Python raises KeyboardInterrupt wherever the main thread is. Inside a callback of C code, in a weak reference's callback
or a `__del__`, or while a C extension is imported, it may be swallowed, and the command would go on. So the signal is
remembered as well, and whoever reports progress raises it again; the interpreter's own words about one that it could
not raise are left unsaid.
"""

import signal
import sys
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
    told = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt and _pending else told(lost)
    try:
        yield
    finally:
        sys.unraisablehook = told
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
