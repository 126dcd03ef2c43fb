"""The verb `amber gate`: may a run replace another one?"""

import hashlib
from pathlib import Path
from typing import Any

import click
from rich.console import Group

from amber.exit_codes import OUTCOMES
from amber.terminal import show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import author, using_files, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.ingestion.leaks import refuse_leaks
from samplers.plan.plan import Plan
from training.imported import Imported, beside_of, is_imported
from training.run import Run
from training.run_list import two_runs

__all__ = ["gate_command"]


@click.command("gate")
@click.argument("run_", metavar="[RUN]", default="")
@click.option("--against", default="", help="Run that it would replace; default: its parent, or the run before it.")
@click.option(
    "--gate",
    "rules_file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with what is judged, the margins, and the team's rule.",
)
@click.option(
    "--out",
    default="gate.md",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Report to write; its JSON lies beside it.",
)
@author
@token_option
@workspace
@using_files
def gate_command(
    run_: str, against: str, rules_file: Path, out: Path, author: str, token: str, home: str, as_json: bool
) -> None:
    """Decide whether RUN (default: the newest) may replace another run: pass, block, or not enough data.

    Exit codes: 0 pass, 10 block, 11 not enough data; errors have their own. The decision is recorded in the catalog,
    with the version of the evaluation set; the report says how often it was already used to decide.
    """
    from training.judging.evaluation_set import EvaluationSet
    from training.judging.gate import decide
    from training.judging.gate_report import gate_view, write_gate_report
    from training.judging.gate_rules import GateRules
    from training.judging.paired_runs import PairedRuns

    catalog = Catalog.open(home)
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
    with catalog.commit(author=author, message=f"gate {runs.runs[1]}: {result.outcome}", batch=batch) as change:
        change.record_gate(runs.runs[1], against=runs.runs[0], evaluation_set=labels.digest, by=by)
    beside = {name: beside_of(catalog.home, name) for name in runs.runs}
    view = gate_view(runs, rules, result, labels, now.commit, beside)
    written = write_gate_report(view, result, out)
    data = {**view, "report": [str(path) for path in written]}
    show(data, as_json, lambda: Group(_figures_table(view), *_lines(view, out)))
    if code := OUTCOMES[result.outcome]:
        raise click.exceptions.Exit(code)


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
    return [*beside, f"evaluation set {labels['digest'][:12]}: {labels['labels']:,} labels, {used}", f"report {out}"]
