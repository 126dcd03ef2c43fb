"""The verb `amber retrain`."""

import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group

from amber.completion import RUN, TASK
from amber.exit_codes import OUTCOMES
from amber.extras import need_extra
from amber.terminal import Screen, note, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import author, using_files, workspace
from curation.catalog.catalog import Catalog
from training.dynamics.retraining import RUNGS, Retraining, Rung

if TYPE_CHECKING:
    from amber.retraining import Outcome, TaskOutcome

__all__ = ["retrain_command"]


@click.command("retrain")
@click.argument("run_", metavar="[RUN]", default="", type=RUN)
@click.option(
    "--gate", "rules_file", type=click.Path(path_type=Path), metavar="FILE", required=True,
    help="TOML file with the rules of the gate that a candidate must pass.",
)  # fmt: skip
@click.option(
    "--task", "tasks", multiple=True, type=TASK, help="Retrain only for this task; may be given several times."
)
@click.option(
    "--up-to", type=click.Choice(RUNGS), default="trunk", show_default=True,
    help="Train no more than this again, whatever the queue says.",
)  # fmt: skip
@click.option(
    "--trunk-every",
    default=0.0,
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Train everything again where that was so long ago; 0: only where the queue says so.",
)
@author
@token_option
@workspace
@using_files
def retrain_command(
    run_: str, rules_file: Path, tasks: tuple[str, ...], up_to: Rung, trunk_every: float, author: str, token: str,
    home: str, as_json: bool,
) -> None:  # fmt: skip
    """Train again what changed since RUN, as little as the gate accepts.

    By default RUN is the released run, or where nothing was released the newest that no gate held up.

    First the heads that gain by their new labels, by `amber queue`; then, for what the gate did not accept or what
    needs more, the branch with the trunk fenced; then the trunk. The heads of several owners are tried together, and
    again without the owners whose figures the gate does not accept. The candidate is not released.

    \b
        amber retrain --gate gate.toml --up-to head     # from cron, each night

    One retraining runs at a time in a workspace, and one that was killed goes on when it is run again. Where nothing
    changed, the last outcome is shown again. Exit codes: 0 pass, or nothing to train; 10 block; 11 not enough data.
    """
    need_extra("train")
    from amber.retraining import Ladder, retrain
    from training.judging.gate_rules import GateRules

    catalog = Catalog.open(home)
    ladder = Ladder(
        rules=GateRules.load(rules_file), where=str(rules_file), by=identity(catalog.home, token), author=author,
        home=home, base=run_, tasks=tasks, up_to=up_to, trunk_every=trunk_every,
    )  # fmt: skip
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = retrain(catalog, ladder, progress=screen.tell)
    for line in () if as_json else done.notes:
        note(line)
    following = _next(done.retraining, rules_file, home)
    data = {
        **asdict(done.retraining), "candidate": done.retraining.candidate, "earlier": done.earlier,
        "tasks": [asdict(row) for row in done.tasks], "notes": done.notes, "next": following,
    }  # fmt: skip
    show(data, as_json, partial(_human, done, following))
    if code := OUTCOMES.get(done.retraining.outcome, 0):
        raise click.exceptions.Exit(code)


def _human(done: "Outcome", following: list[str]) -> Group:
    found = done.retraining
    said = {
        "nothing": "nothing to train", "pass": f"the gate passes {found.candidate}",
        "block": "the gate blocks what was trained", "not enough data": "not enough data to tell",
    }[found.outcome]  # fmt: skip
    earlier = " (nothing changed since this was found)" if done.earlier else ""
    tried = [
        [each.rung, ", ".join(each.tasks) or "all", each.run[:12], f"{each.seconds:.1f}", each.outcome,
         ", ".join(name or "team" for name in each.failing) or "-"]
        for each in found.attempts
    ]  # fmt: skip
    parts: list[Any] = [f"Retraining of {found.base} with the labels of commit {found.commit}: {said}{earlier}"]
    if tried:
        parts.append(table("Tried", ["what", "tasks", "run", "seconds", "gate", "not passed"], tried))
        columns = ["task", "owner", "trained", "before", "after", "difference", "verdict"]
        parts.append(table("Who gained and who paid", columns, [_cells(row) for row in done.tasks]))
    return Group(*parts, *(f"{row.task}: {row.why}" for row in done.tasks if row.why), *following)


def _cells(row: "TaskOutcome") -> list[Any]:
    from amber.comparison_tables import difference_text, value_text

    figure, shown = row.figure, [row.task, row.owner, row.trained or "-"]
    if figure is None:
        return [*shown, "-", "-", "-", row.verdict]
    values = [value_text(figure, value) for value in (figure.first, figure.second)]
    return [*shown, *values, difference_text(figure), row.verdict]


def _next(found: Retraining, rules: Path, home: str) -> list[str]:
    """What to do with the outcome, as commands."""
    last = found.attempts[-1].run if found.attempts else ""
    words = {
        "pass": [["release", found.candidate, "--gate", str(rules)]],
        "block": [["compare", found.base, last, "--sheet", "flips.html"]],
        "not enough data": [["gate", last, "--against", found.base, "--ask", "50"], ["label", "push"]],
    }.get(found.outcome, [])
    return [shlex.join(["amber", *each, "--home", home]) for each in words]
