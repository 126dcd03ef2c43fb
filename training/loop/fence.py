"""A fence around some tasks: they learn, and nothing that another task reads may move by a bit."""

import torch
from torch import Tensor

from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Failed
from samplers.pack.pack import Pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.evaluation.image_size import images_at_once
from training.loop.inputs import Inputs
from training.loop.learner import Learner
from training.loop.optimise import TreeOptimiser
from training.loop.stages import narrowed
from training.network.tree_network import TreeNetwork

__all__ = ["Fence", "fenced_plan"]


class Fence:
    """Freezes, in a learner, whatever tasks read that its recipe does not name in `only`, and `check`s it at the end.

    Outputs are compared on one fixed batch of the plan's images, because their last bits depend on its shape; weights
    are compared whole.
    """

    def __init__(self, learner: Learner, plan: Plan, inputs: Inputs) -> None:
        self._learner, self._inputs = learner, inputs
        assert isinstance(learner.network, TreeNetwork)
        assert isinstance(learner.optimiser, TreeOptimiser)
        self._network = learner.network
        self._keys = plan.keys[: images_at_once(learner.recipe.size)].to_pylist()
        names = [task.name for task in plan.tasks]
        self._others = frozenset(t for t, name in enumerate(names) if name not in learner.recipe.only)
        learner.only = frozenset(range(len(names))) - self._others
        learner.optimiser.freeze(self._others, self._others)
        learner.weights = learner.weights.clone()
        learner.weights[sorted(self._others)] = 0.0
        total = float(learner.weights.sum())
        if not total:
            raise BadInput(f"only {', '.join(learner.recipe.only)}: has importance 0 in the plan; give it some")
        learner.weights /= total
        self._weights, self._outputs = self._held(), self._predicted()

    def check(self) -> None:
        """Failed, naming the task or the weights, where anything behind the fence has moved."""
        for name, part in self._held().items():
            if not torch.equal(part, self._weights[name]):
                raise Failed(
                    f"{name}: moved, though no task of `only` may move it; the run is not written, report this"
                )
        for t, outputs in self._predicted().items():
            if not torch.equal(outputs, self._outputs[t]):
                task = self._learner.tasks[t].name
                raise Failed(f"task {task}: its outputs moved behind the fence; the run is not written, report this")

    def _held(self) -> dict[str, Tensor]:
        """Copies of everything that another task reads: parts of the network, and rows of heads."""
        network = self._network
        found = {
            f"{name}.{inner}": part.detach().clone()
            for name, whole in network.parts().items() if whole.readers & self._others
            for inner, part in whole.module.state_dict().items()
        }  # fmt: skip
        for t in self._others:
            if not network.node_of(t):
                continue
            node, rows = network.rows(t)
            for inner, part in network.head(node).state_dict().items():
                found[f"head of {self._learner.tasks[t].name}.{inner}"] = part[rows].detach().clone()
        return found

    @torch.no_grad()
    def _predicted(self) -> dict[int, Tensor]:
        """The outputs of the other tasks for the fixed batch."""
        self._network.eval()
        (inputs,) = self._inputs.of(self._keys)
        outputs = self._network(inputs)
        self._learner.train()
        return {t: outputs[:, self._network.losses.layout.columns[t]].clone() for t in self._others}


def fenced_plan(plan: Plan, only: tuple[str, ...], catalog: Catalog) -> Plan:
    """The plan with as many draws for the tasks `only` as `plan` has for them, and none for the others.

    It takes nothing from the others, whose outputs do not move, so that it needs no sign-off.
    """
    policy = Policy.model_validate(plan.header["policy"])
    share = sum(policy.task[name].share for name in only)
    draft = draft_plan(
        catalog, narrowed(policy, only), Pack.open(catalog.home, plan.pack_hash),
        draws=max(1, round(len(plan.draws) * share)), seed=plan.seed, commit=plan.commit,
    )  # fmt: skip
    return draft.save(by="training", derived=True)
