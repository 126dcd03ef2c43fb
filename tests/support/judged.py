"""A workspace with two planted runs, `new` and `old`, and people who label its test images."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from support.homes import label, labels
from support.planted_runs import noisy, plant_run, planted_home

from curation.catalog.catalog import Catalog

__all__ = ["answer", "judged_home", "truth_of"]

CLASSES = ("red", "yellow", "green")


def judged_home(folder: Path) -> Catalog:
    """Two runs that predict the known labels equally well, and the other images differently."""
    catalog, plan = planted_home(folder)
    for seed, name in enumerate(("new", "old")):
        plant_run(catalog, plan, name, lambda task, seed=seed: noisy(catalog, task, signal=3.0, seed=seed))  # type: ignore[misc]
    return catalog


def truth_of(catalog: Catalog) -> dict[int, str]:
    """A made-up color of every sample by its id: what `new` predicts for two thirds, else what `old` does."""
    with catalog.read() as now:
        tables = [pq.read_table(now.runs.predictions_file(catalog.home, run)) for run in ("new", "old")]
        keys = now.samples()["key"].to_pylist()
    found = []
    for table in tables:
        mine = table.filter(pa.compute.equal(table["task"], "color"))
        found.append(dict(zip(mine["key"].to_pylist(), mine["code"].to_pylist(), strict=True)))
    return {place: CLASSES[found[place % 3 == 2][key]] for place, key in enumerate(keys)}


def answer(catalog: Catalog, truth: dict[int, str], count: int | None = None) -> None:
    """One person answers the first `count` open requests for color, or all of them."""
    with catalog.commit(author="ada", message="answer") as change:
        open_ = change.now.requests("open").sort_by("priority").slice(0, count)
        ids = open_["sample_id"].to_pylist()
        rows = [label(f"pictures/{id_:05d}", "color", truth[id_], annotator="ann") for id_ in ids]
        change.add_labels(labels(rows), source="human")
        change.close_requests(open_["request_id"].to_pylist(), state="answered")
