"""Look up rows of a pack by shard and byte offset."""

from collections.abc import Sequence

import numpy as np

from curation.arrays import Int32s, Ints
from curation.errors import Damaged

__all__ = ["RowIndex"]


class RowIndex:
    """Rows of a pack by the `shard` and `offset` [N] of its images; `names` are the shards' file names."""

    def __init__(self, shard: Int32s, offset: Ints, names: Sequence[str]) -> None:
        codes = _code(shard, offset)
        self._row_of = np.argsort(codes, kind="stable")
        self._codes, self._names = codes[self._row_of], names

    def row(self, shard: int, offset: int) -> int:
        """The row of the image at `offset` of a shard; Damaged if there is none."""
        at = int(self._codes.searchsorted(code := shard << 43 | offset))
        if at == len(self._codes) or self._codes[at] != code:
            raise self._no_image(shard, offset)
        return int(self._row_of[at])

    def rows(self, shard: Int32s, offset: Ints) -> Ints:
        """The rows [N] of the images at `offset` [N] of `shard` [N]; Damaged names the first that is missing."""
        found = np.searchsorted(self._codes, codes := _code(shard, offset))
        found = np.minimum(found, len(self._codes) - 1)
        if len(wrong := np.flatnonzero(self._codes[found] != codes)):
            raise self._no_image(int(shard[wrong[0]]), int(offset[wrong[0]]))
        return np.asarray(self._row_of[found], np.int64)

    def _no_image(self, shard: int, offset: int) -> Damaged:
        return Damaged(
            f"{self._names[shard]}: its index has no image at {offset}; the index is of another pack, pack again"
        )


def _code(shard: Int32s, offset: Ints) -> Ints:
    """One integer for shard and offset; a shard is smaller than 2^43 bytes."""
    return shard.astype(np.int64) << 43 | offset
