"""A real PostgreSQL server for the tests, with its own folder and port; it stops with the tests."""

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

__all__ = ["Server", "serving"]

OPTIONS = {"listen_addresses": "127.0.0.1", "fsync": "off", "full_page_writes": "off", "max_connections": "200"}


class Server:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def address(self, database: str) -> str:
        """The address of a database for libpq."""
        return f"postgresql://amber@127.0.0.1:{self.port}/{database}"

    def url(self, data: Path) -> str:
        """The URL of a new catalog in a database of its own, with its files in `data`."""
        return f"{self._database('template1')}?data={data}"

    def copy(self, url: str, data: Path) -> str:
        """The URL of a copy of the catalog at `url`, to which nobody is connected; its files are in `data` already."""
        address = self._database(url.partition("?")[0].rpartition("/")[2])
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("UPDATE amber.ducklake_metadata SET value = %s WHERE key = 'data_path'", [f"{data}/"])
        return f"{address}?data={data}"

    def _database(self, template: str) -> str:
        name = f"c{uuid.uuid4().hex}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")  # type: ignore[arg-type]
        return self.address(name)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server on a free port. Without PostgreSQL the tests are skipped, on CI they fail."""
    initdb, postgres = _program("initdb"), _program("postgres")
    if initdb is None or postgres is None:
        missing = "PostgreSQL is not installed; install it with `apt-get install postgresql`"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    if user:
        shutil.chown(folder, user)
    data = str(folder / "data")
    words = [initdb, "-D", data, "-A", "trust", "-U", "amber", "-N", "--no-instructions"]
    subprocess.run(words, check=True, capture_output=True, user=user, cwd=folder)
    port = _free_port()
    options = [word for name, value in OPTIONS.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [postgres, "-D", data, "-p", str(port), "-k", str(folder), *options],
            stdout=log, stderr=log, user=user, cwd=folder,
        )  # fmt: skip
        try:
            _await(port, process)
            yield Server(port)
        finally:
            process.send_signal(signal.SIGQUIT)  # immediate: its data is not kept
            process.wait(60)


def _program(name: str) -> str | None:
    """The path of a program of PostgreSQL, which Debian keeps off PATH; None when missing."""
    beside = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
    return shutil.which(name) or (beside[-1] if beside else None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(f"postgresql://amber@127.0.0.1:{port}/postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("PostgreSQL did not start; see its log")
