"""What the network reads: cached vectors, or pixels, for draws in plan order and for any rows of the plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.arrays import Bools, Ints
from curation.errors import BadInput
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.streaming.batches import Batch, batches
from samplers.streaming.draws import ReplacedDraw
from samplers.streaming.frame_pairs import FramePairs, gap_of, pairs_of
from samplers.streaming.stream import OnError, stream, sweep
from training.evaluation.image_size import BATCH, images_at_once
from training.evaluation.pair_inputs import pixels_of, vectors_of
from training.loop.augmentation import augmented, moves_of
from training.loop.course import Segment
from training.loop.feed import Feed
from training.loop.ranks import Ranks
from training.loop.shard_feed import Shards
from training.network.model import as_pixels
from training.network.objects import Objects
from training.network.pairs import both_frames, flagged
from training.recipe import Recipe

__all__ = ["Inputs", "Source"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the images of draws come from: the plan's pack, or `shards`; and what happens at a bad one."""

    on_error: OnError = "raise"
    shards: Shards | None = None


class Inputs:
    """The inputs of a recipe's network over the images of a plan's pack.

    `replaced` lists the draws whose image could not be read, with `Source.on_error` "quarantine".
    """

    def __init__(self, recipe: Recipe, plan: Plan, home: Path, source: Source, ranks: Ranks) -> None:
        self._recipe, self._home, self._source, self._ranks = recipe, home, source, ranks
        self.embeddings = Embeddings.open(home, recipe.embeddings) if recipe.embeddings else None
        self._pack_hash = plan.pack_hash
        self.pairs: FramePairs | None = None
        """The frame before each image, where a task reads two."""
        if gap_of([task.task for task in plan.tasks]):
            if source.shards is not None:
                raise BadInput(
                    "shards: hold no frame before each image, which a task of the plan reads; train on the pack"
                )
            self.pairs = pairs_of(plan, home, Pack.open(home, plan.pack_hash))
        self._sizes: dict[str, Ints] = {}
        self.replaced: list[ReplacedDraw] = []

    def draws(self, segment: Segment, start: int) -> Iterator[tuple[Tensor, Batch]]:
        """This rank's batches of a segment from position `start` of the run on, with their inputs on the device."""
        if self.embeddings is None:
            return _ahead(self._pixels(segment, start), self._ranks.device)
        vectors = self.vectors(segment.plan.keys.to_pylist())
        found = batches(
            segment.plan, self._recipe.global_batch, rank=self._ranks.rank, world_size=self._ranks.world,
            start=start - segment.start,
        )  # fmt: skip
        return ((vectors[torch.from_numpy(batch.rows).to(vectors.device)], batch) for batch in found)

    def objects(self, segment: Segment, batch: Batch) -> Objects | None:
        """The objects of a batch where `draws` puts them, on the device; None where no task is of boxes."""
        boxes = segment.boxes(batch)
        if boxes is None:
            return None
        moves = moves_of(segment.start + batch.positions, _sided(batch, segment.plan), self._recipe)
        return Objects.of(boxes, self._sizes_of(segment)[batch.rows], moves).to(self._ranks.device)

    def _sizes_of(self, segment: Segment) -> Ints:
        """Width and height [S, 2] of the images of a segment's plan."""
        if segment.plan.hash not in self._sizes:
            pack = Pack.open(self._home, self._pack_hash)
            self._sizes = {segment.plan.hash: pack.sizes(segment.plan.keys.to_pylist())}
        return self._sizes[segment.plan.hash]

    def of(self, keys: Sequence[str]) -> Iterator[Tensor]:
        """Inputs of these images in batches of 256 (`images_at_once`), not augmented, on the device."""
        if self.embeddings is not None:
            yield from self.vectors(keys).split(BATCH)
            return
        pack = Pack.open(self._home, self._pack_hash)
        rows = pack.rows(list(keys))
        at_once, recipe = images_at_once(self._recipe.size), self._recipe
        for batch in sweep(pack, rows, at_once, size=recipe.size, threads=recipe.threads, pairs=self.pairs):
            yield pixels_of(batch).to(self._ranks.device)

    def vectors(self, keys: Sequence[str]) -> Tensor:
        """Cached vectors [n, D] of these images, or [n, 2 D + 1] of pairs, on the device.

        BadInput names one that is not finite.
        """
        assert self.embeddings is not None
        return vectors_of(self.embeddings, keys, self.pairs).to(self._ranks.device)

    def _pixels(self, segment: Segment, start: int) -> Iterator[tuple[Tensor, Batch]]:
        """Decoded pixels, from pinned memory where there is a GPU."""
        recipe, ranks, shards = self._recipe, self._ranks, self._source.shards
        if shards is not None:
            found = shards.batches(segment.plan, recipe.global_batch, recipe.size)
            for batch in islice(found, start // recipe.global_batch, None):  # shards are read from their beginning
                pixels = as_pixels(torch.from_numpy(batch.images).to(ranks.device))
                yield augmented(pixels, batch.positions, _sided(batch, segment.plan), recipe), batch
            return
        pack = Pack.open(self._home, self._pack_hash)
        choice: dict[str, Any] = {
            "size": recipe.size, "threads": recipe.threads, "on_error": self._source.on_error, "rank": ranks.rank,
            "world_size": ranks.world, "start": start - segment.start, "global_batch": recipe.global_batch,
            "pairs": self.pairs,
        }  # fmt: skip
        if ranks.device.type == "cuda":
            feed = Feed(segment.plan, pack, **choice)
            for tensors in feed:
                self._keep(feed.replaced, segment)
                yield self._learned(tensors.frames(ranks.device), tensors.batch, segment)
            return
        with stream(segment.plan, pack, **choice) as streamed:
            for batch in streamed:
                self._keep(streamed.replaced, segment)
                yield self._learned(both_frames(batch), batch, segment)

    def _learned(self, images: Tensor, batch: Batch, segment: Segment) -> tuple[Tensor, Batch]:
        """The inputs of a batch, augmented alike in both frames, with the batch."""
        positions = segment.start + batch.positions
        pixels = augmented(as_pixels(images), positions, _sided(batch, segment.plan), self._recipe)
        return flagged(pixels, batch), batch

    def _keep(self, replaced: list[ReplacedDraw], segment: Segment) -> None:
        self.replaced += replaced
        replaced.clear()


def _ahead(batches_: Iterator[tuple[Tensor, Batch]], device: torch.device) -> Iterator[tuple[Tensor, Batch]]:
    """The same, where there is a GPU with the next batch copied on a stream of its own while this one is used."""
    if device.type != "cuda":
        yield from batches_
        return
    side = torch.cuda.Stream(device)
    ready: list[tuple[Tensor, Batch]] = []
    for _ in range(2):
        _copy_next(batches_, side, ready)
    while ready:
        torch.cuda.current_stream(device).wait_stream(side)
        inputs, batch = ready.pop(0)
        inputs.record_stream(torch.cuda.current_stream(device))
        yield inputs, batch
        _copy_next(batches_, side, ready)


def _copy_next(
    batches_: Iterator[tuple[Tensor, Batch]], side: torch.cuda.Stream, ready: list[tuple[Tensor, Batch]]
) -> None:
    with torch.cuda.stream(side):
        found = next(batches_, None)
    if found is not None:
        ready.append(found)


def _sided(batch: Batch, plan: Plan) -> Bools:
    """Which draws [B] have a known label of a task whose labels depend on left and right."""
    columns = [task.task.sided for task in plan.tasks]
    return np.asarray(batch.known[:, columns].any(axis=1), np.bool_)
