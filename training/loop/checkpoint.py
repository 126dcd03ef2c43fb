"""Checkpoints of a training that is not finished: written whole, read back on the same plan, and gone at its end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from curation.errors import Damaged
from curation.files.atomic import whole
from curation.files.read_back import one_line
from training.network.weights import read_tensors

__all__ = ["Stop", "listening", "load_state", "save_state", "write_tensors"]

FORMAT = 1


def write_tensors(path: Path, values: Any) -> None:
    """Write tensors and plain values, whole or not at all."""
    buffer = BytesIO()  # torch reports a full disk only as a failure
    torch.save(values, buffer)
    with whole(path) as part:
        part.write_bytes(buffer.getbuffer())


def save_state(path: Path, state: Any) -> None:
    """Write a state that `load_state` reads."""
    write_tensors(path, {"format": FORMAT, "state": state})


def load_state(path: Path, device: torch.device | str = "cpu") -> Any:
    """What `save_state` wrote; Damaged in one line for anything else."""
    fix = "remove it to train from the start"
    found = read_tensors(path, fix, device)
    try:
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}, must be {FORMAT}")
        return found["state"]
    except (KeyError, ValueError, TypeError) as error:
        raise Damaged(f"{path}: cannot be read ({one_line(error)}); {fix}") from error


class Stop:
    """Whether the process has been asked to stop by SIGTERM."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


@contextmanager
def listening() -> Iterator[Stop]:
    """Take SIGTERM as a request to stop after this step, while the block runs; in a main thread only."""
    stop = Stop()
    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # another thread than the main one
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
