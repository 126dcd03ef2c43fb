"""The verb `amber gate`: may a run replace another one?"""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa
from rich.console import Group

from amber.exit_codes import OUTCOMES
from amber.terminal import show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import author, seeded, using_files, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.ingestion.leaks import refuse_leaks
from curation.requests.evaluation_labels import SPLIT
from samplers.plan.plan import Plan
from training.imported import Imported, beside_of, is_imported
from training.run import Run
from training.run_list import two_runs

if TYPE_CHECKING:
    from training.judging.paired_runs import PairedRuns

__all__ = ["gate_command"]


@click.command("gate")
@click.argument("run_", metavar="[RUN]", default="")
@click.option("--against", default="", help="Run that it would replace; default: its parent, or the run before it.")
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
    from training.judging.evaluation_set import EvaluationSet
    from training.judging.gate import decide
    from training.judging.gate_report import gate_view, write_gate_report
    from training.judging.gate_rules import GateRules
    from training.judging.paired_runs import PairedRuns

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
        runs = PairedRuns.load(now, catalog.home, *pair, split=rules.split, tasks=rules.tasks)
        for name in runs.runs:
            _refuse_trained(catalog.home, now, name)
        result = decide(runs, rules, where=str(rules_file))
        batch = _batch(now, runs.runs, rules.sha256, EvaluationSet.of(now, runs).digest)
        labels = EvaluationSet.of(now, runs, but=now.batch(batch))
        drawn = _where_they_disagree(now, catalog.home, runs) if rules.split == SPLIT else []
    with catalog.commit(author=author, message=f"gate {runs.runs[1]}: {result.outcome}", batch=batch) as change:
        change.record_gate(runs.runs[1], against=runs.runs[0], evaluation_set=labels.digest, by=by)
    beside = {name: beside_of(catalog.home, name) for name in runs.runs}
    view = gate_view(runs, rules, result, labels, now.commit, beside, next_steps=_next(runs, result.outcome, home))
    written = write_gate_report(view, result, out)
    data = {**view, "disagreements": drawn, "report": [str(path) for path in written]}
    show(data, as_json, lambda: Group(_figures_table(view), *map(_drawn_line, drawn), *_lines(view, out)))
    if app:
        from amber.findings import verdict_findings
        from amber.verbs.browse import browse_findings

        views = verdict_findings(runs, result.figures)
        browse_findings(context, views, run=runs.runs[1], against=runs.runs[0], home=home, as_json=as_json)
    if code := OUTCOMES[result.outcome]:
        raise click.exceptions.Exit(code)


def _next(runs: "PairedRuns", outcome: str, home: str) -> list[str]:
    """What to do after a decision, as commands: look at what broke, or get the labels that tell."""
    base, run = runs.runs
    words = {
        "block": [["compare", base, run, "--sheet", "flips.html"], ["browse", "--run", run, "--against", base]],
        "not enough data": [["gate", run, "--against", base, "--ask", "50"], ["label", "push"]],
    }.get(outcome, [])
    if runs.split != SPLIT and outcome == "not enough data":
        words = []
    return [shlex.join(["amber", *each, "--home", home]) for each in words]


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


def _refuse_trained(home: Path, now: Snapshot, run: str) -> None:
    """BadInput where a run is known to have been trained on a group of the evaluation splits."""
    if is_imported(home, run):
        Imported.open(home, run).refuse_leaks(home, now)
    elif (home / "runs" / run / "run.json").is_file():
        refuse_leaks(now, Plan.open(home, Run.open(home, run).plan).keys)


def _batch(now: Snapshot, runs: tuple[str, str], rules: str, labels: str) -> str:
    """One decision: the same predictions, rules and labels give the same, and count once."""
    files = {row["run"]: row["sha256"] for row in now.runs().to_pylist()}
    parts = [*runs, *(files[name] for name in runs), rules, labels]
    return f"gate:{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:32]}"


def _figures_table(view: dict[str, Any]) -> Any:
    figures = [*view["figures"], *([view["team"]] if view["team"] else [])]
    rows = [
        [
            row["what"], row["measure"], row["n"], row["groups"], f"{row['base']:.2f}", f"{row['run']:.2f}",
            f"{row['drop']:+.2f}", f"{row['high']:+.2f}", f"{row['margin']:g} {row['unit']}", row["p"], row["outcome"],
            row["groups_needed"],
        ]
        for row in figures
    ]  # fmt: skip
    columns = [
        "judged", "metric", "labels", "groups", "base", "run", "drop", "upper bound", "margin", "p", "outcome",
        "groups that would do",
    ]  # fmt: skip
    return table(f"Gate of {view['run']} against {view['against']}: {view['outcome']}", columns, rows)


def _lines(view: dict[str, Any], out: Path) -> list[str]:
    labels = view["evaluation_set"]
    used = f"used for {labels['used']} earlier decisions, other versions of it for {labels['used_before']}"
    beside = [f"{run}: {text}" for run, text in view["beside"].items() if text]
    return [
        *beside,
        f"evaluation set {labels['digest'][:12]}: {labels['labels']:,} labels, {used}",
        f"report {out}",
        *view["next"],
    ]
