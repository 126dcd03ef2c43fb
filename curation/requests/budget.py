"""How a budget of label requests is spread over cells: the rare slices of each task, or a whole task that has none."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.box_attributes import is_of_attribute
from curation.catalog.slices import Slice
from curation.requests.candidates import Candidates
from curation.requests.evaluation_labels import EVALUATION_ARMS

__all__ = ["largest_remainder", "spread"]

Key = TypeVar("Key")
Cell = tuple[str, Slice | None]

PRIOR_ERROR = 0.5
PRIOR_WEIGHT = 2.0
FIRST_LABELS = 10
"""A slice's error starts at one half, with the weight of two evaluated samples. A cell's known labels count as ten
more, so that a cell without labels does not take the whole budget."""


def spread(
    candidates: Candidates, importance: Mapping[str, float], budget: int, *, run: str, by_slice: bool = True,
    costs: Mapping[str, float] | None = None,
) -> list[tuple[str, Slice | None, int]]:  # fmt: skip
    """(task, slice, number of labels) for each cell that gets any; they add up to `budget` unless all weights are 0.
    Without `by_slice`, rare slices get nothing of their own.

    A cell weighs importance x error x yield / (sqrt(FIRST_LABELS + known labels) x cost), with the `costs` of a label
    of each task (default: all alike). Errors fall about as the root of the number of labels, so the next label is worth
    most where the error is large, few labels are known, earlier requests hit the slice, and an answer is quick.
    """
    rare = [part for part in candidates.now.slices().values() if part.rare]
    if not by_slice:
        rare = []
    if not candidates.has_predictions:
        rare = [part for part in rare if not part.reads_predictions]
    weights: dict[Cell, float] = {}
    for name in candidates.tasks:
        known = candidates.known(name)
        errors = _errors(candidates, name, known, run)
        mine: list[Slice | None] = [part for part in rare if part.task == name]
        for slice_ in mine or [None]:
            worth = importance[name] * errors.get(slice_.name if slice_ else "", PRIOR_ERROR)
            worth *= _yield(candidates, name, slice_)
            weights[name, slice_] = worth / (FIRST_LABELS + _known_inside(candidates, known, slice_)) ** 0.5
            weights[name, slice_] /= (costs or {}).get(name, 1.0)
    counts = largest_remainder(weights, budget)
    return [(name, slice_, count) for (name, slice_), count in counts.items() if count]


def largest_remainder(weights: Mapping[Key, float], total: int) -> dict[Key, int]:
    """Whole numbers in proportion to `weights` that add up to `total`; all 0 where the weights add up to 0."""
    whole = sum(weights.values())
    if whole <= 0:
        return dict.fromkeys(weights, 0)
    exact = {key: total * weight / whole for key, weight in weights.items()}
    counts = {key: int(value) for key, value in exact.items()}
    rest = sorted(weights, key=lambda key: counts[key] - exact[key])
    for key in rest[: total - sum(counts.values())]:
        counts[key] += 1
    return counts


def _known_inside(candidates: Candidates, known: pa.Table, slice_: Slice | None) -> int:
    """How many of the `known` labels are of samples in the slice."""
    if slice_ is None:
        return len(known)
    return len(np.intersect1d(known["sample_id"].to_numpy(), candidates.members(slice_)))


def _yield(candidates: Candidates, task: str, slice_: Slice | None) -> float:
    """Hit rate of earlier requests for a slice, by the rule of succession (one half at first); 1 for a whole task."""
    if slice_ is None:
        return 1.0
    requests = candidates.now.requests("answered")
    mine = pc.and_(pc.equal(requests["task"], task), pc.equal(requests["slice"], slice_.name))
    judging = pc.is_in(requests["arm"], value_set=pa.array(EVALUATION_ARMS))
    samples = requests.filter(pc.and_not(mine, judging))["sample_id"].to_numpy()
    return float(np.isin(samples, candidates.members(slice_)).sum() + 1) / (len(samples) + 2)


def _errors(candidates: Candidates, task: str, known: pa.Table, run: str) -> dict[str, float]:
    """Validation error (0 to 1) of the run by slice of a task, shrunk towards one half where few were evaluated.

    The error of a number is its mean absolute error over the mean absolute deviation of the known labels, at most 1.
    """
    figures = candidates.now.runs.slice_errors(run)
    mine = pc.and_(pc.equal(figures["split"], "validation"), pc.equal(figures["task"], task))
    errors = {}
    for row in figures.filter(pc.and_(mine, pc.is_valid(figures["value"]))).to_pylist():
        if is_of_attribute(row["metric"]):
            continue
        error = _relative(row["value"], known) if row["metric"] == "mae" else 1 - row["value"]
        errors[row["slice"]] = (error * row["n"] + PRIOR_ERROR * PRIOR_WEIGHT) / (row["n"] + PRIOR_WEIGHT)
    return errors


def _relative(mean_absolute_error: float, known: pa.Table) -> float:
    numbers = known["number"].to_numpy()
    spread = float(np.abs(numbers - np.median(numbers)).mean()) if len(numbers) else 0.0
    return min(1.0, mean_absolute_error / spread) if spread else PRIOR_ERROR
