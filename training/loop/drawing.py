"""A training from draws: one global batch a step, in the order of the plan, from any step on."""

import math
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.progress import LossProgress, StatesProgress
from samplers.plan.plan import Plan
from samplers.plan.replan import draft_child
from samplers.policy.policy import Policy
from samplers.streaming.batches import Batch
from samplers.streaming.draws import ReplacedDraw
from training.live_run import LiveRun, Stopped
from training.loop.alarms import NumberRanges, drawn_alarms
from training.loop.checkpoint import Stop, load_state, save_state
from training.loop.compiling import compiled
from training.loop.course import Course
from training.loop.delivered import Delivered
from training.loop.events import Events
from training.loop.fence import Fence, fenced_plan
from training.loop.inputs import Inputs, Source
from training.loop.learner import Draws, Learner, Step
from training.loop.memory import out_of_memory
from training.loop.ranks import Ranks
from training.loop.stages import Stages, staged_plan
from training.loop.states import STATES
from training.loop.task_stops import TaskStops
from training.network.model import build_any
from training.network.take_over import take_over
from training.recipe import Recipe
from training.run import Run

__all__ = ["Drawing", "Drawn"]

CURVE_POINTS = 60

PACKED = Source()
"""Images come from the plan's pack."""


@dataclass(kw_only=True)
class Drawn:
    """What a run keeps of the draws that it was trained on; nothing where heads were solved."""

    curve: list[dict[str, float]] = field(default_factory=list)
    exposure: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[ReplacedDraw] = field(default_factory=list)
    alarm: str = ""
    alarms: list[str] = field(default_factory=list)
    course: list[tuple[int, str]] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, dict[str, str]] = field(default_factory=dict)
    gradients: list[dict[str, Any]] = field(default_factory=list)
    affinity: list[dict[str, Any]] = field(default_factory=list)


class Drawing:
    """A training of `recipe` on the draws of `plan` in `folder`; `run` it from its checkpoint, or from the start.

    BadInput for a plan without a whole batch, and for what does not fit together.
    """

    def __init__(
        self, recipe: Recipe, plan: Plan, catalog: Catalog, folder: Path, *,
        parent: str = "", source: Source = PACKED, ranks: Ranks | None = None,
    ) -> None:  # fmt: skip
        self.recipe, self.plan, self.catalog, self.folder = recipe, plan, catalog, folder / "checkpoints"
        self.ranks = ranks or Ranks()
        drawn_from = self._fenced_plan(parent)
        self.steps = len(drawn_from.draws) // recipe.global_batch
        if not self.steps:
            count = len(drawn_from.draws)
            raise BadInput(f"plan of {count} draws: holds no batch of {recipe.global_batch}; plan more draws")
        self.inputs = Inputs(recipe, plan, catalog.home, source, self.ranks)
        self.network = build_any(recipe, plan.tasks, self.inputs.embeddings)
        self.drawn = Drawn()
        before = Run.open(catalog.home, parent) if parent else None
        if before:
            whole = bool(recipe.only)
            self.drawn.alarms += take_over(self.network, plan.tasks, before, catalog.home, whole=whole)
        self.network.to(self.ranks.device)
        self.learner = Learner(recipe, self.network, plan.tasks, self.ranks)
        self.course = Course(plan, drawn_from)
        self.delivered = Delivered(self.course, self.ranks)
        self.numbers = NumberRanges(plan, self.network)
        self.recent: list[Tensor] = []
        self.clipped, self.step = 0, 0
        self.stops = self._stops(before)
        self.stages = Stages(recipe.stages, plan, self.steps) if recipe.stages else None
        if self.stages:
            self.stages.apply(0, self.learner)
        self.fence = Fence(self.learner, plan, self.inputs) if recipe.only else None
        self.events: Events | None = None
        """TensorBoard events, on rank 0 while it runs."""
        self.live: LiveRun | None = None

    def run(
        self, progress: LossProgress | None = None, *, every: int = 0, stop: Stop | None = None,
        states: StatesProgress | None = None, events: bool = True, live: LiveRun | None = None,
    ) -> Drawn:  # fmt: skip
        """Train to the end. A checkpoint is written every `every` steps (0: none), and where `stop` is asked for.

        Without `events` no TensorBoard events are written; `live` is told of each step. Failed after such a
        checkpoint, or where memory runs out. The same training again goes on at the checkpoint.
        """
        if (self.folder / "resume.pt").is_file():
            self._restore(load_state(self.folder / "resume.pt", self.ranks.device))
        self.live = live if self.ranks.first else None
        if self.ranks.first and events:
            self.events = Events(self.folder.parent / "events", self.step * self.recipe.global_batch)
        with (
            closing(self.events) if self.events else nullcontext(),
            out_of_memory(self.recipe, self.learner),
            compiled(self.network, wanted=self.recipe.compile),
        ):
            while self.step < self.steps:
                for inputs, batch in self.inputs.draws(self.course.now, self.step * self.recipe.global_batch):
                    found = self._learn(inputs, batch, progress, stop is not None and stop.asked)
                    again = self._judged(states) or self._staged()
                    if found.stop or (every and self.step % every == 0 and self.step < self.steps):
                        self._save()
                    if found.stop and self.step < self.steps:
                        raise Stopped(f"stopped after step {self.step} of {self.steps}; run the same again to go on")
                    if again:
                        break
        return self._finished()

    def _learn(self, inputs: Tensor, batch: Batch, progress: LossProgress | None, stop: bool) -> Step:
        """One step; a point of the curve every 60th part of all steps."""
        segment, device = self.course.now, self.ranks.device
        values, known, weights = (
            torch.from_numpy(part).to(device, non_blocking=True) for part in segment.labels(batch, self.course.tasks)
        )
        presence = segment.presence(batch, self.course.classes)
        soft = None
        if self.stops:
            soft = self.stops.soft(segment.rows[batch.rows], self.network.losses.layout.linear)
        draws = Draws(
            inputs=inputs, values=values, known=known, weights=weights, keys=batch.keys,
            positions=segment.start + batch.positions, soft=soft, objects=self.inputs.objects(segment, batch),
            presence=torch.from_numpy(presence).to(device, non_blocking=True),
        )  # fmt: skip
        found = self.learner.step(draws, self.step, _schedule(self.recipe, self.step, self.steps), stop=stop)
        self.step += 1
        self.recent.append(found.losses)
        self.clipped += found.clipped
        self.delivered.add(batch)
        self.numbers.add(found.outputs[:, : self.network.losses.layout.linear].cpu(), known.cpu())
        if self.live:
            self.live.step(*self._progress(), lambda: self._losses(found.losses))
        if self.step % max(1, self.steps // CURVE_POINTS) == 0 or self.step == self.steps:
            self._point(progress)
        return found

    def _progress(self) -> tuple[int, int]:
        """Draws done, and all of them."""
        return self.step * self.recipe.global_batch, self.steps * self.recipe.global_batch

    def _losses(self, losses: Tensor) -> dict[str, float]:
        """Losses [T] by task."""
        return dict(zip((task.name for task in self.plan.tasks), losses.tolist(), strict=True))

    def _point(self, progress: LossProgress | None) -> None:
        """A point of the curve, and of the tasks' gradients where they are watched."""
        mean = torch.stack(self.recent).mean(dim=0)
        (position, total), names = self._progress(), [task.name for task in self.plan.tasks]
        losses = self._losses(mean)
        self.drawn.curve.append({"Draws": position, **losses})
        if self.live:
            self.live.point(self.drawn.curve[-1])
        if self.events:
            self.events.add(position, "loss", losses)
        if self.learner.norms is not None:
            norms, factors = self.learner.norms.squares.sqrt().tolist(), self.learner.factors().tolist()
            if self.events:
                self.events.add(position, "gradient", dict(zip(names, norms, strict=True)))
            self.drawn.gradients.append(
                {"Draws": position, "clipped": self.clipped / len(self.recent),
                 "norms": dict(zip(names, norms, strict=True)), "factors": dict(zip(names, factors, strict=True))}
            )  # fmt: skip
        self.recent.clear()
        self.clipped = 0
        if progress and self.ranks.first:
            progress(position, total, float(mean @ self.learner.weights))

    def _judged(self, states: StatesProgress | None) -> bool:
        """Judge the tasks where it is time; whether the draws now come from another plan, or end."""
        if not self.stops or self.step % self.stops.rules.every or self.step == self.steps:
            return False
        position = self.step * self.recipe.global_batch
        moved = self.stops.judge(self.step, position)
        if self.events:
            rows = [row for row in self.stops.history if row["Draws"] == position]
            self.events.add(position, "validation", {row["task"]: row["loss"] for row in rows})
            self.events.add(position, "state", {row["task"]: STATES.index(row["state"]) for row in rows})
        found = {name: state.state for name, state in self.stops.states.items()}
        if self.live:
            self.live.judge(found)
        if states and self.ranks.first:
            states(position, found)
        return moved and self._replanned(position)

    def _staged(self) -> bool:
        """Begin the next stage where it is time; whether the draws now come from another plan."""
        if not self.stages or not self.stages.begins(self.step):
            return False
        self._follow(self.step * self.recipe.global_batch, self.stages.policy(self.step))
        self.stages.apply(self.step, self.learner)
        return True

    def _replanned(self, position: int) -> bool:
        """Follow the plan of the tasks' states from `position` on; with all tasks frozen, end here."""
        assert self.stops
        policy = self.stops.policy()
        if policy is None:
            self.steps = self.step
            self._point(None) if self.recent else None
            return True
        self._follow(position, policy)
        return True

    def _follow(self, position: int, policy: Policy) -> None:
        """Draw by `policy` from `position` on, from a plan that rank 0 makes.

        The recipe's rule decides it, not a new policy, so that it needs no sign-off.
        """
        segment, hash_ = self.course.now, ""
        if self.ranks.first:
            at = segment.plan.start + position - segment.start
            hash_ = draft_child(segment.plan, at, policy, self.catalog).save(by="training", derived=True).hash
        self.course.follow(position, Plan.open(self.catalog.home, self.ranks.from_first(hash_)))

    def _stops(self, before: Run | None) -> TaskStops | None:
        rules = self.recipe.stopping
        if rules is None:
            return None
        stops = TaskStops(rules, self.plan, self.catalog, self.folder, self.learner, self.inputs)
        if before and not (self.folder / "resume.pt").is_file():
            stops.begin(before.ended)
        return stops

    def _fenced_plan(self, parent: str) -> Plan:
        """The plan that is drawn from: with `only` or `stages`, one for the tasks that learn, which rank 0 makes."""
        only = self.recipe.only
        if self.recipe.stages:
            hash_ = staged_plan(self.recipe.stages, self.plan, self.catalog).hash if self.ranks.first else ""
            return Plan.open(self.catalog.home, self.ranks.from_first(hash_))
        if not only:
            return self.plan
        names = [task.name for task in self.plan.tasks]
        if wrong := [name for name in only if name not in names]:
            raise BadInput(f"only {wrong[0]}: is no task of the plan ({', '.join(names)}); correct it")
        if not parent or self.recipe.stopping:
            what = "has no run to start from; name one with --parent" if not parent else "stops no task; leave it out"
            raise BadInput(f"only {', '.join(only)}: {what}")
        hash_ = fenced_plan(self.plan, only, self.catalog).hash if self.ranks.first else ""
        return Plan.open(self.catalog.home, self.ranks.from_first(hash_))

    def _finished(self) -> Drawn:
        drawn = self.drawn
        if self.fence:
            self.fence.check()
        drawn.exposure, drawn.alarm = self.delivered.rows(), self.delivered.alarm()
        drawn.alarms += drawn_alarms(self.plan.tasks, drawn.curve, self.numbers.outside())
        drawn.replaced = [row for rows in self.ranks.gather(self.inputs.replaced) for row in rows]
        drawn.replaced.sort(key=lambda row: row.position)
        if self.course.state() != [(0, self.plan.hash)]:
            drawn.course = self.course.state()
        if self.learner.affinity:
            drawn.affinity = self.learner.affinity.rows([task.name for task in self.plan.tasks])
        if self.stops:
            drawn.states, drawn.ended = self.stops.history, self.stops.ended()
        self.network.eval().cpu()
        return drawn

    def _save(self) -> None:
        """Write a checkpoint, on rank 0, from what all ranks have."""
        replaced = [vars(row) for rows in self.ranks.gather(self.inputs.replaced) for row in rows]
        delivered = self.delivered.state()
        if self.ranks.first:
            learner = self.learner
            save_state(
                self.folder / "resume.pt",
                {
                    "step": self.step, "steps": self.steps, "network": self.network.state_dict(),
                    "optimiser": learner.optimiser.inner.state_dict(), "weights": learner.weights,
                    "norms": None if learner.norms is None else learner.norms.squares,
                    "affinity": None if learner.affinity is None else learner.affinity.sums,
                    "course": self.course.state(), "stops": self.stops.state() if self.stops else None,
                    "curve": self.drawn.curve, "gradients": self.drawn.gradients, "alarms": self.drawn.alarms,
                    "recent": self.recent, "clipped": self.clipped, "numbers": self.numbers.state(),
                    "delivered": delivered, "replaced": replaced,
                },
            )  # fmt: skip
            if self.stops:
                self.stops.forget_snapshots()
        self.ranks.gather(None)

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, which may come from another number of ranks."""
        learner, first = self.learner, self.ranks.first
        self.step, self.steps, self.recent, self.clipped = (
            state[name] for name in ("step", "steps", "recent", "clipped")
        )
        self.network.load_state_dict(state["network"])
        self.course.restore(state["course"], self.catalog.home)
        learner.optimiser.inner.load_state_dict(state["optimiser"])
        if self.stops:
            self.stops.restore(state["stops"])
        learner.weights = state["weights"]
        if self.stages:
            self.stages.apply(self.step, learner)
        if learner.norms is not None:
            learner.norms.squares = state["norms"]
        if learner.affinity is not None and "affinity" in state:
            learner.affinity.sums = state["affinity"]
        self.drawn.curve, self.drawn.gradients = state["curve"], state["gradients"]
        self.drawn.alarms = state["alarms"]
        self.numbers.restore(state["numbers"])
        self.delivered.restore(state["delivered"] if first else None)
        self.inputs.replaced = [ReplacedDraw(**row) for row in state["replaced"]] if first else []


def _schedule(recipe: Recipe, step: int, steps: int) -> float:
    """The share of the learning rate at a step."""
    first = round(steps * recipe.warmup)
    if step < first:
        return (step + 1) / first
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))
