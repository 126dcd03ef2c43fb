"""A child process that vets predicates: what runs away there ends there, at a limit of time or memory.

DuckDB evaluates the constants of a predicate while it binds it, so a few hundred characters can run for minutes or take
gigabytes, which neither its memory limit nor an interrupt stops. The child is started once for each process (0.3 s) and
again after it was ended; it ends with its parent.
"""

import atexit
import json
import os
import resource
import selectors
import subprocess
import sys
import threading
from typing import IO, Any, Final

from curation.errors import AmberError, BadInput, Failed, NotFound

__all__ = ["MEMORY", "SECONDS", "serve", "vet_in_child"]

SECONDS: Final = 10.0
"""Longest wall time of one vetting: a sound predicate takes some 10 ms of CPU."""

MEMORY: Final = 512 << 20
"""Bytes of address space that the child may take beyond what its libraries take."""

START_SECONDS: Final = 120.0
"""Longest start of the child, on a machine that is busy."""

RAN_AWAY: Final = (
    f"takes more than {SECONDS:.0f} s or {MEMORY >> 20} MB to check; write it with shorter texts and fewer functions"
)

NOT_STARTED: Final = (
    "slices: the process that checks predicates does not start; free some memory, or look in this folder and in "
    "PYTHONPATH for files that are named like a library"
)

ERRORS: Final[dict[str, type[AmberError]]] = {"BadInput": BadInput, "NotFound": NotFound}


class _Child:
    """The child process; `ask` sends one request at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._parent = 0
        atexit.register(self.close)

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The child's answer; None when it ran away, which ends it."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = _line(process.stdout, SECONDS)
            except (BrokenPipeError, TimeoutError):
                line = b""
            except BaseException:  # Ctrl-C: an answer that nobody reads must not go to the next request
                self.close()
                raise
            if not line:
                self.close()
                return None
            answer: dict[str, Any] = json.loads(line)
            return answer

    def close(self) -> None:
        """End the child, if this process started one."""
        process, self._process = self._process, None
        if process is not None and self._parent == os.getpid():
            process.kill()
            process.communicate()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._parent == os.getpid() and self._process.poll() is None:
            return self._process
        self.close()
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from curation.catalog.slice_vetting import vet_requests; vet_requests()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        self._parent = os.getpid()
        assert self._process.stdout is not None
        try:
            ready = _line(self._process.stdout, START_SECONDS)
        except TimeoutError:
            ready = b""
        if not ready:
            self.close()
            raise Failed(NOT_STARTED)
        return self._process


def vet_in_child(predicate: str, frame: dict[str, Any]) -> str:
    """The canonical text of a predicate, from the child; BadInput as `slice_vetting.vet`, and when it runs away; Failed
    when the child does not start."""
    answer = _CHILD.ask({"predicate": predicate, "frame": frame})
    if answer is None:
        raise BadInput(f"slice {predicate[:200]!r}: {RAN_AWAY}")
    if "error" in answer:
        raise ERRORS[answer["kind"]](answer["error"])
    return str(answer["canonical"])


def serve(vet: Any) -> None:
    """Answer requests from standard input, in the child: `vet` maps a predicate and a frame to canonical text."""
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _say({"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            _say({"canonical": vet(request["predicate"], request["frame"])})
        except AmberError as error:
            _say({"kind": type(error).__name__, "error": str(error)})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _line(stream: IO[bytes], seconds: float) -> bytes:
    """The next line of a pipe; TimeoutError when none begins within `seconds`."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise TimeoutError
    return stream.readline()


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


_CHILD: Final = _Child()
