"""Keeps a mongod running while somebody uses it: `python mongod_keeper.py FOLDER MONGOD`, in its own process.

Each user holds a shared lock on FOLDER/users.lock, which ends with its process, however that ends. This file imports
only the standard library and is run by its path, so that it takes only a few megabytes.
"""

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

LOOKS = 0.2
"""Seconds between two checks for users."""


def main(folder: Path, mongod: str) -> int:
    """Start mongod, write its port to FOLDER/port, and end it after its last user; returns its exit status."""
    os.setsid()  # Ctrl-C in the first user's terminal must not end the mongod of the others
    with (folder / "keeper.lock").open("a") as own, (folder / "users.lock").open("a") as users:
        if not _locked(own):
            return 0  # another keeper was faster
        (folder / "port").unlink(missing_ok=True)
        (folder / "mongo").mkdir(exist_ok=True)
        port = _free_port()
        words = ["--dbpath", str(folder / "mongo"), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
        words += ["--logpath", str(folder / "mongod.log")]
        child = subprocess.Popen([mongod, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        (folder / "port.part").write_text(str(port))
        os.replace(folder / "port.part", folder / "port")
        while child.poll() is None and not _locked(users):
            time.sleep(LOOKS)
        (folder / "port").unlink(missing_ok=True)
        child.terminate()
        return child.wait()


def _locked(file: IO[str]) -> bool:
    """Lock a file exclusively without waiting; False when another process holds a lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
