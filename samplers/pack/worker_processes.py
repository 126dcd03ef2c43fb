"""Processes that write shards. Each has its own interpreter lock, for which threads would compete: an image of 20 KB
costs a dozen short calls.

They do not use `multiprocessing`: its spawned processes run the caller's script again, and its forked processes inherit
locks that other threads hold. A worker reads jobs from standard input and ends when the pipe closes, however the parent
ends.
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
    package.__path__ = [path]  # skips the package's __init__, whose imports take half a second
from samplers.pack.worker_processes import serve
serve()
"""
_PACKAGES = [(name, sys.modules[name].__path__[0]) for name in ("curation", "samplers")]


class Workers:
    """`count` worker processes, for as many threads that submit jobs; close it after use."""

    def __init__(self, count: int) -> None:
        self._all = [_Worker() for _ in range(count)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)

    def write(self, path: Path, head: bytes, lines: list[ShardEntry], count: Callable[[int], None]) -> str:
        """Run `write_blocks` in the next idle process; raises what `write_blocks` raises, or Failed if it dies."""
        worker = self._idle.get()
        try:
            return worker.write((path, head, lines), count)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes; the next run removes their unfinished files."""
        for worker in self._all:
            worker.end()


class _Worker:
    """One worker process."""

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
            while isinstance(answer := pickle.load(stdout), int):
                count(answer)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise Failed(f"a process that writes shards ended ({self._process.wait()}); run it again") from error
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def end(self) -> None:
        """Kill the process; calling it again is a no-op."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


def serve() -> None:
    """The main loop of a worker: read jobs from standard input; write to standard output the numbers of images done
    since the last answer, and finally the sha256 of the shard or the error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers

    def answer(content: int | str | Exception) -> None:
        pickle.dump(content, output)
        output.flush()

    with suppress(EOFError, BrokenPipeError):  # the parent has ended
        while True:
            path, head, entries = pickle.load(sys.stdin.buffer)
            try:
                result: str | Exception = write_blocks(path, head, entries, answer)
            except BrokenPipeError:
                raise
            except Exception as error:
                result = error
            answer(result)
