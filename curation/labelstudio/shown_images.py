"""The images that an item shows: its sample's, and for tasks that read two frames the frame before it."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from html import escape
from typing import Any, Final

from curation.arrays import Ints
from curation.catalog.frames_before import samples_before
from curation.catalog.snapshot import Snapshot
from curation.labelstudio.label_config import BEFORE, IMAGE

__all__ = ["ShownImages", "UrlFor"]

UrlFor = Callable[[Mapping[str, Any]], str]
"""Gives the URL at which people's browsers find the image of a sample (a row of `Snapshot.samples`)."""

NOTHING: Final = "There is no frame before this one."


class ShownImages:
    """Finds what the items of a catalog show; `url_for` gives the URLs of images.

    The frame before is that which a network reads: the last earlier one of the group, within the tasks' gap.
    """

    def __init__(self, now: Snapshot, url_for: UrlFor) -> None:
        self._url_for = url_for
        self._gaps = {name: task.gap for name, task in now.tasks().items() if task.inputs == 2}
        self._samples = now.samples() if self._gaps else None
        self._before: dict[float, Ints] = {}

    def fields(self, sample: Mapping[str, Any], tasks: Collection[str]) -> dict[str, str]:
        """The fields of the data of an item that shows `sample` (a row of `Snapshot.samples`) for these tasks."""
        found = {IMAGE: self._url_for(sample)}
        gap = max((self._gaps.get(name, 0.0) for name in tasks), default=0.0)
        if gap:
            found[BEFORE] = self._frame_before(str(sample["key"]), gap)
        return found

    @cached_property
    def _rows(self) -> dict[str, int]:
        """The row of each sample by key."""
        assert self._samples is not None
        return {key: row for row, key in enumerate(self._samples["key"].to_pylist())}

    def _frame_before(self, key: str, gap: float) -> str:
        """HTML that shows the frame before, or says that there is none."""
        assert self._samples is not None
        if gap not in self._before:
            self._before[gap] = samples_before(self._samples, gap)
        row = int(self._before[gap][self._rows[key]])
        if row < 0:
            return NOTHING
        (sample,) = self._samples.slice(row, 1).to_pylist()
        url = escape(self._url_for(sample))
        return f'<img src="{url}" alt="the frame before" style="width: 100%">'
