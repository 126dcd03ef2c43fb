"""The verb `amber evaluate`: a run is judged by the labels known now, or its error on a slice from few labels."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import pyarrow as pa

from amber.extras import need_extra
from amber.tables import figures_table
from amber.terminal import Screen, WrappedTable, interval, show, table
from amber.verbs.options import author, grouped, seeded, using_files, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.errors import BadInput, NotFound
from training.evaluation.predictions import Samples
from training.foreign.imports import evaluate_imported
from training.imported import Imported, is_imported
from training.judging.error_labels import EVERYTHING, JudgedSlice
from training.run import Run

__all__ = ["evaluate_command"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """On which slice a run is evaluated, and how many labels are requested for that."""

    slice: str
    task: str
    ask: int | None

    def __post_init__(self) -> None:
        if not self.slice and (self.ask is not None or self.task):
            raise BadInput(f"{'--ask' if self.ask is not None else '--task'}: needs --estimate SLICE; name a slice")
        if self.ask is not None and self.ask < 1:
            raise BadInput(f"--ask {self.ask}: must be at least 1 label; raise it")


options = grouped(
    "options", EvaluateOptions,
    click.option(
        "--estimate", "slice", default="", metavar="SLICE",
        help=f"Estimate the error on this slice of test from few labels ({EVERYTHING}: on all images).",
    ),
    click.option("--task", default="", help="Estimate the error of this task; default: of all that the slice is of."),
    click.option("--ask", type=int, metavar="N", help="Request N labels of test images, where the run is unsure."),
)  # fmt: skip


@click.command("evaluate")
@click.argument("run", default="")
@options
@seeded
@author
@workspace
@using_files
def evaluate_command(run: str, options: EvaluateOptions, seed: int, author: str, home: str, as_json: bool) -> None:
    """Judge RUN (default: the newest) again by the labels and decision rules of now, or estimate its error on a slice.

    A run that Amber trained predicts again; an imported one keeps its probabilities and numbers. With --estimate
    nothing is recorded: the estimate is for the test images of the slice, and takes at least 20 seen errors and 40
    groups. With --ask, labels are requested that make it possible: drawn with a propensity, by which all later figures
    weigh them; they are never trained on.
    """
    catalog = Catalog.open(home)
    run = _run(catalog, run)
    if not options.slice:
        _judge_again(catalog, run, author, as_json)
        return
    if options.ask is not None:
        asked = _ask(catalog, run, options, seed, author)
        show(
            {"run": run, "slice": options.slice, "requests": asked}, as_json,
            lambda: table(f"Labels of test requested, {options.slice}", ["task", "labels"], list(asked.items())),
        )  # fmt: skip
        return
    rows = _estimates(catalog, run, options)
    if all(row["missing"] for row in rows):
        told = "; ".join(f"{row['task']}: {row['missing']}" for row in rows)
        raise BadInput(f"slice {options.slice!r}: {told}; request labels with --ask N, and have them answered")
    show({"run": run, "slice": options.slice, "estimates": rows}, as_json, lambda: _table(run, options.slice, rows))


def _run(catalog: Catalog, name: str) -> str:
    with catalog.read() as now:
        runs = now.runs()["run"].to_pylist()
        if not runs:
            raise NotFound(f"{catalog.home}: the catalog has no run yet; train one, or import predictions")
        return now.runs.full_id(name) if name else str(runs[-1])


def _judge_again(catalog: Catalog, run: str, author: str, as_json: bool) -> None:
    """Record and show the figures of a run by the labels and decision rules of now."""
    screen = Screen(quiet=as_json)
    with screen.stages():
        if is_imported(catalog.home, run):
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


def _ask(catalog: Catalog, run: str, options: EvaluateOptions, seed: int, author: str) -> dict[str, int]:
    """How many labels of each task were requested, in one commit."""
    message = f"ask for {options.ask} labels that estimate the error of run {run}"
    with catalog.commit(author=author, message=message) as change:
        judged = JudgedSlice.open(change.now, catalog.home, run, options.slice, options.task)
        rows = judged.request(change.now, options.ask or 0, seed)
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
        ids = change.now.task_ids()
    counts = {task.name: sum(row["task_id"] == ids[task.name] for row in rows) for task in judged.tasks}
    return {name: count for name, count in counts.items() if count}


def _estimates(catalog: Catalog, run: str, options: EvaluateOptions) -> list[dict[str, Any]]:
    with catalog.read() as now:
        judged = JudgedSlice.open(now, catalog.home, run, options.slice, options.task)
        samples = Samples.at(now)
        found = [(task, judged.estimate(now, task, samples)) for task in judged.tasks]
    return [
        {
            "task": task.name, "metric": "error" if task.classes else "mae", "errors": part.errors,
            **vars(part.figure), "missing": part.missing,
        }
        for task, part in found
    ]  # fmt: skip


def _table(run: str, slice_: str, rows: list[dict[str, Any]]) -> WrappedTable:
    shown = [
        [row["task"], row["n"], row["groups"], row["errors"], row["metric"], row["missing"] or interval(row)]
        for row in rows
    ]
    title = f"Run {run} on {slice_}: estimated for its test images"
    return table(title, ["task", "labels", "groups", "errors seen", "metric", "value [95% interval]"], shown)
