"""Features of a frozen trunk: computed once, through the stream, and kept beside the catalog."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from curation.images import embeddings
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.stream.decode import decode_into
from samplers.stream.stream import sweep
from training.network.model import Network, as_pixels, load_network
from training.network.trunks import load_frozen
from training.run import Recipe, Run

__all__ = ["embed", "features_of_file"]

BATCH = 64


class Frozen(Protocol):
    """What turns uint8 images [B, 3, H, W] into features [B, D], in named blocks whose widths add up to D."""

    @property
    def blocks(self) -> Sequence[tuple[str, int]]: ...

    def features(self, images_BCHW: Tensor) -> Tensor: ...


class RunTrunk:
    """Trunk and branch of a finished run, trained on pixels, as frozen features."""

    def __init__(self, network: Network) -> None:
        self.trunk, self.branch = network.trunk, network.branch
        self.blocks = [("trunk", network.width)]
        if not isinstance(self.branch, nn.Identity):
            self.blocks.append(("branch", network.heads.in_features))

    @torch.no_grad()
    def features(self, images_BCHW: Tensor) -> Tensor:
        """Features float32 [B, D] of uint8 RGB images."""
        seen = self.trunk(as_pixels(images_BCHW))
        return torch.cat([seen, self.branch(seen)], dim=1) if len(self.blocks) > 1 else seen


def embed(
    home: Path, pack: Pack, recipe: Recipe, *, progress: Callable[[int, int], None] | None = None
) -> Embeddings | None:
    """The embeddings of every image of `pack`, computed unless they are there; None for a trunk trained on pixels."""
    name = recipe.embeddings
    if not name:
        return None
    keys = pack.keys.to_pylist()
    if (home / "embeddings" / name / "embeddings.json").is_file():
        found = Embeddings.open(home, name)
        if found.covers(keys):
            return found
    torch.set_num_threads(recipe.threads)
    trunk = _load(home, recipe)
    with embeddings.writing(home, name, keys, trunk.blocks) as vectors:
        done = 0
        for batch in sweep(pack, np.arange(len(keys), dtype=np.int32), BATCH, size=recipe.size, threads=1):
            rows = batch.rows[batch.rows >= 0]
            vectors[rows] = trunk.features(torch.from_numpy(batch.images[: len(rows)])).numpy().astype(np.float16)
            done += len(rows)
            if progress:
                progress(done, len(keys))
    return Embeddings.open(home, name)


def features_of_file(home: Path, path: Path, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Features [D] of one image file, of any folder, as `embed` computes them; BadImage when it cannot be decoded."""
    height, width = recipe.size
    pixels = np.empty((height, width, 3), np.uint8)
    decode_into(memoryview(path.read_bytes()), pixels)
    images_BCHW = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return np.asarray(_load(home, recipe).features(images_BCHW).numpy()[0], np.float32)


def _load(home: Path, recipe: Recipe) -> Frozen:
    if not recipe.trunk.startswith("run:"):
        return load_frozen(recipe.trunk)
    run = Run.open(home, recipe.trunk.removeprefix("run:"))
    return RunTrunk(load_network(run, Plan.open(home, run.plan).tasks, home))
