"""What to lower where memory runs out, and memory that one step leaves to the next."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from curation.errors import Failed
from training.loop.learner import Learner
from training.recipe import Recipe

__all__ = ["KEPT", "keep_freed_memory", "out_of_memory"]

KEPT = 1 << 30
"""Bytes up to which blocks come from the heap, and up to which its free end stays with the process."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Let the C library keep what this process frees, for the whole of its life; does nothing without glibc.

    By default glibc returns the maps of a batch to the system after each step and takes them back page by page in the
    next one: a tenth of the CPU time of a step of the small trunk. The peak of memory grows by 2%. What the user has
    set by MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_ holds.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for name, code in (("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD), ("MALLOC_MMAP_THRESHOLD_", M_MMAP_THRESHOLD)):
        if mallopt is not None and name not in os.environ:
            mallopt(code, KEPT)


@contextmanager
def out_of_memory(recipe: Recipe, learner: Learner) -> Iterator[None]:
    """Failed in one line where the block runs out of memory, on a GPU or on the CPU."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise Failed(_line(recipe, learner)) from error
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise Failed(_line(recipe, learner)) from error


def _line(recipe: Recipe, learner: Learner) -> str:
    """The largest of what needs memory decides: weights with their moments, or the maps of a batch."""
    weights = 4 * 4 * sum(part.numel() for part in learner.network.parameters())
    images = recipe.global_batch // learner.ranks.world // recipe.accumulate
    height, width = recipe.size
    maps = 0 if recipe.embeddings else 4 * images * height * width * 16
    if weights > maps:
        fix = "take a smaller tree: narrower branches, or more tasks on one"
    elif images > 1:
        fix = f"set accumulate = {2 * recipe.accumulate} in the recipe, or lower --batch"
    else:
        fix = f"lower --size {height} {width}"
    return f"out of memory with {images} images at once and {weights / 16 / 1e6:.1f} million parameters; {fix}"
