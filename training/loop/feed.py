"""The tensor face of the stream: batches as tensors, pinned where there is a GPU, with channels last.

Images are decoded straight into the memory of the tensors. The stream's threads replace the workers of a DataLoader; if
you need one, use `DataLoader(feed, batch_size=None)`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.streaming.batches import Batch
from samplers.streaming.draws import ReplacedDraw
from samplers.streaming.stream import AHEAD, Stream, stream

__all__ = ["Feed", "Tensors"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensors:
    """B draws of one rank for T tasks. The memory of `images` is reused after two more batches."""

    images: Tensor
    """uint8 [B, 3, H, W], channels_last."""
    values: Tensor
    """float32 [B, T], 0 where unknown."""
    known: Tensor
    """bool [B, T]"""
    weights: Tensor
    """float32 [B, T], 0 where unknown."""
    batch: Batch
    """Keys, rows and positions."""
    before: Tensor | None = None
    """With frame pairs, the frame before each image, as `images`."""

    def frames(self, device: torch.device) -> Tensor:
        """uint8 [B, 3, H, W] on a device, or with frame pairs [B, 6, H, W]: the image, then the frame before."""
        images = self.images.to(device, non_blocking=True)
        return images if self.before is None else torch.cat([images, self.before.to(device, non_blocking=True)], dim=1)

    def to(self, device: torch.device | str) -> "Tensors":
        """The same on a device; copies from pinned memory are asynchronous, so the stream can continue meanwhile."""
        images, values, known, weights = (
            part.to(device, non_blocking=True) for part in (self.images, self.values, self.known, self.weights)
        )
        before = None if self.before is None else self.before.to(device, non_blocking=True)
        return Tensors(images=images, values=values, known=known, weights=weights, batch=self.batch, before=before)


class Feed(IterableDataset[Tensors]):
    """A plan's batches for one rank, as tensors; `choice` are arguments of `samplers.streaming.stream`, except buffers.

    Each iteration starts where the last one stopped, or at the loaded state: after the last batch it yields nothing.
    `state_dict` describes the batches taken so far. Raises BadInput as `samplers.streaming.stream` does.
    """

    def __init__(self, plan: Plan, pack: Pack | Path | str, *, pin: bool | None = None, **choice: Any) -> None:
        super().__init__()
        if "buffers" in choice:
            raise BadInput("buffers: a feed decodes into tensors of its own; leave them out, or use samplers.stream")
        self.replaced: list[ReplacedDraw] = []
        """With `on_error="quarantine"`, the draws of the batches taken so far that another image took over."""
        self._plan, self._pack, self._choice = plan, pack, choice
        self._pin = torch.cuda.is_available() if pin is None else pin
        with self._open() as found:  # arguments that contradict each other raise here
            self._state = found.state_dict()

    def __iter__(self) -> Iterator[Tensors]:
        if get_worker_info() is not None:
            raise BadInput("num_workers: 0 for a stream, which has threads of its own; raise `threads`")
        with self._open(self._buffers()) as found:
            found.load_state_dict(self._state)
            for batch in found:
                self._state = found.state_dict()
                self.replaced += found.replaced
                found.replaced.clear()
                yield self._tensors(batch)

    def state_dict(self) -> dict[str, Any]:
        """As that of `samplers.Stream`."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As that of `samplers.Stream`; the next iteration begins there."""
        with self._open() as found:
            found.load_state_dict(state)
        self._state = dict(state)

    def _open(self, buffers: list[Any] | None = None) -> Stream:
        return stream(self._plan, self._pack, **self._choice, buffers=buffers or ())

    def _buffers(self) -> list[Any]:
        """Buffers in pinned memory; none without it: the stream uses its own."""
        if not self._pin:
            return []
        images = self._choice.get("global_batch", 64) // self._choice.get("world_size", 1)
        shape = (images * (1 if self._choice.get("pairs") is None else 2), *self._choice["size"], 3)
        return [torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy() for _ in range(AHEAD + 2)]

    def _tensors(self, batch: Batch) -> Tensors:
        values, known, weights = map(torch.from_numpy, (batch.values, batch.known, batch.weights))
        if self._pin:
            values, known, weights = values.pin_memory(), known.pin_memory(), weights.pin_memory()
        images = torch.from_numpy(batch.images)
        before = None if batch.before is None else torch.from_numpy(batch.before)
        return Tensors(images=images, values=values, known=known, weights=weights, batch=batch, before=before)
