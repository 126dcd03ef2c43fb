"""Processes that write shards. Each has an interpreter of its own: threads would wait for each other's lock, since an
image of 20 KB costs a dozen short calls.

They are not `multiprocessing`'s: its spawned processes run the caller's script once more, and its forked ones inherit
whatever lock another thread held. A worker reads jobs from its standard input and ends with it, however we end.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from curation.errors import Failed
from samplers.shards.shard_writer import ShardEntry, write_blocks

__all__ = ["Workers", "serve"]

_START = """
import sys, types
sys.path[:] = {}
for name, path in {}:
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [path]  # without what the package itself imports, which takes half a second
from samplers.pack.worker_processes import serve
serve()
"""
_PACKAGES = [(name, sys.modules[name].__path__[0]) for name in ("curation", "samplers")]


class Workers:
    """So many processes, for as many threads that hand them jobs; close it in the end."""

    def __init__(self, count: int) -> None:
        self._all = [_Worker() for _ in range(count)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)

    def write(self, path: Path, head: bytes, lines: list[ShardEntry], count: Callable[[int], None]) -> str:
        """`write_blocks` in one of the processes, the next that is idle; raises what that raises, or Failed."""
        worker = self._idle.get()
        try:
            return worker.write((path, head, lines), count)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes; what they write just now is left over, for the next run to remove."""
        for worker in self._all:
            worker.end()


class _Worker:
    """One process."""

    def __init__(self) -> None:
        words = [sys.executable, "-S", "-c", _START.format(sys.path, _PACKAGES)]
        self._process: subprocess.Popen[bytes] = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def write(self, job: tuple[Path, bytes, list[ShardEntry]], count: Callable[[int], None]) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            pickle.dump(job, stdin)
            stdin.flush()
            while isinstance(told := pickle.load(stdout), int):
                count(told)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise Failed(f"a process that writes shards ended ({self._process.wait()}); run it again") from error
        if isinstance(told, Exception):
            raise told
        return str(told)

    def end(self) -> None:
        """Again is a no-op."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


def serve() -> None:
    """What a worker does: jobs from standard input, to standard output how many images more are done, and in the end
    the sha256, or the error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ours to end
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints shall not print between the answers

    def tell(what: int | str | Exception) -> None:
        pickle.dump(what, told)
        told.flush()

    with suppress(EOFError, BrokenPipeError):  # we have ended
        while True:
            path, head, lines = pickle.load(sys.stdin.buffer)
            try:
                done: str | Exception = write_blocks(path, head, lines, tell)
            except BrokenPipeError:
                raise
            except Exception as error:
                done = error
            tell(done)
