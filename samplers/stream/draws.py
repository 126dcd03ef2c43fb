"""One run of draws: read, decoded, and, where an image is bad and that is wanted, replaced.

The replacement of a bad draw is the image of its stratum at hash(seed, position, attempt). So it is the same whoever
reads it and whenever, no later draw shifts, and every stratum keeps the mass that its owner asked for: what the bad
image loses, the others of its stratum take over.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from curation.arrays import Floats, Int32s, Ints, Pixels
from curation.errors import AmberError, Damaged, NotFound
from curation.images.decoding import BadImage
from samplers.plan.interleave import hash64
from samplers.shards.open_shards import ShardSource
from samplers.stream.decode import decode_into

if TYPE_CHECKING:
    from samplers.plan.plan import Plan

__all__ = ["ATTEMPTS", "ImageTable", "ReplacedDraw", "Replacements", "decode_draws"]

ATTEMPTS = 16
"""How many images are tried in the place of a bad one before the stream gives up."""

Read = Callable[[int, int, int], memoryview]


@dataclass(frozen=True, kw_only=True)
class ReplacedDraw:
    """A draw that another image of its stratum took over.

    `mass` is p of the bad image: the share of all draws that its neighbours in the strata take over.
    """

    position: int
    key: str
    by: str
    reason: str
    mass: float


class ImageTable(Protocol):
    """Where images lie: a plan, or a pack."""

    @property
    def keys(self) -> pa.StringArray: ...
    @property
    def shard(self) -> Int32s: ...
    @property
    def offset(self) -> Ints: ...
    @property
    def size(self) -> Int32s: ...


class Replacements:
    """Who takes over the bad draws of a plan. Safe to use from many threads."""

    def __init__(self, plan: "Plan") -> None:
        self._plan = plan
        self._probabilities: dict[int, Floats] = {}

    def candidates(self, position: int) -> Iterator[int]:
        """Rows of the plan's samples to try in the place of the draw at `position`, at most `ATTEMPTS`."""
        members = self._plan.members(position)
        for attempt in range(1, ATTEMPTS + 1):
            yield int(members[int(hash64(self._plan.seed, position, attempt) % np.uint64(len(members)))])

    def mass(self, position: int, row: int) -> float:
        """p of a sample in the phase of a position."""
        phase = int(self._plan.phase_at(np.asarray([position]))[0])
        if phase not in self._probabilities:
            self._probabilities[phase] = self._plan.probabilities(phase)
        return float(self._probabilities[phase][row])


def decode_draws(
    source: ShardSource,
    places: ImageTable,
    replacement: Replacements | None,
    positions: Ints,
    rows: Int32s,
    out: Pixels,
) -> list[tuple[int, int, ReplacedDraw]]:
    """Decode the images of `rows` [n] into `out` [n, H, W, 3]; for each that was replaced its place in the run, the row
    that took it over, and the note. Raises what cannot be replaced, naming shard and key."""
    replaced = []
    spots = zip(places.shard[rows].tolist(), places.offset[rows].tolist(), places.size[rows].tolist(), strict=True)
    for i, (row, spot) in enumerate(zip(rows.tolist(), spots, strict=True)):
        if row < 0:
            out[i] = 0
            continue
        try:
            _decode(source, source.read, places, row, spot, out[i])
        except (BadImage, Damaged, NotFound) as error:
            if replacement is None:
                raise
            by = _replace(source, places, replacement, int(positions[i]), error, out[i])
            note = ReplacedDraw(
                position=int(positions[i]), key=places.keys[row].as_py(), by=places.keys[by].as_py(),
                reason=str(error), mass=replacement.mass(int(positions[i]), row),
            )  # fmt: skip
            replaced.append((i, by, note))
    return replaced


def _decode(
    source: ShardSource, read: Read, places: ImageTable, row: int, spot: tuple[int, int, int], out: Pixels
) -> None:
    """Decode the image `row`, which lies at `spot`: its shard, its offset there, and its size."""
    try:
        decode_into(read(*spot), out)
    except BadImage as error:
        raise Damaged(f"{source.name(spot[0])}, {places.keys[row]}: {error}") from error
    except AmberError as error:
        raise type(error)(f"{places.keys[row]}: {error}") from error


def _replace(
    source: ShardSource, places: ImageTable, replacement: Replacements, position: int, error: AmberError, out: Pixels
) -> int:
    """Decode the first sound candidate into `out`; its row."""
    for row in replacement.candidates(position):
        try:
            spot = int(places.shard[row]), int(places.offset[row]), int(places.size[row])
            _decode(source, source.read_out_of_order, places, row, spot, out)
        except (BadImage, Damaged, NotFound):
            continue
        return row
    raise Damaged(f"{error}; and {ATTEMPTS} images of its stratum neither") from error
