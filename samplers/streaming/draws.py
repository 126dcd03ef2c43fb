"""Read and decode draws, and, on request, replace images that cannot be read.

A bad draw is replaced by the image of its stratum at hash(seed, position, attempt). So every rank and every run
retable it by the same image, no other draw changes, and each stratum keeps the mass that its owner requested: the
other images of the stratum take over the mass of the bad image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from curation.arrays import Floats, Int32s, Ints, Pixels
from curation.errors import AmberError, Damaged, NotFound
from curation.images.decoding import BadImage
from samplers.plan.interleave import hash64
from samplers.plan.plan import Plan
from samplers.shards.open_shards import ShardSource
from samplers.streaming.decode import decode_into

__all__ = ["ATTEMPTS", "Before", "ImageTable", "ReplacedDraw", "Replacements", "decode_draws"]

ATTEMPTS = 16
"""The number of replacements to try before the stream gives up."""

Read = Callable[[int, int, int], memoryview]


@dataclass(frozen=True, kw_only=True)
class ReplacedDraw:
    """A draw that was replaced: the bad image `key`, and the image `by` of its stratum that replaced it.

    `mass` is p of the bad image, the fraction of all draws that other images of its strata take over.
    """

    position: int
    key: str
    by: str
    reason: str
    mass: float


class ImageTable(Protocol):
    """Keys and locations of images: a plan, a pack, or `ImageLocations`."""

    @property
    def keys(self) -> pa.StringArray: ...
    @property
    def shard(self) -> Int32s: ...
    @property
    def offset(self) -> Ints: ...
    @property
    def size(self) -> Int32s: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Before:
    """The frames before: for each row of an `ImageTable`, the row in `table` of the frame before it, or -1."""

    table: ImageTable
    rows: Int32s


class Replacements:
    """Chooses the replacements for bad draws of a plan. Safe to use from many threads."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._probabilities: dict[int, Floats] = {}

    def candidates(self, position: int) -> Iterator[int]:
        """Rows of the plan's samples to try in place of the draw at `position`, at most `ATTEMPTS`."""
        members = self._plan.members(position)
        for attempt in range(1, ATTEMPTS + 1):
            yield int(members[int(hash64(self._plan.seed, position, attempt) % np.uint64(len(members)))])

    def mass(self, position: int, row: int) -> float:
        """p of the sample `row` in the phase of `position`."""
        phase = int(self._plan.phase_at(np.asarray([position]))[0])
        if phase not in self._probabilities:
            self._probabilities[phase] = self._plan.probabilities(phase)
        return float(self._probabilities[phase][row])


def decode_draws(
    source: ShardSource,
    table: ImageTable,
    replacement: Replacements | None,
    positions: Ints,
    rows: Int32s,
    out: Pixels,
    before: tuple[Before, Pixels] | None = None,
) -> list[tuple[int, int, ReplacedDraw]]:
    """Decode the images of `rows` [n] into `out` [n, H, W, 3]. Returns, for each replaced image, its index in `rows`,
    the row of its replacement, and the record. Raises what cannot be replaced, naming shard and key.

    With `before`, the frame before each image, or of its replacement, is decoded into the second array, 0 where there
    is none; one that cannot be read counts as the image itself.
    """
    replaced = []
    locations = zip(table.shard[rows].tolist(), table.offset[rows].tolist(), table.size[rows].tolist(), strict=True)
    for i, (row, location) in enumerate(zip(rows.tolist(), locations, strict=True)):
        earlier = None if before is None else (before[0], before[1][i])
        if row < 0:
            out[i] = 0
            _decode_before(source, source.read, earlier, row)
            continue
        try:
            _decode_before(source, source.read, earlier, row)
            _decode(source, source.read, table, row, location, out[i])
        except (BadImage, Damaged, NotFound) as error:
            if replacement is None:
                raise
            by = _replace(source, table, replacement, int(positions[i]), error, out[i], earlier)
            record = ReplacedDraw(
                position=int(positions[i]), key=table.keys[row].as_py(), by=table.keys[by].as_py(),
                reason=str(error), mass=replacement.mass(int(positions[i]), row),
            )  # fmt: skip
            replaced.append((i, by, record))
    return replaced


def _decode(
    source: ShardSource, read: Read, table: ImageTable, row: int, location: tuple[int, int, int], out: Pixels
) -> None:
    """Decode the image `row` at `location`: its shard, offset and size."""
    try:
        decode_into(read(*location), out)
    except BadImage as error:
        raise Damaged(f"{source.name(location[0])}, {table.keys[row]}: {error}") from error
    except AmberError as error:
        raise type(error)(f"{table.keys[row]}: {error}") from error


def _decode_before(source: ShardSource, read: Read, before: tuple[Before, Pixels] | None, row: int) -> None:
    """Decode the frame before the image `row` into the array beside; 0 where there is none."""
    if before is None:
        return
    frames, out = before
    at = int(frames.rows[row]) if row >= 0 else -1
    if at < 0:
        out[...] = 0
        return
    table = frames.table
    _decode(source, read, table, at, (int(table.shard[at]), int(table.offset[at]), int(table.size[at])), out)


def _replace(
    source: ShardSource, table: ImageTable, replacement: Replacements, position: int, error: AmberError, out: Pixels,
    before: tuple[Before, Pixels] | None,
) -> int:  # fmt: skip
    """Decode the first readable candidate, with the frame before it, and return its row."""
    for row in replacement.candidates(position):
        try:
            location = int(table.shard[row]), int(table.offset[row]), int(table.size[row])
            _decode(source, source.read_out_of_order, table, row, location, out)
            _decode_before(source, source.read_out_of_order, before, row)
        except (BadImage, Damaged, NotFound):
            continue
        return row
    raise Damaged(f"{error}; {ATTEMPTS} replacements of its stratum failed too") from error
