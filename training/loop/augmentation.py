"""How images differ from draw to draw: mirrored, moved, scaled, brighter; a pure function of (seed, position)."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from curation.arrays import Bools, Floats, Ints, UInt64s
from samplers.plan.interleave import hash64
from training.recipe import Augmentation, Recipe

__all__ = ["augmented", "moves_of"]


def augmented(pixels: Tensor, positions: Ints, sided: Bools, recipe: Recipe) -> Tensor:
    """The images of draws, float32 [B, 3, H, W] in [-1, 1], as `recipe.augment` says.

    `positions` [B] are those of the run. Images that are `sided` [B], with a label that depends on left and right, are
    not mirrored. An image does not depend on the others of its batch, nor on the number of ranks.
    """
    chosen = recipe.augment
    if not chosen:
        return pixels
    hashes = hash64(recipe.seed, positions)
    mirrored = ((hashes & np.uint64(1)) == 1) & ~sided
    if isinstance(chosen, Augmentation):
        return _warped(pixels, hashes, mirrored, chosen)
    flags = torch.from_numpy(mirrored).to(pixels.device)
    pixels = torch.where(flags[:, None, None, None], pixels.flip(-1), pixels)
    down, right = _roll(positions, recipe)
    return pixels.roll((down, right), dims=(2, 3)).contiguous(memory_format=torch.channels_last)


def moves_of(positions: Ints, sided: Bools, recipe: Recipe) -> Floats | None:
    """How `augmented` moves a point of each image: factors and shifts [B, 4] of x and y, as parts of width and height.

    A point at x is afterwards at x * factor + shift. None where images stay as they are.
    """
    chosen = recipe.augment
    if not chosen:
        return None
    hashes = hash64(recipe.seed, positions)
    mirrored = ((hashes & np.uint64(1)) == 1) & ~sided
    if isinstance(chosen, Augmentation):
        scale, moves = _scale_and_moves(hashes, mirrored, chosen, recipe.size)
        # a point at u in [-1, 1] of the result shows what was at scale * u + move
        factors = 1 / scale
        return np.concatenate([factors, (1 - moves * factors - factors) / 2], axis=1)
    side = np.where(mirrored, -1.0, 1.0)
    down, right = _roll(positions, recipe)
    height, width = recipe.size
    ones = np.ones(len(side))
    return np.stack([side, ones, (side < 0) + right / width, down / height * ones], axis=1)


def _roll(positions: Ints, recipe: Recipe) -> tuple[int, int]:
    """How many pixels all images of a global batch move down and to the right."""
    first = hash64(recipe.seed, positions[:1] - positions[:1] % recipe.global_batch)[0]
    down, right = (int(first >> np.uint64(bits)) % 9 - 4 for bits in (8, 16))
    return down, right


def _scale_and_moves(
    hashes: UInt64s, mirrored: Bools, chosen: Augmentation, shape: tuple[int, int]
) -> tuple[Floats, Floats]:
    """What places in [-1, 1] of x and y are multiplied with, and what is added, to find the pixel that goes there."""
    down, right, scale = (_between(hashes, bits) for bits in (8, 20, 32))
    height, width = shape
    size = np.exp(-scale * math.log1p(chosen.scale))
    side = np.where(mirrored & chosen.flip, -1.0, 1.0)
    moves = [np.round(part * chosen.shift) * 2 / length for part, length in ((right, width), (down, height))]
    return np.stack([side * size, size], axis=1), np.stack(moves, axis=1)


def _warped(pixels: Tensor, hashes: UInt64s, mirrored: Bools, chosen: Augmentation) -> Tensor:
    """One resampling for mirroring, moving and scaling, then the brightness; all from the bits of `hashes` [B]."""
    height, width = pixels.shape[2:]
    size, moves = _scale_and_moves(hashes, mirrored, chosen, (height, width))
    light, zero = _between(hashes, 44), np.zeros(len(size))
    rows = [np.stack([size[:, 0], zero, moves[:, 0]], axis=1), np.stack([zero, size[:, 1], moves[:, 1]], axis=1)]
    theta = torch.from_numpy(np.stack(rows, axis=1).astype(np.float32)).to(pixels.device)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    found = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    factor = torch.from_numpy((1 + chosen.brightness * light).astype(np.float32)).to(pixels.device)
    found = ((found + 1) * factor[:, None, None, None] - 1).clamp(-1, 1)
    return found.contiguous(memory_format=torch.channels_last)


def _between(hashes: UInt64s, bits: int) -> Floats:
    """Numbers from -1 to 1 [B], from 12 bits of each hash."""
    numbers: Floats = ((hashes >> np.uint64(bits)) & np.uint64(4095)).astype(np.float64) / 2047.5 - 1
    return numbers
