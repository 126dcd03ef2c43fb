"""The draws that a training was delivered, segment by segment of its course, beside those that its plans requested."""

from collections.abc import Iterable
from typing import Any

import torch

from samplers.plan.exposure import Exposure
from samplers.streaming.batches import Batch
from training.loop.course import Course
from training.loop.ranks import Ranks

__all__ = ["Delivered"]


class Delivered:
    """Counts of the draws of a course; each rank counts its own, and `rows`, `alarm` and `state` are those of all."""

    def __init__(self, course: Course, ranks: Ranks) -> None:
        self._course, self._ranks = course, ranks
        self._parts: list[Exposure] = []

    def add(self, batch: Batch) -> None:
        """Count a batch of the course's last segment."""
        self._open()
        self._parts[-1].add(batch.rows, batch.positions, self._ranks.rank)

    def rows(self) -> list[dict[str, Any]]:
        """Requested and delivered draws by task, stratum, boosted slice and rank, over all segments."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for part in self._summed():
            for row in part.rows():
                held = found.setdefault((row.kind, row.name), {**vars(row), "asked": 0.0, "drawn": 0})
                held["asked"], held["drawn"] = held["asked"] + row.asked, held["drawn"] + row.drawn
        return list(found.values())

    def alarm(self) -> str:
        """What differs from the request in any segment, or "" if chance explains it."""
        return "; ".join(filter(None, (part.alarm() for part in self._summed())))

    def state(self) -> list[dict[str, torch.Tensor]]:
        """The counts of all ranks, by segment."""
        return [{name: torch.from_numpy(values) for name, values in part.counts().items()} for part in self._summed()]

    def restore(self, state: Iterable[dict[str, torch.Tensor]] | None) -> None:
        """Go on from these counts, of any number of ranks; None on every rank but the first."""
        for number, counts in enumerate(state or ()):
            self._open(number + 1)
            arrays = {name: values.cpu().numpy() for name, values in counts.items()}
            self._parts[number].add_counts(arrays)

    def _open(self, count: int | None = None) -> None:
        segments = self._course.segments
        while len(self._parts) < (len(segments) if count is None else count):
            self._parts.append(Exposure(segments[len(self._parts)].plan, ranks=self._ranks.world))

    def _summed(self) -> list[Exposure]:
        """The counts of all ranks."""
        self._open()
        gathered = self._ranks.gather([part.counts() for part in self._parts])
        found = []
        for number, segment in enumerate(self._course.segments):
            total = Exposure(segment.plan, ranks=self._ranks.world)
            for parts in gathered:
                total.add_counts(parts[number])
            found.append(total)
        return found
