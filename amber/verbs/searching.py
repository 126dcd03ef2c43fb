"""The verbs `amber search tree`, `amber search weights` and `amber search recipe`."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Group

from amber.completion import PLAN
from amber.extras import need_extra
from amber.terminal import Screen, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import grouped, seeded, size_option, trunk_option, using_files, workspace
from amber.verbs.training import size_for
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.toml_files import read_toml, toml_text
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.recipe import Recipe

if TYPE_CHECKING:
    from amber.search_trees import TreeSearch
    from training.dynamics.recipe_search import RecipeSearch, Trials
    from training.dynamics.search_space import Kind, Space
    from training.evaluation.paired import Estimate

__all__ = ["search_group"]

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_GROUPS = 8

WIDTH = 128
"""The hidden layer of a recipe that names none."""


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What trainings have in common."""

    recipe_file: Path | None
    trunk: str
    size: tuple[int, int] | None
    batch: int

    def words(self, catalog: Catalog) -> dict[str, Any]:
        """The words of the file, and these settings where it names none."""
        words = read_toml(self.recipe_file) if self.recipe_file else {}
        trunk = words.get("trunk", self.trunk)
        size = self.size or (None if "size" in words else size_for(catalog, trunk))
        given = {"trunk": trunk, "size": size, "global_batch": self.batch}
        return {**{name: value for name, value in given.items() if value is not None}, **words}


recipe_options = grouped(
    "options", RecipeOptions,
    click.option(
        "--recipe", "recipe_file", type=click.Path(path_type=Path), metavar="FILE",
        help="TOML file with the recipe that the search begins with.",
    ),
    trunk_option,
    size_option,
    click.option("--batch", default=64, show_default=True, help="Global batch size, in draws."),
)  # fmt: skip

part_option = click.option(
    "--part", default=0.125, show_default=True, type=click.FloatRange(0, 1, min_open=True),
    help="Part of the plan's draws of a short training.",
)  # fmt: skip


@click.group("search")
def search_group() -> None:
    """Search a tree of tasks, importances, or rates, by short trainings; what wins is judged on fresh seeds."""


@search_group.command("tree")
@click.argument("plan_hash", metavar="[PLAN]", default="", type=PLAN)
@recipe_options
@part_option
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=2), help="Seeds of the verdict.")
@click.option(
    "--macs",
    "largest",
    default=0.0,
    type=click.FloatRange(min=0),
    metavar="FACTOR",
    help="Recommend only trees of at most FACTOR times the operations of the shared one; default: any.",
)
@click.option("--turns", default=50, show_default=True, type=click.IntRange(min=1), help="Passes that are timed.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where trees are trained. Times are always those of the CPU.",
)
@click.option(
    "--out",
    default="tree-search",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for front.svg, figures.json, and recipe.toml with the recommended tree.",
)
@seeded
@workspace
@using_files
def search_tree(
    plan_hash: str, options: RecipeOptions, part: float, seeds: int, largest: float, turns: int, device: str, out: Path,
    seed: int, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Search which tasks of PLAN (default: the newest) should share a branch.

    Groups come from a trained shared network, cut in two up to three times. Short trainings halve the candidates; two
    groupings, shared and separate are trained on the whole plan with fresh seeds, and judged by the half of the
    validation groups that chose nothing. `amber search tree --macs 1` asks for a tree at the cost of the shared one.
    """
    catalog, plan = _opened(home, plan_hash)
    need_extra("train")
    from amber.search_trees import search_trees
    from amber.tree_front import refuse_foreign, write_comparison
    from training.loop.ranks import joined

    refuse_foreign(out)
    words = options.words(catalog)
    if "tree" in words or "only" in words:
        word = "tree" if "tree" in words else "only"
        raise BadInput(f"recipe: {word} is what a search of trees finds, or rules it out; leave it out")
    recipe, screen = _recipe(words), Screen(quiet=as_json)
    with screen.stages(), joined(rank=0, world=1, device=device) as ranks:
        found = search_trees(
            catalog, plan, recipe, seed=seed, seeds=seeds, part=part, largest=largest, turns=turns, ranks=ranks,
            progress=screen.tell,
        )  # fmt: skip
    more = {"recommended": found.recommended, "tried": [asdict(each) for each in found.tried]}
    folder = write_comparison(out, found.comparison, more=more, recipe=toml_text(found.recipe))
    show({**asdict(found.comparison), **more, "folder": str(folder)}, as_json, lambda: _tree_tables(found, folder))


@dataclass(frozen=True, kw_only=True)
class TrialOptions:
    """How many trials, how long, and where they are kept."""

    part: float
    budget: float
    groups: int
    named: tuple[str, ...]
    sampler: str
    processes: int
    study: str
    out: Path | None


def trial_options(command: Command) -> Command:
    """Add the options of searches by trials."""
    options = grouped(
        "trial", TrialOptions,
        part_option,
        click.option(
            "--budget", default=8.0, show_default=True, type=click.FloatRange(min=0, min_open=True),
            metavar="TRAININGS", help="What trials may cost, in trainings of the whole plan; the verdict costs more.",
        ),
        click.option(
            "--groups", default=MOST_GROUPS, show_default=True, type=click.IntRange(min=1),
            help="Most groups of tasks; more tasks than that are grouped by what a shared network reads for them.",
        ),
        click.option("--group", "named", multiple=True, metavar="TASK,TASK", help="Tasks that move together."),
        click.option(
            "--sampler", type=click.Choice(["gp", "tpe", "random"]), default="gp", show_default=True,
            help="How points are chosen; random is what to compare with at an equal budget.",
        ),
        click.option(
            "--processes", default=1, show_default=True, type=click.IntRange(min=1), help="Trials at a time."
        ),
        click.option("--study", default="", metavar="NAME", help="Default: the kind of search and the plan."),
        click.option("--out", type=click.Path(path_type=Path), metavar="FILE.toml", help="Write the winner there."),
    )  # fmt: skip
    return options(command)  # type: ignore[no-any-return]


@search_group.command("weights")
@click.argument("plan_hash", metavar="[PLAN]", default="", type=PLAN)
@recipe_options
@trial_options
@token_option
@seeded
@workspace
@using_files
def search_weights(
    plan_hash: str, options: RecipeOptions, trial: TrialOptions, token: str, seed: int, home: str, as_json: bool
) -> None:  # fmt: skip
    """Search the importances of PLAN (default: the newest) by groups of tasks, with Optuna.

    Only importances of tasks whose owner you may sign for move; all others, and every share and boost, stay. The winner
    is a policy; `amber plan --policy FILE` asks its owners for their sign-off. `amber search weights --budget 4
    --processes 2` runs 16 trials, two at a time; the same command again goes on after a kill.
    """
    _search("weights", plan_hash, options, trial, token, seed, home, as_json)


@search_group.command("recipe")
@click.argument("plan_hash", metavar="[PLAN]", default="", type=PLAN)
@recipe_options
@trial_options
@seeded
@workspace
@using_files
def search_recipe_command(
    plan_hash: str, options: RecipeOptions, trial: TrialOptions, seed: int, home: str, as_json: bool
) -> None:  # fmt: skip
    """Search learning rate and decay, and those of the heads of each group of tasks, for PLAN, with Optuna.

    `amber search recipe --recipe recipe.toml --out better.toml` begins with recipe.toml and writes the winner.
    """
    _search("recipe", plan_hash, options, trial, "", seed, home, as_json)


def _search(
    kind: "Kind", plan_hash: str, options: RecipeOptions, trial: TrialOptions, token: str, seed: int, home: str,
    as_json: bool,
) -> None:  # fmt: skip
    catalog, plan = _opened(home, plan_hash)
    need_extra("train")
    need_extra("search")
    from training.dynamics.recipe_search import Trials, search_recipe, trials_within
    from training.dynamics.search_space import recipe_space, weights_space
    from training.evaluation.features import embed

    how = Trials(part=trial.part, seed=seed, sampler=trial.sampler, processes=trial.processes)
    budget, recipe = trials_within(trial.budget, how), _recipe(options.words(catalog))
    screen = Screen(quiet=as_json)
    with screen.stages():
        embed(
            catalog.home,
            Pack.open(catalog.home, plan.pack_hash),
            recipe,
            progress=lambda *of: screen.tell("embed", *of),
        )
        tasks = _movable(catalog, plan, kind, token)
        groups = _groups(catalog, plan, recipe, trial, tasks, seed)
        space = weights_space(plan, groups) if kind == "weights" else recipe_space(recipe, groups)
        found = search_recipe(
            catalog, plan, recipe, space, budget=budget, study=trial.study or f"{kind}-{plan.hash[:12]}", how=how,
            progress=screen.tell,
        )  # fmt: skip
    written = _write(trial.out, plan, recipe, space, found)
    chosen = found.recommended
    shown = {
        **asdict(found),
        "kind": kind,
        "recommended": asdict(chosen) if chosen else None,
        "groups": space.groups,
        "out": written,
    }
    show(shown, as_json, lambda: _trial_tables(found, space, how, written))


def _opened(home: str, plan_hash: str) -> tuple[Catalog, Plan]:
    catalog = Catalog.open(home)
    return catalog, Plan.open(catalog.home, plan_hash) if plan_hash else Plan.newest(catalog.home)


def _recipe(words: dict[str, Any]) -> Recipe:
    """The recipe of these words, with one shared branch where they name no tree: its heads learn from draws."""
    return Recipe.parse({"hidden": WIDTH, "tree": "shared", **words})


def _movable(catalog: Catalog, plan: Plan, kind: "Kind", token: str) -> list[str]:
    """The tasks that a search may move: for importances, those whose owner the caller may sign for."""
    from training.dynamics.search_space import open_tasks

    with catalog.read() as now:
        by = identity(catalog.home, token)
        return open_tasks(plan, now, by) if kind == "weights" else [task.name for task in plan.tasks]


def _groups(
    catalog: Catalog, plan: Plan, recipe: Recipe, trial: TrialOptions, tasks: Sequence[str], seed: int
) -> list[list[str]]:
    """The groups that are named, and the other tasks alone, or in groups by similarity where they are many."""
    from training.dynamics.task_groups import similar_groups

    named = [[task.strip() for task in text.split(",") if task.strip()] for text in trial.named]
    seen = [task for group in named for task in group]
    for task in seen:
        if task not in tasks:
            why = "its owner has members, and you are none" if task in {t.name for t in plan.tasks} else "is no task"
            raise BadInput(f"--group {task}: {why} of plan {plan.hash[:12]}; leave it out")
        if seen.count(task) > 1:
            raise BadInput(f"--group {task}: is in two groups; leave it in one")
    rest = [task for task in tasks if task not in seen]
    return named + similar_groups(catalog, plan, recipe, rest, most=max(1, trial.groups - len(named)), seed=seed)


def _write(out: Path | None, plan: Plan, recipe: Recipe, space: "Space", found: "RecipeSearch") -> str:
    """Write the winner, where it is recommended, as a policy or a recipe; returns the file's name, "" for none."""
    if out is None or found.recommended is None:
        return ""
    point = found.recommended.point
    if space.kind == "weights":
        text = toml_text(space.policy(plan, point).model_dump(mode="json", exclude_defaults=True))
    else:
        text = toml_text(space.recipe(recipe, point).words)
    with whole(out) as part:
        part.write_text(text)
    return str(out)


def _tree_tables(found: "TreeSearch", folder: Path) -> Group:
    from amber.tree_front import comparison_tables

    shared = found.tried[0]
    rows = []
    for each in found.tried:
        gains = [f"{gain:+.3f}" for gain in each.gains]
        groups = " | ".join(" ".join(group) for group in each.groups)
        rows.append([each.tree, groups, f"{each.macs / max(1, shared.macs):.2f}", gains[0], *(gains[1:] or [""])])
    columns = ["tree", "groups", "MACs / shared", "gain, round 1", "round 2"]
    better = found.recommended != shared.tree
    said = "is better than the shared tree" if better else "no tree is surely better than it"
    return Group(
        table("Tried by short trainings (gain over shared, on the half that chooses)", columns, rows),
        comparison_tables(found.comparison),
        f"recommended: {found.recommended} ({said}, at 5% one-sided, by fresh seeds and the half that confirms)",
        f"picture, figures and recipe: {folder}; train it with `amber train --recipe {folder / 'recipe.toml'}`",
    )


def _trial_tables(found: "RecipeSearch", space: "Space", how: "Trials", written: str) -> Group:
    best = sorted((row for row in found.trials if row.score is not None), key=lambda row: -(row.score or 0.0))[:5]
    shown = dict.fromkeys([*(row.number for row in best), 0, *range(1, len(space.starts))])
    rows = {row.number: row for row in found.trials}
    what = {0: "what stands", 1: "the plain choice"} if len(space.starts) > 1 else {0: "what stands"}
    table_rows = [
        [number, what.get(number, ""), f"{rows[number].score or 0.0:.4f}",
         *(f"{rows[number].point[knob.name]:.3g}" for knob in space.knobs)]
        for number in shown if number in rows
    ]  # fmt: skip
    columns = ["trial", "", "score", *(knob.name for knob in space.knobs)]
    title = f"Study {found.study}: {len(found.trials)} trials of {how.seeds} seeds on {how.part:g} of the draws"
    parts: list[Any] = [table(title, columns, table_rows)]
    if found.verdict is None:
        return Group(*parts, "recommended: nothing; no trial scores above what stands")
    verdict = found.verdict
    chosen = found.recommended
    plain = ""
    if verdict.plain is not None and verdict.over_plain is not None:
        plain = f"; the plain choice {_bounded(verdict.plain)}, the winner over it {_bounded(verdict.over_plain)}"
    tasks = [
        [each.task, f"{each.gain.value:+.4f}", f"[{each.gain.low:+.4f}, {each.gain.high:+.4f}]"]
        for each in verdict.tasks
    ]
    parts += [
        table("What the winner gains and costs by task, on the whole plan", ["task", "gain", "95%"], tasks),
        f"gain in the search {verdict.searched:+.4f}, on fresh seeds and groups {verdict.fresh:+.4f}: "
        f"shrinkage {verdict.shrinkage:+.4f}",
        f"on the whole plan: the winner {_bounded(verdict.whole)}{plain} (gains, with one-sided bounds)",
        "recommended: nothing; no bound clears 0" if chosen is None else
        f"recommended: trial {chosen.number}, {what.get(chosen.number, 'the winner')}",
    ]  # fmt: skip
    if written and space.kind == "weights":
        parts.append(f"next: {shlex.join(['amber', 'plan', '--policy', written])}; owners who get less sign it off")
    elif written:
        parts.append(f"next: {shlex.join(['amber', 'train', '--recipe', written])}")
    return Group(*parts)


def _bounded(gain: "Estimate") -> str:
    return f"{gain.value:+.4f}" + ("" if gain.low is None else f" (above {gain.low:+.4f})")
