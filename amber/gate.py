"""A gate's decision on a run: made from the predictions of runs, recorded in the catalog, and shown."""

import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amber.terminal import table
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.ingestion.leaks import refuse_leaks
from curation.requests.evaluation_labels import SPLIT
from samplers.plan.plan import Plan
from training.imported import Imported, beside_of, is_imported
from training.run import Run

if TYPE_CHECKING:
    from training.judging.gate import GateResult
    from training.judging.gate_rules import GateRules
    from training.judging.paired_runs import PairedRuns

__all__ = ["GateDecision", "decide_gate", "gate_lines"]


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """A decision that the catalog has recorded: the runs as they were compared, and the report as plain values."""

    runs: "PairedRuns"
    result: "GateResult"
    view: dict[str, Any]


def decide_gate(
    catalog: Catalog, pair: tuple[str, str], rules: "GateRules", *, where: str, by: Identity, author: str, home: str
) -> GateDecision:
    """Decide on the second run of `pair` against the first ("" for none: by the floors of the rules alone).

    `where` names the rules in errors, `home` the workspace in commands. The decision is recorded as an act; the same
    one again is not counted again. Raises what `decide` and `decide_by_floors` raise, and BadInput for a run that was
    trained on a group of an evaluation split; then nothing is recorded.
    """
    from training.judging.evaluation_set import EvaluationSet
    from training.judging.gate import decide, decide_by_floors
    from training.judging.gate_decisions import decision_message
    from training.judging.gate_report import gate_view
    from training.judging.paired_runs import PairedRuns

    with catalog.read() as now:
        if pair[0]:
            runs = PairedRuns.load(now, catalog.home, *pair, split=rules.split, tasks=rules.tasks)
        else:
            runs = PairedRuns.alone(now, catalog.home, pair[1], split=rules.split, tasks=rules.tasks)
        for name in dict.fromkeys(runs.runs):
            _refuse_trained(catalog.home, now, name)
        result = (decide if pair[0] else decide_by_floors)(runs, rules, where=where)
        batch = _batch(now, runs.runs, rules.sha256, EvaluationSet.of(now, runs).digest)
        labels = EvaluationSet.of(now, runs, but=now.batch(batch))
        commit = now.commit
    message = decision_message(runs.runs[1], result.outcome, result.figures, result.team)
    with catalog.commit(author=author, message=message, batch=batch) as change:
        change.record_gate(runs.runs[1], against=runs.base, evaluation_set=labels.digest, by=by)
    beside = {name: beside_of(catalog.home, name) for name in dict.fromkeys(runs.runs)}
    view = gate_view(runs, rules, result, labels, commit, beside, next_steps=_next(runs, result.outcome, home))
    return GateDecision(runs=runs, result=result, view=view)


def gate_lines(view: dict[str, Any], more: Iterable[str] = ()) -> list[Any]:
    """A decision for a terminal: its table, `more` lines, what stands beside the runs, and the evaluation set."""
    labels = view["evaluation_set"]
    used = f"used for {labels['used']} earlier decisions, other versions of it for {labels['used_before']}"
    beside = [f"{run}: {text}" for run, text in view["beside"].items() if text]
    line = f"evaluation set {labels['digest'][:12]}: {labels['labels']:,} labels, {used}"
    return [_figures_table(view), *more, *beside, line]


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


def _next(runs: "PairedRuns", outcome: str, home: str) -> list[str]:
    """What to do after a decision, as commands: look at what broke, or get the labels that tell."""
    base, run = runs.runs
    if not runs.base:
        return []
    words = {
        "block": [["compare", base, run, "--sheet", "flips.html"], ["browse", "--run", run, "--against", base]],
        "not enough data": [["gate", run, "--against", base, "--ask", "50"], ["label", "push"]],
    }.get(outcome, [])
    if runs.split != SPLIT and outcome == "not enough data":
        words = []
    return [shlex.join(["amber", *each, "--home", home]) for each in words]


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
    against = f"against {view['against']}" if view["against"] else "by its floors"
    return table(f"Gate of {view['run']} {against}: {view['outcome']}", columns, rows)
