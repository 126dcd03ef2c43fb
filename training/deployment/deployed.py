"""A trained network from the pixels of an image to the answers of its tasks, as a run records them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from curation.arrays import Floats
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from samplers.plan.plan import Plan, PlanTask
from training.deployment.paths import Paths
from training.evaluation.class_rates import class_shift, drawn_presence
from training.evaluation.features import Frozen, frozen_features, frozen_trunk
from training.evaluation.learned_tasks import LearnedTask, has_prior, learned_priors, learned_tasks
from training.network.detection import boxes_of
from training.network.model import as_pixels, load_any
from training.network.pairs import as_pair
from training.recipe import BoxRecipe
from training.run import Run

__all__ = ["Deployed", "adjustment", "deployed"]

NEVER = -1e30
"""What is added to the logit of a class that is predicted nowhere: its probability is exactly 0."""


class Deployed(nn.Module):
    """uint8 RGB images [B, 3, H, W] of the recipe's size -> the answer of each of its `tasks`, by name.

    Answers are natural class probabilities [B, C] (C = 2 for binary tasks: false, true; of a multilabel task each of
    one class, without a sum), numbers [B] in the task's unit, or boxes [B, M, 6 + A] (`network.detection.boxes_of`).
    Where a task reads two frames (`paired`), it also takes `before`, the frames before as `images`, and `has_before`,
    bool [B]: where it is false, `before` counts for nothing. `priors` and `adjustments` hold what natural probabilities
    were computed with, by task: see `adjustment`. `scales` are the deviation and the mean that undo what the network
    does to numbers.
    """

    def __init__(
        self,
        run: Run,
        learned: Sequence[LearnedTask],
        trunk: Frozen | None,
        paths: Paths,
        codes: Sequence[int],
        priors: Mapping[str, Floats],
        scales: Sequence[tuple[float, float]],
    ) -> None:
        super().__init__()
        self.run_id, self.recipe = run.id, run.recipe
        self.trunk, self.paths, self.codes = trunk, paths, tuple(codes)
        self.tasks = tuple(part.task for part in learned)
        self.scales = {task.name: scale for task, scale in zip(self.tasks, scales, strict=True)}
        self.priors = {task.name: priors.get(task.name, np.zeros(0)) for task in self.tasks}
        self.adjustments = {
            part.task.name: class_shift(drawn_presence(part.plan, part.code), priors[part.task.name]).tolist()
            if part.task.task.kind == "multilabel" else adjustment(part.task, priors[part.task.name])
            for part in learned if has_prior(part.task.task)
        }  # fmt: skip
        for name, added in self.adjustments.items():
            self.register_buffer(f"adjustment_{name}", torch.tensor(added, dtype=torch.float32))

    @property
    def paired(self) -> bool:
        """Whether one of the tasks reads two frames."""
        return self.paths.paired

    def seen(self, images: Tensor) -> Tensor:
        """What the network reads of images: features [B, D] of a frozen trunk, or pixels."""
        if self.trunk is None:
            return as_pixels(images)
        return frozen_features(self.trunk, images, mirrored=self.recipe.mirrored)

    def forward(
        self, images: Tensor, before: Tensor | None = None, has_before: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The answers of all tasks."""
        read = self.seen(images)
        if self.paired:
            assert before is not None
            assert has_before is not None
            read = as_pair(read, self.seen(before), has_before)
        outputs = self.paths(read)
        return {
            task.name: self._answer(task, outputs[code].float())
            for code, task in zip(self.codes, self.tasks, strict=True)
        }

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def _answer(self, task: PlanTask, outputs: Tensor) -> Tensor:
        if task.task.kind == "detection":
            return boxes_of(outputs, (self.recipe.boxes or BoxRecipe()).most, task.attributes)
        if not task.task.classes:
            deviation, mean = self.scales[task.name]
            return outputs[:, 0] * deviation + mean
        if task.task.kind == "binary":
            outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
        added: Tensor = getattr(self, f"adjustment_{task.name}")
        if task.task.kind == "multilabel":
            return torch.sigmoid(outputs + added)
        return torch.softmax(outputs + added, dim=1)


def adjustment(task: PlanTask, prior: Floats) -> list[float]:
    """What is added to the logits [C] of a task (a binary one has the logits 0 and z) for natural probabilities.

    The network learns from draws in which class y is c(y) times as frequent as among the n_y labels; the natural prior
    [C] replaces both: log(prior / (c n)), as in `training.evaluation.evaluation.natural_probabilities`, and 0 where the
    rate of a label does not factor (logit adjustment: Menon et al. 2021, arXiv 2007.07314).
    """
    if task.class_factor is None:
        return [0.0] * len(prior)
    seen = np.asarray(task.class_factor) * np.asarray(task.labelled, np.float64)
    with np.errstate(divide="ignore"):
        added = np.where(seen > 0, np.log(prior / np.where(seen > 0, seen, 1.0)), NEVER)
    return [float(value) for value in added]


def deployed(run: Run, catalog: Catalog, names: Sequence[str] = ()) -> Deployed:
    """The trained network of a run for these tasks (default: all), on the CPU, in evaluation mode.

    BadInput for a task that the run does not have; Damaged where its weights are missing or cannot be read.
    """
    plan = Plan.open(catalog.home, run.plan)
    codes = {task.name: code for code, task in enumerate(plan.tasks)}
    if unknown := next((name for name in names if name not in codes), None):
        raise BadInput(f"task {unknown!r}: run {run.id} does not have it; its tasks are {', '.join(codes)}")
    chosen = [code for name, code in codes.items() if not names or name in names]
    whole = learned_tasks(catalog.home, run)
    learned = [whole[code] for code in chosen]
    priors = learned_priors(catalog, learned)
    network = load_any(run, plan.tasks, catalog.home)
    trunk = frozen_trunk(catalog.home, run.recipe) if run.recipe.embeddings else None
    losses = network.losses
    scales = [(float(losses.deviations[code]), float(losses.means[code])) for code in chosen]
    made = Deployed(run, learned, trunk, Paths(network, chosen), chosen, priors, scales)
    return made.eval().requires_grad_(False)
