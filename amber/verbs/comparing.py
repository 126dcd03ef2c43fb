"""The verb `amber compare-trees`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Group

from amber.completion import PLAN
from amber.extras import need_extra
from amber.terminal import Screen, show
from amber.verbs.options import grouped, seeded, size_option, trunk_option, using_files, workspace
from amber.verbs.training import size_for
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.toml_files import read_toml
from samplers.plan.plan import Plan
from training.recipe import Recipe

__all__ = ["compare_trees_command"]


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of a comparison of trees."""

    trees: str
    orders: str
    seeds: int
    recipe_file: Path | None
    trunk: str
    size: tuple[int, int] | None
    batch: int
    learning_rate: float | None
    split: str
    turns: int
    device: str
    checkpoint_every: int
    out: Path

    def recipes(self, catalog: Catalog) -> dict[str, Recipe]:
        """The recipe of each tree or order: the words of the file, and these settings where it names none."""
        from amber.compare_trees import tree_recipes

        if self.orders:
            return self._by_order(catalog)
        words = read_toml(self.recipe_file) if self.recipe_file else {}
        trunk = words.get("trunk", self.trunk)
        size = self.size or (None if "size" in words else size_for(catalog, trunk))
        given = {"trunk": trunk, "size": size, "global_batch": self.batch, "learning_rate": self.learning_rate}
        return tree_recipes(
            {**{name: value for name, value in given.items() if value is not None}, **words}, _names(self.trees)
        )

    def _by_order(self, catalog: Catalog) -> dict[str, Recipe]:
        """The recipe of each order; a file may say everything that a recipe says."""
        from amber.compare_trees import JOINT, order_recipes

        if self.recipe_file:
            raise BadInput(f"--recipe {self.recipe_file}: the files of --orders are whole recipes; leave it out")
        named = [read_toml(Path(name)) for name in _names(self.orders) if name != JOINT]
        trunk = named[0].get("trunk", self.trunk) if named else self.trunk
        sized = any("size" in words for words in named)
        size = self.size or (None if sized else size_for(catalog, trunk))
        given = {"trunk": trunk, "size": size, "global_batch": self.batch, "learning_rate": self.learning_rate}
        return order_recipes(_names(self.orders), {name: value for name, value in given.items() if value is not None})


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


compare_options = grouped(
    "options", CompareOptions,
    click.option(
        "--trees", default="shared,separate", show_default=True, metavar="TREE,TREE[,...]",
        help="shared, separate, or TOML files with a table [tree] as in a recipe; the first is what others are "
        "compared with.",
    ),
    click.option(
        "--orders", default="", metavar="joint,FILE[,...]",
        help="Compare recipes with stages instead, each a TOML file; joint is the first file's without stages.",
    ),
    click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=1), help="Trainings of each tree."),
    click.option(
        "--recipe", "recipe_file", type=click.Path(path_type=Path), metavar="FILE",
        help="TOML file with what all trees have in common.",
    ),
    trunk_option,
    size_option,
    click.option("--batch", default=64, show_default=True, help="Global batch size, in draws."),
    click.option("--learning-rate", type=float, help="Default: depends on the trunk."),
    click.option(
        "--split", type=click.Choice(["validation", "test"]), default="test", show_default=True,
        help="Whose labels judge. A tree chosen by test looks too good there: choose by validation.",
    ),
    click.option(
        "--turns", default=50, show_default=True, type=click.IntRange(min=1),
        help="Passes over one image of which the median time is taken.",
    ),
    click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
        help="Where trees are trained; auto takes a GPU where there is one. Times are always those of the CPU.",
    ),
    click.option(
        "--checkpoint-every", default=500, show_default=True, type=click.IntRange(min=0), metavar="STEPS",
        help="A comparison that was stopped goes on at the last checkpoint of the last training.",
    ),
    click.option(
        "--out", default="trees", show_default=True, type=click.Path(path_type=Path), metavar="FOLDER",
        help="Folder for front.svg (score against operations) and figures.json.",
    ),
)  # fmt: skip


@click.command("compare-trees")
@click.argument("plan_hash", metavar="[PLAN]", default="", type=PLAN)
@compare_options
@seeded
@workspace
@using_files
def compare_trees_command(plan_hash: str, options: CompareOptions, seed: int, home: str, as_json: bool) -> None:
    """Train several trees, or orders, on PLAN (a prefix of its hash; default: the newest) with the same seeds; compare.

    For each task and slice: each tree's figure, and its paired difference from the first tree with a 95% interval. For
    each tree: parameters, multiply-accumulate operations, and time for one image. Trainings stay as runs of the
    workspace, so a comparison that was killed goes on; the catalog records none of them.
    """
    catalog = Catalog.open(home)
    plan = Plan.open(catalog.home, plan_hash) if plan_hash else Plan.newest(catalog.home)
    need_extra("train")
    from amber.compare_trees import compare_trees
    from amber.tree_front import comparison_tables, refuse_foreign, write_comparison
    from training.loop.ranks import joined

    refuse_foreign(options.out)
    recipes, screen = options.recipes(catalog), Screen(quiet=as_json)
    with screen.stages(), joined(rank=0, world=1, device=options.device) as ranks:
        comparison = compare_trees(
            catalog, plan, recipes, seeds=range(seed, seed + options.seeds), split=options.split, turns=options.turns,
            every=options.checkpoint_every, ranks=ranks, progress=screen.tell,
        )  # fmt: skip
    folder = write_comparison(options.out, comparison)
    shown: dict[str, Any] = {**asdict(comparison), "folder": str(folder)}
    show(shown, as_json, lambda: Group(comparison_tables(comparison), f"picture and figures: {folder}"))
