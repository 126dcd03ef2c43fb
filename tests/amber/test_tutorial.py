"""The tutorial works as typed: its own blocks, from the page, on images that Amber draws, up to the team's page."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from support.served import free_port
from support.tutorial import PAGE, SERVE, script, steps
from support.visitors import signed_in

ROOT = PAGE.parents[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as after `make install`, in which the blocks of the page ran; what they printed is in `printed`."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "datasets").symlink_to(ROOT / "datasets")
    words = ["bash", "-c", script()]
    done = subprocess.run(words, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "printed").write_text(done.stdout)
    return folder


@pytest.fixture
def page(checkout: Path) -> Iterator[httpx.Client]:
    """The team's page by the last block, on a port of its own, after signing in with the token that was printed."""
    port = free_port()
    words = ["bash", "-c", f"source .venv/bin/activate; exec {SERVE.strip()} --home photos-home --port {port}"]
    served = subprocess.Popen(
        words, cwd=checkout, env=_environment(), stderr=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=60) as visitor:
            _wait_for(lambda: visitor.get("/health").status_code == 200)
            signed_in(visitor, re.findall(r"^amber_\S+$", (checkout / "printed").read_text(), re.MULTILINE)[-1])
            yield visitor
    finally:
        served.send_signal(signal.SIGTERM)
        served.communicate(timeout=60)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AMBER_")} | {
        "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default",
    }  # fmt: skip


def _wait_for(found: Callable[[], bool]) -> None:
    """Wait for the service to answer, and for what it counts in the background."""
    for _ in range(300):
        with suppress(httpx.TransportError):
            if found():
                return
        time.sleep(0.1)
    raise TimeoutError("not there after 30 s")


def test_the_page_is_made_of_commands_files_and_python() -> None:
    assert {language for language, _, _ in steps()} == {"bash", "python", "toml"}


def test_the_commands_print_what_the_page_says(checkout: Path) -> None:
    printed = (checkout / "printed").read_text()
    assert re.search(r"^photos: 200 samples \(200 new\), \d+ labels", printed, re.MULTILINE)
    assert "slice pedestrian_at_night: " in printed
    assert re.search(r"^photos/\S+$", printed, re.MULTILINE)
    assert re.search(r"^Plan [0-9a-f]{32} at commit 2: 2,000 draws", printed, re.MULTILINE)
    assert re.search(r"^Run [0-9a-f]{16}: ", printed, re.MULTILINE)
    assert "20 of 20 labels requested" in printed
    assert "pedestrian_at_night" in (checkout / "report.html").read_text()


def test_the_slice_and_the_requests_are_on_the_page(page: httpx.Client) -> None:
    _wait_for(lambda: "20" in re.sub(r"<[^>]+>", " ", page.get("/").text).split())
    _wait_for(lambda: "pedestrian_at_night" in page.get("/tasks/pedestrian").text)
