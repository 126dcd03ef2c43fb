"""One task: by class, by slice and over runs, its confusions, its labels over time, and who gave them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from amber.service.access import Served
from amber.service.facts.counted import Counted, MakingOf
from amber.service.facts.trends import spark
from amber.service.pages.accounts import Looks
from amber.service.pages.rendering import page
from amber.service.routes.ledger import Name
from curation.catalog.snapshot import Snapshot
from training.evaluation.figures import labelled
from training.evaluation.predictions import LabelledPredictions, PredictionsFile, Samples
from training.report.class_results import class_rows, confusion_view
from training.report.formatting import share_text
from training.report.run_results import confusion_of

__all__ = ["COUNTED", "router"]

router = APIRouter(include_in_schema=False)

COMMITS: Final = 12
"""Commits with labels of a task that its page lists: the newest."""


def _classes(now: Snapshot, home: Path, name: str) -> dict[str, Any] | None:
    """The newest run that predicts the task, by class; None for no run, and for tasks without classes."""
    task = now.task(name)
    for run in dict.fromkeys(reversed(now.runs()["run"].to_pylist())):
        file = PredictionsFile(now.runs.predictions_file(home, run))
        if not task.classes or task.name not in file.tasks:
            continue
        samples = Samples.at(now)
        found = labelled(now, task, samples, file.of(task.name))
        if not isinstance(found, LabelledPredictions):
            return None
        test = found.at(np.asarray(samples.splits == "test", np.bool_))
        sums = confusion_of(task, test, samples)
        return {
            "run": run, "task": task, "n": len(test.rows), "accuracy": share_text(sums.accuracy()),
            "balanced_accuracy": share_text(sums.balanced_accuracy()), "confusion": confusion_view(task, sums),
            "rows": class_rows(task, sums, test),
        }  # fmt: skip
    return None


def _labels(now: Snapshot, home: Path, name: str) -> dict[str, Any]:
    """Statements about the task by the newest commits that made some, and how many each annotator has."""
    commits = {row["id"]: row for row in now.log().to_pylist()}
    rows = [row for row in now.labels.statements().to_pylist() if row["task"] == name]
    people = [row for row in now.labels.annotators().to_pylist() if row["task"] == name]
    history = [
        {**row, "message": commits[row["commit_id"]]["message"], "at": commits[row["commit_id"]]["committed_at"]}
        for row in rows[::-1][:COMMITS]
    ]
    return {"history": history, "annotators": people, "statements": sum(row["statements"] for row in rows)}


COUNTED: Final[Mapping[str, MakingOf]] = {"classes": _classes, "labels": _labels}


@router.get("/tasks/{task}")
def one_task(request: Request, account: Looks, workspace: Served, task: Name) -> HTMLResponse:
    """One task, whole."""
    counted: Counted = request.app.state.counted
    with workspace.catalog.read() as now:
        found, commit = now.task(task), now.commit
        instructions = now.people.instructions().get(found.name)
        members = now.ownership.members().get(found.owner, ())
    names = ("known", "trends", "outcomes", f"classes:{found.name}", f"labels:{found.name}")
    figures = counted.figures(names, commit)
    known, rows, outcomes, classes, labels = (figure.value if figure else None for figure in figures.values())
    view = {
        "title": found.name, "task": found, "members": ", ".join(map(str, members)) or "anybody",
        "instructions": instructions, "commit": commit, "figures": figures, "known": (known or {}).get(found.name),
        "slices": rows.of_task(found.name) if rows else [], "outcome": (outcomes or {}).get(found.name),
        "classes": classes, "labels": labels, "spark": spark, "beside": "",
    }  # fmt: skip
    return page(request, "one_task.html", view, account=account)
