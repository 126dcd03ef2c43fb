"""A program of peers in an environment of its own, asked for one piece of work at a time, so that rounds interleave."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["Rounds", "Took", "peers"]


@dataclass(frozen=True, kw_only=True)
class Took:
    """Seconds of one piece of work, on the clock and on the processors, and the images that it brought."""

    wall: float
    cpu: float
    images: int


class Rounds:
    """What each arm took in each round."""

    def __init__(self) -> None:
        self._took: dict[str, list[Took]] = {}

    def add(self, arm: str, took: Took | None) -> None:
        """Keep a round of an arm; None is an arm that could not."""
        if took is not None:
            self._took.setdefault(arm, []).append(took)

    def arms(self) -> list[str]:
        """Those that took part."""
        return list(self._took)

    def wall(self, arm: str) -> float:
        """Median milliseconds an image."""
        return 1e3 * median(part.wall / part.images for part in self._took[arm])

    def cpu(self, arm: str) -> float:
        """Median milliseconds of the processors an image."""
        return 1e3 * median(part.cpu / part.images for part in self._took[arm])

    def ratio(self, arm: str, limit: str) -> float:
        """Median over the rounds of how many times as fast as `limit` the arm was in the same round."""
        pairs = zip(self._took[arm], self._took[limit], strict=False)
        return median(other.wall / other.images / (mine.wall / mine.images) for mine, other in pairs)


@contextmanager
def peers(python: Path, folder: Path) -> Iterator[Any]:
    """A function that has a peer do a work, and tells what it took; without the environment nobody takes part."""
    if not python.exists():
        yield lambda peer, work: None
        return
    words = [python, "benchmarks/stream_peers.py", folder]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def ask(peer: str, work: str) -> Took | None:
            process.stdin.write(f"{peer} {work}\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or "null")
            return Took(**answer) if answer else None

        yield ask
        process.stdin.close()
        process.wait(timeout=20)
