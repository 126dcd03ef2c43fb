"""What a network reads of the images of a pack: cached vectors or pixels, of one frame or of two."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from curation.images.embeddings import Embeddings
from samplers.streaming.batches import Batch
from samplers.streaming.frame_pairs import FramePairs
from training.network.model import as_pixels
from training.network.pairs import as_pair, both_frames, flagged

__all__ = ["pixels_of", "vectors_of"]


def vectors_of(embeddings: Embeddings, keys: Sequence[str], pairs: FramePairs | None) -> Tensor:
    """Cached vectors float16 [n, D] of these images; with `pairs` [n, 2 D + 1], with those of the frames before.

    BadInput names a vector that is not finite.
    """
    own = torch.from_numpy(embeddings.of(keys))
    if pairs is None:
        return own
    rows = pairs.of(pa.array(keys, pa.string()))
    before = torch.zeros_like(own)
    there = np.flatnonzero(rows >= 0)
    if len(there):
        earlier = pairs.pack.keys.take(pa.array(rows[there])).to_pylist()
        before[torch.from_numpy(there)] = torch.from_numpy(embeddings.of(earlier))
    return as_pair(own, before, torch.from_numpy(rows >= 0))


def pixels_of(batch: Batch) -> Tensor:
    """The images of a batch as pixels in [-1, 1]: float32 [B, 3, H, W], or pairs [B, 7, H, W]; without padding."""
    return flagged(as_pixels(both_frames(batch)), batch)
