"""Replay of chains of four trainings on `streets`: equal digests, other threads, planted links and links of no use.

Every chain has its own scenes, splits and trainings. RUNS is how many there are, FIRST_SEED the seed of the first.
"""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import Row, cases_row, small
from benchmarks.train_data import streets
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import os_user
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import draft_plan, make_plan
from samplers.plan.plan import Plan
from samplers.plan.replan import draft_child, replan
from samplers.policy.policy import Policy
from training.dynamics.replay import Replay, contribution, replay
from training.evaluation.evaluation import evaluate
from training.evaluation.features import embed
from training.loop.trainer import train
from training.recipe import Recipe
from training.run import Run

__all__ = ["replay_rows"]

RUNS = int(os.environ.get("RUNS", "1" if small() else "4"))
FIRST = int(os.environ.get("FIRST_SEED", "2000"))
SEEDS = 2 if small() else 3
IMAGES = int(os.environ.get("IMAGES", "400" if small() else "1600"))
DRAWS = 640 if small() else 6_400
THREADS = 1
OTHER_THREADS = 2
TASKS = ("light_present", "car", "stop_sign", "speed")
SMALL = {"trunk": "small", "size": (48, 80), "global_batch": 32, "hidden": 32, "threads": THREADS}
STOPPING = {"every": DRAWS // 160, "patience": 1, "floor": 0.5}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One chain: its replays on as many threads and on others, the seconds of training it and of the first replay, and
    on which tasks a difference is shown from the chain without the link that taught the network, and from the chain
    without a link that learned next to nothing."""

    same: Replay
    other: Replay
    trained: float
    replayed: float
    planted: list[str]
    null: list[str]


def replay_rows() -> list[Row]:
    """Digests and figures of replays, and what `--without` shows of planted links and of links of no use."""
    cases = []
    for seed in range(FIRST, FIRST + RUNS):
        folder = Path(tempfile.mkdtemp(prefix="bench-replay-"))
        try:
            cases.append(_case(folder, seed))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    links = [link for case in cases for link in case.same.links]
    equal = sum(link.weights == "equal" and link.plan == "equal" for link in links)
    whole = sum(case.same.predictions == "equal" for case in cases)
    noise = [case.other.verdict in ("equal", "within noise") for case in cases]
    moved = [abs(part.gain.value) for case in cases for part in case.other.gains if part.unit == "points"]
    found = sum(bool(case.planted) for case in cases)
    false = sum(bool(case.null) for case in cases)
    ratio = sum(case.replayed for case in cases) / sum(case.trained for case in cases)
    chains = f"{len(cases)} chains of 4 links on streets"
    return [
        cases_row(f"{chains}: plans and weights equal, one machine", equal, len(links), asked="all",
                  met=equal == len(links)),
        cases_row(f"{chains}: predictions equal", whole, len(cases), asked="all", met=whole == len(cases)),
        cases_row(f"{chains}: {THREADS} thread -> {OTHER_THREADS}, {SEEDS} seeds: no gain or loss shown", sum(noise),
                  len(cases), asked="all", met=all(noise)),
        Row(what=f"the largest mean difference of a share at {OTHER_THREADS} threads", unit=" points",
            value=max(moved, default=0.0)),
        Row(what="a replay over the trainings it repeats, time", value=ratio, unit="x"),
        cases_row("--without the link that taught the network: shown", found, len(cases), asked="all",
                  met=found == len(cases)),
        cases_row("--without a link that learned next to nothing: anything shown", false, len(cases), asked="none",
                  met=not false),
    ]  # fmt: skip


def _case(folder: Path, seed: int) -> _Case:
    catalog = streets(folder, seed, IMAGES, features=False)
    started = time.perf_counter()
    first, last = _chain(catalog, seed)
    trained = time.perf_counter() - started
    started = time.perf_counter()
    same = replay(catalog, last.id, folder / "same")
    replayed = time.perf_counter() - started
    other = replay(catalog, last.id, folder / "other", threads=OTHER_THREADS, seeds=SEEDS)
    tuned, idle = _tuned(catalog, first, seed)
    sides = [_shown(catalog, tuned, link, folder / name) for name, link in (("planted", first), ("null", idle))]
    return _Case(same=same, other=other, trained=trained, replayed=replayed, planted=sides[0], null=sides[1])


def _shown(catalog: Catalog, run: Run, link: Run, folder: Path) -> list[str]:
    found = contribution(catalog, run.id, link.id, folder, seeds=SEEDS)
    return [*found.better, *found.worse]


def _chain(catalog: Catalog, seed: int) -> tuple[Run, Run]:
    """Pixels, distilled, replanned, and heads solved on the frozen trunk: the first and the last run."""
    pack, policy = make_pack(catalog), _policy(catalog)
    plan = make_plan(catalog, policy, pack, draws=DRAWS, seed=seed)
    pixel = _run(catalog, pack, plan, Recipe.parse(SMALL | {"seed": seed}))
    distilled = _run(catalog, pack, plan, Recipe.parse(SMALL | {"seed": seed, "stopping": STOPPING}), pixel.id)
    child = _child(catalog, plan, policy.without("speed"))
    replanned = _run(catalog, pack, child, Recipe.parse(SMALL | {"seed": seed}), distilled.id)
    words = {"trunk": f"run:{replanned.id}", "size": SMALL["size"], "threads": THREADS, "heads": "exact"}
    return pixel, _run(catalog, pack, plan, Recipe.parse(words))


def _tuned(catalog: Catalog, first: Run, seed: int) -> tuple[Run, Run]:
    """A short training after one that learned next to nothing after `first`: the last run, and the idle one."""
    pack, plan = make_pack(catalog), Plan.open(catalog.home, first.plan)
    idle = _run(catalog, pack, plan, Recipe.parse(SMALL | {"seed": seed + 1, "learning_rate": 1e-6}), first.id)
    draft = draft_plan(catalog, _policy(catalog), pack, draws=DRAWS // 8, seed=seed + 1)
    short = draft.save(by="bench")  # nobody signs here
    recipe = Recipe.parse(SMALL | {"seed": seed + 2, "learning_rate": 3e-4})
    return _run(catalog, pack, short, recipe, idle.id), idle


def _policy(catalog: Catalog) -> Policy:
    with catalog.read() as now:
        return Policy.even([now.task(name) for name in TASKS])


def _child(catalog: Catalog, plan: Plan, policy: Policy) -> Plan:
    """The plan that follows another policy after a quarter of the draws; every owner signs."""
    position = len(plan.draws) // 4
    draft = draft_child(plan, position, policy, catalog)
    with catalog.commit(author="bench", message="sign") as change:
        for owner in dict.fromkeys(task.owner for task in plan.tasks):
            change.sign_off(owner, plan=draft.hash, before=plan.hash, policy=policy.sha256, by=os_user())
    return replan(plan, position, policy, catalog)


def _run(catalog: Catalog, pack: Pack, plan: Plan, recipe: Recipe, parent: str = "") -> Run:
    embed(catalog.home, pack, recipe)
    run = train(recipe, plan, catalog, parent=parent)
    evaluate(run, catalog, author="bench")
    return run
