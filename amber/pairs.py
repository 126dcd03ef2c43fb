"""Pairs of tasks of a run, measured on frozen features and kept in its folder."""

from collections.abc import Sequence

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.progress import StageProgress
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.dynamics.effects import Effects
from training.recipe import Recipe
from training.run import Run

__all__ = ["features_recipe", "measure_run"]


def features_recipe(run: Run, size: tuple[int, int]) -> Recipe:
    """How the pairs of a run are trained: one shared layer on the run's frozen features, or on those of the pretrained
    trunk at `size` where the run learned from pixels."""
    recipe, trunk = run.recipe, run.recipe.trunk
    if recipe.learns:
        return Recipe.of(Recipe.trunk, size=size, heads="shared", threads=recipe.threads)
    return Recipe(
        trunk=trunk, size=recipe.size, fit=recipe.fit, mirrored=recipe.mirrored, heads="shared", units=recipe.units,
        epochs=recipe.epochs, threads=recipe.threads,
    )  # fmt: skip


def measure_run(
    catalog: Catalog, run: Run, recipe: Recipe, *, seeds: Sequence[int], split: str, tasks: Sequence[str] = (),
    progress: StageProgress | None = None,
) -> tuple[Effects, dict[str, str]]:  # fmt: skip
    """The effects of all pairs of the tasks of `run` (or of `tasks`), and why tasks are left out; keeps the effects.

    Each task learns from the labels of the run's plan. BadInput as `pair_labels` and `measure_pairs`.
    """
    import torch

    from training.dynamics.pair_labels import pair_labels
    from training.dynamics.pairs import measure_pairs
    from training.evaluation.features import embed

    tell = progress or (lambda stage, done, total: None)
    torch.set_num_threads(recipe.threads)
    plan = Plan.open(catalog.home, run.plan)
    names = [task.name for task in plan.tasks]
    if unknown := [name for name in tasks if name not in names]:
        raise BadInput(f"task {unknown[0]}: run {run.id} learned {', '.join(names)}; name some of these")
    embed(catalog.home, Pack.open(catalog.home, plan.pack_hash), recipe, progress=lambda *of: tell("embed", *of))
    found = pair_labels(catalog, plan, recipe, split=split, only=tasks)
    if len(found.tasks) < 2:
        why = "".join(f"; {name}: {reason}" for name, reason in found.left_out.items())
        raise BadInput(
            f"run {run.id}: a pair takes two tasks, and {len(found.tasks)} can be measured on {split}{why}; "
            "name another run, or more tasks"
        )
    effects = measure_pairs(
        recipe, found.tasks, found.features, seeds=seeds, split=split, progress=lambda *of: tell("train", *of)
    )
    effects.save(catalog.home, run.id)
    return effects, found.left_out
