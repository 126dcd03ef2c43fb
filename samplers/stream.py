"""The stream: a plan's draws in order, as batches of pixels, labels and weights.

Global batch b is draws [b G, (b + 1) G) of the plan, and rank r takes its contiguous slice of it. Which draw is where
depends on nothing else, neither on threads nor on where the reading began; so one integer, the position, is all that
is needed to go on at any batch with any number of ranks.

One thread, the caller's, walks through the plan. A pool decodes a few batches ahead into a ring of buffers.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.errors import AmberError, BadInput, Damaged
from curation.images import BadImage
from samplers.decode import Pixels, decode_into
from samplers.pack import Pack
from samplers.shards import Shards

if TYPE_CHECKING:
    from samplers.plan import Plan

__all__ = ["AHEAD", "Batch", "Stream", "Tail", "batches", "stream", "sweep"]

AHEAD = 3
"""Batches that are decoded, or being decoded, while the caller works on one."""

Tail = Literal["drop", "pad"]
"""What becomes of the draws behind the last whole global batch."""

_RUN = 16  # images that a thread decodes in one go: the hand-over costs it about 1%


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """B draws of one rank, for T tasks.

    `images` is a view of a buffer that is used again: valid until two more batches were taken, unless the stream
    copies. It is [B, 3, H, W] with the channels innermost in memory, which torch calls channels_last.
    """

    index: int
    """b, the number of the global batch."""
    positions: npt.NDArray[np.int64]
    """[B] places in the plan; in a sweep, in the rows that were given."""
    rows: npt.NDArray[np.int32]
    """[B] rows of the plan's samples; in a sweep, of the pack. -1 is padding."""
    keys: list[str]
    """B keys; "" is padding."""
    images: Pixels
    """uint8 [B, 3, H, W] RGB, 0 where padding; [B, 3, 0, 0] from `batches`."""
    values: npt.NDArray[np.float32]
    """[B, T] class codes or numbers, 0 where unknown."""
    known: npt.NDArray[np.bool_]
    """[B, T]"""
    weights: npt.NDArray[np.float32]
    """[B, T] w_t of each known label, 0 where unknown."""


class Places(Protocol):
    """Where images lie: a plan, or a pack."""

    @property
    def keys(self) -> pa.StringArray: ...
    @property
    def shard(self) -> npt.NDArray[np.int32]: ...
    @property
    def offset(self) -> npt.NDArray[np.int64]: ...
    @property
    def size(self) -> npt.NDArray[np.int32]: ...


def stream(
    plan: "Plan",
    pack: Pack | Path | str,
    global_batch: int = 64,
    *,
    size: tuple[int, int],
    rank: int = 0,
    world_size: int = 1,
    threads: int = 2,
    start: int = 0,
    tail: Tail = "drop",
    copy: bool = False,
) -> "Stream":
    """The batches of one rank from position `start` on, with pixels of `size` (height, width).

    `pack` is the plan's pack, or the workspace that holds it. `start` is a multiple of `global_batch`, as every
    `Stream.position` is. An image of another size is stretched. `copy` gives each batch memory of its own.
    BadInput for numbers that do not fit together, Damaged naming shard and key when an image cannot be decoded.
    """
    if not isinstance(pack, Pack):
        pack = Pack.open(pack, plan.pack_hash)
    if plan.pack_hash not in (pack.hash, *pack.formerly):
        raise BadInput(f"pack {pack.hash[:12]}: the plan is over pack {plan.pack_hash[:12]}; open that one")
    indices = _indices(len(plan.draws), global_batch, rank, world_size, start, tail)
    make = partial(_drawn, plan, global_batch, rank, world_size)
    places = plan if pack.hash == plan.pack_hash else pack.take(plan.keys)
    return Stream(places, pack, make, indices, global_batch, size=size, threads=threads, copy=copy)


def batches(
    plan: "Plan",
    global_batch: int = 64,
    *,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    tail: Tail = "drop",
) -> Iterator[Batch]:
    """What `stream` yields, without pixels: for features that were computed before. Opens no shard."""
    indices = _indices(len(plan.draws), global_batch, rank, world_size, start, tail)
    return map(partial(_drawn, plan, global_batch, rank, world_size), indices)


def sweep(
    pack: Pack,
    rows: npt.NDArray[np.integer],
    batch: int = 64,
    *,
    size: tuple[int, int],
    threads: int = 2,
    copy: bool = False,
) -> "Stream":
    """Chosen rows of a pack in the given order, without labels (T = 0); the last batch may be smaller."""
    if batch < 1:
        raise BadInput(f"batch {batch}: at least 1; correct it")
    if len(rows) and not 0 <= rows.min() <= rows.max() < pack.images:
        raise BadInput(f"rows {rows.min()} to {rows.max()}: the pack has rows 0 to {pack.images - 1}; correct them")
    make = partial(_swept, pack, np.asarray(rows, np.int32), batch)
    return Stream(pack, pack, make, range(-(-len(rows) // batch)), batch, size=size, threads=threads, copy=copy)


class Stream:
    """An iterator over batches with pixels. Its threads end with it: at the end, on an error, on `close`, when
    dropped. For a certain end, on Ctrl-C too, use it in a `with` block."""

    def __init__(
        self,
        places: Places,
        pack: Pack,
        make: Callable[[int], Batch],
        indices: range,
        step: int,
        *,
        size: tuple[int, int],
        threads: int,
        copy: bool,
    ) -> None:
        if threads < 1 or min(size) < 1:
            raise BadInput(f"threads {threads}, size {size}: each is at least 1; correct it")
        self.position = indices.start * step
        """The first draw that no batch taken so far holds: pass it as `start` to go on there."""
        self._places, self._make, self._indices, self._step = places, make, indices, step
        self._size, self._copy, self._next = size, copy, iter(indices)
        self._ring: list[Pixels] = []
        self._pending: deque[tuple[Batch, list[Future[None]]]] = deque()
        self._shards = pack.reader()
        self._pool = ThreadPoolExecutor(threads, "amber-stream")
        self._run = min(_RUN, -(-step // threads))
        self._dropped = weakref.finalize(self, _release, self._pool, self._shards, wait=False)

    def __len__(self) -> int:
        """Batches from `start` to the end."""
        return len(self._indices)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        try:
            self._fill()
            if not self._pending:
                raise StopIteration
            batch, decoded = self._pending.popleft()
            wait(decoded)  # once for all: a wake-up for each would take a core from the decoders
            for run in decoded:
                run.result()
            self._fill()
        except BaseException:
            self.close()
            raise
        self.position = (batch.index + 1) * self._step
        return batch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and let go of all files; batches that were taken stay as they are. Again is a no-op."""
        self._next = iter(range(0))
        self._pending.clear()
        if self._dropped.detach():
            _release(self._pool, self._shards, wait=True)

    def _fill(self) -> None:
        while len(self._pending) < AHEAD and (index := next(self._next, None)) is not None:
            batch = self._make(index)
            pixels = self._buffer(index, len(batch.rows))
            decoded = [
                self._pool.submit(
                    _decode, self._shards, self._places, batch.rows[at : at + self._run], pixels[at : at + self._run]
                )
                for at in range(0, len(batch.rows), self._run)
            ]
            self._pending.append((replace(batch, images=pixels.transpose(0, 3, 1, 2)), decoded))

    def _buffer(self, index: int, images: int) -> Pixels:
        """[images, H, W, 3]: of the ring, in which the batch being taken and the one before it are safe."""
        if self._copy:
            return np.empty((images, *self._size, 3), np.uint8)
        if len(self._ring) < AHEAD + 2:
            self._ring.append(np.empty((images, *self._size, 3), np.uint8))
        return self._ring[(index - self._indices.start) % (AHEAD + 2)][:images]


def _release(pool: ThreadPoolExecutor, shards: Shards, *, wait: bool) -> None:
    """Dropped by the garbage collector, a stream must not wait: it may be running in one of the pool's own threads."""
    pool.shutdown(wait=wait, cancel_futures=True)
    shards.close()


def _decode(shards: Shards, places: Places, rows: npt.NDArray[np.int32], out: Pixels) -> None:
    found = zip(places.shard[rows].tolist(), places.offset[rows].tolist(), places.size[rows].tolist(), strict=True)
    for i, (row, (shard, offset, size)) in enumerate(zip(rows.tolist(), found, strict=True)):
        if row < 0:
            out[i] = 0
            continue
        try:
            decode_into(shards.read(shard, offset, size), out[i])
        except BadImage as error:
            raise Damaged(f"{shards.name(shard)}, {places.keys[row]}: {error}") from error
        except AmberError as error:
            raise type(error)(f"{places.keys[row]}: {error}") from error


def _indices(draws: int, global_batch: int, rank: int, world_size: int, start: int, tail: Tail) -> range:
    """Numbers of the global batches from `start` on, once all was found to fit together."""
    if global_batch < 1 or world_size < 1 or global_batch % world_size:
        raise BadInput(f"global_batch {global_batch}: {world_size} ranks must divide it; take a multiple of that")
    if not 0 <= rank < world_size:
        raise BadInput(f"rank {rank}: from 0 to {world_size - 1} with a world size of {world_size}; correct it")
    if tail not in ("drop", "pad"):
        raise BadInput(f"tail {tail!r}: drop or pad; choose one")
    count = draws // global_batch if tail == "drop" else -(-draws // global_batch)
    if not count:
        raise BadInput(f"global_batch {global_batch}: the plan has {draws} draws, not one batch; lower it, or pad")
    if start % global_batch or not 0 <= start <= count * global_batch:
        raise BadInput(
            f"start {start}: a multiple of {global_batch} from 0 to {count * global_batch}; pass a stream's position"
        )
    return range(start // global_batch, count)


def _drawn(plan: "Plan", global_batch: int, rank: int, world_size: int, index: int) -> Batch:
    images = global_batch // world_size
    first = index * global_batch + rank * images
    draws = plan.draws[first : first + images]
    rows = np.full(images, -1, np.int32)
    rows[: len(draws)] = draws
    values, known, weights = plan.labels(rows, np.arange(first, first + images))
    return Batch(
        index=index,
        positions=np.arange(first, first + images),
        rows=rows,
        keys=plan.keys.take(pa.array(draws)).to_pylist() + [""] * (images - len(draws)),
        images=np.empty((images, 3, 0, 0), np.uint8),
        values=values,
        known=known,
        weights=weights,
    )


def _swept(pack: Pack, all_rows: npt.NDArray[np.int32], batch: int, index: int) -> Batch:
    rows = all_rows[index * batch : (index + 1) * batch]
    return Batch(
        index=index,
        positions=np.arange(index * batch, index * batch + len(rows)),
        rows=rows,
        keys=pack.keys.take(pa.array(rows)).to_pylist(),
        images=np.empty((len(rows), 3, 0, 0), np.uint8),
        values=np.zeros((len(rows), 0), np.float32),
        known=np.zeros((len(rows), 0), np.bool_),
        weights=np.zeros((len(rows), 0), np.float32),
    )
