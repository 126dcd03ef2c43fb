"""A program of peers in a separate environment that does one piece of work at a time, so that rounds interleave."""

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
    """Wall and CPU seconds of one piece of work, and the number of images."""

    wall: float
    cpu: float
    images: int


class Rounds:
    """Times of each arm in each round."""

    def __init__(self) -> None:
        self._took: dict[str, list[Took]] = {}

    def add(self, arm: str, took: Took | None) -> None:
        """Record a round of an arm; None if the arm failed."""
        if took is not None:
            self._took.setdefault(arm, []).append(took)

    def arms(self) -> list[str]:
        """The arms that took part."""
        return list(self._took)

    def wall(self, arm: str) -> float:
        """Median wall milliseconds an image."""
        return 1e3 * median(part.wall / part.images for part in self._took[arm])

    def cpu(self, arm: str) -> float:
        """Median CPU milliseconds an image."""
        return 1e3 * median(part.cpu / part.images for part in self._took[arm])

    def ratio(self, arm: str, limit: str) -> float:
        """Median over the rounds of the arm's speed as a multiple of `limit`'s in the same round."""
        return median(self._ratios(arm, limit))

    def spread(self, arm: str, limit: str) -> tuple[float, float]:
        """The lowest and the highest of these ratios."""
        found = self._ratios(arm, limit)
        return min(found), max(found)

    def _ratios(self, arm: str, limit: str) -> list[float]:
        pairs = zip(self._took[arm], self._took[limit], strict=False)
        return [other.wall / other.images / (mine.wall / mine.images) for mine, other in pairs]


@contextmanager
def peers(python: Path, folder: Path) -> Iterator[Any]:
    """A function that runs a work on a peer and returns its times; without the environment no peer takes part."""
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
