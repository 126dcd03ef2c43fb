"""The loss of several classes: equal to separate binary losses, and exactly nothing where nobody looked."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.learned import plan_task
from torch import Tensor

from curation import Task
from samplers.plan.plan import PlanTask
from samplers.plan.presence import presence_entropy
from training.network.class_losses import lone_odds, masked_logistic
from training.network.exact import Problem, rotate, solve
from training.network.losses import Layout, SoftLabels, TaskLosses

STATES = hnp.arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 6)), elements=st.integers(-1, 1))


def marks(name: str, classes: int, **more: object) -> PlanTask:
    """A multilabel task of a plan."""
    task = Task(name=name, kind="multilabel", classes=tuple(f"c{n}" for n in range(classes)), owner="ada")
    return replace(plan_task("car", **more), task=task)


def reference(logits: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The loss of each row by the definition, in float64."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    each = -np.where(states == 1, np.log(p), np.log1p(-p))
    return np.where(states < 0, 0.0, each).sum(axis=1)


@given(STATES, st.integers(0, 2**32 - 1))
def test_a_loss_is_the_sum_over_known_classes_and_unknown_ones_have_no_gradient(states: np.ndarray, seed: int) -> None:
    raw = np.random.default_rng(seed).normal(size=states.shape, scale=3)
    losses = TaskLosses([marks("seen", states.shape[1])])
    logits = torch.tensor(raw, dtype=torch.float32, requires_grad=True)
    each = losses.each(logits, torch.zeros(len(raw), 1), presence=torch.from_numpy(states))
    assert np.allclose(each[:, 0].detach(), reference(raw, states), atol=1e-4)
    each.sum().backward()
    assert logits.grad is not None
    assert (logits.grad[torch.from_numpy(states) < 0] == 0).all()
    assert (logits.grad[torch.from_numpy(states) >= 0] != 0).all()


def test_an_infinite_output_of_an_unknown_class_adds_nothing() -> None:
    logits = torch.tensor([torch.inf, torch.nan, 0.5], requires_grad=True)
    masked_logistic(logits, torch.ones(3), torch.tensor([False, False, True])).sum().backward()
    assert logits.grad is not None
    assert logits.grad[:2].tolist() == [0.0, 0.0]


def test_tasks_of_many_sizes_and_kinds_keep_their_places() -> None:
    """A multilabel task counts as its classes do as binary tasks, whatever stands beside it."""
    tasks = [marks("wide", 5), plan_task("color"), marks("one", 1), plan_task("car"), marks("three", 3, importance=0.5)]
    spans, flat = [slice(0, 5), slice(5, 6), slice(6, 9)], 9
    generator = torch.Generator().manual_seed(0)
    for order in (None, ((4, 0), (1, 3), (2,))):
        layout = Layout(tasks, order)
        losses = TaskLosses(tasks, layout)
        outputs = torch.randn(20, layout.outputs, generator=generator)
        states = torch.randint(-1, 2, (20, flat), generator=generator).to(torch.int8)
        values = torch.randint(0, 2, (20, 5), generator=generator).float()
        known = torch.ones(20, 5, dtype=torch.bool)
        found = losses(outputs, values, known, known.float(), presence=states)
        for code, span in zip((0, 2, 4), spans, strict=True):
            mine = outputs[:, layout.columns[code]].numpy()
            wanted = reference(mine, states[:, span].numpy()).mean()
            assert np.isclose(float(found[code]), wanted, rtol=1e-5)
            assert torch.allclose(losses.answers(outputs, code), torch.sigmoid(outputs[:, layout.columns[code]]))


def test_soft_labels_teach_only_the_classes_that_are_known() -> None:
    losses = TaskLosses([marks("seen", 2)])
    logits = torch.zeros(1, 2, requires_grad=True)
    soft = SoftLabels(targets=torch.tensor([[0.8, 0.8]]), learned=torch.tensor([True]))
    losses.each(logits, torch.zeros(1, 1), soft, torch.tensor([[1, -1]], dtype=torch.int8)).sum().backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, torch.tensor([[-0.3, 0.0]]))


@given(STATES)
def test_the_constant_loss_is_that_of_the_best_constant(states: np.ndarray) -> None:
    weights = np.full(len(states), 1 / len(states))
    there, known = (states == 1).sum(axis=0), (states >= 0).sum(axis=0)
    share = np.clip(np.divide(there, known, out=np.full(len(known), 0.5), where=known > 0), 1e-12, 1 - 1e-12)
    best = weights @ reference(np.tile(np.log(share / (1 - share)), (len(states), 1)), states)
    assert np.isclose(presence_entropy(states, weights), best, atol=1e-9)


def solved(states: Tensor, features: Tensor, ridge: float) -> Tensor:
    weights = torch.full((1, len(states)), 1 / len(states), dtype=torch.float64)
    problem = Problem(
        loss="multilabel", outputs=states.shape[1], columns=rotate(features, weights[0]), targets=states,
        weights=weights, ridges=torch.tensor([ridge], dtype=torch.float64),
    )  # fmt: skip
    found = solve(problem)
    assert float(found.gradients[0]) < 1e-6
    return found.heads[0]


def test_an_exact_head_is_one_logistic_regression_for_each_class() -> None:
    """Each class equals scikit-learn's, over the images in which somebody looked for it."""
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    features = generator.normal(size=(90, 5))
    states = (generator.random((90, 4)) < 1 / (1 + np.exp(-2 * features[:, :4]))).astype(np.int8)
    states[generator.random(states.shape) < 0.3] = -1
    ridge = 0.02
    values = torch.from_numpy(features)
    head = solved(torch.from_numpy(states), values, ridge)
    columns = rotate(values, torch.full((90,), 1 / 90, dtype=torch.float64))
    for code in range(4):
        known = states[:, code] >= 0
        wanted = LogisticRegression(C=1 / (ridge * 90), tol=1e-10, max_iter=10_000)
        wanted.fit(features[known], states[known, code])
        assert np.allclose(head[code, :-1] @ columns.basis.T, wanted.coef_[0], atol=1e-5)


def test_a_class_that_all_labels_agree_about_takes_no_part() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.tensor([[1, 0, 1, -1], [1, 0, 0, -1], [1, 0, 1, -1]], dtype=torch.int8)
    head = solved(states, torch.randn(3, 2, generator=generator, dtype=torch.float64), 0.1)
    assert torch.equal(head[[0, 1, 3]], torch.zeros(3, head.shape[1], dtype=torch.float64))
    assert head[2].any()
    assert lone_odds(states).tolist()[:2] == [np.log(7), -np.log(7)]
