"""From a place in a pack, a shard and an offset, to the image that lies there."""

from collections.abc import Sequence

import numpy as np

from curation.arrays import Int32s, Ints
from curation.errors import Damaged

__all__ = ["RowIndex"]


class RowIndex:
    """Rows of a pack by the `shard` and `offset` [N] of its images; `names` are the shards' file names."""

    def __init__(self, shard: Int32s, offset: Ints, names: Sequence[str]) -> None:
        codes = _code(shard, offset)
        self._by_place = np.argsort(codes, kind="stable")
        self._places, self._names = codes[self._by_place], names

    def at(self, shard: int, offset: int) -> int:
        """The row of one image; Damaged where none lies."""
        at = int(self._places.searchsorted(code := shard << 43 | offset))
        if at == len(self._places) or self._places[at] != code:
            raise self._nothing(shard, offset)
        return int(self._by_place[at])

    def all_at(self, shard: Int32s, offset: Ints) -> Ints:
        """The rows of images, in their order; Damaged names the first place where none lies."""
        found = np.searchsorted(self._places, codes := _code(shard, offset))
        found = np.minimum(found, len(self._places) - 1)
        if len(wrong := np.flatnonzero(self._places[found] != codes)):
            raise self._nothing(int(shard[wrong[0]]), int(offset[wrong[0]]))
        return np.asarray(self._by_place[found], np.int64)

    def _nothing(self, shard: int, offset: int) -> Damaged:
        return Damaged(f"{self._names[shard]}: its index has no image at {offset}; it is another pack's, pack again")


def _code(shard: Int32s, offset: Ints) -> Ints:
    """One number for a place; a shard has less than 2^43 bytes."""
    return shard.astype(np.int64) << 43 | offset
