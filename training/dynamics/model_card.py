"""The model card of a release (Mitchell et al. 2019): what it learned from, how well it does where, and its limits."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curation.catalog.schema import EVALUATION, KNOWN
from curation.catalog.snapshot import Snapshot
from curation.files.atomic import whole
from samplers.plan.plan import Plan, PlanTask
from training.dynamics.lineage import Lineage
from training.evaluation.unseen import unseen_in_test
from training.report.formatting import doubt_of, interval_text, value_text
from training.report.page import write_page
from training.report.sections import recipe_text
from training.run import Run

__all__ = ["card_view", "write_card"]

View = dict[str, Any]

NOT_JUDGED = "the gate did not judge {}: its figures may have fallen"


def card_view(
    now: Snapshot, home: Path, run: Run, lineage: Lineage, gate: View, *, number: int, notes: str = "",
    unjudged: Sequence[str] = (), marks: Sequence[str] = (),
) -> View:  # fmt: skip
    """What the card of release `number` says of a run, as plain values.

    `gate` is the gate's report; `unjudged` are the tasks that it did not judge, `notes` a text of the people who
    release, `marks` lines about the run such as whether a training from scratch gives the same.
    """
    plan = Plan.open(home, run.plan)
    figures = [_figure(row) for row in now.runs.slice_errors(run.id).to_pylist() if row["split"] == "test"]
    limits = [
        *marks, *(NOT_JUDGED.format(task) for task in unjudged), *unseen_in_test(now, plan),
        *(alarm for alarm in (run.alarm, *run.alarms) if alarm),
        *(f"{row['task']} on {row['slice']}: {row['doubt']}" for row in figures if row["doubt"]),
    ]  # fmt: skip
    return {
        "title": f"Model card: release {number}, run {run.id}", "number": number, "run": run.id, "plan": run.plan,
        "commit": run.commit, "recipe": recipe_text(run.recipe), "revision": run.revision or "unknown",
        "libraries": ", ".join(f"{name} {version}" for name, version in run.libraries.items()), "notes": notes,
        "tasks": [_task(now, plan, code, part) for code, part in enumerate(plan.tasks)], "images": _images(now),
        "figures": figures, "limits": limits, "gate": gate, "judged": _judged(gate),
        "chain": [
            f"run {link.run}: {', '.join(link.how)}; trunk {link.trunk}; learned {', '.join(link.learned)}"
            for link in lineage.links
        ],
    }  # fmt: skip


def write_card(view: View, folder: Path) -> None:
    """Write `card.md` and `card.html` into a folder; each appears whole."""
    with whole(folder / "card.md") as part:
        part.write_text("\n".join(_markdown(view)) + "\n", encoding="utf-8")
    write_page(folder / "card.html", "card.html", view)


def _task(now: Snapshot, plan: Plan, code: int, part: PlanTask) -> View:
    task = now.tasks().get(part.name, part.task)
    members = now.ownership.members().get(task.owner, ())
    labels = now.labels(task.name)
    known = labels["sample_id"].filter(pc.equal(labels["state"], KNOWN)).combine_chunks()
    samples = now.samples("sample_id", "split", "excluded")
    labelled = samples.filter(pc.and_not(pc.is_in(samples["sample_id"], known), samples["excluded"]))
    counts = {split: pc.sum(pc.equal(labelled["split"], split)).as_py() or 0 for split in EVALUATION}
    return {
        "name": task.name, "kind": task.kind, "owner": task.owner, "members": ", ".join(map(str, members)) or "anybody",
        "predicts": ", ".join(task.classes) or task.unit, "description": task.description,
        "trained": int(np.sum(plan.label_task == code)), "share": float(plan.shares[code]),
        "importance": part.importance, **counts,
    }  # fmt: skip


def _images(now: Snapshot) -> list[View]:
    """Images by data set and split, without excluded ones."""
    samples = now.samples("dataset", "split", "excluded")
    kept = samples.filter(pc.invert(samples["excluded"]))
    rows = kept.group_by(["dataset", "split"]).aggregate([([], "count_all")]).to_pylist()
    named = [{"dataset": row["dataset"], "split": row["split"] or "none", "images": row["count_all"]} for row in rows]
    return sorted(named, key=lambda row: (row["dataset"], row["split"]))


def _figure(row: View) -> View:
    known = row["value"] is not None
    return {
        "task": row["task"], "slice": row["slice"] or "everything", "metric": row["metric"], "n": row["n"],
        "groups": row["groups"], "value": value_text(row) if known else "no data",
        "interval": interval_text(row) if known else "", "doubt": doubt_of(row),
    }  # fmt: skip


def _judged(gate: View) -> list[View]:
    rows = [*gate["figures"], *([gate["team"]] if gate["team"] else [])]
    return [
        {
            "what": row["what"], "measure": row["measure"], "base": f"{row['base']:.2f}", "run": f"{row['run']:.2f}",
            "drop": f"{row['drop']:+.2f}", "high": f"{row['high']:+.2f}", "margin": f"{row['margin']:g} {row['unit']}",
        }
        for row in rows
    ]  # fmt: skip


def _markdown(view: View) -> Iterator[str]:
    yield f"# {view['title']}"
    yield ""
    yield f"Trained on plan `{view['plan']}` with the labels of commit {view['commit']}. Code `{view['revision']}`."
    if view["notes"]:
        yield f"\n{view['notes'].strip()}"
    yield "\n## Limits\n"
    yield from (f"- {line}" for line in view["limits"] or ["None was found by the checks of this release."])
    yield "\n## Tasks and owners\n"
    columns = ["name", "kind", "predicts", "owner", "members", "trained", "validation", "test", "share", "importance"]
    heads = ["task", *columns[1:5], "labels: train", *columns[6:]]
    yield from _table(heads, [[_text(row[name]) for name in columns] for row in view["tasks"]])
    yield "\n## Figures on test, with 95% intervals\n"
    names = ["task", "slice", "metric", "n", "groups", "value", "interval", "doubt"]
    yield from _table(names, [[_text(row[name]) for name in names] for row in view["figures"]])
    yield "\n## Gate\n"
    yield from _gate_lines(view)
    yield "\n## Images\n"
    yield from _table(["data set", "split", "images"], [list(map(_text, row.values())) for row in view["images"]])
    yield "\n## Lineage\n"
    yield from (f"- {line}" for line in view["chain"])
    yield f"\n## Recipe\n\n{view['recipe']}.\n\nLibraries: {view['libraries']}."


def _gate_lines(view: View) -> Iterator[str]:
    gate, labels = view["gate"], view["gate"]["evaluation_set"]
    against = f"against run `{gate['against']}`" if gate["against"] else "by its floors alone"
    yield (
        f"Passed {against}, by rules `{gate['rules_sha256'][:12]}` on evaluation set `{labels['digest']}`: "
        f"{labels['labels']:,} labels of {labels['split']} in {labels['groups']:,} groups. This set decided "
        f"{labels['used']:,} times before, other versions of it {labels['used_before']:,} times.\n"
    )
    names = ["what", "measure", "base", "run", "drop", "high", "margin"]
    heads = ["judged", "metric", "base", "run", "drop", "upper bound", "margin"]
    yield from _table(heads, [[row[name] for name in names] for row in view["judged"]])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def _text(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
