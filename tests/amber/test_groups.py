"""The tree file of chosen groups: tasks of boxes, which no branch holds, are in none."""

from pathlib import Path

from support.drawn_boxes import boxes_catalog, boxes_plan

from amber.groups import choose, write_tree
from training import Recipe, train
from training.dynamics.effects import Effects
from training.network.model import build_tree
from training.recipe import BoxRecipe


def test_the_tree_of_a_run_with_boxes_fits_its_plan(tmp_path: Path) -> None:
    catalog = boxes_catalog(tmp_path, images=20)
    plan, _ = boxes_plan(catalog, draws=16, signs=0.5, dark=0.5)
    recipe = Recipe.of("small", size=(32, 48), hidden=8, global_batch=16, threads=1, boxes=BoxRecipe(width=16))
    run = train(recipe, plan, catalog)
    counts = {"dark": 1}
    effects = Effects(
        tasks=("dark",), seeds=(0,), split="test", features="", labels=counts, judged=counts, groups=counts,
        alone={"dark": 0.0}, effects=(),
    )  # fmt: skip
    groups = choose(catalog, run, effects, size=(32, 48), networks=2)
    assert groups.unmeasured == ()
    write_tree(groups, tmp_path / "groups.toml")
    found = Recipe.load(tmp_path / "groups.toml", trunk="small", boxes=BoxRecipe(width=16))
    assert [node.tasks for node in build_tree(found, plan.tasks, None).nodes if node.tasks] == [("dark",)]
