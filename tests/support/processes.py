"""Processes that tests start: they end with the block, on every way out."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["ending"]

Text = TypeVar("Text", str, bytes)


@contextmanager
def ending(process: "subprocess.Popen[Text]") -> Iterator["subprocess.Popen[Text]"]:
    """`process`, killed at the end of the block if it still runs; `Popen` itself would wait for it for ever."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
