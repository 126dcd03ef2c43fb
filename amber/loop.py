"""The loop: ask for labels, have them answered, plan, train, evaluate; round after round.

Every step is a commit with a batch id, a file named by its content, or both. So a loop that was killed is simply run
again: what was done is found, and the rest goes on to the same end.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Busy
from curation.files.atomic import remove_leftovers
from curation.requests import oracle
from curation.requests.proposals import Proposal, propose
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.policy.policy import Policy
from training.recipe import Recipe
from training.run import Run

__all__ = ["Answer", "Loop", "Round", "go_round"]

Progress = Callable[[str, int, int], None]
Answer = Callable[[str], object]
"""Has every open request answered in a commit of that batch id; returns once that has landed."""

GOING_ON = 1 / 3
"""The learning rate of a run that goes on from another, over that of one from scratch."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What a loop does: `start` labels before the first training, then `rounds` rounds of `budget` labels each.

    `random_share` of every budget is asked at random: 1 makes the random baseline. `policy` defaults to the same share
    for every task that has labels, balanced over classes. `draws` is the length of each round's plan.
    A trunk that learns from pixels is trained from scratch in round 0, over `first_draws` (default: `draws`); every
    later round goes on from that run, at a third of its learning rate, with all labels that are known by then.
    """

    rounds: int = 3
    budget: int = 20
    start: int = 40
    random_share: float = 0.15
    start_random_share: float = 0.5
    draws: int = 6_400
    seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    first_draws: int | None = None
    policy: Policy | None = None

    def __post_init__(self) -> None:
        for name in ("rounds", "start", "seed"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} {getattr(self, name)}: must not be negative; correct it")
        if self.rounds and self.budget < 1:
            raise BadInput(f"budget {self.budget}: a round buys at least 1 label; raise it, or ask for 0 rounds")
        for draws in (self.draws, self.first_draws):
            if draws is not None and draws < self.recipe.global_batch:
                raise BadInput(f"draws {draws}: must fill a batch of {self.recipe.global_batch}; raise it")

    @property
    def arm(self) -> str:
        """ "random" for the baseline, "mined" otherwise."""
        return "random" if self.random_share == 1 else "mined"

    @property
    def id(self) -> str:
        """The same settings have the same id, so that a loop goes on where it was; more rounds extend it."""
        settings = {name: value for name, value in asdict(self).items() if name != "rounds"}
        text = json.dumps(settings, sort_keys=True, default=lambda policy: policy.model_dump(mode="json"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Where a loop stands after a round: labels bought, how many of each rare slice, and the run's figures.

    `figures` are rows of task, slice, split, metric, n, groups, value, low, high.
    """

    arm: str
    index: int
    labels: int
    found: dict[str, int]
    run: str
    figures: list[dict[str, Any]]

    def figure(self, task: str, slice_: str = "", split: str = "test") -> dict[str, Any]:
        """The row of one (task, slice, split)."""
        for row in self.figures:
            if (row["task"], row["slice"], row["split"]) == (task, slice_, split):
                return row
        raise KeyError((task, slice_, split))


def go_round(
    catalog: Catalog, loop: Loop, *, author: str, progress: Progress | None = None, answer: Answer | None = None
) -> Iterator[Round]:
    """Yield round 0 (after the start) and then each of `loop.rounds` rounds, done now or found done.

    `answer` has the requests answered: by the oracle, unless it is given.

    Busy while another loop goes round in the same workspace.
    """
    with _alone(catalog.home):
        remove_leftovers(catalog.home.rglob("*.part"))
        if loop.policy:
            with catalog.read() as now:
                loop.policy.check(now)
        tell = progress or (lambda stage, done, total: None)
        yield from _rounds(catalog, loop, author, tell, answer or partial(_ask_oracle, catalog))


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the workspace's loop.lock: two loops would each count the other's labels as their own."""
    with (home / "loop.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{home}: another loop goes round there; wait for it, or end it") from None
        yield


def _ask_oracle(catalog: Catalog, batch: str) -> None:
    oracle.answer(catalog, batch=batch, message=f"the oracle answers round {batch.split(':')[2]}")


def _rounds(catalog: Catalog, loop: Loop, author: str, tell: Progress, answer: Answer) -> Iterator[Round]:
    from training.evaluation.evaluation import evaluate

    pack = make_pack(catalog, progress=partial(tell, "pack"))
    first = run = ""
    for index in range(loop.rounds + 1):
        step = f"loop:{loop.id}:{index}"
        size = loop.budget if index else loop.start
        if size and not catalog.has(f"{step}:answer"):
            share = loop.start_random_share if not index and loop.arm == "mined" else loop.random_share
            proposal = Proposal(
                budget=size, seed=loop.seed * 1000 + index, run=run, random_share=share,
                embeddings=_embedded(catalog, pack, loop.recipe.features(first), tell),
            )  # fmt: skip
            propose(catalog, proposal, author=author, batch=f"{step}:ask")
            answer(f"{step}:answer")
        if not catalog.has(f"{step}:evaluate"):
            trained = _train(catalog, loop, pack, step, first, run, tell)
            evaluate(trained, catalog, author=author, batch=f"{step}:evaluate", progress=partial(tell, "evaluate"))
        with catalog.read() as now:
            done = _round(now, loop, index, step)
        run = done.run
        first = first or run
        yield done


def _embedded(catalog: Catalog, pack: Pack, recipe: Recipe | None, tell: Progress) -> str:
    """The name of the embeddings of `recipe`, which are computed unless they are there; empty without a recipe."""
    from training.evaluation.features import embed

    if recipe is None:
        return ""
    embed(catalog.home, pack, recipe, progress=partial(tell, "embed"))
    return recipe.embeddings


def _train(catalog: Catalog, loop: Loop, pack: Pack, step: str, first: str, last: str, tell: Progress) -> Run:
    """A run of one round, on a plan at the commit of the round's answers; exact heads start at those of `last`."""
    from training.loop.trainer import train

    with catalog.read() as now:
        answered = now.batch(f"{step}:answer")
        commit = now.commit if answered is None else answered
    with catalog.read(commit) as then:
        policy = loop.policy or Policy.for_labelled(then)
    recipe, draws, parent = loop.recipe, loop.draws, ""
    if recipe.embeddings:
        _embedded(catalog, pack, recipe, tell)
        parent = last if recipe.solved else ""
    elif first:
        recipe, parent = replace(recipe, learning_rate=recipe.learning_rate * GOING_ON), first
    else:
        draws = loop.first_draws or draws
    plan = make_plan(catalog, policy, pack, draws=draws, seed=loop.seed, commit=commit)
    return train(recipe, plan, catalog, parent=parent, progress=lambda done, total, loss: tell("train", done, total))


def _round(now: Snapshot, loop: Loop, index: int, step: str) -> Round:
    """A finished round, as the catalog tells it."""
    commit = now.batch(f"{step}:evaluate")
    runs = now.runs()
    run = runs.filter(pc.equal(runs["commit_id"], commit))["run"][0].as_py()
    bought, found = _bought(now, loop, index)
    return Round(
        arm=loop.arm,
        index=index,
        labels=bought,
        found=found,
        run=run,
        figures=now.slice_errors(run).to_pylist(),
    )


def _bought(now: Snapshot, loop: Loop, index: int) -> tuple[int, dict[str, int]]:
    """Labels that the loop bought up to a round, and how many of them belong to each rare slice of their task."""
    answers = [now.batch(f"loop:{loop.id}:{step}:answer") for step in range(index + 1)]
    asked = now.closed_requests([commit for commit in answers if commit is not None])
    found = {}
    for name, part in now.slices().items():
        if part.rare and not part.reads_predictions:
            mine = asked.filter(pc.equal(asked["task"], part.task))["sample_id"].to_numpy()
            found[name] = int(np.isin(mine, now.members(part.predicate)).sum())
    return len(asked), found
