"""How similar tasks are: whether their heads read the same combinations of the units of one shared layer."""

import numpy as np
import torch

from curation.arrays import Floats
from training.network.tree_network import TreeNetwork

__all__ = ["task_similarity"]


@torch.no_grad()
def task_similarity(network: TreeNetwork) -> Floats:
    """The cosine [T, T] between the tasks' second moments of head weights, W' W, in a trained network.

    It is |W_a W_b'|^2 / (|W_a W_a'| |W_b W_b'|), from the weights alone, so no image needs labels of both tasks.
    Weights of classes are taken around their mean, which no probability depends on. 0 between tasks at different nodes,
    and for tasks of boxes.
    """
    kinds = network.losses.layout.kinds
    heads = {}
    for task, kind in enumerate(kinds):
        if node := network.node_of(task):
            weights = network.head(node).weight[network.rows(task)[1]].double().cpu()
            heads[task] = (node, weights - weights.mean(dim=0) if kind == "categorical" else weights)
    found = np.zeros((len(kinds), len(kinds)))
    for a, (place, first) in heads.items():
        for b, (other, second) in heads.items():
            if place == other:
                found[a, b] = float(((first @ second.T) ** 2).sum())
    scale = np.sqrt(np.maximum(np.diag(found), 1e-300))
    return np.asarray(found / np.outer(scale, scale), np.float64)
