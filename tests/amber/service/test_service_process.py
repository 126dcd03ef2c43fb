"""The service as a process: how it starts, what it says, how it stops, and what is to run it."""

import configparser
import contextlib
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.homes import make_home
from support.processes import ending
from support.served import free_port

from amber.cli import cli
from amber.service.client import Client
from amber.service.tokens import SCOPES, Tokens
from curation.catalog.catalog import Catalog
from curation.errors import Failed

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("process"), samples=40)


@pytest.fixture(scope="module")
def secrets(made: Catalog) -> dict[str, str]:
    return {scope: Tokens(made.home).add(scope, scope) for scope in SCOPES}


def soon(holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Failed):
            if holds():
                return
        time.sleep(0.1)
    pytest.fail("it never came to that")


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_starts_serves_and_says_what_it_did(made: Catalog, secrets: dict[str, str]) -> None:
    port = free_port()
    words = [sys.executable, "-m", "amber", "serve", "--port", str(port), "--home", str(made.home)]
    with ending(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process:
        assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}"
        with Client(f"http://127.0.0.1:{port}", secrets["read"]) as client:
            soon(lambda: client.health().status == "ok")
            assert len(client.samples(limit=2)) == 2
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert {json.loads(line)["route"] for line in log.splitlines()} >= {"/health", "/api/samples"}


def test_what_is_under_way_is_answered_before_it_stops(made: Catalog, secrets: dict[str, str]) -> None:
    port = free_port()
    url, words = f"http://127.0.0.1:{port}", [sys.executable, "-m", "amber", "serve", "--port", str(port)]
    with (
        ending(
            subprocess.Popen([*words, "--home", made.home], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ) as process,
        Client(url, secrets["read"]) as client,
        Client(url, secrets["admin"]) as admin,
        ThreadPoolExecutor(1) as beside,
    ):
        soon(lambda: client.health().status == "ok")
        with made.commit(author="ada", message="holds the catalog") as change:
            change.add_quarantine([("x", "y")], dataset="d")
            answer = beside.submit(client.tasks)
            soon(lambda: "amber_requests_running 2.0" in admin.metrics())  # that one, and the one which asks
            process.send_signal(signal.SIGTERM)
            soon(lambda: refused(port))
            time.sleep(1.5)
            assert not answer.done()
        assert len(answer.result(30)) == 5
        assert process.wait(30) == -signal.SIGTERM  # which systemd takes for a clean end


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """As it stands, but for what is not on this machine: the user and the program."""
    text = (ROOT / "deploy" / "amber.service").read_text()
    unit = tmp_path / "amber.service"
    unit.write_text(text.replace("/opt/amber/.venv/bin/amber", sys.executable).replace("User=amber", "User=root"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    judged = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=40", str(unit)]
    assert subprocess.run(judged, capture_output=True, check=False).returncode == 0
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=nosuch"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "nosuch" in done.stderr


def test_the_unit_and_the_container_file_start_what_there_is() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy" / "amber.service")
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    started = shlex.split(unit["Service"]["ExecStart"])
    container = (ROOT / "deploy" / "Containerfile").read_text()
    words = json.loads(re.search(r"^CMD (.*)$", container, re.MULTILINE)[1])
    for arguments in (started[1:], words[1:]):
        command = cli.commands[arguments[0]]
        command.make_context("serve", arguments[1:], resilient_parsing=True)
    assert [
        name for name in re.findall(r"^COPY (\S+) \S+$", container, re.MULTILINE) if not (ROOT / name).exists()
    ] == []
    uid = re.search(r"^USER (\d+)$", container, re.MULTILINE)[1]
    assert f"--uid {uid} amber" in container
