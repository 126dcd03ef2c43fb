"""Baselines of a run that take a training: exact heads on frozen features, and a network for each task.

They are runs of the workspace on the run's own plan, trained once; the catalog records none of them.
"""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.files.progress import Progress, StageProgress
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.recipe import Recipe
from training.run import Run

__all__ = ["BASELINES", "baseline_predictions", "baseline_recipe"]

BASELINES = {"exact": "exact heads", "separate": "a network each"}
"""What the report calls each."""


def baseline_recipe(kind: str, recipe: Recipe, size: tuple[int, int]) -> Recipe:
    """The recipe of a baseline ("exact" or "separate") of a run with `recipe`.

    Exact heads stand on the run's frozen trunk; where the trunk learns, on the pretrained one, which sees images in
    `size`. Separate networks have the recipe's words, its shared units as their own, and share nothing.

    >>> baseline_recipe("exact", Recipe.of("small"), (64, 64)).trunk
    'efficientnet_lite0'
    >>> [node.name for node in baseline_recipe("separate", Recipe.of("small"), (64, 64)).branching.nodes(["a", "b"])]
    ['trunk', 'own_a', 'own_b']
    """
    frozen = {"fit": recipe.fit, "mirrored": recipe.mirrored, "seed": recipe.seed, "threads": recipe.threads}
    if kind == "exact":
        if recipe.learns:
            return Recipe.of(Recipe.trunk, size=size, heads="exact", seed=recipe.seed, threads=recipe.threads)
        return Recipe.of(recipe.trunk, size=recipe.size, heads="exact", huber=recipe.huber, **frozen)
    if recipe.solved or recipe.optimizer == "sgd":  # on features, where a tree has AdamW and its own rate
        words = {"trunk": recipe.trunk, "size": recipe.size, "hidden": recipe.hidden or recipe.units, **frozen}
        return Recipe.parse({**words, "tree": "separate"})
    return Recipe.parse({**{name: part for name, part in recipe.words.items() if name != "only"}, "tree": "separate"})


def baseline_predictions(
    catalog: Catalog, run: Run, kinds: Sequence[str], size: tuple[int, int], *, progress: StageProgress
) -> dict[str, pa.Table]:
    """The predictions of each baseline of `run`, by the name that the report gives it, trained unless they are there.

    `size` and recipes are those of `baseline_recipe`; the tables are those of `training.evaluation.evaluation.predict`.
    """
    from training.evaluation.evaluation import predict
    from training.evaluation.features import embed
    from training.loop.trainer import train

    plan = Plan.open(catalog.home, run.plan)
    found = {}
    for kind in kinds:
        recipe = baseline_recipe(kind, run.recipe, size).with_boxes([part.task for part in plan.tasks])
        embed(catalog.home, Pack.open(catalog.home, plan.pack_hash), recipe, progress=partial(progress, "embed"))
        made = train(recipe, plan, catalog, every=500, progress=partial(_tell, partial(progress, kind)))
        found[BASELINES[kind]] = predict(made, catalog)[1]
    return found


def _tell(progress: Progress, done: int, total: int, loss: float) -> None:
    progress(done, total)
