"""Tensors in files, read back only as they were written."""

from pathlib import Path
from typing import Any

import torch

from curation.errors import Damaged
from curation.files.read_back import check_archive, one_line

__all__ = ["read_tensors"]


def read_tensors(path: Path, fix: str, device: torch.device | str = "cpu") -> Any:
    """The tensors and plain values that torch wrote into a file; Damaged, in one line, for altered bytes too."""
    check_archive(path, fix)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises errors of many kinds
        raise Damaged(f"{path}: cannot be read ({one_line(error)}); {fix}") from error
