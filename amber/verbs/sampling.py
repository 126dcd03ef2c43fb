"""Verbs of what is drawn: policy, pack, plan."""

from pathlib import Path

import click

from amber.options import seeded, workspace
from amber.screen import Screen, plain, show, table
from curation.ledger.catalog import Catalog
from samplers.pack import make_pack
from samplers.planning import make_plan
from samplers.policy import Policy
from samplers.standings import standings

__all__ = ["pack_command", "plan_command", "policy"]


@click.group()
def policy() -> None:
    """What the owners of tasks ask for."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@workspace
def check_policy(file: Path, home: str, as_json: bool) -> None:
    """Say whether FILE is a sound policy for this catalog."""
    loaded = Policy.load(file)
    with Catalog.open(home).read() as now:
        loaded.check(now)
    rows = [
        [name, part.owner, part.share, part.importance, part.rule, plain(part.boost)]
        for name, part in loaded.task.items()
    ]
    columns = ["task", "owner", "share", "importance", "rule", "boost"]
    show(loaded.model_dump(mode="json"), as_json, lambda: table(f"{file}: sound", columns, rows))


@click.command("pack")
@click.option("--verify", is_flag=True, help="Hash every shard and image again.")
@workspace
def pack_command(verify: bool, home: str, as_json: bool) -> None:
    """Write the images of the catalog into WebDataset shards, once."""
    screen = Screen(quiet=as_json)
    with screen.stages():
        pack = make_pack(Catalog.open(home), progress=lambda done, total: screen.tell("pack", done, total))
        if verify:
            pack.verify(progress=lambda done, total: screen.tell("verify", done, total))
    shown = {"pack": pack.hash, "images": len(pack.keys), "shards": len(pack.shards)}
    show(shown, as_json, lambda: f"pack {pack.hash}: {len(pack.keys):,} images in {len(pack.shards):,} shards")


@click.command("plan")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy file; default: even and balanced."
)
@click.option("--draws", default=6_400, show_default=True, type=click.IntRange(min=1), help="How many draws.")
@seeded
@click.option("--commit", type=int, help="Plan on what was known at this commit.")
@click.option("--list", "listed", is_flag=True, help="List the plans of the workspace instead.")
@workspace
def plan_command(
    policy_file: Path | None, draws: int, seed: int, commit: int | None, listed: bool, home: str, as_json: bool
) -> None:
    """Resolve a policy into a plan: what will be drawn, and what every task gets out of it."""
    catalog = Catalog.open(home)
    if listed:
        plans = sorted(path.parent.name for path in (catalog.home / "plans").glob("*/plan.json"))
        show(plans, as_json, lambda: "\n".join(plans))
        return
    with catalog.read(commit) as now:
        policy_ = Policy.load(policy_file) if policy_file else Policy.for_labelled(now)
    plan = make_plan(catalog, policy_, make_pack(catalog), draws=draws, seed=seed, commit=commit)
    rows = [vars(row) for row in standings(plan)]
    show(
        {"plan": plan.hash, "commit": plan.commit, "tasks": rows, "rates": plan.rates()},
        as_json,
        lambda: table(
            f"Plan {plan.hash} at commit {plan.commit}: {draws:,} draws",
            list(rows[0]),
            [list(row.values()) for row in rows],
        ),
    )
