"""The states of a run's tasks, and what follows from them: soft labels, frozen rows, and the policy of later draws."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from curation.arrays import Floats, Ints
from curation.catalog.catalog import Catalog
from samplers.plan.plan import Plan
from samplers.plan.presence import class_spans
from samplers.policy.policy import Policy
from training.loop.checkpoint import load_state, save_state
from training.loop.inputs import Inputs
from training.loop.learner import Learner
from training.loop.optimise import TreeOptimiser
from training.loop.states import Figures, TaskState, next_state, policy_at, teaches
from training.loop.validation import Validation, soft_targets
from training.network.losses import SoftLabels
from training.network.tree_network import TreeNetwork
from training.recipe import Stopping, TaskRecipe

__all__ = ["TaskStops", "labels_digest"]


class TaskStops:
    """The state of each task by name, `judge`d every `rules.every` steps. `history` has a row for each judgement.

    Snapshots of best steps and recorded soft labels are files in `folder`. Boxes have no soft labels: in DISTILL they
    learn their own, at the smaller share.
    """

    def __init__(
        self, rules: Stopping, plan: Plan, catalog: Catalog, folder: Path, learner: Learner, inputs: Inputs
    ) -> None:
        self.rules, self._plan, self._folder = rules, plan, folder
        assert isinstance(learner.network, TreeNetwork)
        self._learner, self._inputs, self._network = learner, inputs, learner.network
        self._policy = Policy.model_validate(plan.header["policy"])
        self._validation = Validation.of(catalog, plan)
        own = learner.recipe.task
        self._watched = [t for t in self._validation.tasks() if own.get(plan.tasks[t].name, TaskRecipe()).stop]
        self._names = {t: plan.tasks[t].name for t in range(len(plan.tasks))}
        self.states = {name: TaskState() for name in self._names.values()}
        self._references: dict[str, Floats] = {}
        self._soft: dict[int, tuple[Ints, Tensor]] = {}
        self.history: list[dict[str, Any]] = []

    def begin(self, ended: Mapping[str, Mapping[str, str]]) -> None:
        """Start where an earlier run ended: its frozen tasks stay frozen unless they have other labels now."""
        frozen = {
            t: TaskState(state="FROZEN", reference=0, best=0) for t in self._watched
            if ended.get(self._names[t], {}).get("state") == "FROZEN"
        }  # fmt: skip
        if not frozen:
            return
        losses = self._validation.losses(self._learner, self._inputs)
        for t, state in frozen.items():
            name = self._names[t]
            self._references[name] = losses[:, t]
            loss, _ = self._validation.mean(losses[:, t], t)
            other = ended[name].get("labels") != labels_digest(self._plan, t)
            figures = Figures(step=0, loss=loss, gain=0.0, new_labels=other)
            self.states[name] = next_state(state, figures, self.rules)
        self._keep_best(0)
        for t in frozen:
            if self.states[self._names[t]].state == "FROZEN" and self._network.node_of(t):
                self._record(t, 0)
        self._apply()

    def judge(self, step: int, draws: int) -> bool:
        """Evaluate after `step` steps, or `draws` draws; whether the draws of later steps must change."""
        losses = self._validation.losses(self._learner, self._inputs)
        before = dict(self.states)
        for t in self._watched:
            name = self._names[t]
            loss, _ = self._validation.mean(losses[:, t], t)
            gain, error = np.inf, 0.0
            if name in self._references:
                gain, error = self._validation.mean(self._references[name] - losses[:, t], t)
            after = next_state(before[name], Figures(step=step, loss=loss, gain=gain, error=error), self.rules)
            if after.reference == step:
                self._references[name] = losses[:, t]
            self.states[name] = after
            self.history.append({"Draws": draws, "task": name, "state": after.state, "loss": loss})
        self._keep_best(step)
        for t in self._watched:
            now = self.states[self._names[t]]
            if now.state == "DISTILL" and t not in self._soft and self._network.node_of(t):
                self._record(t, now.best)
            elif now.state == "ACTIVE":
                self._soft.pop(t, None)
        moved = any(_draws(before[name]) != _draws(now) for name, now in self.states.items())
        if moved:
            self._apply()
        return moved

    def policy(self) -> Policy | None:
        """The policy of draws from now on; None where every task is frozen."""
        return policy_at(self._policy, self.states, self.rules.floor)

    def soft(self, rows: Ints, outputs: int) -> SoftLabels | None:
        """The soft labels of the plan's samples `rows` [B] for the tasks that learn them; None where none does."""
        mine = [t for t in self._soft if self.states[self._names[t]].state == "DISTILL"]
        if not mine:
            return None
        device = self._learner.ranks.device
        targets = torch.zeros(len(rows), outputs, device=device)
        learned = torch.zeros(len(self._names), dtype=torch.bool, device=device)
        for t in mine:
            index, table = self._soft[t]
            at = torch.from_numpy(index[rows]).to(device)
            targets[:, self._network.losses.layout.columns[t]] = table[at.clamp(min=0)] * (at >= 0)[:, None]
            learned[t] = True
        return SoftLabels(targets=targets, learned=learned)

    def ended(self) -> dict[str, dict[str, str]]:
        """The state of each task at the end, and a digest of the labels that it has learned from."""
        return {
            name: {"state": self.states[name].state, "labels": labels_digest(self._plan, t)}
            for t, name in self._names.items()
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the states."""
        return {
            "states": {name: asdict(state) for name, state in self.states.items()},
            "references": {name: torch.from_numpy(losses) for name, losses in self._references.items()},
            "soft": {t: self._best_of(t) for t in self._soft}, "history": self.history,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.states = {name: TaskState(**fields) for name, fields in state["states"].items()}
        self._references = {name: losses.cpu().numpy() for name, losses in state["references"].items()}
        self.history = list(state["history"])
        for t, best in state["soft"].items():
            self._record(t, best)
        self._apply()

    def forget_snapshots(self) -> None:
        """Remove the snapshots that no task needs any more; only after a checkpoint that names none of them."""
        wanted = {f"best-{state.best}.pt" for state in self.states.values() if teaches(state)}
        for path in self._folder.glob("best-*.pt"):
            if path.name not in wanted:
                path.unlink()

    def _best_of(self, task: int) -> int:
        return self.states[self._names[task]].best

    def _keep_best(self, step: int) -> None:
        """Write the weights of this step if it is the best one of a task that may yet learn from it."""
        path = self._folder / f"best-{step}.pt"
        mine = any(state.best == step for state in self.states.values())
        if self._learner.ranks.first and mine:
            save_state(path, self._network.state_dict())
        self._learner.ranks.gather(None)

    def _record(self, task: int, best: int) -> None:
        """The soft labels of `task` at its best step, for its training images: from their file, or computed into it."""
        name, ranks = self._names[task], self._learner.ranks
        rows = np.unique(self._plan.label_sample[self._plan.label_task == task]).astype(np.int64)
        path = self._folder / f"soft-{name}-{best}.pt"
        if ranks.first and not path.exists():
            now = {key: part.detach().clone() for key, part in self._network.state_dict().items()}
            self._network.load_state_dict(load_state(self._folder / f"best-{best}.pt", ranks.device))
            keys = self._plan.keys.take(rows.tolist()).to_pylist()
            save_state(path, soft_targets(self._network, self._inputs, task, keys).cpu())
            self._network.load_state_dict(now)
            self._learner.train()
        ranks.gather(None)
        index = np.full(len(self._plan.keys), -1, np.int64)
        index[rows] = np.arange(len(rows))
        self._soft[task] = (index, load_state(path, ranks.device))

    def _apply(self) -> None:
        """Freeze what is frozen, and weigh the losses by the policy of these states."""
        frozen = frozenset(t for t, name in self._names.items() if self.states[name].state == "FROZEN")
        assert isinstance(self._learner.optimiser, TreeOptimiser)
        self._learner.optimiser.freeze(frozen)
        policy = self.policy()
        if policy is not None:
            weights = [policy.task[name].importance for name in self._names.values()]
            self._learner.weights = torch.tensor(weights, device=self._learner.ranks.device)


def labels_digest(plan: Plan, task: int) -> str:
    """16 hex digits that depend on which samples of a plan have which label of a task."""
    mine = plan.label_task == task
    keys = plan.keys.take(plan.label_sample[mine].astype(np.int64)).to_pylist()
    values: list[object] = plan.label_value[mine].tolist()
    spans = class_spans([part.task for part in plan.tasks])
    if task in spans:
        values = plan.presence(plan.label_sample[mine])[:, spans[task]].tolist()
    elif plan.tasks[task].task.kind == "detection":
        values = [str(boxes) for boxes in plan.label_lists["boxes"].filter(pa.array(mine)).to_pylist()]
    pairs = sorted(zip(keys, values, strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def _draws(state: TaskState) -> str:
    """What of a state decides draws and weights."""
    return {"PLATEAU": "ACTIVE"}.get(state.state, state.state)
