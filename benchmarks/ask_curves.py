"""Curves of real refits: the exact head of a task on nested parts of its labels, judged on test, on several data sets.

Real data come from `streets` and `traffic_lights` on the frozen EfficientNet, or from the declared data set in DATA;
mixtures of Gaussians are drawn. Features are reduced to their first principal directions,
which no label chooses, so that a refit takes a fraction of a second.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.heads_data import DATASETS, all_labels, balanced_labels, declared, frozen_streets
from curation.arrays import Floats, Ints
from curation.catalog.tasks import Task
from training.evaluation.intervals import Figure, balanced, mean_of
from training.loop.exact_heads import exact_head

__all__ = ["FACTOR", "LabelCurves", "LabelledFeatures", "curves_of", "drawn_sets", "real_sets"]

WIDTH = 48
"""Principal directions that are kept."""
SMALLEST, LARGEST, FACTOR = 40, 2_000, 1.6
"""Labels of the first and of the last point of a curve, and how many times as many each point has."""
IMAGES = 3_000
BURST = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFeatures:
    """One task: features [n, D] and labels [n] to train on, with their groups, and those of test. `best` is the least
    error that any head can have, NaN where nobody knows it."""

    name: str
    task: Task
    features: Tensor
    values: Floats
    groups: Ints
    test_features: Tensor
    test_values: Floats
    test_groups: Ints
    best: float = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelCurves:
    """What the heads of one task do wrong: `errors` [R, K, m] of R orders of the labels, at `sizes` [K] labels, on the
    m labels of test (1 where the class is wrong, or the distance)."""

    name: str
    numeric: bool
    sizes: Ints
    errors: Floats
    truth: Floats
    groups: Ints
    best: float

    def figure(self, order: int, size: int, inside: Ints) -> Figure:
        """The figure of one refit on the labels of test at `inside`: balanced accuracy, or the mean error."""
        errors, groups, ones = self.errors[order, size, inside], self.groups[inside], np.ones(len(inside))
        if self.numeric:
            return mean_of(errors, ones, groups)
        return balanced(1 - errors, self.truth[inside].astype(np.int64), ones, groups)

    def mean_errors(self) -> Floats:
        """The error at each size [K] over all orders and all labels of test."""
        every = np.arange(len(self.truth))
        sign = (lambda value: value) if self.numeric else (lambda value: 1 - value)
        return np.array([
            np.mean([sign(float(self.figure(order, size, every).value or 0.0)) for order in range(len(self.errors))])
            for size in range(len(self.sizes))
        ])  # fmt: skip


def curves_of(sets: Sequence[LabelledFeatures], orders: int, first: int, jobs: int = 1) -> Iterator[LabelCurves]:
    """The curves of each set, over so many random orders of its groups."""
    work = [(part, first + order) for part in sets for order in range(orders)]
    if jobs > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(_one_order, work))
    else:
        found = [_one_order(each) for each in work]
    for number, part in enumerate(sets):
        own = found[number * orders : (number + 1) * orders]
        yield LabelCurves(
            name=part.name, numeric=part.task.kind == "regression", sizes=own[0][0], best=part.best,
            errors=np.stack([errors for _, errors in own]), truth=part.test_values, groups=part.test_groups,
        )  # fmt: skip


def _one_order(work: tuple[LabelledFeatures, int]) -> tuple[Ints, Floats]:
    """Sizes [K] and errors [K, m] of one order of the groups."""
    torch.set_num_threads(1)
    part, seed = work
    generator = np.random.default_rng(seed)
    rank = generator.permutation(int(part.groups.max()) + 1)
    order = np.argsort(rank[part.groups], kind="stable")
    largest = min(LARGEST, len(order))
    steps = int(np.log(largest / SMALLEST) / np.log(FACTOR))
    sizes = np.unique((SMALLEST * FACTOR ** np.arange(steps + 1)).astype(np.int64))
    return sizes, np.stack([_errors(part, np.sort(order[:size])) for size in sizes.tolist()])


def _errors(part: LabelledFeatures, rows: Ints) -> Floats:
    """What the exact head of these labels does wrong on test."""
    labels = balanced_labels(part.task, rows, part.values[rows], part.groups[rows].astype(str))
    head = exact_head(labels, part.features[torch.from_numpy(rows)].double())
    outputs = (part.test_features.double() @ head.weights.T + head.biases).numpy()
    if labels.numeric:
        predicted = outputs[:, 0] * labels.task.deviation + labels.task.mean
        return np.asarray(np.abs(predicted - part.test_values), np.float64)
    predicted = outputs[:, 0] > 0 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
    return np.asarray(predicted != part.test_values, np.float64)


def real_sets() -> list[LabelledFeatures]:
    """Every task of `streets` and of `traffic_lights`, or of the declared data set that DATA names."""
    data_set = os.environ.get("DATA", "")
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-ask-") as name:
        folder = Path(data_set or DATASETS / "traffic_lights")
        sets = [declared(folder, Path(name) / "declared")]
        if not data_set:
            sets.append(all_labels("streets", *frozen_streets(Path(name) / "streets", IMAGES)))
        for data in sets:
            train, test = (np.flatnonzero(data.split == split) for split in ("train", "test"))
            middle = data.features[torch.from_numpy(train)].mean(dim=0)
            torch.manual_seed(0)
            basis = torch.pca_lowrank(data.features[torch.from_numpy(train)] - middle, WIDTH, center=False, niter=4)[2]
            features = (data.features - middle) @ basis
            groups = np.unique(data.groups, return_inverse=True)[1]
            for task, values in data.values.items():
                mine, others = (rows[np.isfinite(values[rows])] for rows in (train, test))
                if len(mine) < 8 * SMALLEST or len(np.unique(values[others])) < 2:
                    continue
                found.append(
                    LabelledFeatures(
                        name=f"{data.name}/{task}",
                        task=data.tasks[task],
                        features=features[torch.from_numpy(mine)],
                        values=values[mine],
                        groups=np.unique(groups[mine], return_inverse=True)[1],
                        test_features=features[torch.from_numpy(others)],
                        test_values=values[others],
                        test_groups=groups[others],
                    )
                )
    return found


def drawn_sets(count: int, first: int) -> list[LabelledFeatures]:
    """Mixtures of Gaussians in bursts of 4 that look alike, with equal covariances: the best head is linear, and its
    error is known."""
    return [_drawn(first + number) for number in range(count)]


def _drawn(seed: int) -> LabelledFeatures:
    generator = np.random.default_rng(seed)
    classes, width = int(generator.integers(2, 7)), int(generator.integers(8, 64))
    centres = generator.normal(size=(classes, width)) * generator.uniform(1.2, 4.0) / width**0.5
    shares = generator.dirichlet(np.full(classes, 4.0))
    within = generator.uniform(0.2, 0.8)

    def made(bursts: int) -> tuple[Floats, Floats, Ints]:
        groups = np.repeat(np.arange(bursts), BURST)
        codes = generator.choice(classes, bursts, p=shares)[groups]
        noise = within**0.5 * generator.normal(size=(bursts, width))[groups]
        noise += (1 - within) ** 0.5 * generator.normal(size=(len(groups), width))
        return centres[codes] + noise, codes.astype(np.float64), groups

    features, values, groups = made(250)
    test, truth, test_groups = made(800)
    scores = test @ centres.T - 0.5 * (centres**2).sum(axis=1)
    wrong = scores.argmax(axis=1) != truth
    best = float(np.mean([wrong[truth == code].mean() for code in np.unique(truth)]))
    names = tuple(f"class_{code}" for code in range(classes))
    task = Task.model_validate(
        {"name": "drawn", "kind": "binary", "owner": "bench"} if classes == 2
        else {"name": "drawn", "kind": "categorical", "classes": names, "owner": "bench"}
    )  # fmt: skip
    return LabelledFeatures(
        name="mixtures", task=task, features=torch.from_numpy(features), values=values, groups=groups, best=best,
        test_features=torch.from_numpy(test), test_values=truth, test_groups=test_groups,
    )  # fmt: skip
