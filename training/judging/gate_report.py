"""The report of a gate: JSON for machines, Markdown for people and for the summary of a CI job."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curation.files.atomic import whole
from training.judging.evaluation_set import EvaluationSet
from training.judging.gate import GateResult, JudgedFigure
from training.judging.gate_rules import GateRules
from training.judging.paired_runs import PairedRuns

__all__ = ["gate_view", "write_gate_report"]

NOTES = {
    "pass": "On everything that is judged, the upper bound of the drop is below its margin.",
    "block": "A drop is shown that may be as large as its margin or larger.",
    "not enough data": "No drop is shown, and none as large as the margin is excluded everywhere.",
}


def gate_view(
    runs: PairedRuns, rules: GateRules, result: GateResult, labels: EvaluationSet, commit: int,
    beside: Mapping[str, str], *, next_steps: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The report as plain values; `commit` is that of the labels, `beside` what stands beside each run's figures.

    `next_steps` are commands. `against` is "" where the run was judged by floors alone.
    """
    return {
        "outcome": result.outcome, "run": runs.runs[1], "against": runs.base, "commit": commit,
        "beside": dict(beside), "next": list(next_steps),
        "evaluation_set": asdict(labels), "rules": rules.model_dump(mode="json"), "rules_sha256": rules.sha256,
        "figures": [asdict(figure) for figure in result.figures],
        "team": asdict(result.team) if result.team else None,
    }  # fmt: skip


def write_gate_report(view: dict[str, Any], result: GateResult, path: Path) -> tuple[Path, Path]:
    """Write the report as Markdown to `path`, and as JSON beside it; each appears whole. Returns both paths."""
    beside = path.with_suffix(".json")
    texts = {
        path: "\n".join(_markdown(view, result)) + "\n",
        beside: json.dumps(view, indent=1, allow_nan=False) + "\n",
    }
    for place, text in texts.items():
        with whole(place) as made:
            made.write_text(text, encoding="utf-8")
    return path, beside


def _markdown(view: dict[str, Any], result: GateResult) -> Iterator[str]:
    labels = view["evaluation_set"]
    yield f"# Gate: {view['outcome']}"
    yield ""
    against = f"against `{view['against']}`" if view["against"] else "by its floors alone"
    yield f"Run `{view['run']}` {against}. {NOTES[result.outcome]}"
    yield ""
    yield "| judged | metric | labels | groups | base | run | drop | upper bound | margin | p | outcome |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for figure in [*result.figures, *([result.team] if result.team else [])]:
        yield _row(figure)
    yield ""
    for figure in [*result.figures, *([result.team] if result.team else [])]:
        if figure.groups_needed is not None and figure.outcome == "not enough data":
            yield f"- {figure.what}: about {figure.groups_needed:,} groups would do, instead of {figure.groups:,}."
    yield f"- Evaluation set `{labels['digest']}`: {labels['labels']:,} labels of {labels['split']} in "
    yield f"  {labels['groups']:,} groups, as of commit {view['commit']}. {_uses(labels)}"
    yield from (f"- Run `{run}`: {text}." for run, text in view["beside"].items() if text)
    yield f"- Rules `{view['rules_sha256'][:12]}`. Drops are in the unit of their margin; a positive one is worse."
    yield "- The true drop is above its bound with a chance of 5%; p is adjusted for all that is judged."
    if view["next"]:
        yield "\nWhat to do next:\n\n    " + "\n    ".join(view["next"])


def _row(figure: JudgedFigure) -> str:
    unit = figure.unit
    cells = (
        figure.what, figure.measure, f"{figure.n:,}", f"{figure.groups:,}", f"{figure.base:.2f}", f"{figure.run:.2f}",
        f"{figure.drop:+.2f}", f"{figure.high:+.2f}", f"{figure.margin:g} {unit}", f"{figure.p:.4f}", figure.outcome,
    )  # fmt: skip
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _uses(labels: dict[str, Any]) -> str:
    return (
        f"It was used for {labels['used']:,} earlier decision{'s' * (labels['used'] != 1)}, other versions of it for "
        f"{labels['used_before']:,}."
    )
