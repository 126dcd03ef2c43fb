"""The verb `amber evaluate`: figures of a run by the labels known now, and its error on a slice from few labels."""

from dataclasses import dataclass
from typing import Any

import click
import pyarrow as pa

from amber.tables import figures_table
from amber.terminal import WrappedTable, interval, show, table
from amber.verbs.options import grouped, seeded, using_files, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.errors import BadInput, NotFound
from training.evaluation.figures import slice_errors
from training.evaluation.predictions import Samples
from training.judging.error_labels import EVERYTHING, JudgedSlice

__all__ = ["evaluate_command"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Which run is evaluated, on which slice, and how many labels are requested for that."""

    run: str
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
    click.option("--run", default="", help="Run to evaluate; default: the newest."),
    click.option(
        "--estimate", "slice", default="", metavar="SLICE",
        help=f"Estimate the error on this slice of test from few labels ({EVERYTHING}: on all images).",
    ),
    click.option("--task", default="", help="Estimate the error of this task; default: of all that the slice is of."),
    click.option("--ask", type=int, metavar="N", help="Request N labels of test images, where the run is unsure."),
)  # fmt: skip


@click.command("evaluate")
@options
@seeded
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the commit (AMBER_AUTHOR).")
@workspace
@using_files
def evaluate_command(options: EvaluateOptions, seed: int, author: str, home: str, as_json: bool) -> None:
    """Record the figures of a run by the labels that are known now; or estimate its error on one slice.

    With --estimate nothing is recorded. The estimate is for the test images of the slice, and takes at least 20 seen
    errors and 40 groups. With --ask, labels are requested that make it possible: drawn with a propensity, by which all
    later figures weigh them; they are never trained on.
    """
    catalog = Catalog.open(home)
    run = _run(catalog, options.run)
    if not options.slice:
        figures = _figures(catalog, run, author)
        show({"run": run, "figures": figures}, as_json, lambda: figures_table(f"Run {run}", figures))
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
            raise NotFound(f"{catalog.home}: the catalog has no run yet; create one with `amber train` or `amber loop`")
        return now.runs.full_id(name) if name else str(runs[-1])


def _figures(catalog: Catalog, run: str, author: str) -> list[dict[str, Any]]:
    """The figures of a run's recorded predictions, recorded beside the run in one commit."""
    with catalog.commit(author=author, message=f"evaluate run {run} by the labels known now") as change:
        now = change.now
        path = now.runs.predictions_file(catalog.home, run)
        row = [row for row in now.runs().to_pylist() if row["run"] == run][-1]
        predicted = {figure["task"] for figure in now.runs.slice_errors(run).to_pylist()}
        errors = slice_errors(now, run, [task for name, task in now.tasks().items() if name in predicted], path)
        change.add_run(run, plan=row["plan"], predictions=row["predictions"], sha256=row["sha256"])
        change.add_slice_errors(errors)
    return [dict(row) for row in errors.to_pylist()]


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
