"""The verb `amber group`."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group, RenderableType

from amber.completion import RUN
from amber.extras import need_extra
from amber.terminal import show, table
from amber.verbs.options import grouped, using_files, workspace
from curation.catalog.catalog import Catalog
from training.dynamics.effects import Effects
from training.recipe import Recipe
from training.run import Run
from training.run_list import newest_run

if TYPE_CHECKING:
    from amber.groups import Groups

__all__ = ["group_command"]


@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """The limits, and what is written."""

    networks: int
    budget: int
    helpers: bool
    out: Path | None


group_options = grouped(
    "options", GroupOptions,
    click.option(
        "--networks", default=2, show_default=True, type=click.IntRange(min=1), metavar="K", help="At most so many."
    ),
    click.option(
        "--budget", default=0, type=click.IntRange(min=0), metavar="MACS",
        help="Multiply-accumulate operations of an image in all networks, without those of a frozen trunk, which they "
        "share; default: any number.",
    ),
    click.option(
        "--helpers", is_flag=True, help="Let a network also learn tasks that another one serves, where that pays."
    ),
    click.option("--out", type=click.Path(path_type=Path), metavar="FILE.toml", help="Write the groups as a tree."),
)  # fmt: skip


@click.command("group")
@click.argument("run", required=False, default="", type=RUN)
@group_options
@workspace
@using_files
def group_command(run: str, options: GroupOptions, home: str, as_json: bool) -> None:
    """Choose which tasks of RUN (default: the newest) to learn together, from the pairs that `amber affinity` measured.

    The expected gain of a task in a network is the mean of its gains with each other task there; alone it is 0. The
    grouping with the largest mean is exact up to 12 tasks. One network for all tasks and one for each stand beside it.
    Gains are estimates, and the largest sum of them is flattered: train the groups with fresh seeds before they ship.

    \b
    amber group --networks 3 --budget 5000000 --out groups.toml
    amber compare-trees --trees shared,groups.toml,separate --seed 100
    """
    catalog = Catalog.open(home)
    with catalog.read() as now:
        chosen = Run.open(catalog.home, now.runs.full_id(run) if run else newest_run(catalog.home, now))
    effects = Effects.open(catalog.home, chosen.id)
    need_extra("train")
    from amber.groups import choose, write_tree
    from amber.verbs.training import size_for

    size = size_for(catalog, Recipe.trunk)
    assert size is not None
    groups = choose(
        catalog, chosen, effects, size=size, networks=options.networks, budget=options.budget, helpers=options.helpers
    )
    if options.out:
        write_tree(groups, options.out)
    candidates = [{**asdict(each), "gain": each.grouping.gain} for each in groups.candidates]
    data = {"run": chosen.id, "candidates": candidates, "tree": str(options.out or "")}
    show(data, as_json, lambda: _tables(chosen, effects, groups, options))


def _tables(run: Run, effects: Effects, groups: "Groups", options: GroupOptions) -> Group:
    rows: list[list[Any]] = [
        [each.name, len(each.grouping.networks), each.macs, f"{each.grouping.gain:+.2f}", "yes" if each.fits else "no"]
        for each in groups.candidates
    ]
    best = groups.candidates[0].grouping
    networks = [
        [number, ", ".join(network.serves), ", ".join(network.helpers),
         ", ".join(f"{name} {best.gains[name]:+.1f}" for name in network.serves)]
        for number, network in enumerate(best.networks, 1)
    ]  # fmt: skip
    title = f"Groups of {len(effects.tasks)} tasks of run {run.id} in at most {options.networks} networks"
    title += f" and {options.budget:,} operations an image" if options.budget else ""
    title += "" if best.proven else "; the best found, not proven to be the best"
    columns = ["grouping", "networks", "MACs", "expected gain, points", "fits"]
    parts: list[RenderableType] = [
        table(title, columns, rows),
        table("Chosen", ["network", "serves", "learns too", "expected gain, points"], networks),
    ]
    said = sum(each.verdict != "cannot tell" for each in effects.effects)
    parts.append(
        f"{said} of {len(effects.effects)} effects are shown; the others may be noise, and the choice with them "
        f"(measured on {effects.split})"
    )
    if run.recipe.learns:
        parts.append(f"pairs were measured on the frozen features {effects.features}; the run learned from pixels")
    out = str(options.out or "groups.toml")
    command = shlex.join(
        ["amber", "compare-trees", run.plan[:12], "--trees", f"shared,{out},separate", "--seed", "100"]
    )
    parts.append(f"{'' if options.out else f'with --out {out}, '}train them with fresh seeds: {command}")
    return Group(*parts)
