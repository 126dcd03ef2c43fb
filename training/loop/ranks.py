"""The processes of one training. Sums go over the global batch, so results do not depend on how many there are.

DistributedDataParallel would take means over ranks, which is wrong where ranks hold differently many labels, and would
move tasks that do not learn; here one flat sum of all gradients, losses and counts is enough.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from curation.errors import BadInput

__all__ = ["Ranks", "joined"]


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process, `rank` of `world`, on `device`; a training alone is rank 0 of 1 on the CPU."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a constant

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def sum_(self, parts: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in one exchange."""
        if self.world == 1 or not parts:
            return
        flat = torch.cat([part.detach().reshape(-1).to(torch.float32) for part in parts])
        distributed.all_reduce(flat)
        for part, summed in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
            part.copy_(summed.view_as(part))

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, by rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found

    def from_first(self, value: Any) -> Any:
        """The value of rank 0."""
        return self.gather(value)[0]


@contextmanager
def joined(*, rank: int, world: int, local_rank: int = 0, device: str = "auto") -> Iterator[Ranks]:
    """The ranks of a training started by torchrun, joined with gloo on the CPU and NCCL on GPUs; alone with `world` 1.

    `device` is "auto" (a GPU where there is one), "cpu" or "cuda". BadInput for a device that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise BadInput(f"device {device!r}: auto, cpu or cuda; choose one")
    there = torch.cuda.is_available()
    if device == "cuda" and not (there and local_rank < torch.cuda.device_count()):
        have = f"{torch.cuda.device_count()} GPUs" if there else "no GPU"
        raise BadInput(f"device cuda: rank {rank} needs GPU {local_rank}, and torch sees {have}; take cpu or auto")
    on_gpu = there and device != "cpu"
    where = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if world == 1:
        yield Ranks(device=where)
        return
    distributed.init_process_group("nccl" if on_gpu else "gloo", rank=rank, world_size=world)
    try:
        yield Ranks(rank=rank, world=world, device=where)
    finally:
        distributed.destroy_process_group()
