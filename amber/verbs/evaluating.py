"""The verb `amber evaluate`: a run that exists is judged again."""

from functools import partial
from typing import Any

import click

from amber.completion import RUN
from amber.extras import need_extra
from amber.tables import figures_table
from amber.terminal import Screen, show
from amber.verbs.estimating import Estimating, estimating
from amber.verbs.options import using_files, workspace
from curation.catalog.catalog import Catalog, check_author
from curation.errors import NotFound
from training.imported import Imported, is_imported
from training.run import Run

__all__ = ["evaluate_command"]


@click.command("evaluate")
@click.argument("run", default="", type=RUN)
@estimating
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the commit (AMBER_AUTHOR).")
@workspace
@using_files
def evaluate_command(run: str, estimating: Estimating, author: str, home: str, as_json: bool) -> None:
    """Judge RUN (default: the newest) again by the labels and decision rules of now, and record its figures.

    A run that Amber trained predicts again; an imported run keeps its probabilities and numbers.

    With --estimate, its error on a slice is estimated instead, for the test images there, and nothing is recorded. That
    takes at least 20 seen errors and 40 groups; --ask requests labels that make it possible. These are drawn with a
    propensity, by which all later figures weigh them, and are never trained on.
    """
    catalog = Catalog.open(home)
    if estimating.ask is not None or not estimating.slice:
        check_author(author)
    screen = Screen(quiet=as_json)
    with catalog.read() as now:
        runs = now.runs()["run"].to_pylist()
        if not runs:
            raise NotFound(f"{home}: the catalog has no run yet; train one, or import predictions")
        run = now.runs.full_id(run) if run else runs[-1]
    if estimating.slice:
        estimating.show(catalog, run, author, as_json)
        return
    with screen.stages():
        if is_imported(catalog.home, run):
            from training.foreign.imports import evaluate_imported

            made = Imported.open(catalog.home, run)
            found, origin = evaluate_imported(catalog, made, author=author), {"trained_on": made.trained_on}
        else:
            found, origin = _predicted_again(catalog, run, author, screen), {}
    figures = [{**row, **origin} for row in found.to_pylist()]
    show({"run": run, **origin, "figures": figures}, as_json, lambda: figures_table(f"Run {run}", figures))


def _predicted_again(catalog: Catalog, run: str, author: str, screen: Screen) -> Any:
    """The figures of a run that Amber trained, after it predicted every image of its pack again."""
    need_extra("train")
    from training.evaluation.evaluation import evaluate

    with catalog.read() as now:
        batch = f"evaluate:{run}:{now.digest}"
    trained = Run.open(catalog.home, run)
    found = evaluate(trained, catalog, author=author, batch=batch, progress=partial(screen.tell, "evaluate"))
    return found.drop_columns(["run"])
