"""Paired trainings of recipes on a plan, at any part of its draws, in memory: nothing of them stays in the workspace.

They are judged by the loss on validation labels. One half of the groups there chooses, the other confirms, so what was
chosen is not judged by the images that chose it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from curation.arrays import Bools, Floats
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.evaluation.halves import FEWEST, halves
from training.evaluation.paired import SeedValues, estimate
from training.evaluation.predictions import Samples
from training.loop.drawing import Drawing
from training.loop.learner import Diverged
from training.loop.ranks import Ranks
from training.loop.validation import Validation
from training.network.tree_network import TreeNetwork
from training.recipe import Recipe

__all__ = ["DIVERGED", "SPLIT", "ShortRuns", "Trained", "mean_score"]

SPLIT = "validation"
"""What short runs are judged on."""

DIVERGED = 2.0
"""The loss of a training that diverged, over the best constant's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A network that a short run trained, and its validation losses [n, T] over the best constants', NaN where
    unknown."""

    losses: Floats
    network: TreeNetwork | None = field(default=None, repr=False)


class ShortRuns:
    """Trainings on parts of a plan. BadInput where validation has too few labelled groups to choose and to confirm."""

    def __init__(self, catalog: Catalog, plan: Plan, *, ranks: Ranks | None = None) -> None:
        self.catalog, self.plan, self._ranks = catalog, plan, ranks or Ranks()
        self.validation = Validation.of(catalog, plan, SPLIT)
        with catalog.read(plan.commit) as then:
            samples = Samples.at(then)
            self._policy = Policy.model_validate(plan.header["policy"])
        place = {key: row for row, key in enumerate(samples.keys.to_pylist())}
        rows = np.array([place[key] for key in self.validation.keys], np.int64)
        self.choosing, self.confirming = (half[rows] for half in halves(samples, SPLIT))
        """Which of the validation images [n] choose, and which confirm."""
        self._drafts: dict[int, Plan] = {len(plan.draws): plan}
        for half in (self.choosing, self.confirming):
            if not self._judged(half):
                raise BadInput(
                    f"plan {plan.hash[:12]}: no task has known labels in {2 * FEWEST} groups of {SPLIT}, which a "
                    "search is judged by; move groups there, or label some"
                )

    def steps(self, recipe: Recipe, part: float) -> int:
        """The steps of a run on a part of the draws; BadInput where the part holds no batch."""
        steps = int(len(self.plan.draws) * part) // recipe.global_batch
        if not steps:
            raise BadInput(
                f"plan {self.plan.hash[:12]}: {part:g} of its {len(self.plan.draws):,} draws holds no batch of "
                f"{recipe.global_batch}; plan at least {int(np.ceil(recipe.global_batch / part)):,} draws"
            )
        return steps

    def train(
        self, recipe: Recipe, part: float, *, importances: Mapping[str, float] | None = None, keep: bool = False
    ) -> Trained:
        """One training on a part of the draws; `importances` take the place of the plan's, `keep` keeps the network.

        A loss that is not finite, at a step or on validation, counts as twice the best constant's. A schedule ends
        where the part ends. BadInput for tasks of boxes on a frozen trunk.
        """
        recipe = recipe.with_boxes([task.task for task in self.plan.tasks])
        draws = self.steps(recipe, part) * recipe.global_batch
        torch.set_num_threads(recipe.threads)
        with tempfile.TemporaryDirectory(prefix="amber-search-") as folder:
            drawing = Drawing(recipe, self._draft(draws), self.catalog, Path(folder), ranks=self._ranks)
            if importances is not None:
                weights = [importances[task.name] for task in self.plan.tasks]
                drawing.learner.weights = torch.tensor(weights, dtype=torch.float32, device=self._ranks.device)
            try:
                drawing.run(events=False)
                drawing.network.to(self._ranks.device)
                losses = self.validation.losses(drawing.learner, drawing.inputs)
            except Diverged:
                losses = np.full(self.validation.known.shape, np.inf)
        losses = np.where(np.isfinite(losses), losses, np.where(self.validation.known, DIVERGED, np.nan))
        network = drawing.network if keep and isinstance(drawing.network, TreeNetwork) else None
        return Trained(losses=losses, network=network)

    def values(self, losses: Sequence[Floats], half: Bools) -> list[SeedValues]:
        """Of each task with labels in a half: 1 - loss / the best constant's, for the trainings of S seeds."""
        found = []
        for code in self._judged(half):
            mine = half & self.validation.known[:, code] & (self.validation.weights[:, code] > 0)
            found.append(
                SeedValues(
                    values=1 - np.stack([each[mine, code] for each in losses]),
                    weights=self.validation.weights[mine, code], groups=self.validation.groups[mine],
                    strata=np.zeros(int(mine.sum()), np.int64),
                )
            )  # fmt: skip
        return found

    def judged(self, half: Bools) -> list[str]:
        """The names of the tasks that `values` has a part for, in the same order."""
        return [self.plan.tasks[code].name for code in self._judged(half)]

    def _judged(self, half: Bools) -> list[int]:
        validation = self.validation
        return [
            code for code in range(validation.known.shape[1])
            if len(np.unique(validation.groups[half & validation.known[:, code] & (validation.weights[:, code] > 0)]))
            >= FEWEST
        ]  # fmt: skip

    def _draft(self, draws: int) -> Plan:
        """The plan of the same policy, labels and seed with fewer draws: in memory."""
        if draws not in self._drafts:
            whole = self.plan
            self._drafts[draws] = draft_plan(
                self.catalog, self._policy, Pack.open(self.catalog.home, whole.pack_hash), draws=draws,
                seed=whole.seed, commit=whole.commit,
            )  # fmt: skip
        return self._drafts[draws]


def mean_score(values: Sequence[SeedValues]) -> float:
    """The mean over tasks and seeds."""
    return estimate(values).value
