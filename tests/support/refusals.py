"""What a refused command leaves: one line on standard error, an exit code, and an unchanged catalog."""

import resource
import signal
import subprocess
import sys

import pytest

from amber.cli import run
from curation.catalog.catalog import Catalog

__all__ = ["FULL", "LONG", "LOOP", "amber", "digest", "ended", "one_line", "refused", "seen"]

LOOP = ["loop", "--rounds", "0", "--start", "8", "--draws", "128"]
LONG = ["loop", "--rounds", "0", "--start", "8", "--draws", "200000"]
FULL = "[Ss]pace|too large"


def digest() -> str:
    """The digest of the catalog's history; equal digests mean equal contents."""
    with Catalog.open("home").read() as now:
        return now.digest


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    """The one line of a refused command, after checking that it printed and changed nothing else."""
    before = digest()
    assert run(list(words)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert digest() == before
    return one_line(err)


def one_line(err: str) -> str:
    """The only line on standard error that is not progress."""
    (line,) = [line for line in err.splitlines() if line.strip() and not line.startswith("  ")]
    assert line.startswith("amber: ")
    assert "Traceback" not in line
    return line


def amber(*words: str, limit: int | None = None) -> "subprocess.Popen[str]":
    """Start `amber` in a process that cannot write files above `limit` bytes, as on a full disk."""

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell start with SIGINT ignored
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = (sys.executable, "-m", "amber", *words)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its exit code, and the rest of its standard error."""
    err = process.communicate(timeout=120)[1]
    return process.returncode, err


def seen(process: "subprocess.Popen[str]", text: str) -> None:
    """Wait until a line of standard error contains `text`."""
    assert process.stderr
    assert any(text in line for line in process.stderr), "it ended without printing it"
