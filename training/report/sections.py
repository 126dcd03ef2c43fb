"""The sections of the report, as plain values for the template."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samplers.plan.plan import Plan
from samplers.plan.task_outcomes import task_outcomes
from training.report.charts import chart_of, line_of
from training.report.formatting import doubt_of, edges_of, error_of, interval_text, number_text, plain_text, value_text
from training.report.rounds import arms_of, entry_view
from training.report.run_results import Judged
from training.run import Recipe, Run

__all__ = ["figures_view", "header_view", "plan_view", "training_view"]

Row = Mapping[str, Any]
View = dict[str, Any]


def header_view(judged: Judged, run: Run, plan: Plan, home: Path, rounds: Sequence[Row]) -> View:
    return {
        "home": str(home), "run": run, "plan": plan, "recipe": _in_words(run.recipe), "judged": judged.commit,
        "images": judged.coverage.samples, "tiles": _tiles(judged, rounds),
    }  # fmt: skip


def _in_words(recipe: Recipe) -> str:
    height, width = recipe.size
    trunk = "trained from scratch" if recipe.trunk == "small" else "pretrained and frozen"
    branch = f"a shared branch of {recipe.hidden} units and linear heads" if recipe.hidden else "linear heads"
    return (
        f"Trunk {recipe.trunk}, {trunk}, on images of {height} by {width} pixels (height by width); {branch}. "
        f"AdamW with learning rate {recipe.learning_rate:g} (warm-up over {recipe.warmup:.0%}, then a cosine to 0) and "
        f"weight decay {recipe.weight_decay:g}; {recipe.global_batch} draws a batch; seed {recipe.seed}."
    )


def _tiles(judged: Judged, rounds: Sequence[Row]) -> list[View]:
    """What the report comes down to: the worst there is enough data for, what cannot be said, what the loop bought."""
    test = [row for row in judged.figures if row["split"] == "test"]
    sure = [row for row in test if not doubt_of(row)]
    tiles = []
    for name, rows in (
        ("Worst task", [row for row in sure if not row["slice"]]),
        ("Worst slice", [row for row in sure if row["slice"]]),
    ):
        if rows:
            worst = max(rows, key=lambda row: error_of(judged, row))
            where = " of ".join(part for part in (worst["slice"], worst["task"]) if part)
            told = f"{where}: {judged.metric(worst['task'], worst['slice'])} on {worst['n']:,} test images"
            tiles.append(_tile(judged, name, worst, told))
    told = f"of {len(test)} figures on test: too little data, or none, to say anything"
    tiles.append({"name": "Not known", "value": str(len(test) - len(sure)), "interval": "", "text": told})
    return tiles + _rare_tile(judged, rounds)


def _rare_tile(judged: Judged, rounds: Sequence[Row]) -> list[View]:
    """What the loop's first arm came to on its worst rare slice, beside the other arms."""
    last = [max((row for row in rounds if row["arm"] == arm), key=lambda row: row["labels"]) for arm in arms_of(rounds)]
    of = [
        {
            (row["task"], row["slice"]): row
            for row in end["figures"]
            if row["split"] == "test" and row["value"] is not None
        }
        for end in last
    ]
    cells = [cell for cell in (of[0] if of else ()) if cell[1] in last[0]["found"] and cell[0] in judged.answers]
    if not cells:
        return []
    worst = max(cells, key=lambda cell: error_of(judged, of[0][cell]))
    ends = [
        (end["arm"], end["labels"], figures[worst]) for end, figures in zip(last, of, strict=True) if worst in figures
    ]
    told = [f"{arm} {value_text(row)} {interval_text(row)} for {labels:,} labels" for arm, labels, row in ends[1:]]
    told = [f"{judged.metric(*worst)}, {ends[0][0]}, for {ends[0][1]:,} labels", *told, doubt_of(ends[0][2])]
    return [_tile(judged, f"Rare: {worst[1]}", ends[0][2], "; ".join(part for part in told if part))]


def _tile(judged: Judged, name: str, row: Row, text: str) -> View:
    unit = judged.tasks[row["task"]].unit
    return {"name": name, "value": value_text(row), "interval": f"{interval_text(row)} {unit}".strip(), "text": text}


def figures_view(judged: Judged) -> list[View]:
    """A table for each task: everything first, then its slices, the worst first, those without data last."""
    tables = []
    for task in judged.answers:
        rows = [row for row in judged.figures if row["task"] == task and row["split"] == "test"]
        rows.sort(key=lambda row: (row["slice"] != "", row["value"] is None, -error_of(judged, row), row["slice"]))
        everything = next((row["value"] for row in rows if not row["slice"]), None)
        values = [row["value"] for row in rows if row["value"] is not None]
        top = 1.0 if judged.tasks[task].metric != "mae" else 1.25 * max(values, default=0.0) or 1.0
        shown = [_figure_row(judged, row, everything, top) for row in rows]
        validation = any(row["validation"] for row in shown)
        tables.append({"task": judged.tasks[task], "rows": shown, "validation": validation, "top": number_text(top)})
    return tables


def _figure_row(judged: Judged, row: Row, everything: float | None, top: float) -> View:
    part = judged.slices.get(row["slice"])
    bar = None
    if row["value"] is not None:
        low, high = edges_of(row)
        marks = {"value": row["value"], "low": low, "high": high, "everything": everything if row["slice"] else None}
        bar = {name: None if mark is None else round(100 * min(1.0, mark / top), 2) for name, mark in marks.items()}
    return {
        "slice": row["slice"], "rare": bool(part and part.rare),
        "predicate": plain_text(part.predicate) if part else "",
        "metric": judged.metric(row["task"], row["slice"]), "n": row["n"], "groups": row["groups"],
        "entry": entry_view(row), "bar": bar, "doubt": doubt_of(row),
        "validation": entry_view(judged.figure(row["task"], row["slice"], "validation")),
    }  # fmt: skip


def training_view(run: Run, plan: Plan) -> list[View]:
    """The loss of each task over draws, in units of the best constant predictor's."""
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
        chart = chart_of(alt, [line], span=(0.0, top), across="draws", reference=1.0)
        panels.append({"task": name, "last": last, "chart": chart})
    return panels


def plan_view(plan: Plan) -> View:
    drawn = np.bincount(plan.draw_task, minlength=len(plan.tasks)) / len(plan.draws)
    strata: dict[str, list[View]] = {}
    for row in plan.rates():
        strata.setdefault(row["task"], []).append(row)
    tasks = [
        {
            "task": task,
            "standing": standing,
            "drawn": share,
            "strata": strata[task.name],
            "cells": len(strata[task.name]),
        }
        for task, standing, share in zip(plan.tasks, task_outcomes(plan), drawn.tolist(), strict=True)
    ]
    return {"draws": len(plan.draws), "images": len(plan.keys), "tasks": tasks}
