"""Which draws make up a batch: pure functions of the plan, the global batch size, the rank and the batch index.

Global batch b is draws [b G, (b + 1) G) of the plan; rank r takes a contiguous slice of it. Each epoch starts the plan
from the beginning, and batch indices continue. Batch contents depend on nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

from curation.arrays import Bools, Float32s, Int8s, Int32s, Ints, Pixels
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.boxes import DrawBoxes, PlanBoxes, has_boxes
from samplers.plan.plan import Plan

__all__ = ["Batch", "BatchSchedule", "Tail", "batches", "row_batches"]

Tail = Literal["drop", "pad"]
"""What happens to the draws after the last whole global batch: "drop" them, or "pad" a last batch."""

_BLOCK = 16  # batches whose labels are looked up together: one by one, each holds the interpreter lock twice as long


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """B draws of one rank, for T tasks.

    `images` is a view of a reused buffer, valid until two more batches are taken, unless the stream copies. It is
    [B, 3, H, W] with the channels innermost in memory, which torch calls channels_last.
    """

    index: int
    """b, the index of the global batch; it continues from one epoch to the next."""
    positions: Ints
    """[B] positions in the plan; in a sweep, indices into the given rows."""
    rows: Int32s
    """[B] rows of the plan's samples; in a sweep, of the pack. -1 is padding."""
    keys: list[str]
    """B keys; "" is padding."""
    images: Pixels
    """uint8 [B, 3, H, W] RGB, 0 where padding; [B, 3, 0, 0] from `batches`."""
    before: Pixels | None = None
    """With frame pairs, the frame before each, as `images`; 0 where there is none."""
    paired: Bools | None = None
    """With frame pairs, which images [B] have a frame before."""
    values: Float32s
    """[B, T] class codes or numbers, 0 where unknown."""
    known: Bools
    """[B, T] whether the label is known."""
    weights: Float32s
    """[B, T] w_t of each known label, 0 where unknown."""
    presence: Int8s
    """[B, M] each class of the multilabel tasks: 1 there, 0 not there, -1 unknown (`samplers.plan.presence`)."""
    boxes: DrawBoxes | None = None
    """The boxes of tasks of boxes; None where the plan has no such task."""


@dataclass(frozen=True, kw_only=True)
class BatchSchedule:
    """How the draws of a plan form global batches, and slices of ranks; validated when it is made."""

    plan: Plan
    global_batch: int
    rank: int = 0
    world_size: int = 1
    tail: Tail = "drop"
    epochs: int = 1

    def __post_init__(self) -> None:
        size, ranks, draws = self.global_batch, self.world_size, len(self.plan.draws)
        if size < 1 or ranks < 1 or size % ranks:
            raise BadInput(f"global_batch {size}: {ranks} ranks must divide it; take a multiple of that")
        if not 0 <= self.rank < ranks:
            raise BadInput(f"rank {self.rank}: from 0 to {ranks - 1} with a world size of {ranks}; correct it")
        if self.tail not in ("drop", "pad"):
            raise BadInput(f"tail {self.tail!r}: drop or pad; choose one")
        if self.epochs < 1:
            raise BadInput(f"epochs {self.epochs}: at least 1; correct it")
        if not draws:
            raise BadInput(f"plan {self.plan.hash[:12]}: it has no draws; make a plan with draws")
        if not self.batches_per_epoch:
            raise BadInput(f"global_batch {size}: the plan has only {draws} draws; lower it, or pad")

    @property
    def batches_per_epoch(self) -> int:
        """The number of global batches in one epoch."""
        draws = len(self.plan.draws)
        return draws // self.global_batch if self.tail == "drop" else -(-draws // self.global_batch)

    def indices(self, start: int) -> range:
        """The indices of the global batches from position `start` to the end of the last epoch."""
        end = self.batches_per_epoch * self.epochs
        if start % self.global_batch or not 0 <= start <= end * self.global_batch:
            raise BadInput(
                f"start {start}: a multiple of {self.global_batch} from 0 to {end * self.global_batch}; "
                "pass a stream's position"
            )
        return range(start // self.global_batch, end)

    def order(self, indices: range) -> Int32s:
        """The rows of the plan's samples that this rank reads in these global batches, without padding."""
        positions = self._positions(indices).ravel()
        return np.asarray(self.plan.draws[positions[positions < len(self.plan.draws)]], np.int32)

    def batches(self, indices: range) -> Iterator[Batch]:
        """These global batches as this rank sees them, without pixels."""
        for at in range(0, len(indices), _BLOCK):
            positions = self._positions(block := indices[at : at + _BLOCK])
            rows = np.full(positions.shape, -1, np.int32)
            inside = positions < len(self.plan.draws)
            rows[inside] = self.plan.draws[positions[inside]]
            yield from self.of_rows(block, positions, rows)

    def of_rows(self, indices: Sequence[int], positions: Ints, rows: Int32s) -> Iterator[Batch]:
        """The batches `indices` [K] with the plan's samples `rows` [K, B] at `positions` [K, B]; row -1 is padding."""
        labels = [part.reshape(*rows.shape, -1) for part in self.plan.labels(rows.ravel(), positions.ravel())]
        presence = self.plan.presence(rows.ravel()).reshape(*rows.shape, -1)
        found = self.plan.keys.take(pa.array(np.maximum(rows.ravel(), 0))).to_pylist()
        keys = ["" if row < 0 else key for key, row in zip(found, rows.ravel().tolist(), strict=True)]
        size = rows.shape[1]
        for k, (index, values, known, weights) in enumerate(zip(indices, *labels, strict=True)):
            yield Batch(
                index=index, positions=positions[k], rows=rows[k], keys=keys[k * size : (k + 1) * size],
                images=np.empty((size, 3, 0, 0), np.uint8), values=values, known=known, weights=weights,
                presence=presence[k],
                boxes=self._boxes.of(rows[k]) if self._boxes else None,
            )  # fmt: skip

    @cached_property
    def _boxes(self) -> PlanBoxes | None:
        return PlanBoxes(self.plan) if has_boxes(self.plan) else None

    def _positions(self, indices: range) -> Ints:
        """[K, B] positions of this rank's draws in K global batches; padding has positions beyond the plan's end."""
        images = self.global_batch // self.world_size
        firsts = (
            np.arange(indices.start, indices.stop) % self.batches_per_epoch * self.global_batch + self.rank * images
        )
        return np.asarray(firsts[:, None] + np.arange(images), np.int64)


def batches(
    plan: Plan,
    global_batch: int = 64,
    *,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    tail: Tail = "drop",
    epochs: int = 1,
) -> Iterator[Batch]:
    """The batches of `stream` without pixels, for training on precomputed features. Opens no shard.

    >>> batch = next(batches(plan, 8))
    >>> batch.index, batch.positions.tolist(), batch.images.shape
    (0, [0, 1, 2, 3, 4, 5, 6, 7], (8, 3, 0, 0))
    """
    schedule = BatchSchedule(
        plan=plan, global_batch=global_batch, rank=rank, world_size=world_size, tail=tail, epochs=epochs
    )
    return schedule.batches(schedule.indices(start))


def row_batches(pack: Pack, all_rows: Int32s, batch: int, indices: range) -> Iterator[Batch]:
    """The batches `indices` of chosen rows of a pack, without pixels and labels."""
    for index in indices:
        rows = all_rows[index * batch : (index + 1) * batch]
        yield Batch(
            index=index,
            positions=np.arange(index * batch, index * batch + len(rows)),
            rows=rows,
            keys=pack.keys.take(pa.array(rows)).to_pylist(),
            images=np.empty((len(rows), 3, 0, 0), np.uint8),
            values=np.zeros((len(rows), 0), np.float32),
            known=np.zeros((len(rows), 0), np.bool_),
            weights=np.zeros((len(rows), 0), np.float32),
            presence=np.zeros((len(rows), 0), np.int8),
        )
