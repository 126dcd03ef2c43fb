"""What `amber evaluate --estimate` does: labels of test images to request, and the error that they estimate."""

from dataclasses import asdict, dataclass
from typing import Any

import click
import pyarrow as pa

from amber.completion import TASK
from amber.terminal import WrappedTable, interval, show, table
from amber.verbs.options import SEED, grouped
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.errors import BadInput
from training.evaluation.predictions import Samples
from training.judging.error_labels import EVERYTHING, JudgedSlice

__all__ = ["Estimating", "estimating"]


@dataclass(frozen=True, kw_only=True)
class Estimating:
    """The slice of which the error is estimated ("": none), for which task, and how many labels are requested."""

    slice: str
    task: str
    ask: int | None
    seed: int

    def __post_init__(self) -> None:
        if not self.slice and (self.ask is not None or self.task):
            raise BadInput(f"{'--ask' if self.ask is not None else '--task'}: needs --estimate SLICE; name a slice")
        if self.ask is not None and self.ask < 1:
            raise BadInput(f"--ask {self.ask}: must be at least 1 label; raise it")

    def show(self, catalog: Catalog, run: str, author: str, as_json: bool) -> None:
        """Request the labels, or print the estimates; BadInput where every estimate takes more labels."""
        if self.ask is not None:
            asked = self._requested(catalog, run, author)
            title = f"Labels of test requested, {self.slice}"
            data = {"run": run, "slice": self.slice, "requests": asked}
            show(data, as_json, lambda: table(title, ["task", "labels"], list(asked.items())))
            return
        rows = self._estimates(catalog, run)
        if all(row["missing"] for row in rows):
            why = "; ".join(f"{row['task']}: {row['missing']}" for row in rows)
            raise BadInput(f"slice {self.slice!r}: {why}; request labels with --ask N, and have them answered")
        found = {"run": run, "slice": self.slice, "estimates": rows}
        show(found, as_json, lambda: _table(f"Run {run} on {self.slice}: estimated for its test images", rows))

    def _requested(self, catalog: Catalog, run: str, author: str) -> dict[str, int]:
        """How many labels of each task were requested, in one commit."""
        message = f"ask for {self.ask} labels that estimate the error of run {run}"
        with catalog.commit(author=author, message=message) as change:
            judged = JudgedSlice.open(change.now, catalog.home, run, self.slice, self.task)
            rows = judged.request(change.now, self.ask or 0, self.seed)
            change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
            ids = change.now.task_ids()
        counts = {task.name: sum(row["task_id"] == ids[task.name] for row in rows) for task in judged.tasks}
        return {name: count for name, count in counts.items() if count}

    def _estimates(self, catalog: Catalog, run: str) -> list[dict[str, Any]]:
        with catalog.read() as now:
            judged = JudgedSlice.open(now, catalog.home, run, self.slice, self.task)
            samples = Samples.at(now)
            found = [(task, judged.estimate(now, task, samples)) for task in judged.tasks]
        return [
            {
                "task": task.name, "metric": "error" if task.classes else "mae", "errors": part.errors,
                **asdict(part.figure), "missing": part.missing,
            }
            for task, part in found
        ]  # fmt: skip


estimating = grouped(
    "estimating", Estimating,
    click.option(
        "--estimate", "slice", default="", metavar="SLICE",
        help=f"Estimate the error on this slice of test from few labels ({EVERYTHING}: on all images).",
    ),
    click.option(
        "--task", default="", type=TASK, help="Estimate the error of this task; default: of all that the slice is of."
    ),
    click.option("--ask", type=int, metavar="N", help="Request N labels of test images, where the run is unsure."),
    click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the draw of --ask."),
)  # fmt: skip


def _table(title: str, rows: list[dict[str, Any]]) -> WrappedTable:
    shown = [
        [row["task"], row["n"], row["groups"], row["errors"], row["metric"], row["missing"] or interval(row)]
        for row in rows
    ]
    return table(title, ["task", "labels", "groups", "errors seen", "metric", "value [95% interval]"], shown)
