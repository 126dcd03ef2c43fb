"""Training and evaluation of networks. Torch is imported only where it is used: reports run without it."""

import importlib
from typing import TYPE_CHECKING

from training.recipe import Recipe
from training.run import Run

if TYPE_CHECKING:
    from training.evaluation.evaluation import evaluate
    from training.loop.trainer import train

__all__ = ["Recipe", "Run", "evaluate", "train"]

_LAZY = {"evaluate": "training.evaluation.evaluation", "train": "training.loop.trainer"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
