"""Features of a frozen trunk: computed once, through the stream, and kept beside the catalog."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from curation.arrays import Ints, Pixels
from curation.errors import BadInput
from curation.images import embeddings
from curation.images.decoding import load_rgb
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.streaming.decode import decode_into, stretch_into
from samplers.streaming.stream import sweep
from training.network.model import Network, as_pixels, load_any
from training.network.tree_network import TreeNetwork
from training.network.trunks import load_frozen
from training.recipe import Recipe
from training.run import Run

__all__ = [
    "BATCH", "GREY", "Frozen", "embed", "embed_some", "features_of_file", "fitted", "fitted_crop", "fitted_images",
    "fitted_pixels", "framed", "frozen_features", "frozen_trunk",
]  # fmt: skip


BATCH = 64

SHARED = "shared"
"""The branch of all tasks that read one frame, where a plain recipe's network is a tree because others read two."""

GREY = 124
"""The borders of a letterbox: about the mean of ImageNet's pixels."""


class Frozen(Protocol):
    """A trunk that turns uint8 images [B, 3, H, W] into features [B, D], in named blocks whose widths add up to D."""

    @property
    def blocks(self) -> Sequence[tuple[str, int]]: ...

    def features(self, images_BCHW: Tensor) -> Tensor: ...


class RunTrunk(nn.Module):
    """Trunk and branch of a finished run, trained on pixels, as frozen features."""

    def __init__(self, network: Network | TreeNetwork) -> None:
        super().__init__()
        branch: nn.Module = nn.Identity()
        width = 0
        if isinstance(network, Network):
            branch, width = network.branch, network.heads.in_features
        elif SHARED in network.branches:
            branch, width = network.branches[SHARED], network.head(SHARED).in_features
        self.trunk, self.branch = network.trunk, branch
        self.blocks = [("trunk", network.width)]
        if not isinstance(self.branch, nn.Identity):
            self.blocks.append(("branch", width))

    @torch.no_grad()
    def features(self, images_BCHW: Tensor) -> Tensor:
        """Features float32 [B, D] of uint8 RGB images."""
        seen = self.trunk(as_pixels(images_BCHW))
        return torch.cat([seen, self.branch(seen)], dim=1) if len(self.blocks) > 1 else seen


def embed(
    home: Path, pack: Pack, recipe: Recipe, *, progress: Callable[[int, int], None] | None = None
) -> Embeddings | None:
    """The embeddings of every image of `pack`, computed unless they exist; None for a trunk trained on pixels.

    Each size, fit and choice of views has embeddings of its own.
    """
    name = recipe.embeddings
    if not name:
        return None
    keys = pack.keys.to_pylist()
    if (home / "embeddings" / name / "embeddings.json").is_file():
        found = Embeddings.open(home, name)
        if found.covers(keys):
            return found
    torch.set_num_threads(recipe.threads)
    trunk = frozen_trunk(home, recipe)
    with embeddings.writing(home, name, keys, trunk.blocks) as vectors:
        done = 0
        for rows, images in fitted_images(pack, recipe, np.arange(len(keys), dtype=np.int32)):
            vectors[rows] = _features(trunk, torch.from_numpy(images), mirrored=recipe.mirrored)
            done += len(rows)
            if progress:
                progress(done, len(keys))
    return Embeddings.open(home, name)


def embed_some(home: Path, pack: Pack, recipe: Recipe, keys: Sequence[str], folder: Path) -> Embeddings:
    """As `embed`, but of these images of `pack` alone, kept in `folder`; the statistics are those of these images."""
    trunk, rows = frozen_trunk(home, recipe), pack.rows(list(keys))
    place = np.zeros(len(pack.keys), np.int64)
    place[rows] = np.arange(len(rows))
    with embeddings.writing(folder, recipe.embeddings, keys, trunk.blocks) as vectors:
        for found, images in fitted_images(pack, recipe, np.asarray(rows, np.int32)):
            vectors[place[found]] = _features(trunk, torch.from_numpy(images), mirrored=recipe.mirrored)
    return Embeddings.open(folder, recipe.embeddings)


def features_of_file(home: Path, path: Path, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Features [D] of one image file, of any folder, as `embed` computes them; BadImage when it cannot be decoded."""
    images = torch.from_numpy(fitted_pixels(path.read_bytes(), recipe)[None])
    trunk = frozen_trunk(home, recipe)
    return np.asarray(_features(trunk, images, mirrored=recipe.mirrored)[0], np.float32)


def fitted_pixels(data: bytes, recipe: Recipe) -> Pixels:
    """The image in the bytes of a file, uint8 [3, H, W], fitted as the recipe says; BadImage when there is none."""
    height, width = load_rgb(data).shape[:2] if recipe.fit != "stretch" else recipe.size
    pixels = _room(height, width, recipe)
    decode_into(memoryview(data), pixels)
    return _framed_one(pixels, recipe)


def fitted_crop(crop: Pixels, recipe: Recipe) -> Pixels:
    """Pixels [h, w, 3] as an image of their own, uint8 [3, H, W], fitted as the recipe says."""
    pixels = _room(crop.shape[0], crop.shape[1], recipe)
    stretch_into(crop, pixels)
    return _framed_one(pixels, recipe)


def _room(height: int, width: int, recipe: Recipe) -> Pixels:
    """Room [h, w, 3] for an image of this shape, fitted as the recipe says, before it is framed."""
    inner = recipe.size
    if recipe.fit != "stretch":
        (shape,) = fitted(np.array([height]), np.array([width]), recipe.size, recipe.fit).tolist()
        inner = (shape[0], shape[1])
    return np.empty((*inner, 3), np.uint8)


def _framed_one(pixels: Pixels, recipe: Recipe) -> Pixels:
    return np.asarray(framed(pixels.transpose(2, 0, 1)[None], recipe.size)[0], np.uint8)


def frozen_features(trunk: Frozen, images: Tensor, *, mirrored: bool) -> Tensor:
    """Features float16 [B, D] of uint8 images [B, 3, H, W], rounded as embeddings keep them.

    With `mirrored`, the mean of an image's features and those of its mirror image.
    """
    found = trunk.features(images)
    if mirrored:
        found = (found + trunk.features(images.flip(-1))) / 2
    return found.to(torch.float16)


def _features(trunk: Frozen, images: Tensor, *, mirrored: bool) -> npt.NDArray[np.float16]:
    return np.asarray(frozen_features(trunk, images, mirrored=mirrored).numpy(), np.float16)


def fitted_images(
    pack: Pack, recipe: Recipe, every: npt.NDArray[np.int32]
) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]]:
    """Rows of the pack [B] among `every` with their images uint8 [B, 3, H, W], fitted as the recipe says."""
    if recipe.fit == "stretch":
        for batch in sweep(pack, every, BATCH, size=recipe.size, threads=1):
            rows = batch.rows[batch.rows >= 0]
            yield rows, batch.images[: len(rows)]
        return
    heights, widths = (pack.index[side].to_numpy()[every] for side in ("height", "width"))
    inner = fitted(heights, widths, recipe.size, recipe.fit)
    for size in np.unique(inner, axis=0).tolist():
        mine = every[(inner == size).all(axis=1)]
        for batch in sweep(pack, mine, BATCH, size=(size[0], size[1]), threads=1):
            rows = batch.rows[batch.rows >= 0]
            yield rows, framed(batch.images[: len(rows)], recipe.size)


def fitted(heights: Ints, widths: Ints, size: tuple[int, int], fit: str) -> Ints:
    """Heights and widths [n, 2] that keep the shape of images: inside `size` (letterbox), or around it (crop).

    >>> fitted(np.array([100]), np.array([50]), (64, 64), "letterbox").tolist()
    [[64, 32]]
    >>> fitted(np.array([100]), np.array([50]), (64, 64), "crop").tolist()
    [[128, 64]]
    """
    ratios = np.stack([size[0] / heights, size[1] / widths])
    scale = ratios.min(axis=0) if fit == "letterbox" else ratios.max(axis=0)
    return np.maximum(np.round(np.stack([heights * scale, widths * scale], axis=1)), 1).astype(np.int64)


def framed(images: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Images [B, 3, h, w] in the middle of grey [B, 3, H, W]; where they are larger, their middle."""
    out = np.full((*images.shape[:2], *size), GREY, np.uint8)
    inner, outer = [], []
    for have, want in zip(images.shape[2:], size, strict=True):
        side = min(have, want)
        inner.append(slice((have - side) // 2, (have - side) // 2 + side))
        outer.append(slice((want - side) // 2, (want - side) // 2 + side))
    out[:, :, outer[0], outer[1]] = images[:, :, inner[0], inner[1]]
    return out


def frozen_trunk(home: Path, recipe: Recipe) -> Frozen:
    """The frozen trunk of a recipe, pretrained or that of a run of the workspace `home`; a `torch.nn.Module`."""
    if not recipe.trunk.startswith("run:"):
        return load_frozen(recipe.trunk)
    run = Run.open(home, recipe.trunk.removeprefix("run:"))
    if not run.recipe.plain:
        raise BadInput(f"run {run.id}: its network is a tree of its own; name a run without one")
    return RunTrunk(load_any(run, Plan.open(home, run.plan).tasks, home))
