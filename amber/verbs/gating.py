"""The verb `amber gate`: may a run replace another one?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa
from rich.console import Group

from amber.completion import RUN
from amber.exit_codes import OUTCOMES
from amber.gate import decide_gate, gate_lines
from amber.terminal import show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import author, seeded, using_files, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.requests.evaluation_labels import SPLIT
from training.run_list import two_runs

if TYPE_CHECKING:
    from training.judging.paired_runs import PairedRuns

__all__ = ["gate_command"]


@click.command("gate")
@click.argument("run_", metavar="[RUN]", default="", type=RUN)
@click.option(
    "--against", default="", type=RUN, help="Run that it would replace; default: its parent, or the run before it."
)
@click.option(
    "--gate",
    "rules_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with what is judged, the margins, and the team's rule; needed to decide.",
)
@click.option("--ask", type=int, metavar="N", help="Request N labels of test where the runs disagree; decide nothing.")
@seeded
@click.option(
    "--out",
    default="gate.md",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Report to write; its JSON lies beside it.",
)
@click.option("--app", is_flag=True, help="Then open what was judged in the FiftyOne App, what blocks first.")
@author
@token_option
@workspace
@using_files
@click.pass_context
def gate_command(
    context: click.Context, run_: str, against: str, rules_file: Path | None, ask: int | None, seed: int, out: Path,
    app: bool, author: str, token: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Decide whether RUN (default: the newest) may replace another run: pass, block, or not enough data.

    Exit codes: 0 pass, 10 block, 11 not enough data; errors have their own. The decision is recorded in the catalog,
    with the version of the evaluation set; the report says how often it was already used to decide.

    Where the runs predict alike, their difference is 0. So --ask requests labels only where they disagree, of the tasks
    of the rules or for all that both predict; the next gate of the two runs counts them by inverse propensity.
    """
    from training.judging.gate_report import write_gate_report
    from training.judging.gate_rules import GateRules

    catalog = Catalog.open(home)
    if ask is not None:
        names = GateRules.load(rules_file).tasks if rules_file else ()
        _ask(catalog, run_, against, ask=ask, seed=seed, names=names, author=author, as_json=as_json)
        return
    if rules_file is None:
        raise BadInput("gate: needs --gate FILE, the rules to decide by; or --ask N, which only requests labels")
    rules = GateRules.load(rules_file)
    by = identity(catalog.home, token)
    with catalog.read() as now:
        pair = two_runs(catalog.home, now, run_, against)
    decision = decide_gate(catalog, pair, rules, where=str(rules_file), by=by, author=author, home=home)
    with catalog.read() as now:
        drawn = _where_they_disagree(now, catalog.home, decision.runs) if rules.split == SPLIT else []
    view, result = decision.view, decision.result
    written = write_gate_report(view, result, out)
    data = {**view, "disagreements": drawn, "report": [str(path) for path in written]}
    show(data, as_json, lambda: Group(*gate_lines(view, map(_drawn_line, drawn)), f"report {out}", *view["next"]))
    if app:
        from amber.findings import verdict_findings
        from amber.verbs.browse import browse_findings

        views = verdict_findings(decision.runs, result.figures)
        browse_findings(
            context, views, run=decision.runs.runs[1], against=decision.runs.runs[0], home=home, as_json=as_json
        )
    if code := OUTCOMES[result.outcome]:
        raise click.exceptions.Exit(code)


def _ask(
    catalog: Catalog, run: str, against: str, *, ask: int, seed: int, names: Sequence[str], author: str, as_json: bool
) -> None:
    """Request labels where two runs disagree, in one commit, and show how many of each task."""
    from training.judging.judging_labels import RunPair

    with catalog.commit(author=author, message=f"ask for {ask} labels where two runs disagree") as change:
        now = change.now
        base, new = two_runs(catalog.home, now, run, against)
        pair = RunPair.open(now, catalog.home, new, base)
        tasks = [task for task in pair.tasks(now) if not names or task.name in names]
        rows = pair.request(now, tasks, ask, seed)
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
        ids = now.task_ids()
    asked = {task.name: sum(row["task_id"] == ids[task.name] for row in rows) for task in tasks}
    title = f"Labels of test requested where {pair.run} and {pair.base} disagree"
    data = {"run": pair.run, "against": pair.base, "requests": asked}
    show(data, as_json, lambda: table(title, ["task", "labels"], list(asked.items())))


def _where_they_disagree(now: Snapshot, home: Path, runs: "PairedRuns") -> list[dict[str, Any]]:
    """The difference on the images of test themselves, for each task of which labels were requested for it."""
    from training.judging.judging_labels import RunPair

    pair, every = RunPair.open(now, home, runs.runs[1], runs.runs[0]), runs.inside[""]
    return [
        {
            "task": task.name, "unit": task.unit if task.kind == "regression" else "points",
            **asdict(pair.difference(now, task, runs.samples, every)),
        }
        for task in pair.asked_tasks(now)
        if task.name in runs.tasks
    ]  # fmt: skip


def _drawn_line(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return f"{row['task']}: {row['n']} labels where the runs disagree; too few for their difference on these images"
    scale = 100 if row["unit"] == "points" else 1
    value, low, high = (scale * float(row[name]) for name in ("value", "low", "high"))
    return (
        f"{row['task']}: on these images the run is better by {value:+.2f} {row['unit']} [{low:+.2f}, {high:+.2f}] "
        f"({'share predicted right' if scale == 100 else 'mean absolute error'}; {row['n']} labels where they disagree)"
    )
