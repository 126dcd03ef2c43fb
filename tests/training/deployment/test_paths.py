"""The paths of some tasks give what the whole network gives, and hold nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.learned import TASKS, plan_task, recipe

from training.deployment.deployed import adjustment
from training.deployment.paths import Paths
from training.evaluation.evaluation import natural_probabilities
from training.network.model import Network
from training.network.tree_network import TreeNetwork

TREE = {
    "tasks": ["car"],
    "branch": {
        "marks": {"width": 8, "tasks": ["color"], "parent": "trunk:stage2"},
        "own": {"width": 6, "tasks": ["*"], "each": True},
        "late": {"width": 0, "tasks": ["sign"], "parent": "input"},
    },
}
CODES = st.sets(st.integers(0, len(TASKS) - 1), min_size=1)


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    """With heads that are not 0."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def tree() -> TreeNetwork:
    from training.network.trunks import SmallTrunk

    made = recipe(trunk="small", optimizer="adamw", tree=TREE)
    network = TreeNetwork(SmallTrunk(), made, made.branching.nodes([task.name for task in TASKS]), TASKS)
    assert isinstance(stirred(network), TreeNetwork)
    return network


def plain(*, hidden: int = 0, beside: int = 0) -> Network:
    network = Network(torch.nn.Identity(), 6, hidden, TASKS, beside=beside)
    stirred(network)
    if beside:  # as solved heads are: exact ones read the features, the others some units
        with torch.no_grad():
            network.heads.weight[:3, 6:] = 0
            network.heads.weight[3:, :6] = 0
            network.heads.weight[3:, 6 + beside // 2 :] = 0
    return network


@settings(max_examples=15)
@given(codes=CODES)
def test_paths_of_a_tree(tree: TreeNetwork, codes: set[int]) -> None:
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        whole, found = tree(images), Paths(tree, codes)(images)
    assert set(found) == codes
    for code, outputs in found.items():
        assert torch.allclose(outputs, whole[:, tree.losses.layout.columns[code]], atol=1e-6)


@settings(max_examples=20)
@given(codes=CODES, sizes=st.sampled_from([(0, 0), (4, 0), (0, 8)]))
def test_paths_of_a_plain_network(codes: set[int], sizes: tuple[int, int]) -> None:
    network = plain(hidden=sizes[0], beside=sizes[1])
    features = torch.randn(3, 6)
    with torch.no_grad():
        whole, found = network(features), Paths(network, codes)(features)
    assert set(found) == codes
    for code, outputs in found.items():
        assert torch.allclose(outputs, whole[:, network.losses.layout.columns[code]], atol=1e-6)


def test_a_path_holds_what_its_task_reads_alone(tree: TreeNetwork) -> None:
    color = Paths(tree, [1])
    assert list(color.parts) == ["trunk:stage1", "trunk:stage2", "marks"]
    assert {name: head.out_features for name, head in color.heads.items()} == {"marks": 3}
    assert list(Paths(tree, [4]).parts) == ["late"]
    units = [part.hidden.out_features for part in Paths(plain(beside=8), [4]).parts.values() if hasattr(part, "hidden")]
    assert units == [4]
    assert list(Paths(plain(beside=8), [0]).parts) == ["trunk"]


def test_all_paths_are_the_network_to_the_last_bit(tree: TreeNetwork) -> None:
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        whole, found = tree(images), Paths(tree, range(len(TASKS)))(images)
    assert all(torch.equal(part, whole[:, tree.losses.layout.columns[code]]) for code, part in found.items())


@given(
    logits=st.lists(st.floats(-20, 20), min_size=3, max_size=3),
    factor=st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    labelled=st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any),
    prior=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_adjusted_logits_are_natural_probabilities(
    logits: list[float], factor: list[float], labelled: list[int], prior: list[float]
) -> None:
    task = plan_task("color", class_factor=tuple(factor), labelled=tuple(map(float, labelled)))
    share = np.array(prior) / sum(prior)
    given_ = np.exp(logits) / np.exp(logits).sum()
    adjusted = np.array(logits) + adjustment(task, share)
    chances = np.exp(adjusted - adjusted.max())
    expected = natural_probabilities(task, given_[None], share)[0]
    assert chances / chances.sum() == pytest.approx(expected, abs=1e-9)


def test_a_rate_that_does_not_factor_adds_nothing() -> None:
    assert adjustment(plan_task("color"), np.array([0.2, 0.3, 0.5])) == [0.0, 0.0, 0.0]
