"""Verbs of the plan: make one, hold it against another, change it in mid-run, and say why an image is drawn."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Group

from amber.terminal import Screen, show, table
from amber.verbs.options import has_verb, seeded, workspace
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, NotFound
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import draft_plan
from samplers.plan.explain import why
from samplers.plan.exposure import Exposure
from samplers.plan.plan import Plan
from samplers.plan.replan import draft_child
from samplers.plan.sign_off import TaskChange, changes, refuse_unsigned
from samplers.plan.task_outcomes import TaskOutcome, task_outcomes
from samplers.policy.policy import Policy
from samplers.stream.materialize import materialize
from training.run import Run

__all__ = ["plan_group"]


class _Plans(click.Group):
    """A group whose verb may also be the hash of a plan, which is then shown."""

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
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy file; default: even and balanced."
)
@click.option("--draws", default=6_400, show_default=True, type=click.IntRange(min=1), help="How many draws.")
@seeded
@click.option("--commit", type=int, help="Plan on what was known at this commit.")
@click.option("--against", help="Hash of the plan that owners are compared with; default: the one written last.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Who plans, and needs no sign-off of his own.")
@click.option("--list", "listed", is_flag=True, help="List the plans of the workspace instead.")
@workspace
@click.pass_context
def plan_group(
    context: click.Context, policy_file: Path | None, draws: int, seed: int, commit: int | None, against: str | None,
    author: str, listed: bool, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Resolve a policy into a plan: what will be drawn, and what every task gets. `amber plan HASH` shows one.

    A policy file that gives another owner less than the plan before is refused until that owner's line stands under
    [sign_off] in it.
    """
    if has_verb(context):
        return
    catalog = Catalog.open(home)
    if listed:
        plans = sorted(path.parent.name for path in (catalog.home / "plans").glob("*/plan.json"))
        show(plans, as_json, lambda: "\n".join(plans))
        return
    with catalog.read(commit) as now:
        policy = Policy.load(policy_file) if policy_file else Policy.for_labelled(now)
    proposed = draft_plan(catalog, policy, make_pack(catalog), draws=draws, seed=seed, commit=commit)
    before = _before(catalog.home, against)
    if before is not None and policy_file:
        refuse_unsigned(proposed, before, policy, author=author)
    _show(proposed.save(), before, policy.tolerance, as_json)


@plan_group.command("show")
@click.argument("plan", required=False)
@click.option("--against", help="Hash of another plan: say who pays for the difference.")
@workspace
def show_plan(plan: str | None, against: str | None, home: str, as_json: bool) -> None:
    """Say what every task gets out of PLAN, and who pays for what it changes; `show` itself may be left out.

    Without PLAN it is the one written last.
    """
    folder = Catalog.open(home).home
    _show(_plan(folder, plan), Plan.open(folder, against) if against else None, 0.01, as_json)


@plan_group.command("why")
@click.argument("sample")
@click.option("--plan", help="Hash of the plan; default: the one written last.")
@workspace
def why_command(sample: str, plan: str | None, home: str, as_json: bool) -> None:
    """Say why SAMPLE, a key, is drawn: its strata, its chance, what its labels count, and which tasks drew it."""
    found = _plan(Catalog.open(home).home, plan)
    rows = [vars(row) for row in why(found, sample)]
    show(
        {"plan": found.hash, "sample": sample, "reasons": rows},
        as_json,
        lambda: table(f"{sample} in plan {found.hash}", list(rows[0]), [list(row.values()) for row in rows]),
    )


@plan_group.command("exposure")
@click.argument("plan", required=False)
@click.option("--upto", type=click.IntRange(min=1), help="Of so many draws from the start; default: of all.")
@click.option("--run", "run_", help="What this run was trained on, instead of what the plan gives.")
@workspace
def exposure_command(plan: str | None, upto: int | None, run_: str | None, home: str, as_json: bool) -> None:
    """Say what each task, stratum and boosted slice was asked to get, and what the draws of PLAN, or a run, gave it."""
    at = Catalog.open(home).home
    if run_ and (plan or upto):
        raise BadInput(f"--run {run_}: a run has one plan, and was trained on all of it; leave PLAN and --upto out")
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
        raise NotFound(f"run {run.id}: nothing was kept of its draws; name its plan, {run.plan}, instead")
    return {"run": run.id}, rows, run.alarm


def _of_plan(plan: Plan, upto: int | None) -> tuple[dict[str, str], list[dict[str, Any]], str]:
    ledger, positions = Exposure(plan), np.arange(min(upto or len(plan.draws), len(plan.draws)))
    ledger.add(plan.draws[positions], positions)
    return {"plan": plan.hash}, [vars(row) for row in ledger.rows()], ledger.alarm()


@plan_group.command("replan")
@click.argument("position", type=click.IntRange(min=1))
@click.option("--plan", help="Hash of the plan that is changed; default: the one written last.")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy from there on; default: the same."
)
@click.option("--stop", multiple=True, metavar="TASK", help="A task that has stopped: its share goes to the others.")
@click.option("--commit", type=int, help="What is known from there on; default: what the plan knows.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Who plans, and needs no sign-off of his own.")
@workspace
def replan_command(
    position: int, plan: str | None, policy_file: Path | None, stop: tuple[str, ...], commit: int | None, author: str,
    home: str, as_json: bool,
) -> None:  # fmt: skip
    """Change a plan in mid-run: from POSITION on another policy holds, or later labels, through a child plan.

    Owners must sign off what a policy file takes from them, as for `amber plan`; a task that stopped gives by itself.
    """
    catalog = Catalog.open(home)
    before = _plan(catalog.home, plan)
    policy = Policy.load(policy_file) if policy_file else Policy.model_validate(before.header["policy"])
    for task in stop:
        policy = policy.without(task)
    pack = None if commit is None else make_pack(catalog)
    child = draft_child(before, position, policy, catalog, commit=commit, pack=pack)
    if policy_file:
        refuse_unsigned(child, before, policy, author=author)
    _show(child.save(), before, policy.tolerance, as_json)


def _plan(home: Path, plan: str | None) -> Plan:
    return Plan.open(home, plan) if plan else Plan.newest(home)


def _before(home: Path, against: str | None) -> Plan | None:
    """The plan to compare with, None where there is none yet."""
    if against:
        return Plan.open(home, against)
    try:
        return Plan.newest(home)
    except NotFound:
        return None


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
    parts = [gets, *(_payers(found, before) if before and found else [])]
    show(data, as_json, lambda: Group(*parts))


def _row(change: TaskChange) -> dict[str, Any]:
    sides = {side: vars(row) if (row := getattr(change, side)) else None for side in ("before", "after")}
    return {**vars(change), **sides, "targets": [vars(target) for target in change.targets]}


def _payers(found: Sequence[TaskChange], before: Plan) -> list[Any]:
    """A row for each task whose numbers move, and one for each stratum whose target moves."""
    numbers = ("share", "importance", "ess", "distinct_ess", "distinct", "most_repeated")
    moved = [[change.task, change.owner, *(_moved(change, name) for name in numbers)] for change in found]
    targets = [[change.task, part.stratum, part.before, part.after] for change in found for part in change.targets]
    tables = [table(f"Against {before.hash}", ["task", "owner", *numbers], moved)]
    falls = [[change.owner, f"{change.task}: {text}"] for change in found for text in change.lowered]
    if falls:
        tables.append(table("Who must sign", ["owner", "what falls"], falls))
    if targets:
        tables.append(table("Targets within a task", ["task", "stratum", "before", "after"], targets))
    return tables


def _moved(change: TaskChange, name: str) -> str:
    was, is_ = (None if row is None else getattr(row, name) for row in (change.before, change.after))
    shown = ["-" if value is None else f"{value:.4g}" for value in (was, is_)]
    return shown[0] if shown[0] == shown[1] else " -> ".join(shown)


@plan_group.command("materialize")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--plan", "prefix", default="", help="First characters of the plan's hash; default: the newest.")
@workspace
def materialize_command(folder: Path, prefix: str, home: str, as_json: bool) -> None:
    """Write the draws of a plan into FOLDER as shards with labels and weights, for consumers without Amber.

    Beside each image lies a json: {"key": ..., "position": ..., "labels": {TASK: LABEL}, "weights": {TASK: NUMBER}}. A
    label is a class, a number, a list of classes, or a list of boxes {"class", "x", "y", "w", "h"} in pixels of the
    upright image as it was ingested; unknown ones are left out.
    """
    plan = Plan.open(Path(home), prefix) if prefix else Plan.newest(Path(home))
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = materialize(
            plan, Pack.open(home, plan.pack_hash), folder, progress=lambda part, all_: screen.tell("copy", part, all_)
        )
    shown = {"plan": plan.hash, "folder": str(folder), "shards": done.shards, "draws": done.draws, "bytes": done.bytes}
    show(shown, as_json, lambda: f"{folder}: {done.draws:,} draws in {done.shards:,} shards")
