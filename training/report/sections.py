"""The sections of the report, as plain values for the template."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from samplers.plan.plan import Plan
from samplers.plan.task_outcomes import task_outcomes
from training.evaluation.unseen import unseen_classes
from training.imported import UNKNOWN, Imported
from training.recipe import ADDED, Recipe
from training.report.charts import Mark, chart_of, line_of
from training.report.formatting import (
    doubt_of,
    edges_of,
    entry_view,
    error_of,
    interval_text,
    number_text,
    plain_text,
    precision_text,
    share_row,
    value_text,
)
from training.report.other_runs import RaisedByRate
from training.report.rounds import arms_of
from training.report.run_results import RunResults
from training.report.solved_heads import heads_view
from training.run import Run

__all__ = ["figures_view", "header_view", "imported_header", "plan_view", "recipe_text", "training_view"]

Row = Mapping[str, Any]
View = dict[str, Any]


def header_view(results: RunResults, run: Run, plan: Plan, home: Path, rounds: Sequence[Row]) -> View:
    """The run, its recipe field by field, the plan, and the figures that matter most."""
    return {
        "home": str(home), "imported": None, "run": run, "plan": plan, "recipe": recipe_text(run.recipe),
        "alarms": [alarm for alarm in (run.alarm, *run.alarms, *_unseen(results, plan)) if alarm],
        "evaluated": results.commit,
        "images": len(results.samples.ids), "tiles": _tiles(results, rounds),
    }  # fmt: skip


def imported_header(results: RunResults, imported: Imported, home: Path) -> View:
    """The model, the file of its predictions, what it was trained on, and the figures that matter most."""
    return {
        "home": str(home), "imported": imported,
        "alarms": [_unknown_training(imported)] if imported.trained_on == UNKNOWN else [],
        "evaluated": results.commit, "images": len(results.samples.ids), "tiles": _tiles(results, ()),
    }  # fmt: skip


def _unknown_training(imported: Imported) -> str:
    return (
        f"It is unknown what {imported.model} was trained on: where it has seen images of the evaluation splits, its "
        "figures are too good. Declare the keys by `amber predictions import --trained-on`."
    )


def _unseen(results: RunResults, plan: Plan) -> list[str]:
    """A line for each class that has labels in test and none in training."""
    truths = {name: predicted.at(results.test).truth for name, predicted in results.predictions.items()}
    named = [task for task in plan.tasks if task.task.classes and task.name in truths]
    return [line for task in named for line in unseen_classes(task, truths[task.name])]


UNITS = {"size": "pixels (height, width)", "warmup": "of the steps", "global_batch": "draws", "hidden": "units",
         "accumulate": "parts of a batch"}  # fmt: skip
"""What the number of a recipe's field counts."""
DRAWN = ("global_batch", "optimizer", "learning_rate", "weight_decay", "schedule", "warmup", "hidden", "augment")
"""Fields of a recipe that only heads that learn from draws follow."""


def recipe_text(recipe: Recipe) -> str:
    """Each field of a recipe that this training followed, with its value: all from the record of the run."""
    unused = _unused(recipe)
    return "; ".join(f"{name.replace('_', ' ')} {_recipe_value(name, value)}" for name, value in asdict(recipe).items()
                     if name not in unused)  # fmt: skip


def _unused(recipe: Recipe) -> frozenset[str]:
    """The fields that heads learned in this way do not follow."""
    of_draws = ADDED if recipe.plain else frozenset[str]()
    of_pixels = frozenset[str]() if recipe.learns else frozenset({"compile", "learn_from", "weights"})
    of_boxes = frozenset[str]() if recipe.boxes else frozenset({"boxes"})
    of_kind = {
        "drawn": {"huber", "units", "epochs"},
        "exact": {*DRAWN, "units", "epochs"},
        "shared": {*DRAWN, "huber"},
    }.get(recipe.heads, set(DRAWN))
    return of_draws | of_pixels | of_boxes | of_kind


def _recipe_value(name: str, value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Mapping):
        value = tuple(f"({_recipe_value(name, part)})" for part in value)
    if isinstance(value, Mapping):
        value = tuple(f"{key.replace('_', ' ')} ({_recipe_value(key, part)})" for key, part in value.items())
    if isinstance(value, bool):
        text = {True: "yes", False: "no"}[value]
    elif isinstance(value, tuple):
        text = ", ".join(map(str, value)) or "none"
    elif isinstance(value, float):
        text = f"{100 * value:g}%" if name == "warmup" else f"{value:g}"
    else:
        text = "none" if value in (None, "") else str(value)
    return f"{text} {UNITS.get(name, '')}".strip()


def _tiles(results: RunResults, rounds: Sequence[Row]) -> list[View]:
    """The worst task and slice with enough data, how many figures lack data, and what the loop bought."""
    test = [row for row in results.figures if row["split"] == "test"]
    sure = [row for row in test if not doubt_of(row)]
    tiles = []
    for name, rows in (
        ("Worst task", [row for row in sure if not row["slice"]]),
        ("Worst slice", [row for row in sure if row["slice"]]),
    ):
        if rows:
            worst = max(rows, key=lambda row: error_of(results, row))
            where = " of ".join(part for part in (worst["slice"], worst["task"]) if part)
            metric = results.metric(worst["task"], worst["slice"], worst["metric"])
            text = f"{where}: {metric} on {worst['n']:,} test images"
            precision = precision_text(results, worst["task"], worst["slice"])
            tiles.append(_tile(results, name, worst, "; ".join(part for part in (text, precision) if part)))
    text = f"of {len(test)} figures on test: not enough data for a conclusion"
    tiles.append({"name": "Not known", "value": str(len(test) - len(sure)), "interval": "", "text": text})
    return tiles + _rare_tile(results, rounds)


def _rare_tile(results: RunResults, rounds: Sequence[Row]) -> list[View]:
    """The last figure of the loop's first arm on its worst rare slice, beside those of the other arms."""
    last = [max((row for row in rounds if row["arm"] == arm), key=lambda row: row["labels"]) for arm in arms_of(rounds)]
    by_cell = [
        {
            (row["task"], row["slice"]): row
            for row in end["figures"]
            if row["split"] == "test" and row["value"] is not None
        }
        for end in last
    ]
    cells = [
        cell
        for cell in (by_cell[0] if by_cell else ())
        if cell[1] in last[0]["found"] and cell[0] in results.predictions
    ]
    if not cells:
        return []
    worst = max(cells, key=lambda cell: error_of(results, by_cell[0][cell]))
    ends = [(end["arm"], end["labels"], rows[worst]) for end, rows in zip(last, by_cell, strict=True) if worst in rows]
    others = [f"{arm} {value_text(row)} {interval_text(row)} for {labels:,} labels" for arm, labels, row in ends[1:]]
    first = f"{results.metric(*worst)}, {ends[0][0]}, for {ends[0][1]:,} labels"
    parts = [first, *others, doubt_of(ends[0][2]), precision_text(results, *worst)]
    return [_tile(results, f"Rare: {worst[1]}", ends[0][2], "; ".join(part for part in parts if part))]


def _tile(results: RunResults, name: str, row: Row, text: str) -> View:
    unit = results.tasks[row["task"]].unit
    return {"name": name, "value": value_text(row), "interval": f"{interval_text(row)} {unit}".strip(), "text": text}


def figures_view(results: RunResults, raised: Sequence[RaisedByRate]) -> list[View]:
    """A table for each task: everything first, then its slices, the worst first, those without data last.

    `raised` are the slices whose recall rose only because their class is predicted more often.
    """
    only_rate = {(part.task, part.slice) for part in raised if part.slice}
    tables = []
    for task in results.judged:
        rows = [row for row in results.figures if row["task"] == task and row["split"] == "test"]
        rows.sort(key=lambda row: (row["slice"] != "", row["value"] is None, -error_of(results, row), row["slice"]))
        everything = {row["metric"]: row["value"] for row in rows if not row["slice"]}
        values = [row["value"] for row in rows if row["value"] is not None]
        top = 1.0 if results.tasks[task].metric != "mae" else 1.25 * max(values, default=0.0) or 1.0
        shown = [
            {
                **_figure_row(results, row, everything[row["metric"]], top),
                "only_rate": (task, row["slice"]) in only_rate,
            }
            for row in rows
        ]
        validation = any(row["validation"] for row in shown)
        tables.append({"task": results.tasks[task], "rows": shown, "validation": validation, "top": number_text(top)})
    return tables


def _figure_row(results: RunResults, row: Row, everything: float | None, top: float) -> View:
    part = results.slices.get(row["slice"])
    precision = results.precision_beside(row["task"], row["slice"])
    bar = None
    if row["value"] is not None:
        low, high = edges_of(row)
        marks = {"value": row["value"], "low": low, "high": high, "everything": everything if row["slice"] else None}
        bar = {name: None if mark is None else round(100 * min(1.0, mark / top), 2) for name, mark in marks.items()}
    return {
        "slice": row["slice"], "rare": bool(part and part.rare),
        "predicate": plain_text(part.predicate) if part else "",
        "metric": results.metric(row["task"], row["slice"], row["metric"]),
        "precision": None if precision is None else {"entry": entry_view(share_row(precision))},
        "n": row["n"], "groups": row["groups"],
        "entry": entry_view(row), "bar": bar, "doubt": doubt_of(row),
        "validation": entry_view(results.figure(row["task"], row["slice"], "validation", row["metric"])),
    }  # fmt: skip


def training_view(run: Run, plan: Plan) -> View:
    """How heads were solved; or, where they learned from draws, the loss of each task over them."""
    if run.recipe.solved:
        return {"heads": heads_view(run), "curves": []}
    return {"heads": None, "curves": _curves(run, plan)}


def _curves(run: Run, plan: Plan) -> list[View]:
    """The training loss of each task over draws, divided by the loss of the best constant predictor."""
    curves = {
        task.name: [(point["Draws"], point[task.name]) for point in run.curve if task.name in point]
        for task in plan.tasks
    }
    top = min(2.0, max(1.1, *(loss for points in curves.values() for _, loss in points), 1.1))
    panels = []
    for name, points in curves.items():
        line = line_of([x for x, _ in points], [{"value": loss, "low": None, "high": None} for _, loss in points])
        last = points[-1][1] if points else None
        alt = f"Training loss of {name} over draws" + (f", {last:.2f} at the end." if points else ": no curve.")
        states = _state_changes(run, name)
        marks = [Mark(x=x, y=min(top, _loss_at(points, x)), form=1) for x, _ in states if points]
        words = [f"{state} from {x:,} draws on" for x, state in states]
        alt = " ".join([alt, *(f"{word}." for word in words)])
        chart = chart_of(alt, [line], span=(0.0, top), across="draws", reference=1.0, marks=marks)
        panels.append({"task": name, "last": last, "chart": chart, "states": "; ".join(words)})
    return panels


def _state_changes(run: Run, task: str) -> list[tuple[int, str]]:
    """The draws at which a task that may stop by itself changed its state, and the new state; it begins as ACTIVE."""
    found: list[tuple[int, str]] = []
    for row in run.states:
        if row["task"] == task and row["state"] != (found[-1][1] if found else "ACTIVE"):
            found.append((int(row["Draws"]), str(row["state"])))
    return found


def _loss_at(points: Sequence[tuple[float, float]], draws: float) -> float:
    """The loss of the curve's first point at `draws` or later."""
    return next((loss for x, loss in points if x >= draws), points[-1][1])


def plan_view(plan: Plan, run: Run) -> View:
    """Each task's share asked and drawn, its outcome, and its strata; heads that `run` solved consume no draws."""
    drawn = np.bincount(plan.draw_task, minlength=len(plan.tasks)) / len(plan.draws)
    strata: dict[str, list[View]] = {}
    for row, weight in zip(plan.rates(), plan.pi[-1].tolist(), strict=True):
        strata.setdefault(row["task"], []).append({**row, "weight": weight})
    tasks = [
        {
            "task": task,
            "outcome": outcome,
            "drawn": share,
            "strata": strata[task.name],
            "cells": len(strata[task.name]),
        }
        for task, outcome, share in zip(plan.tasks, task_outcomes(plan), drawn.tolist(), strict=True)
    ]
    shared = any(head.kind == "shared" for head in run.heads)
    return {
        "solved": run.recipe.solved, "shared": shared, "draws": len(plan.draws), "images": len(plan.keys),
        "tasks": tasks,
    }  # fmt: skip
