"""`make bench-tutorial`: how long a new user takes from a clone to a first slice with its requests on the team's page.

It clones this checkout into an empty folder, runs `make install` there and then the blocks of docs/tutorial.md, starts
`amber serve`, and waits for the page. Reading and typing are not in the time; downloads are.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from support.served import free_port
from support.tutorial import SERVE, script

from benchmarks.table import Row, finish

HERE = Path(__file__).resolve().parent.parent
LONGEST = 600.0


def main() -> None:
    """Take each step once, and print the seconds of each and of all."""
    with tempfile.TemporaryDirectory(prefix="bench-tutorial-") as name:
        folder, took = Path(name) / "amber", dict[str, float]()
        for step, words, place in (
            ("git clone", ["git", "clone", "--quiet", "--no-hardlinks", str(HERE), str(folder)], Path(name)),
            ("make install", ["make", "install", f"PYTHON={sys.executable}"], folder),
            ("the blocks of the tutorial", ["bash", "-c", script()], folder),
        ):
            begun = time.monotonic()
            _run(words, place)
            took[step] = time.monotonic() - begun
        took["amber serve, until its page is there"] = _served(folder)
    rows = [Row(what=step, value=seconds, unit=" s") for step, seconds in took.items()]
    total = sum(took.values())
    rows.append(Row(what="from the clone to the page", value=total, unit=" s", asked="<= 600 s", met=total <= LONGEST))
    finish("tutorial", rows)


def _run(words: list[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)[:80]}: {done.stderr[-2000:]}")


def _served(folder: Path) -> float:
    """Seconds from the last block of the tutorial, on a free port, until it answers with a page."""
    port, begun = free_port(), time.monotonic()
    words = ["bash", "-c", f"source .venv/bin/activate; exec {SERVE.strip()} --home photos-home --port {port}"]
    process = subprocess.Popen(words, cwd=folder, env=_environment(), stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and time.monotonic() - begun < LONGEST:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/", follow_redirects=True).is_success:
                    return time.monotonic() - begun
            except httpx.TransportError:
                time.sleep(0.1)
        sys.exit("amber serve: no page")
    finally:
        process.terminate()
        process.wait()


def _environment() -> dict[str, str]:
    """That of a new user: without an environment or a workspace of ours."""
    ours = ("AMBER_", "PYTHONPATH", "VIRTUAL_ENV", "MAKE", "MFLAGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


if __name__ == "__main__":
    main()
