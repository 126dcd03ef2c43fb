"""The mongod of a workspace: shared by all who browse there, ended with the last; and unusable MongoDBs."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.app import mongod
from support.served import free_port

from curation.catalog.catalog import Catalog
from curation.errors import Busy
from curation.fiftyone_app.mongod import mirror_lock

pytestmark = pytest.mark.filterwarnings("ignore")  # of FiftyOne itself

USES = """
import sys, pathlib
from curation.fiftyone_app.mongod import prepare_database
prepare_database(pathlib.Path(sys.argv[1]))
print(__import__("os").environ["FIFTYONE_DATABASE_URI"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return Catalog.create(tmp_path / "home").home


def browse(home: Path, **environment: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "amber", "browse", "--no-app", "--home", str(home)]
    return subprocess.Popen(
        words, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def uses(home: Path) -> "subprocess.Popen[str]":
    """A process that uses the mongod of a workspace; its first line of output is the URI."""
    return subprocess.Popen(
        [sys.executable, "-c", USES, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def end(*processes: "subprocess.Popen[str]", how: signal.Signals = signal.SIGKILL) -> None:
    """Signal the whole process group, as a terminal does for SIGINT."""
    for process in processes:
        os.killpg(process.pid, how)
        process.communicate()


def ended(home: Path) -> bool:
    """Whether the mongod ends within 30 seconds: it leaves its lock file empty."""
    limit = time.monotonic() + 30
    while (home / "browse" / "port").exists() or (home / "browse" / "mongo" / "mongod.lock").read_text():
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def test_two_who_browse_at_once_share_it_on_an_empty_catalog(home: Path) -> None:
    both = [browse(home), browse(home)]
    answers = [each.communicate(timeout=120) for each in both]
    assert [each.returncode for each in both] == [0, 0], answers
    assert sorted("built" in answer for answer, _ in answers) == [False, True]
    assert all(": 0 samples, " in answer for answer, _ in answers)
    assert ended(home)


def test_it_lives_until_its_last_user_ends_in_any_way(home: Path, tmp_path: Path) -> None:
    first, other = uses(home), uses(Catalog.create(tmp_path / "other").home)
    uri = first_line(first)
    second = uses(home)
    assert first_line(second) == uri != first_line(other)
    end(first, how=signal.SIGINT)
    time.sleep(1)
    third = uses(home)
    assert first_line(third) == uri
    end(second, third, other)
    fourth = uses(home)  # while the mongod ends
    assert first_line(fourth).startswith("mongodb://127.0.0.1:")
    end(fourth)
    assert ended(home)


def test_it_is_started_again_after_a_kill(home: Path) -> None:
    first = uses(home)
    uri = first_line(first)
    os.kill(int((home / "browse" / "mongo" / "mongod.lock").read_text()), signal.SIGKILL)
    second = uses(home)
    assert first_line(second) != uri
    end(first, second)
    assert ended(home)


def test_files_in_use_by_another_mongod(home: Path) -> None:
    (home / "browse").mkdir()
    with mongod(home / "browse" / "mongo", free_port()):
        while not (home / "browse" / "mongo" / "WiredTiger").exists():
            time.sleep(0.1)
        line = refused(home, 1)
    assert "does not come up (DBPathInUse" in line
    assert "fix that, or set FIFTYONE_DATABASE_URI" in line


def refused(home: Path, status: int, **environment: str) -> str:
    """The one line that `amber browse` prints, within seconds, when it refuses."""
    process = browse(home, **environment)
    _, line = process.communicate(timeout=60)
    assert process.returncode == status, line
    assert line.count("\n") == 1, line
    return line


def test_a_mongodb_that_does_not_answer(home: Path) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=500"
    line = refused(home, 1, FIFTYONE_DATABASE_URI=uri)
    assert f"MongoDB: {uri} does not answer (" in line
    assert "set FIFTYONE_DATABASE_URI to one of 6.0 or newer" in line


def test_a_mongodb_that_refuses(home: Path, tmp_path: Path) -> None:
    port = free_port()
    with mongod(tmp_path / "mongo", port, "--auth"):
        line = refused(home, 1, FIFTYONE_DATABASE_URI=f"mongodb://127.0.0.1:{port}/")
        assert f"MongoDB: mongodb://127.0.0.1:{port}/ refuses (not authorized on fiftyone to execute command" in line
        line = refused(home, 1, FIFTYONE_DATABASE_URI=f"mongodb://ada:word@127.0.0.1:{port}/")
        assert f"MongoDB: mongodb://127.0.0.1:{port}/ refuses (Authentication failed.); set FIFTY" in line


@pytest.fixture
def old() -> Iterator[int]:
    """The port of a stand-in that reports MongoDB 5.0: there is no wheel of the real one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket) -> None:
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(peer,), daemon=True).start()


def _answer(peer: socket.socket) -> None:
    import bson

    hello = {"ok": 1.0, "isWritablePrimary": True, "ismaster": True, "minWireVersion": 0, "maxWireVersion": 13,
             "maxBsonObjectSize": 1 << 24, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000}  # fmt: skip
    reply = bson.encode(hello | {"version": "5.0.14", "versionArray": [5, 0, 14, 0]})
    with peer:
        while len(head := peer.recv(16, socket.MSG_WAITALL)) == 16:
            length, request, _, kind = struct.unpack("<4i", head)
            peer.recv(length - 16, socket.MSG_WAITALL)
            body = struct.pack("<iqii", 8, 0, 0, 1) if kind == 2004 else struct.pack("<ib", 0, 0)
            answer = struct.pack("<3i", 1, request, 1 if kind == 2004 else 2013) + body + reply
            peer.sendall(struct.pack("<i", len(answer) + 4) + answer)


def test_a_mongodb_that_is_too_old(home: Path, old: int) -> None:
    line = refused(home, 2, FIFTYONE_DATABASE_URI=f"mongodb://127.0.0.1:{old}/")
    assert f"MongoDB: mongodb://127.0.0.1:{old}/ has version 5.0.14; set FIFTYONE_DATABASE_URI to one of 6.0" in line


def test_a_mirror_that_another_process_writes(home: Path) -> None:
    (home / "browse").mkdir()
    with (
        mirror_lock(home),
        pytest.raises(Busy, match="writes the mirror; wait for that `amber browse`"),
        mirror_lock(home, patience=0.2),
    ):
        pass
