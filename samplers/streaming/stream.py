"""The stream: a plan's draws in order, as batches of pixels, labels and weights.

Batch contents depend only on the plan and the global batch size (`samplers/streaming/batches.py`), not on rank,
threads, host or start position. So a stream resumes from one integer, the position.

The caller's thread walks through the plan. A thread pool decodes a few batches ahead into a ring of buffers.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from curation.arrays import Int32s, Ints, Pixels
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.shards.open_shards import ShardSource
from samplers.streaming.batches import Batch, BatchSchedule, Tail, row_batches
from samplers.streaming.draws import Before, ImageTable, ReplacedDraw, Replacements, decode_draws
from samplers.streaming.frame_pairs import FramePairs

__all__ = ["AHEAD", "OnError", "ReadSchedule", "Stream", "stream", "sweep"]

AHEAD = 3
"""The number of batches that are decoded ahead of the caller."""

OnError = Literal["raise", "quarantine"]
"""What happens to an image that cannot be read or decoded: "raise" an error, or replace the draw ("quarantine")."""

_RUN = 16  # images that a thread decodes per task: submitting a task costs about 1% of that time


def stream(
    plan: Plan,
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
    pairs: FramePairs | None = None,
) -> "Stream":
    """The batches of one rank from position `start` on, with pixels of `size` (height, width).

    `pack` is the plan's pack, or the workspace that holds it. `start` is a multiple of `global_batch`, as every
    `Stream.position` is; positions continue from one epoch to the next. An image of another size is stretched.
    `check` hashes each image as it is read, for 5% more CPU time: a flipped byte mostly decodes to other pixels and not
    to an error. Images from a URL are always hashed.
    `copy` gives each batch memory of its own. `buffers`, at least `AHEAD + 2` arrays uint8 [B, H, W, 3], replace the
    stream's own buffers and are reused in turn. With `pairs`, batches also have the frame before each image, read from
    the same shards; buffers then hold twice as many images.
    BadInput for arguments that do not fit together. An image that cannot be read or decoded raises Damaged or NotFound
    naming shard and key. With `on_error="quarantine"`, another image of its stratum replaces it, and `Stream.replaced`
    records that: the mixture is kept, and no other draw changes.

    >>> with stream(plan, catalog.home, 8, size=(24, 32)) as found:
    ...     batch = next(found)
    ...     batch.images.shape, found.position
    ((8, 3, 24, 32), 8)
    """
    if not isinstance(pack, Pack):
        pack = Pack.open(pack, plan.pack_hash)
    if plan.pack_hash not in (pack.hash, *pack.replaced_hashes):
        raise BadInput(f"pack {pack.hash[:12]}: the plan is over pack {plan.pack_hash[:12]}; open that one")
    if on_error not in ("raise", "quarantine"):
        raise BadInput(f"on_error {on_error!r}: raise or quarantine; choose one")
    batch_schedule = BatchSchedule(
        plan=plan, global_batch=global_batch, rank=rank, world_size=world_size, tail=tail, epochs=epochs
    )
    table = plan if pack.hash == plan.pack_hash else pack.locate(plan.keys)
    schedule = ReadSchedule(
        make=batch_schedule.batches, order=batch_schedule.order, indices=batch_schedule.indices(0),
        step=global_batch, images=global_batch // world_size,
        identity={"plan": plan.hash, "global_batch": global_batch, "tail": tail},
        replacement=Replacements(plan) if on_error == "quarantine" else None,        of_rows=batch_schedule.of_rows,
    )  # fmt: skip
    first = batch_schedule.indices(start).start
    return Stream(
        schedule, table, pack.reader(check=check), first, size=size, threads=threads, copy=copy, buffers=buffers,
        before=None if pairs is None else Before(table=pairs.pack, rows=pairs.of(plan.keys)),
    )  # fmt: skip


def sweep(
    pack: Pack,
    rows: npt.NDArray[np.integer],
    batch: int = 64,
    *,
    size: tuple[int, int],
    threads: int = 2,
    copy: bool = False,
    pairs: FramePairs | None = None,
) -> "Stream":
    """Batches of the pack's `rows`, in the given order, without labels (T = 0); the last batch may be smaller.

    With `pairs`, batches also have the frame before each image.

    >>> pack = make_pack(catalog)
    >>> [len(batch.rows) for batch in sweep(pack, np.arange(20), 8, size=(24, 32))]
    [8, 8, 4]
    """
    if batch < 1:
        raise BadInput(f"batch {batch}: at least 1; correct it")
    if len(rows) and not 0 <= rows.min() <= rows.max() < pack.images:
        raise BadInput(f"rows {rows.min()} to {rows.max()}: the pack has rows 0 to {pack.images - 1}; correct them")
    chosen = np.asarray(rows, np.int32)
    schedule = ReadSchedule(
        make=partial(row_batches, pack, chosen, batch), order=lambda left: chosen[left.start * batch :],
        indices=range(-(-len(rows) // batch)),
        step=batch, images=batch, identity={"pack": pack.hash, "rows": len(rows), "batch": batch},
    )  # fmt: skip
    before = None if pairs is None else Before(table=pairs.pack, rows=pairs.before)
    return Stream(schedule, pack, pack.reader(), size=size, threads=threads, copy=copy, before=before)


@dataclass(frozen=True, kw_only=True)
class ReadSchedule:
    """The batches of a stream, from the first to the last, and the order of reads."""

    make: Callable[[range], Iterator[Batch]]
    """Makes the batches of these indices, without pixels."""
    indices: range
    """The indices of all batches."""
    step: int
    """Positions from one batch to the next."""
    images: int
    """The number of this rank's images in a batch."""
    order: Callable[[range], Int32s]
    """Returns the rows of the images of these batches, in the order of the reads."""
    identity: dict[str, Any]
    """The fields that a state must match to be loaded."""
    replacement: Replacements | None = None
    of_rows: Callable[[Sequence[int], Ints, Int32s], Iterator[Batch]] | None = None
    """Makes batches with given rows at given positions, for draws that were replaced."""


class Stream:
    """An iterator over batches with pixels. Its threads end at the last batch, on an error, on `close`, and when it is
    garbage-collected. Use it in a `with` block so that they end on Ctrl-C too."""

    def __init__(
        self,
        schedule: ReadSchedule,
        table: ImageTable,
        source: ShardSource,
        first: int = 0,
        *,
        size: tuple[int, int],
        threads: int,
        copy: bool,
        buffers: Sequence[Pixels] = (),
        before: Before | None = None,
    ) -> None:
        self._frames = 1 if before is None else 2
        _check_numbers(threads, size)
        _check_buffers(buffers, (schedule.images * self._frames, *size, 3))
        self.position = first * schedule.step
        """The position after the last batch taken: pass it as `start` to resume there."""
        self.replaced: list[ReplacedDraw] = []
        """The replaced draws of the batches taken so far."""
        self._schedule, self._table, self._size, self._copy = schedule, table, size, copy
        self._before = before
        self._next = schedule.make(schedule.indices[first:])
        self._ring = deque(buffers)
        self._pending: deque[tuple[Batch, list[Future[list[tuple[int, int, ReplacedDraw]]]]]] = deque()
        self._source = source
        self._source.set_read_order(partial(_order, schedule, table, before, first))
        self._pool = ThreadPoolExecutor(threads, "amber-stream")
        self._run = min(_RUN, -(-schedule.images // threads))
        self._finalizer = weakref.finalize(self, _release, self._pool, self._source, wait=False)

    def __len__(self) -> int:
        """The number of batches left."""
        return len(self._schedule.indices) - self.position // self._schedule.step

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        try:
            self._fill()
            if not self._pending:
                raise StopIteration
            batch, decoded = self._pending.popleft()
            wait(decoded)  # one wait for all tasks: one wake-up per task would take a core from the decoders
            batch = self._with_replaced(batch, [run.result() for run in decoded])
            self._fill()
        except BaseException:
            self.close()
            raise
        self.position = (batch.index + 1) * self._schedule.step
        return batch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and close all files; batches taken stay valid. Calling it again is a no-op."""
        self._next = iter(())
        self._pending.clear()
        if self._finalizer.detach():
            _release(self._pool, self._source, wait=True)

    def state_dict(self) -> dict[str, Any]:
        """The state of the stream, as plain JSON of less than 1 KB: the same on every rank, for any number of ranks."""
        return {**self._schedule.identity, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from `state`, which may come from another rank and from another number of ranks.

        BadInput for a state of another plan, global batch size or tail.
        """
        identity = {name: value for name, value in state.items() if name != "position"}
        if not self._finalizer.alive:
            raise BadInput("the stream is closed: it loads no state; open it again, then load the state")
        if identity != self._schedule.identity:
            raise BadInput(f"state {identity}: this stream is of {self._schedule.identity}; open the matching stream")
        position = state.get("position")
        if not isinstance(position, int):
            raise BadInput(f"state at position {position!r}: must be an integer; take a state from state_dict")
        index, rest = divmod(position, self._schedule.step)
        if rest or not 0 <= index <= len(self._schedule.indices):
            raise BadInput(
                f"state at position {position}: a multiple of {self._schedule.step} up to "
                f"{len(self._schedule.indices) * self._schedule.step}; set more epochs"
            )
        for _, decoded in self._pending:
            wait(decoded)
        self._pending.clear()
        self._next = self._schedule.make(self._schedule.indices[index:])
        self._source.set_read_order(partial(_order, self._schedule, self._table, self._before, index))
        self.position = position

    def _fill(self) -> None:
        while len(self._pending) < AHEAD and (batch := next(self._next, None)) is not None:
            count = len(batch.rows)
            pixels = self._buffer(self._frames * count)
            now, earlier = pixels[:count], pixels[count:]
            decode = partial(decode_draws, self._source, self._table, self._schedule.replacement)
            runs = [slice(at, at + self._run) for at in range(0, count, self._run)]
            decoded = [
                self._pool.submit(
                    decode, batch.positions[run], batch.rows[run], now[run],
                    None if self._before is None else (self._before, earlier[run]),
                )
                for run in runs
            ]  # fmt: skip
            self._pending.append((self._with_pixels(batch, now, earlier), decoded))

    def _with_pixels(self, batch: Batch, now: Pixels, earlier: Pixels) -> Batch:
        images = now.transpose(0, 3, 1, 2)
        if self._before is None:
            return replace(batch, images=images)
        paired = (self._before.rows[np.maximum(batch.rows, 0)] >= 0) & (batch.rows >= 0)
        return replace(batch, images=images, before=earlier.transpose(0, 3, 1, 2), paired=paired)

    def _with_replaced(self, batch: Batch, runs: list[list[tuple[int, int, ReplacedDraw]]]) -> Batch:
        """The batch with the rows, keys and labels of the replacements."""
        if not any(runs) or self._schedule.of_rows is None:
            return batch
        rows = batch.rows.copy()
        for number, run in enumerate(runs):
            for index, by, record in run:
                rows[number * self._run + index] = by
                self.replaced.append(record)
        (with_labels,) = self._schedule.of_rows([batch.index], batch.positions[None], rows[None])
        if batch.before is None:
            return replace(with_labels, images=batch.images)
        halves = (part.transpose(0, 2, 3, 1) for part in (batch.images, batch.before))
        return self._with_pixels(with_labels, *halves)

    def _buffer(self, images: int) -> Pixels:
        """[images, H, W, 3] from the ring, whose length keeps the batch being taken and the one before it intact."""
        if self._copy:
            return np.empty((images, *self._size, 3), np.uint8)
        if len(self._ring) < AHEAD + 2:
            self._ring.append(np.empty((self._schedule.images * self._frames, *self._size, 3), np.uint8))
            return self._ring[-1][:images]
        self._ring.append(self._ring.popleft())
        return self._ring[-1][:images]


def _order(schedule: ReadSchedule, table: ImageTable, before: Before | None, first: int) -> tuple[Int32s, Ints]:
    """Shards and offsets of the reads in order: of each image, or of the frame before it and then the image."""
    rows = schedule.order(schedule.indices[first:])
    if before is None:
        return table.shard[rows], table.offset[rows]
    earlier = before.rows[rows]
    read = np.stack([earlier >= 0, np.ones(len(rows), np.bool_)], axis=1)
    shards, offsets = (
        np.stack([getattr(before.table, name)[earlier], getattr(table, name)[rows]], axis=1)[read]
        for name in ("shard", "offset")
    )
    return shards, offsets


def _release(pool: ThreadPoolExecutor, source: ShardSource, *, wait: bool) -> None:
    """End the threads and close the files. The garbage collector passes `wait=False`: it may run in a thread of the
    pool."""
    pool.shutdown(wait=wait, cancel_futures=True)
    source.close(wait)


def _check_numbers(threads: int, size: tuple[int, int]) -> None:
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise BadInput(f"size {size!r}: must be a height and a width; give both")
    if threads < 1 or min(size) < 1:
        raise BadInput(f"threads {threads}, size {size}: each must be at least 1; correct it")


def _check_buffers(buffers: Sequence[Pixels], shape: tuple[int, ...]) -> None:
    if buffers and len(buffers) < AHEAD + 2:
        raise BadInput(f"{len(buffers)} buffers: at least {AHEAD + 2} are needed; give more")
    for buffer in buffers:
        if (
            buffer.shape != shape
            or buffer.dtype != np.uint8
            or not (buffer.flags.c_contiguous and buffer.flags.writeable)
        ):
            raise BadInput(
                f"a buffer {buffer.dtype} {buffer.shape}: must be uint8 {shape}, in C order, writeable; correct it"
            )
