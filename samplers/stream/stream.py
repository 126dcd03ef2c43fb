"""The stream: a plan's draws in order, as batches of pixels, labels and weights.

Batch contents depend only on the plan and the global batch size (`samplers/stream/batches.py`), not on rank, threads,
host or start position. So one integer, the position, is all that a resumed stream needs.

One thread, the caller's, walks through the plan. A pool decodes a few batches ahead into a ring of buffers.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from curation.arrays import Int32s, Ints, Pixels
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.shards.open_shards import ShardSource
from samplers.stream.batches import Batch, BatchSchedule, Tail, row_batches
from samplers.stream.draws import ImageTable, ReplacedDraw, Replacements, decode_draws

if TYPE_CHECKING:
    from samplers.plan.plan import Plan

__all__ = ["AHEAD", "OnError", "ReadSchedule", "Stream", "stream", "sweep"]

AHEAD = 3
"""Batches that are decoded, or being decoded, while the caller works on one."""

OnError = Literal["raise", "quarantine"]
"""What becomes of an image that cannot be read or decoded."""

_RUN = 16  # images that a thread decodes in one go: the hand-over costs it about 1%


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
    epochs: int = 1,
    on_error: OnError = "raise",
    check: bool = False,
    copy: bool = False,
    buffers: Sequence[Pixels] = (),
) -> "Stream":
    """The batches of one rank from position `start` on, with pixels of `size` (height, width).

    `pack` is the plan's pack, or the workspace that holds it. `start` is a multiple of `global_batch`, as every
    `Stream.position` is; positions go on from one of the `epochs` to the next. An image of another size is stretched.
    `check` hashes each image as it is read, for a twentieth more of the processor's time: a flipped byte mostly decodes
    to other pixels, without an error. What comes from elsewhere is always hashed.
    `copy` gives each batch memory of its own; `buffers`, at least `AHEAD + 2` arrays uint8 [B, H, W, 3], are decoded
    into in turn instead of the stream's own.
    BadInput for numbers that do not fit together. An image that cannot be read or decoded raises Damaged or NotFound
    naming shard and key, or, with `on_error="quarantine"`, is noted in `Stream.replaced` while another one of its
    stratum takes its place: the mixture holds, and no other draw moves.
    """
    if not isinstance(pack, Pack):
        pack = Pack.open(pack, plan.pack_hash)
    if plan.pack_hash not in (pack.hash, *pack.replaced_hashes):
        raise BadInput(f"pack {pack.hash[:12]}: the plan is over pack {plan.pack_hash[:12]}; open that one")
    if on_error not in ("raise", "quarantine"):
        raise BadInput(f"on_error {on_error!r}: raise or quarantine; choose one")
    deal = BatchSchedule(
        plan=plan, global_batch=global_batch, rank=rank, world_size=world_size, tail=tail, epochs=epochs
    )
    places = plan if pack.hash == plan.pack_hash else pack.locate(plan.keys)
    course = ReadSchedule(
        make=deal.batches, order=deal.order, indices=deal.indices(0),
        step=global_batch, images=global_batch // world_size,
        identity={"plan": plan.hash, "global_batch": global_batch, "tail": tail},
        replacement=Replacements(plan) if on_error == "quarantine" else None, of_rows=deal.of_rows,
    )  # fmt: skip
    first = deal.indices(start).start
    return Stream(
        course, places, pack.reader(check=check), first, size=size, threads=threads, copy=copy, buffers=buffers
    )


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
    chosen = np.asarray(rows, np.int32)
    course = ReadSchedule(
        make=partial(row_batches, pack, chosen, batch), order=lambda left: chosen[left.start * batch :],
        indices=range(-(-len(rows) // batch)),
        step=batch, images=batch, identity={"pack": pack.hash, "rows": len(rows), "batch": batch},
    )  # fmt: skip
    return Stream(course, pack, pack.reader(), size=size, threads=threads, copy=copy)


@dataclass(frozen=True, kw_only=True)
class ReadSchedule:
    """What a stream goes through, from its first batch to its last: how each is made, and how its parts are named."""

    make: Callable[[range], Iterator[Batch]]
    indices: range
    step: int
    """Positions from one batch to the next."""
    images: int
    """Images of this rank in a batch."""
    order: Callable[[range], Int32s]
    """Rows of the images of these batches, in the order of reading."""
    identity: dict[str, Any]
    """What a state must be of to be taken up."""
    replacement: Replacements | None = None
    of_rows: Callable[[Sequence[int], Ints, Int32s], Iterator[Batch]] | None = None
    """Batches in which other images took over some draws."""


class Stream:
    """An iterator over batches with pixels. Its threads end with it: at the end, on an error, on `close`, when
    dropped. For a certain end, on Ctrl-C too, use it in a `with` block."""

    def __init__(
        self,
        course: ReadSchedule,
        places: ImageTable,
        source: ShardSource,
        first: int = 0,
        *,
        size: tuple[int, int],
        threads: int,
        copy: bool,
        buffers: Sequence[Pixels] = (),
    ) -> None:
        _check_numbers(threads, size)
        _check_buffers(buffers, (course.images, *size, 3))
        self.position = first * course.step
        """The first draw that no batch taken so far holds: pass it as `start` to go on there."""
        self.replaced: list[ReplacedDraw] = []
        """The draws of the batches taken so far that another image took over."""
        self._course, self._places, self._size, self._copy = course, places, size, copy
        self._next = course.make(course.indices[first:])
        self._ring = deque(buffers)
        self._pending: deque[tuple[Batch, list[Future[list[tuple[int, int, ReplacedDraw]]]]]] = deque()
        self._source = source
        self._source.set_read_order(partial(_order, course, places, first))
        self._pool = ThreadPoolExecutor(threads, "amber-stream")
        self._run = min(_RUN, -(-course.images // threads))
        self._dropped = weakref.finalize(self, _release, self._pool, self._source, wait=False)

    def __len__(self) -> int:
        """Batches that are still to come."""
        return len(self._course.indices) - self.position // self._course.step

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        try:
            self._fill()
            if not self._pending:
                raise StopIteration
            batch, decoded = self._pending.popleft()
            wait(decoded)  # once for all: a wake-up for each would take a core from the decoders
            batch = self._with_replaced(batch, [run.result() for run in decoded])
            self._fill()
        except BaseException:
            self.close()
            raise
        self.position = (batch.index + 1) * self._course.step
        return batch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and let go of all files; batches that were taken stay as they are. Again is a no-op."""
        self._next = iter(())
        self._pending.clear()
        if self._dropped.detach():
            _release(self._pool, self._source, wait=True)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as plain JSON of less than 1 KB: the same on every rank, for any number of ranks."""
        return {**self._course.identity, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, by this or another rank, of this or another number of ranks.

        BadInput when it is of another plan, size of the global batch or tail.
        """
        told = {name: value for name, value in state.items() if name != "position"}
        if not self._dropped.alive:
            raise BadInput("the stream is closed: it goes nowhere; open it again, then load the state")
        if told != self._course.identity:
            raise BadInput(f"state {told}: this stream is of {self._course.identity}; open the stream that it is of")
        position = state.get("position")
        if not isinstance(position, int):
            raise BadInput(f"state at position {position!r}: a whole number; take one from state_dict")
        index, rest = divmod(position, self._course.step)
        if rest or not 0 <= index <= len(self._course.indices):
            raise BadInput(
                f"state at position {position}: a multiple of {self._course.step} up to "
                f"{len(self._course.indices) * self._course.step}; ask for more epochs"
            )
        for _, decoded in self._pending:
            wait(decoded)
        self._pending.clear()
        self._next = self._course.make(self._course.indices[index:])
        self._source.set_read_order(partial(_order, self._course, self._places, index))
        self.position = position

    def _fill(self) -> None:
        while len(self._pending) < AHEAD and (batch := next(self._next, None)) is not None:
            pixels = self._buffer(len(batch.rows))
            work = partial(decode_draws, self._source, self._places, self._course.replacement)
            runs = [slice(at, at + self._run) for at in range(0, len(batch.rows), self._run)]
            decoded = [self._pool.submit(work, batch.positions[run], batch.rows[run], pixels[run]) for run in runs]
            self._pending.append((replace(batch, images=pixels.transpose(0, 3, 1, 2)), decoded))

    def _with_replaced(self, batch: Batch, runs: list[list[tuple[int, int, ReplacedDraw]]]) -> Batch:
        """The batch with the rows, keys and labels of what took over."""
        if not any(runs) or self._course.of_rows is None:
            return batch
        rows = batch.rows.copy()
        for number, run in enumerate(runs):
            for place, by, note in run:
                rows[number * self._run + place] = by
                self.replaced.append(note)
        (again,) = self._course.of_rows([batch.index], batch.positions[None], rows[None])
        return replace(again, images=batch.images)

    def _buffer(self, images: int) -> Pixels:
        """[images, H, W, 3]: of the ring, in which the batch being taken and the one before it are safe."""
        if self._copy:
            return np.empty((images, *self._size, 3), np.uint8)
        if len(self._ring) < AHEAD + 2:
            self._ring.append(np.empty((self._course.images, *self._size, 3), np.uint8))
            return self._ring[-1][:images]
        self._ring.append(self._ring.popleft())
        return self._ring[-1][:images]


def _order(course: ReadSchedule, places: ImageTable, first: int) -> tuple[Int32s, Ints]:
    rows = course.order(course.indices[first:])
    return places.shard[rows], places.offset[rows]


def _release(pool: ThreadPoolExecutor, source: ShardSource, *, wait: bool) -> None:
    """Dropped by the garbage collector, a stream must not wait: it may be running in one of the pool's own threads."""
    pool.shutdown(wait=wait, cancel_futures=True)
    source.close(wait)


def _check_numbers(threads: int, size: tuple[int, int]) -> None:
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise BadInput(f"size {size!r}: a height and a width; give both")
    if threads < 1 or min(size) < 1:
        raise BadInput(f"threads {threads}, size {size}: each is at least 1; correct it")


def _check_buffers(buffers: Sequence[Pixels], shape: tuple[int, ...]) -> None:
    if buffers and len(buffers) < AHEAD + 2:
        raise BadInput(f"{len(buffers)} buffers: at least {AHEAD + 2} are decoded into in turn; give more")
    for buffer in buffers:
        if (
            buffer.shape != shape
            or buffer.dtype != np.uint8
            or not (buffer.flags.c_contiguous and buffer.flags.writeable)
        ):
            raise BadInput(f"a buffer {buffer.dtype} {buffer.shape}: uint8 {shape}, in C order, writeable; make it so")
