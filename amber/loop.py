"""The loop: rounds of requesting labels, answering them, planning, training and evaluating.

Every step is a commit with a batch id, a file named by its content, or both. So a loop that was killed is simply run
again: it finds the finished steps and continues to the same result.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from amber.example import example_of
from amber.round_requests import Answer, answers_of, foreign_commit, request_labels_of
from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import FILE
from curation.catalog.ownership import os_user
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from curation.files.atomic import remove_leftovers
from curation.files.locks import locked
from curation.files.progress import StageProgress
from curation.requests import oracle
from curation.rows import shortened
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy, default_tasks
from training.recipe import Recipe
from training.run import Run

if TYPE_CHECKING:
    from curation.requests.proposals import Proposal, Strategy

__all__ = ["CONTINUED_RATE", "Answer", "Loop", "Round", "check_tasks", "rounds_of", "run_loop"]

CONTINUED_RATE = 1 / 3
"""Learning rate of a run that starts from another run, relative to one from scratch."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Settings of a loop: `start` labels before the first training, then `rounds` rounds of `budget` labels each.

    `random_share` in [0, 1] of every budget is requested at random; 1 is the random baseline. `policy` defaults to the
    policy in force, and without one to equal shares for all tasks that have labels, balanced over classes. `draws`
    is the length of each round's plan. A trunk that learns from pixels is trained from scratch in round 0, over
    `first_draws` (default: `draws`). Every later round starts from that run, at a third of its learning rate, with
    all labels known by then.
    The policy's importances weigh tasks in requests too: a task of share 0 gets none. `like` is the key of a sample, or
    the path of an image file, that shows what is wanted while no label of it is known. `strategy` is `Proposal`'s.
    `ask` names the tasks that rounds request labels of, all alike (default: all, by importance). `begin` is the id of a
    run of this workspace after which the rounds begin, instead of a round 0. `triggers` are names of triggers that
    share the budget of each round with mining, by the run of the round before and `against`, the id of a second run.

    >>> Loop(rounds=2, budget=10, start=20).arm
    'mined'
    >>> Loop(draws=10)
    Traceback (most recent call last):
    curation.errors.BadInput: draws 10: must fill a batch of 64; raise it
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
    like: str = ""
    strategy: "Strategy" = "mined"
    ask: tuple[str, ...] = ()
    begin: str = ""
    triggers: tuple[str, ...] = ()
    against: str = ""

    def __post_init__(self) -> None:
        for name in ("rounds", "start", "seed"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} {getattr(self, name)}: must not be negative; correct it")
        if self.rounds and self.budget < 1:
            raise BadInput(f"budget {self.budget}: must be at least 1; raise it, or pass 0 rounds")
        if self.triggers and self.arm == "random":
            raise BadInput(f"triggers {', '.join(self.triggers)}: have no share of labels that are all drawn at random")
        for draws in (self.draws, self.first_draws):
            if draws is not None and draws < self.recipe.global_batch:
                raise BadInput(f"draws {draws}: must fill a batch of {self.recipe.global_batch}; raise it")

    @property
    def arm(self) -> str:
        """ "random" for the baseline, else the strategy."""
        return "random" if self.random_share == 1 else self.strategy

    @property
    def id(self) -> str:
        """A hash of the settings without `rounds`: the same settings continue a loop, and more rounds extend it."""
        settings = {name: value for name, value in asdict(self).items() if name != "rounds"}
        for name, default in (
            ("like", ""),
            ("strategy", "mined"),
            ("ask", ()),
            ("begin", ""),
            ("triggers", ()),
            ("against", ""),
        ):
            if settings[name] == default:
                settings.pop(name)  # loops of before these settings keep their id
        if not settings["recipe"]["stages"]:
            settings["recipe"].pop("stages")
        text = json.dumps(settings, sort_keys=True, default=_policy_of_id)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _policy_of_id(policy: Policy) -> dict[str, Any]:
    """A policy as the id of a loop has always held it."""
    return {**policy.model_dump(mode="json"), "sign_off": {}}


@dataclass(frozen=True, kw_only=True)
class Round:
    """The result of a loop after a round.

    `labels` counts all labels requested so far, `found` those of each rare slice. `figures` are the rows of the run:
    task, slice, split, metric, n, groups, value, low, high.
    """

    arm: str
    index: int
    labels: int
    found: dict[str, int]
    run: str
    figures: list[dict[str, Any]]

    def __repr__(self) -> str:
        return shortened(f"Round {self.index} ({self.arm}): {self.labels:,} labels, run {self.run}")

    def figure(self, task: str, slice_: str = "", split: str = "test") -> dict[str, Any]:
        """The row of one (task, slice, split); KeyError when the run has none."""
        for row in self.figures:
            if (row["task"], row["slice"], row["split"]) == (task, slice_, split):
                return row
        raise KeyError((task, slice_, split))


def run_loop(
    catalog: Catalog, loop: Loop, *, author: str, progress: StageProgress | None = None, answer: Answer | None = None
) -> Iterator[Round]:
    """Yield round 0 (after the start) and then each of `loop.rounds` rounds, done now or earlier.

    `answer` answers the requests (default: the oracle). `progress` gets (stage, done, total). Busy while another loop
    runs in the same workspace.
    """
    with _alone(catalog.home):
        remove_leftovers(catalog.home.rglob("*.part"))
        with catalog.read() as now:
            check_tasks(now, loop.policy, loop.recipe)
            if loop.triggers:
                from curation.requests.trigger_arms import check_arms

                check_arms(now, loop.triggers, against=loop.against)
            if answer is None and (loop.start or loop.rounds) and not now.has(f"loop:{loop.id}:{loop.rounds}:evaluate"):
                _check_oracle(catalog.home)
        tell = progress or (lambda stage, done, total: None)
        yield from _rounds(catalog, loop, author, tell, answer or partial(_ask_oracle, catalog))


def check_tasks(now: Snapshot, policy: Policy | None, recipe: Recipe) -> None:
    """Refuse, before any work, a policy that does not fit the catalog, and boxes that `recipe` does not learn."""
    stored = now.ownership.policy()
    followed = policy or (Policy.model_validate_json(stored) if stored else None)
    if followed:
        followed.check(now)
    recipe.with_boxes(followed.trained(now) if followed else default_tasks(now.tasks().values()))


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the workspace's loop.lock: two loops would count each other's labels as their own."""
    with locked(home / "loop.lock", lambda holder: f"{home}: {holder} runs a loop there; wait for it, or end it"):
        yield


def _ask_oracle(catalog: Catalog, batch: str) -> None:
    _check_oracle(catalog.home)
    oracle.answer(catalog, batch=batch, message=f"the oracle answers round {batch.split(':')[2]}")


def _check_oracle(home: Path) -> None:
    if not (home / FILE).exists():
        raise NotFound(
            f"{home}: no data set held labels back, so there is no oracle; pass --label-studio to ask people"
        )


def _rounds(catalog: Catalog, loop: Loop, author: str, tell: StageProgress, answer: Answer) -> Iterator[Round]:
    from samplers.pack.pack_writer import make_pack  # loads scipy
    from training.evaluation.evaluation import evaluate

    pack = make_pack(catalog, progress=partial(tell, "pack"))
    first = run = ""
    if loop.begin:
        first = run = Run.open(catalog.home, loop.begin).id
    for index in range(bool(loop.begin), loop.rounds + 1):
        step = f"loop:{loop.id}:{index}"
        size = loop.budget if index else loop.start
        if size and not catalog.has(f"{step}:evaluate"):
            proposal = _proposal(catalog, loop, pack, index, run, first, tell)
            request_labels_of(catalog, proposal, step, author=author, answer=answer)
        if not catalog.has(f"{step}:evaluate"):
            trained = _train(catalog, loop, pack, step, first, run, tell)
            evaluate(trained, catalog, author=author, batch=f"{step}:evaluate", progress=partial(tell, "evaluate"))
        with catalog.read() as now:
            done = _round(now, loop.id, loop.arm, index)
        run = done.run
        first = first or run
        yield done


def _proposal(
    catalog: Catalog, loop: Loop, pack: Pack, index: int, run: str, first: str, tell: StageProgress
) -> "Proposal":
    """How round `index` spends its budget, given the last run and the first one."""
    from curation.requests.proposals import Proposal

    recipe = loop.recipe.features(first)
    return Proposal(
        budget=loop.budget if index else loop.start, seed=loop.seed * 1000 + index, run=run,
        random_share=loop.start_random_share if not index and loop.arm != "random" else loop.random_share,
        importance=_importance(loop, index), strategy=loop.strategy,
        triggers=loop.triggers if run else (), against=loop.against if run else "",
        embeddings=_embedded(catalog, pack, recipe, tell), **example_of(catalog, loop.like, recipe),
    )  # fmt: skip


def _importance(loop: Loop, index: int) -> dict[str, float] | None:
    """What tasks weigh in the requests of a round; None: all alike."""
    if loop.ask and index:
        return dict.fromkeys(loop.ask, 1.0)
    return loop.policy.importances() if loop.policy else None


def _embedded(catalog: Catalog, pack: Pack, recipe: Recipe | None, tell: StageProgress) -> str:
    """The name of the embeddings of `recipe`, computed if missing; "" without a recipe."""
    from training.evaluation.features import embed

    if recipe is None:
        return ""
    embed(catalog.home, pack, recipe, progress=partial(tell, "embed"))
    return recipe.embeddings


def _train(catalog: Catalog, loop: Loop, pack: Pack, step: str, first: str, last: str, tell: StageProgress) -> Run:
    """Train one round on a plan at the commit of its answers; exact heads start at those of the run `last`."""
    from samplers.plan.build import draft_plan
    from samplers.plan.sign_off import save_signed
    from training.loop.trainer import train

    with catalog.read() as now:
        commit = max(answers_of(now, step), default=now.commit)
    with catalog.read(commit) as then:
        policy = loop.policy or Policy.in_force(then)
    recipe, draws, parent = loop.recipe, loop.draws, ""
    if recipe.embeddings:
        _embedded(catalog, pack, recipe, tell)
        parent = last if recipe.solved else ""
    elif first:
        recipe, parent = replace(recipe, learning_rate=recipe.learning_rate * CONTINUED_RATE), first
    else:
        draws = loop.first_draws or draws
    draft = draft_plan(catalog, policy, pack, draws=draws, seed=loop.seed, commit=commit)
    plan = save_signed(catalog, draft, Plan.newest_or_none(catalog.home), policy, by=os_user())
    return train(recipe, plan, catalog, parent=parent, progress=lambda done, total, loss: tell("train", done, total))


def rounds_of(now: Snapshot, run: str) -> list[Round]:
    """The rounds of the loop that made a run, up to that run; none for a run that no loop made.

    The arm is "random" where every label was requested at random.
    """
    batches = dict(zip(*(now.log()[name].to_pylist() for name in ("id", "batch")), strict=True))
    for row in reversed(now.runs().to_pylist()):
        found = re.fullmatch("loop:([0-9a-f]+):([0-9]+):evaluate", batches.get(row["commit_id"], ""))
        if row["run"] == run and found:
            id_, last = found[1], int(found[2])
            asked = now.requests.answered_by(_loop_answers(now, id_, last))
            arm = "random" if set(asked["arm"].to_pylist()) == {"random"} else "mined"
            begun = not now.has(f"loop:{id_}:0:evaluate")
            return [_round(now, id_, arm, index) for index in range(begun, last + 1)]
    return []


def _round(now: Snapshot, id_: str, arm: str, index: int) -> Round:
    """A finished round of the loop `id_`, read from the catalog."""
    step = f"loop:{id_}:{index}"
    commit = now.batch(f"{step}:evaluate")
    runs = now.runs()
    mine = runs.filter(pc.equal(runs["commit_id"], commit))
    if not len(mine):
        raise foreign_commit(commit, f"{step}:evaluate")
    run = mine["run"][0].as_py()
    requested, found = _requested(now, id_, index)
    return Round(
        arm=arm,
        index=index,
        labels=requested,
        found=found,
        run=run,
        figures=now.runs.slice_errors(run).to_pylist(),
    )


def _loop_answers(now: Snapshot, id_: str, last: int) -> list[int]:
    """The commits that answered the requests of a loop up to a round."""
    return [commit for step in range(last + 1) for commit in answers_of(now, f"loop:{id_}:{step}")]


def _requested(now: Snapshot, id_: str, index: int) -> tuple[int, dict[str, int]]:
    """How many labels a loop requested up to a round, and how many belong to each rare slice of their task."""
    asked = now.requests.answered_by(_loop_answers(now, id_, index))
    found = {}
    for name, part in now.slices().items():
        if part.rare and not part.reads_predictions:
            mine = asked.filter(pc.equal(asked["task"], part.task))["sample_id"].to_numpy()
            found[name] = int(np.isin(mine, now.members(part.predicate)).sum())
    return len(asked), found
