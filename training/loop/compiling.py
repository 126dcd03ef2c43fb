"""Compiling the parts of a tree that learn from pixels."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from curation.errors import Failed
from curation.files.read_back import one_line
from training.network.tree_network import TreeNetwork

__all__ = ["compiled"]


@contextmanager
def compiled(network: torch.nn.Module, *, wanted: bool) -> Iterator[None]:
    """Where it is `wanted`, stages and branches of `network` are compiled when they are first used in the block.

    Failed in one line where this machine cannot compile them.
    """
    if not wanted or not isinstance(network, TreeNetwork):
        yield
        return
    for part in network.parts().values():
        part.module.compile()
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = one_line(error)[:160]
        raise Failed(f"compile: the network cannot be compiled here ({reason}); leave compile out") from error
