"""The frame before each image: the last earlier one of its group, by `captured_at`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.arrays import Bools, Ints
from curation.errors import BadInput

__all__ = ["frames_before", "samples_before"]


def samples_before(samples: pa.Table, gap: float) -> Ints:
    """The index [n] of the frame before each of n `samples` (rows of `Snapshot.samples`), as `frames_before` finds it.

    Those that are excluded, or have no `captured_at`, have none and are none.
    """
    times = samples["captured_at"].cast(pa.timestamp("us"))
    usable = np.asarray(times.is_valid(), np.bool_) & ~np.asarray(samples["excluded"], np.bool_)
    moments = np.asarray(times.cast(pa.int64()).fill_null(0), np.int64)
    return frames_before(samples["group"].to_pylist(), moments, usable, gap, names=samples["key"].to_pylist())


def frames_before(
    groups: Sequence[str], times: Ints, usable: Bools, gap: float, *, names: Sequence[str] = ()
) -> npt.NDArray[np.int64]:
    """The index [n] of the frame before each of n frames: the last earlier one of its group, within `gap` seconds.

    `times` are microseconds. -1 where there is none, and for frames that are not `usable` (without a time, or
    excluded), which are no frame before either. BadInput where two usable frames of a group have the same time: `names`
    name them.

    >>> frames_before(["a", "a", "b"], np.array([100_000, 0, 200_000]), np.ones(3, bool), 0.1).tolist()
    [1, -1, -1]
    """
    codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    rows = np.flatnonzero(usable)
    order = rows[np.lexsort([times[rows], codes[rows]])]
    first, second = order[:-1], order[1:]
    same, apart = codes[first] == codes[second], times[second] - times[first]
    if len(tied := np.flatnonzero(same & (apart == 0))):
        pair = [names[row] if names else str(row) for row in (first[tied[0]], second[tied[0]])]
        raise BadInput(
            f"frame pairs: {pair[0]} and {pair[1]} of one group have the same captured_at, so neither is before the "
            "other; give them different times or groups"
        )
    found = np.full(len(codes), -1, np.int64)
    near = same & (apart <= round(gap * 1e6))
    found[second[near]] = first[near]
    return found
