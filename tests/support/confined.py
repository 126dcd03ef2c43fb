"""Work in a process of its own, under limits of time and memory: an attack ends there, not in the test process."""

import multiprocessing
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amber.cli import run

__all__ = ["MEMORY", "SECONDS", "Outcome", "command", "confined"]

SECONDS = 60.0
MEMORY = 1 << 30
"""Most seconds and bytes that an attack may take; the process is ended well above these, so that a test can tell."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["amber.cli", "support.confined"])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the work ended: exit code (negative for a signal), standard output and error, seconds of CPU (which other
    work on the machine hardly affects), and the peak of bytes by which it grew."""

    code: int | None
    out: str
    err: str
    seconds: float
    grown: int

    def fault(self, *codes: int) -> str:
        """What is wrong, or "": another exit code than `codes`, a traceback, several lines, or too much of either."""
        lines = [line for line in self.err.splitlines() if line.startswith("amber: ")]
        if "Traceback" in self.err or self.code not in codes:
            return f"exit code {self.code}: {self.err[-600:]}"
        if self.code and len(lines) != 1 and "quarantined " not in self.err:
            return f"{len(lines)} lines of errors: {self.err[-600:]}"
        if self.seconds > SECONDS or self.grown > MEMORY:
            return f"took {self.seconds:.0f} s and {self.grown >> 20} MB"
        return ""


def command(words: Sequence[str]) -> Outcome:
    """The outcome of `amber WORDS`."""
    return confined(run, list(words))


def confined(work: Callable[..., int | None], *arguments: Any) -> Outcome:
    """The outcome of `work(*arguments)`, whose result is the exit code; an exception leaves a traceback and code 99."""
    with tempfile.TemporaryDirectory() as folder:
        process = CONTEXT.Process(target=_work, args=(Path(folder), work, arguments))
        process.start()
        process.join(10 * SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        out, err, grown, cpu = (_text(Path(folder) / name) for name in ("out", "err", "grown", "cpu"))
    return Outcome(code=process.exitcode, out=out, err=err, seconds=float(cpu or 10 * SECONDS), grown=int(grown or 0))


def _work(folder: Path, work: Callable[..., int | None], arguments: Sequence[Any]) -> None:
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY), number)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w") for number in (1, 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 4 * MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        code = work(*arguments)
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    (folder / "grown").write_text(str(grown))
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    (folder / "cpu").write_text(str(sum(each.ru_utime + each.ru_stime for each in spent)))
    os._exit(code or 0)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
