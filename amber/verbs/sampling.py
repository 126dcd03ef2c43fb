"""Verbs of what is drawn: policy, pack, plan."""

from functools import partial
from pathlib import Path

import click

from amber.options import has_verb, seeded, workspace
from amber.screen import Screen, plain, show, table
from curation.errors import BadInput
from curation.ledger.catalog import Catalog
from samplers.cluster import write_on_ray
from samplers.materialize import materialize
from samplers.pack import Pack, finish_pack, included, make_pack, write_pack, write_part
from samplers.plan import Plan, make_plan
from samplers.policy import Policy

__all__ = ["pack_command", "plan_command", "policy"]


def _part(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """I/N as two numbers."""
    if value is None:
        return None
    part, slash, parts = value.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        raise BadInput(f"part {value!r}: two numbers as in 2/8; correct it")
    return int(part), int(parts)


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
@click.option("--part", callback=_part, metavar="I/N", help="Write the I-th of N parts only, on this machine.")
@click.option("--finish", is_flag=True, help="Make one pack of the parts, once all are written.")
@click.option("--ray", "address", metavar="ADDRESS", help='Write as tasks of a Ray cluster, or of a "local" one.')
@workspace
def pack_command(
    verify: bool, part: tuple[int, int] | None, finish: bool, address: str | None, home: str, as_json: bool
) -> None:
    """Write the images of the catalog into WebDataset shards, once."""
    if sum([part is not None, finish, address is not None]) > 1:
        raise BadInput("--part, --finish and --ray: each is a way of its own; pass one")
    samples, folder, screen = included(Catalog.open(home)), Path(home), Screen(quiet=as_json)
    with screen.stages():
        tell = partial(screen.tell, "pack")
        if part is not None:
            write_part(samples, folder, *part, progress=tell)
            show(
                {"part": part[0], "parts": part[1]},
                as_json,
                lambda: f"part {part[0]} of {part[1]} is written; --finish, once all are",
            )
            return
        if finish:
            pack = finish_pack(samples, folder)
        elif address is not None:
            pack = write_on_ray(samples, folder, address, progress=tell)
        else:
            pack = write_pack(samples, folder, progress=tell)
        if verify:
            pack.verify(progress=partial(screen.tell, "verify"))
    shown = {"pack": pack.hash, "images": len(pack.keys), "shards": len(pack.shards)}
    show(shown, as_json, lambda: f"pack {pack.hash}: {len(pack.keys):,} images in {len(pack.shards):,} shards")


@click.group("plan", invoke_without_command=True)
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy file; default: even and balanced."
)
@click.option("--draws", default=6_400, show_default=True, type=click.IntRange(min=1), help="How many draws.")
@seeded
@click.option("--commit", type=int, help="Plan on what was known at this commit.")
@click.option("--list", "listed", is_flag=True, help="List the plans of the workspace instead.")
@workspace
@click.pass_context
def plan_command(
    context: click.Context,
    policy_file: Path | None, draws: int, seed: int, commit: int | None, listed: bool, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Resolve a policy into a plan: what will be drawn, and what every task gets out of it."""
    if has_verb(context):
        return
    catalog = Catalog.open(home)
    if listed:
        plans = sorted(path.parent.name for path in (catalog.home / "plans").glob("*/plan.json"))
        show(plans, as_json, lambda: "\n".join(plans))
        return
    with catalog.read(commit) as now:
        policy_ = Policy.load(policy_file) if policy_file else Policy.for_labelled(now)
    plan = make_plan(catalog, policy_, make_pack(catalog), draws=draws, seed=seed, commit=commit)
    rows = [vars(row) for row in plan.standings()]
    show(
        {"plan": plan.hash, "commit": plan.commit, "tasks": rows, "rates": plan.rates()},
        as_json,
        lambda: table(
            f"Plan {plan.hash} at commit {plan.commit}: {draws:,} draws",
            list(rows[0]),
            [list(row.values()) for row in rows],
        ),
    )


@plan_command.command("materialize")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--plan", "prefix", default="", help="First characters of the plan's hash; default: the newest.")
@workspace
def materialize_command(folder: Path, prefix: str, home: str, as_json: bool) -> None:
    """Write the draws of a plan into FOLDER as shards with labels and weights, for consumers without Amber."""
    plan = Plan.open(Path(home), prefix) if prefix else Plan.newest(Path(home))
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = materialize(
            plan, Pack.open(home, plan.pack_hash), folder, progress=lambda part, all_: screen.tell("copy", part, all_)
        )
    shown = {"plan": plan.hash, "folder": str(folder), "shards": done.shards, "draws": done.draws, "bytes": done.bytes}
    show(shown, as_json, lambda: f"{folder}: {done.draws:,} draws in {done.shards:,} shards")
