"""Keeps a mongod for as long as somebody uses it: `python mongod_keeper.py FOLDER MONGOD`, a process of its own.

Whoever uses it holds FOLDER/users.lock, shared, and lets go of it by ending, however that comes about. This file stands
on the standard library alone and is run by its path, so that it costs a few megabytes.
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
"""Seconds between two looks at whether anybody is there."""


def main(folder: Path, mongod: str) -> int:
    """Start mongod, write its port to FOLDER/port, and end it when the last user has gone; its exit status."""
    os.setsid()  # Ctrl-C in the terminal of whoever came first is not meant for the others' mongod
    with (folder / "keeper.lock").open("a") as mine, (folder / "users.lock").open("a") as users:
        if not _held(mine):
            return 0  # another keeper was faster
        (folder / "port").unlink(missing_ok=True)
        (folder / "mongo").mkdir(exist_ok=True)
        port = _free_port()
        words = ["--dbpath", str(folder / "mongo"), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
        words += ["--logpath", str(folder / "mongod.log")]
        child = subprocess.Popen([mongod, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        (folder / "port.part").write_text(str(port))
        os.replace(folder / "port.part", folder / "port")
        while child.poll() is None and not _held(users):
            time.sleep(LOOKS)
        (folder / "port").unlink(missing_ok=True)
        child.terminate()
        return child.wait()


def _held(file: IO[str]) -> bool:
    """Whether this process now holds the exclusive lock of a file (not by `curation.files.locks`: see above)."""
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
