"""`make bench-demo`: duration of the demo from an empty cache, and peak memory of the demo and its children."""

import os
import subprocess
import sys
import tempfile
import time

import psutil

from benchmarks.table import Row, finish, small

LONGEST = 300.0
LARGEST = 3.0


def main() -> None:
    """Run the demo with an empty cache and sample the summed resident memory of its processes five times a second."""
    with tempfile.TemporaryDirectory(prefix="bench-demo-") as folder:
        command = [sys.executable, "-m", "amber.demo", "--out", f"{folder}/out"]
        if small():
            command += ["--images", "2000", "--draws", "6400", "--sign-images", "400", "--sign-draws", "640"]
        started = time.monotonic()
        environment = {**os.environ, "AMBER_CACHE": f"{folder}/cache"}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.2)
        seconds = time.monotonic() - started
    if process.returncode:
        sys.exit(process.returncode)
    finish(
        "demo",
        [
            Row(what="make demo after the install", value=seconds, unit=" s", asked="<= 300 s", met=seconds <= LONGEST),
            Row(what="peak summed RSS", value=peak, unit=" GB", asked="<= 3 GB", met=peak <= LARGEST),
        ],
    )


def _resident(pid: int) -> float:
    """Summed resident memory of a process and its descendants, in GB."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total / 2**30


if __name__ == "__main__":
    main()
