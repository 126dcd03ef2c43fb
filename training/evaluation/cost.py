"""What a network costs at inference: its parameters, its multiplications, and its time, measured in turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from curation.files.progress import Progress
from training.network.model import Network
from training.network.tree_network import TreeNetwork

__all__ = ["Cost", "latencies", "macs_of", "network_cost"]

WARM = 2
"""Turns before those that count."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one image: the parameters that its outputs depend on, and multiply-accumulate operations."""

    parameters: int
    macs: int


def network_cost(network: Network | TreeNetwork, inputs: Tensor) -> Cost:
    """The cost of a network for inputs [1, ...].

    Parameters of parts that no task reads, such as the trunk of tasks that each have their own, do not count.
    """
    parts: list[nn.Module] = [network]
    if isinstance(network, TreeNetwork):
        parts = [part.module for part in network.parts().values() if part.readers] + [*network.heads.values()]
    parameters = {id(each): each.numel() for part in parts for each in part.parameters()}
    return Cost(parameters=sum(parameters.values()), macs=macs_of(network, inputs))


def macs_of(compute: Callable[[Tensor], object], inputs: Tensor) -> int:
    """Multiply-accumulate operations of convolutions and matrix products in `compute(inputs)`, as torch counts them.

    >>> macs_of(nn.Linear(8, 4), torch.zeros(1, 8))
    32
    """
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        compute(inputs)
    return int(counter.get_total_flops()) // 2


def latencies(
    networks: Mapping[str, nn.Module], inputs: Tensor, *, turns: int, progress: Progress | None = None
) -> dict[str, float]:
    """The median time of a pass of each network over `inputs` [B, ...], in milliseconds, on torch's present threads.

    The networks take turns, so that other work on the machine slows all of them alike. `progress` is called with the
    turns done and all.
    """
    times: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        network.eval()
    with torch.inference_mode():
        for turn in range(-WARM, turns):
            for name, network in networks.items():
                started = time.perf_counter()
                network(inputs)
                if turn >= 0:
                    times[name].append(1e3 * (time.perf_counter() - started))
            if progress and turn >= 0:
                progress(turn + 1, turns)
    return {name: statistics.median(each) for name, each in times.items()}
