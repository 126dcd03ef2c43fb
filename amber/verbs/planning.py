"""Verbs of the plan: plan, plan show, why, exposure, replan, materialize."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Group

from amber.completion import PLAN, RUN
from amber.terminal import Screen, note, plain, show, table
from amber.verbs.acting import Acting, signing
from amber.verbs.options import has_verb, seeded, using_files, workspace
from amber.verbs.runs import HASH, shown_time
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, NotFound
from samplers.pack.pack import Pack
from samplers.plan.explain import explain_draws
from samplers.plan.exposure import Exposure
from samplers.plan.plan import Plan
from samplers.plan.plan_list import PlanEntry, list_plans
from samplers.plan.sign_off import TaskChange, changes
from samplers.plan.task_outcomes import TaskOutcome, task_outcomes
from samplers.policy.policy import Policy, left_out
from training.run import Run

__all__ = ["plan_group"]

MIB = 2**20


class _Plans(click.Group):
    """A group in which the hash of a plan is short for `show HASH`."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        found = super().get_command(ctx, name)
        return show_plan if found is None and re.fullmatch("[0-9a-f]{4,32}", name) else found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, args if command is show_plan and name != "show" else rest


@click.group("plan", cls=_Plans, invoke_without_command=True)
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path),
    help="Policy file; default: the policy in force, or even and balanced.",
)
@click.option("--draws", default=6_400, show_default=True, type=click.IntRange(min=1), help="Number of draws.")
@seeded
@click.option("--commit", type=int, help="Plan on the labels at this commit; default: now.")
@click.option("--against", type=PLAN, help="Hash of the plan to compare with; default: the newest.")
@signing
@click.option("--list", "listed", is_flag=True, help="List the plans instead: date, who made it, policy.")
@workspace
@using_files
@click.pass_context
def plan_group(
    context: click.Context, policy_file: Path | None, draws: int, seed: int, commit: int | None, against: str | None,
    acting: Acting, listed: bool, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Resolve a policy into a plan: the draws, and what every task gets. `amber plan HASH` shows a plan.

    A plan that gives an owner less than the newest plan is refused until that owner signs it off: `--sign OWNER` with
    the same arguments records the sign-off and writes no plan.
    """
    if has_verb(context):
        return
    from samplers.pack.pack_writer import make_pack
    from samplers.plan.build import draft_plan

    catalog = Catalog.open(home)
    if listed:
        with catalog.read() as now:
            plans = list_plans(catalog.home, now)
        show(
            [{**vars(row), "at": row.at.isoformat()} for row in plans],
            as_json,
            lambda: table("Plans", LISTED, [_listed(row) for row in plans]),
        )
        return
    with catalog.read(commit) as now:
        policy = Policy.load(policy_file) if policy_file else Policy.in_force(now)
        missing = "" if policy_file else left_out(now.tasks().values(), policy)
    proposed = draft_plan(catalog, policy, make_pack(catalog), draws=draws, seed=seed, commit=commit)
    newest = Plan.newest_or_none(catalog.home)
    shown = acting.save(catalog, proposed, newest, policy)
    note(missing)
    _show(shown, Plan.open(catalog.home, against) if against else newest, policy.tolerance, as_json)


@plan_group.command("show")
@click.argument("plan", required=False, type=PLAN)
@click.option("--against", type=PLAN, help="Hash of another plan: show which tasks lose to it.")
@workspace
def show_plan(plan: str | None, against: str | None, home: str, as_json: bool) -> None:
    """Show what every task gets from PLAN (default: the newest), and which tasks lose by it; `show` may be omitted."""
    folder = Catalog.open(home).home
    _show(_plan(folder, plan), Plan.open(folder, against) if against else None, 0.01, as_json)


@plan_group.command("why")
@click.argument("sample")
@click.option("--plan", type=PLAN, help="Hash of the plan; default: the newest.")
@workspace
def why_command(sample: str, plan: str | None, home: str, as_json: bool) -> None:
    """Explain why SAMPLE, a key, is drawn: its strata, its probability, its label weights, and which tasks drew it."""
    found = _plan(Catalog.open(home).home, plan)
    rows = [vars(row) for row in explain_draws(found, sample)]
    show(
        {"plan": found.hash, "sample": sample, "reasons": rows},
        as_json,
        lambda: table(f"{sample} in plan {found.hash}", list(rows[0]), [list(row.values()) for row in rows]),
    )


@plan_group.command("exposure")
@click.argument("plan", required=False, type=PLAN)
@click.option("--upto", type=click.IntRange(min=1), help="Count only this many draws from the start; default: all.")
@click.option("--run", "run_", type=RUN, help="Show the draws this run was trained on instead.")
@workspace
def exposure_command(plan: str | None, upto: int | None, run_: str | None, home: str, as_json: bool) -> None:
    """Compare the requested share of each task, stratum and boosted slice with the draws of PLAN or of a run."""
    at = Catalog.open(home).home
    if run_ and (plan or upto):
        raise BadInput(f"--run {run_}: a run was trained on all draws of its one plan; leave PLAN and --upto out")
    what, rows, alarm = _of_run(at, run_) if run_ else _of_plan(_plan(at, plan), upto)
    rows = [row for row in rows if row["kind"] != "rank"]
    draws = sum(row["drawn"] for row in rows if row["kind"] == "task")
    title = " ".join(*what.items()).capitalize() + f", {draws:,} draws" + (f": {alarm}" if alarm else "")
    show(
        {**what, "draws": draws, "exposure": rows, "alarm": alarm},
        as_json,
        lambda: table(title, list(rows[0]), [list(row.values()) for row in rows]),
    )


def _of_run(home: Path, run_: str) -> tuple[dict[str, str], list[dict[str, Any]], str]:
    run = Run.open(home, run_)
    rows = run.exposure(home)
    if not rows:
        raise NotFound(f"run {run.id}: its draws were not recorded; pass its plan, {run.plan}, instead")
    return {"run": run.id}, rows, run.alarm


def _of_plan(plan: Plan, upto: int | None) -> tuple[dict[str, str], list[dict[str, Any]], str]:
    ledger, positions = Exposure(plan), np.arange(min(upto or len(plan.draws), len(plan.draws)))
    ledger.add(plan.draws[positions], positions)
    return {"plan": plan.hash}, [vars(row) for row in ledger.rows()], ledger.alarm()


@plan_group.command("replan")
@click.argument("position", type=click.IntRange(min=1))
@click.option("--plan", type=PLAN, help="Hash of the plan to change; default: the newest.")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy from there on; default: unchanged."
)
@click.option("--stop", multiple=True, metavar="TASK", help="A task that has stopped; its share goes to the others.")
@click.option("--commit", type=int, help="Commit whose labels hold from there on; default: the plan's.")
@signing
@workspace
@using_files
def replan_command(
    position: int, plan: str | None, policy_file: Path | None, stop: tuple[str, ...], commit: int | None,
    acting: Acting, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Change a plan during a run: from POSITION on, a child plan follows another policy or newer labels.

    Owners must sign off what is taken from them, as for `amber plan`; that holds for a task that stops too.
    """
    from samplers.pack.pack_writer import make_pack
    from samplers.plan.replan import draft_child

    catalog = Catalog.open(home)
    before = _plan(catalog.home, plan)
    policy = Policy.load(policy_file) if policy_file else Policy.model_validate(before.header["policy"])
    for task in stop:
        policy = policy.without(task)
    pack = None if commit is None else make_pack(catalog)
    child = draft_child(before, position, policy, catalog, commit=commit, pack=pack)
    shown = acting.save(catalog, child, before, policy)
    _show(shown, before, policy.tolerance, as_json)


LISTED = ["plan", "date (UTC)", "by", "policy", "commit", "draws", "tasks", "parent", "withdrawn"]


def _listed(row: PlanEntry) -> list[Any]:
    return [
        row.plan[:HASH], shown_time(row.at), row.by or "-", row.policy, row.commit, row.draws, plain(row.tasks),
        row.parent[:HASH] or "-", row.withdrawn[:10] or "no",
    ]  # fmt: skip


def _plan(home: Path, plan: str | None) -> Plan:
    return Plan.open(home, plan) if plan else Plan.newest(home)


DRAWN = "(shares and importances act where draws train; heads on a frozen trunk are solved without draws)"


def _show(plan: Plan, before: Plan | None, tolerance: float, as_json: bool) -> None:
    rows = task_outcomes(plan)
    found = [] if before is None or before.hash == plan.hash else changes(plan, before, tolerance=tolerance)
    data = {
        "plan": plan.hash, "commit": plan.commit, "draws": len(plan.draws), "tasks": [vars(row) for row in rows],
        "rates": plan.rates(), "against": before.hash if before and found else None,
        "changes": [_row(change) for change in found],
    }  # fmt: skip
    title = f"Plan {plan.hash} at commit {plan.commit}: {len(plan.draws):,} draws\n{DRAWN}"
    columns = list(TaskOutcome.__annotations__)
    gets = table(title, columns, [[getattr(row, name) for name in columns] for row in rows])
    parts = [gets, *(_change_tables(found, before) if before and found else [])]
    show(data, as_json, lambda: Group(*parts))


def _row(change: TaskChange) -> dict[str, Any]:
    sides = {side: vars(row) if (row := getattr(change, side)) else None for side in ("before", "after")}
    return {**vars(change), **sides, "targets": [vars(target) for target in change.targets]}


def _change_tables(found: Sequence[TaskChange], before: Plan) -> list[Any]:
    """Tables of the tasks whose numbers change, of who must sign, and of the strata whose targets change."""
    numbers = ("share", "importance", "ess", "distinct_ess", "distinct", "most_repeated")
    moved = [[change.task, change.owner, *(_before_after(change, name) for name in numbers)] for change in found]
    targets = [[change.task, part.stratum, part.before, part.after] for change in found for part in change.targets]
    tables = [table(f"Against {before.hash}", ["task", "owner", *numbers], moved)]
    falls = [[change.owner, f"{change.task}: {text}"] for change in found for text in change.lowered]
    if falls:
        tables.append(table("Who must sign", ["owner", "what falls"], falls))
    if targets:
        tables.append(table("Targets within a task", ["task", "stratum", "before", "after"], targets))
    return tables


def _before_after(change: TaskChange, name: str) -> str:
    was, is_ = (None if row is None else getattr(row, name) for row in (change.before, change.after))
    shown = ["-" if value is None else f"{value:.4g}" for value in (was, is_)]
    return shown[0] if shown[0] == shown[1] else " -> ".join(shown)


@plan_group.command("materialize")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--plan", "prefix", default="", type=PLAN, help="Plan (a prefix of its hash); default: the newest.")
@click.option(
    "--shard-size",
    "mebibytes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MIB",
    help="Size of a shard in MiB; default: 64. Make at least a shard for each worker that reads.",
)
@workspace
@using_files
def materialize_command(folder: Path, prefix: str, mebibytes: float | None, home: str, as_json: bool) -> None:
    """Write the draws of a plan into FOLDER as shards with labels and weights, for consumers without Amber.

    Each image has a JSON file: {"key": ..., "position": ..., "labels": {TASK: LABEL}, "weights": {TASK: NUMBER}}. A
    label is a class, a number, a list of classes, or a list of boxes {"class", "x", "y", "w", "h"} in pixels of the
    upright image as it was ingested; unknown labels are left out.
    """
    from samplers.streaming.materialize import materialize

    plan = Plan.open(Path(home), prefix) if prefix else Plan.newest(Path(home))
    size = {} if mebibytes is None else {"shard_bytes": max(1, round(mebibytes * MIB))}
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = materialize(
            plan, Pack.open(home, plan.pack_hash), folder, **size,
            progress=lambda part, all_: screen.tell("copy", part, all_),
        )  # fmt: skip
    shown = {"plan": plan.hash, "folder": str(folder), "shards": done.shards, "draws": done.draws, "bytes": done.bytes}
    show(shown, as_json, lambda: f"{folder}: {done.draws:,} draws in {done.shards:,} shards")
