"""Verbs of label requests: request, oracle."""

import click

from amber.terminal import show, table
from amber.verbs.options import seeded, workspace
from curation.catalog.catalog import Catalog
from curation.requests import oracle
from curation.requests.proposals import Proposal, propose
from training.run import Run

__all__ = ["oracle_command", "request_command"]

COLUMNS = ["priority", "task", "key", "arm", "slice", "reason", "propensity"]


@click.command("request")
@click.option("--budget", type=int, help="Request this many labels.")
@click.option("--run", "run_", default="", help="Run whose predictions guide the mining; default: the newest.")
@click.option("--random-share", default=0.15, show_default=True, help="Share of the budget requested at random.")
@seeded
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the requests (AMBER_AUTHOR).")
@workspace
def request_command(
    budget: int | None, run_: str, random_share: float, seed: int, author: str, home: str, as_json: bool
) -> None:
    """Request labels where they help most (with --budget), and list the open requests."""
    catalog = Catalog.open(home)
    if budget is not None:
        with catalog.read() as now:
            runs, head = now.runs()["run"].to_pylist(), now.digest
        run = run_ or (runs[-1] if runs else "")
        proposal = Proposal(
            budget=budget, seed=seed, random_share=random_share, run=run, embeddings=_embeddings(catalog, run)
        )
        propose(catalog, proposal, author=author, batch=f"request:{head}:{proposal}")
    with catalog.read() as now:
        rows = now.requests("open").to_pylist()
    cells = [[row[name] for name in COLUMNS] for row in rows]
    show(rows, as_json, lambda: table(f"{len(rows):,} open requests", COLUMNS, cells))


@click.command("oracle")
@workspace
def oracle_command(home: str, as_json: bool) -> None:
    """Answer the open requests with the labels that the data set held back."""
    catalog = Catalog.open(home)
    with catalog.read() as now:
        digest = now.digest
    count = oracle.answer(catalog, batch=f"oracle:{digest}")
    show({"labels": count}, as_json, lambda: f"{count:,} labels")


def _embeddings(catalog: Catalog, run: str) -> str:
    """The embeddings that a run uses, or else the first of the workspace; "" without any."""
    name = Run.open(catalog.home, run).recipe.embeddings if run else ""
    if name:
        return name
    found = sorted(path.parent.name for path in (catalog.home / "embeddings").glob("*/embeddings.json"))
    return found[0] if found else ""
