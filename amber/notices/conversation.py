"""What both channels share: a receiver that refuses for good, and an end to a conversation over the network."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from curation.errors import BadInput

__all__ = ["Refused", "cut_after"]


class Refused(BadInput):
    """The receiver will never take it: trying again is of no use."""


@contextmanager
def cut_after(seconds: float, connection: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Shut the socket that `connection` returns, if the block still runs after `seconds`: its next read or write fails.

    A time-out of each read alone lets a server that sends byte by byte hold the conversation for hours.
    """

    def cut() -> None:
        found = connection()
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
