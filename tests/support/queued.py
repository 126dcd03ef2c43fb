"""A workspace whose run learned the task color from few labels, and the labels that came since."""

from pathlib import Path
from typing import Any

from support.homes import label, labels
from support.learned import make_features, planned, recipe

from curation.catalog.catalog import Catalog
from training import evaluate, train

__all__ = ["KEPT", "answer_colors", "hide_colors", "known_at_import", "make_queued"]

KEPT = 8
"""Labels of color that the run learned from; the others are unsure until somebody looks again."""


def make_queued(folder: Path) -> Catalog:
    """A workspace with an evaluated run of exact heads, which learned color from `KEPT` labels."""
    catalog = make_features(folder, samples=600)
    hide_colors(catalog)
    found = train(recipe(heads="exact", hidden=0), planned(catalog), catalog)
    evaluate(found, catalog, author="ada")
    return catalog


def hide_colors(catalog: Catalog) -> None:
    """Bob is unsure of every color but `KEPT`."""
    with catalog.commit(author="bob", message="unsure") as change:
        rows = known_at_import(change.now, "color")
        given = [label(row["key"], "color", None, "bob") for row in rows[KEPT:]]
        change.add_labels(labels(given), source="human")


def known_at_import(now: Any, task: str) -> list[dict[str, Any]]:
    """The training images that had a label of a task when they were imported, with its code."""
    given = {
        row["sample_id"]: row["code"] for row in now.labels.by_annotator(task).to_pylist() if row["source"] == "import"
    }
    trained = set(now.training_ids().tolist()) & set(given)
    return [
        {**row, "code": given[row["sample_id"]]} for row in now.samples().to_pylist() if row["sample_id"] in trained
    ]


def answer_colors(catalog: Catalog) -> None:
    """Bob is sure of every color after all."""
    with catalog.commit(author="bob", message="sure") as change:
        names = ("red", "yellow", "green")
        rows = known_at_import(change.now, "color")[KEPT:]
        change.add_labels(
            labels([label(row["key"], "color", names[row["code"]], "bob") for row in rows]), source="human"
        )
