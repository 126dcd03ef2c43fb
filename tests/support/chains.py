"""A chain of four trainings, each made of the one before: from pixels, distilled, on a replanned plan, and frozen."""

from dataclasses import dataclass

from curation.catalog.catalog import Catalog
from curation.catalog.ownership import os_user
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.plan.plan import Plan
from samplers.plan.replan import draft_child, replan
from samplers.policy.policy import Policy
from training.evaluation.evaluation import evaluate
from training.evaluation.features import embed
from training.loop.trainer import train
from training.recipe import Recipe
from training.run import Run

__all__ = ["Chain", "make_chain"]

TASKS = ("color", "car", "speed")
SMALL = {"trunk": "small", "size": (32, 48), "global_batch": 16, "hidden": 8, "threads": 1, "augment": False}
STOPPING = {"every": 2, "patience": 1, "floor": 0.5}


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The workspace, and the runs of the chain, oldest first."""

    catalog: Catalog
    pixel: Run
    distilled: Run
    replanned: Run
    frozen: Run

    @property
    def runs(self) -> list[Run]:
        return [self.pixel, self.distilled, self.replanned, self.frozen]


def make_chain(catalog: Catalog, *, draws: int = 192) -> Chain:
    """Train and evaluate the chain in a workspace that has validation labels."""
    with catalog.read() as now:
        policy = Policy.even([now.task(name) for name in TASKS])
    pack = make_pack(catalog)
    plan = make_plan(catalog, policy, pack, draws=draws)
    pixel = _run(catalog, pack, plan, Recipe.parse(SMALL))
    distilled = _run(catalog, pack, plan, Recipe.parse(SMALL | {"stopping": STOPPING}), pixel.id)
    replanned = _run(catalog, pack, _child(catalog, plan, policy.without("speed")), Recipe.parse(SMALL), distilled.id)
    words = {"trunk": f"run:{replanned.id}", "size": (32, 48), "threads": 1, "heads": "exact"}
    frozen = _run(catalog, pack, plan, Recipe.parse(words))
    return Chain(catalog=catalog, pixel=pixel, distilled=distilled, replanned=replanned, frozen=frozen)


def _child(catalog: Catalog, plan: Plan, policy: Policy) -> Plan:
    """The plan that follows another policy after a quarter of the draws; eve, who loses by it, signs."""
    position = len(plan.draws) // 4
    draft = draft_child(plan, position, policy, catalog)
    with catalog.commit(author="eve", message="speed stops") as change:
        change.sign_off("eve", plan=draft.hash, before=plan.hash, policy=policy.sha256, by=os_user())
    return replan(plan, position, policy, catalog)


def _run(catalog: Catalog, pack: Pack, plan: Plan, recipe: Recipe, parent: str = "") -> Run:
    embed(catalog.home, pack, recipe)
    run = train(recipe, plan, catalog, parent=parent)
    evaluate(run, catalog, author="ada")
    return run
