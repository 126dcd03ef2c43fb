"""The verb `amber lineage`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Group

from amber.completion import RUN
from amber.terminal import plain, show, table
from amber.verbs.options import workspace
from amber.verbs.runs import HASH
from curation.catalog.catalog import Catalog
from training.dynamics.lineage import Lineage, lineage_of
from training.dynamics.run_marks import run_marks
from training.run_list import newest_run

__all__ = ["lineage_command"]


@click.command("lineage")
@click.argument("run_", metavar="[RUN]", default="", type=RUN)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write an HTML page with a picture, too.")
@workspace
def lineage_command(run_: str, out: Path | None, home: str, as_json: bool) -> None:
    """Show the chain of trainings that led to RUN (default: the newest), oldest first, as a graph.

    For each run: what it continues, its plan, the commit of its labels, which tasks learned and which were frozen, and
    by whom it was planned and evaluated. A link that was withdrawn or is missing is named: `amber replay` refuses it.
    """
    catalog = Catalog.open(home)
    with catalog.read() as now:
        lineage = lineage_of(catalog.home, now, run_ or newest_run(catalog.home, now))
        marks = run_marks(catalog.home, now, [link.run for link in lineage.links])
    if out is not None:
        from training.dynamics.lineage_page import write_lineage

        write_lineage(lineage, out, marks)
    data = {
        **asdict(lineage), "edges": [asdict(edge) for edge in lineage.edges()], "broken": lineage.broken,
        "marks": marks, "page": str(out) if out else None,
    }  # fmt: skip
    lines = [f"run {run}: {mark}" for run, found in marks.items() for mark in found]
    last = [*lineage.broken, *lines, *([f"page {out}"] if out else [])]
    show(data, as_json, lambda: Group(*_tables(lineage), *last))


def _tables(lineage: Lineage) -> list[Any]:
    plans = {plan.plan: plan for plan in lineage.plans}
    links = [
        [
            link.run, plain(tuple(name[:HASH] for name in link.origins)) or "-", link.plan[:HASH] or "-",
            link.commit, link.state or plain(link.how), link.trunk or "-", plain(link.learned) or "-",
            plain(link.frozen) or "-", plans[link.plan].by or "-" if link.plan else "-", link.author or "-",
        ]
        for link in lineage.links
    ]  # fmt: skip
    made = [
        [
            plan.plan[:HASH], plan.parent[:HASH] or "-", plan.position, plan.commit, plan.draws, plan.policy or "-",
            plan.by or "-", plain(plan.signed) or "-", plan.state or "-",
        ]
        for plan in lineage.plans
    ]  # fmt: skip
    columns = [
        "run", "continues", "plan", "commit", "how", "trunk", "learned", "frozen", "planned by", "evaluated by",
    ]  # fmt: skip
    names = ["plan", "continues", "at draw", "commit", "draws", "policy", "by", "signed by", "state"]
    return [table(f"Lineage of run {lineage.run}", columns, links), table("Its plans", names, made)]
