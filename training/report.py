"""The report of a run: one HTML file that opens anywhere, without a network; it is written without torch.

It shows what the run was made of, where it fails and what it was drawn from, as of the commit that judged it: the same
run gives the same report, whatever was labelled since.
"""

import base64
import hashlib
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from PIL import Image, ImageDraw

from curation.catalog import Catalog
from curation.coverage import Cell, Coverage, coverage
from curation.errors import Damaged, NotFound
from curation.files import whole
from curation.images import load_rgb
from curation.slices import Slice, columns_of
from curation.snapshot import Snapshot
from curation.tasks import Task
from samplers.pack import Pack
from samplers.plan import Plan
from training.runs import Recipe, Run

__all__ = ["write_report"]

Row = Mapping[str, Any]
View = dict[str, Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SHEETS = 6
PICTURES = 12
THUMBNAIL = 160

FEW = 30
WIDE = 0.2
"""Fewer images, or a wider interval of a share, is too little data to say anything."""

INKS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "series-0": "#040404",
    "series-1": "#050505",
    "series-2": "#060606",
    "series-3": "#070707",
}
"""Colours that charts are drawn in; the page replaces them by its variables, so that they follow light and dark."""

MARKERS, DASHES = "osD^", ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))

BOX_COLORS = ("#f0e442", "#56b4e9", "#cc79a7", "#e69f00", "#ffffff", "#d55e00")


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """The n known labels of a task that a run answered: places among the samples, truth, answer, confidence [n]."""

    places: Ints
    truth: Floats
    said: Floats
    confidence: Floats

    @property
    def off(self) -> Floats:
        """How far each answer is from the truth; 0 where it is right."""
        return np.abs(self.said - self.truth)


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A run as it was judged at one commit. `groups`, `test` and `inside` are over the samples, which are by key."""

    tasks: Mapping[str, Task]
    slices: Mapping[str, Slice]
    figures: Sequence[Row]
    keys: pa.Array
    groups: Ints
    test: Bools
    inside: Mapping[str, Bools]
    answers: Mapping[str, _Answers]
    boxes: Mapping[int, list[tuple[str, Row]]]
    coverage: Coverage
    commit: Row

    def figure(self, task: str, slice_: str, split: str = "test") -> Row | None:
        """The row of one (task, slice, split), if there is one."""
        cell = (task, slice_, split)
        return next((row for row in self.figures if (row["task"], row["slice"], row["split"]) == cell), None)

    def metric(self, task: str, slice_: str) -> str:
        """The metric in words; where a slice holds one class only, the share of right answers is its recall."""
        judged = self.tasks[task]
        if judged.metric == "mae":
            return "mean absolute error"
        answers = self.answers[task]
        classes = np.unique(answers.truth[self._here(answers, slice_)])
        if slice_ and len(classes) == 1:
            name = judged.classes[int(classes[0])]
            return "recall of " + ({"true": task, "false": f"not {task}"}[name] if judged.kind == "binary" else name)
        return judged.metric.replace("_", " ")

    def errors(self, task: str, slice_: str) -> Ints:
        """Positions in the task's answers that are wrong on test, the most confident (or the farthest off) first."""
        answers = self.answers[task]
        wrong = np.flatnonzero(self._here(answers, slice_) & self.test[answers.places] & (answers.off > 0))
        weight = answers.off if self.tasks[task].kind == "regression" else answers.confidence
        return wrong[np.argsort(-weight[wrong], kind="stable")]

    def _here(self, answers: _Answers, slice_: str) -> Bools:
        members = self.inside.get(slice_, np.zeros(len(self.test), np.bool_))
        return np.asarray(members[answers.places], np.bool_)


def write_report(
    catalog: Catalog,
    run_id: str,
    path: Path,
    *,
    title: str = "Amber report",
    rounds: Sequence[Row] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of an evaluated run to `path`, one self-contained HTML file; returns `path`.

    `rounds` are the rounds of a loop, of one or several arms: arm, index, labels (bought so far), found (rare slice ->
    labels bought that belong to it), run and figures (task, slice, split, metric, n, groups, value, low, high).
    `progress` is called with the sections done and all sections. NotFound when the workspace has no such run, or none
    that was evaluated; Damaged when its predictions are not those that were judged.
    """
    home, tell = catalog.home, progress or (lambda done, total: None)
    run = Run.open(home, run_id)
    plan = Plan.open(home, run.plan)
    with catalog.read() as now:
        entry = _registered(now, run_id)
    with catalog.read(entry["commit_id"]) as then:
        judged = _judge(then, run_id, plan, _checked(home, entry))
    sections: dict[str, Callable[[], Any]] = {
        "rounds": lambda: _rounds(judged, rounds),
        "header": lambda: _header(judged, run, plan, home, rounds),
        "figures": lambda: _figures(judged),
        "training": lambda: _training(run, plan),
        "coverage": lambda: _coverage(judged),
        "worst": lambda: _worst(judged, Pack.open(home, plan.pack_hash)),
        "plan": lambda: _plan(plan),
    }
    view: View = {"title": title, "few": FEW, "wide": WIDE}
    for done, (name, section) in enumerate(sections.items()):
        tell(done, len(sections))
        view[name] = section()
    _write(path, _template().render(view))
    tell(len(sections), len(sections))
    return path


# What there is to show


def _registered(now: Snapshot, run_id: str) -> Row:
    runs = [row for row in now.runs().to_pylist() if row["run"] == run_id]
    if not runs:
        raise NotFound(f"run {run_id!r}: the catalog has no figures of it; evaluate it first")
    newest: Row = runs[-1]
    return newest


def _checked(home: Path, entry: Row) -> Path:
    """The predictions of a registered run, unless they have changed since."""
    path = home / str(entry["predictions"])
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        found = ""
    if found != entry["sha256"]:
        raise Damaged(f"{path}: not the predictions that run {entry['run']!r} was judged by; evaluate it again")
    return path


def _judge(now: Snapshot, run_id: str, plan: Plan, predictions: Path) -> _Judged:
    samples, tasks, slices = now.samples(), now.tasks(), now.slices()
    ids = np.asarray(samples["sample_id"].to_numpy(), np.int64)
    members = {name: now.members(part.predicate, predictions=str(predictions)) for name, part in slices.items()}
    keys = samples["key"].combine_chunks()
    table = pq.read_table(predictions)
    asked = [task.name for task in plan.tasks]
    return _Judged(
        tasks=tasks, slices=slices, keys=keys,
        inside={"": np.ones(len(ids), np.bool_)} | {name: np.isin(ids, found) for name, found in members.items()},
        figures=[row for row in now.slice_errors(run_id).to_pylist() if row["task"] in asked],
        groups=np.unique(np.asarray(samples["group"].to_pylist(), str), return_inverse=True)[1],
        test=np.asarray(pc.equal(samples["split"], "test"), np.bool_),
        answers={name: _answers(now, tasks[name], ids, keys, table) for name in asked},
        boxes=_boxes(now, [task for task in tasks.values() if task.kind == "detection"], ids),
        coverage=coverage(now), commit=now.log().slice(0, 1).to_pylist()[0],
    )  # fmt: skip


def _answers(now: Snapshot, task: Task, ids: Ints, keys: pa.Array, predictions: pa.Table) -> _Answers:
    column = "number" if task.kind == "regression" else "code"
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], 1))
    truth, said, confidence = (np.full(len(ids), np.nan) for _ in range(3))
    truth[_places(ids, known)] = known[column].to_numpy()
    mine = predictions.filter(pc.equal(predictions["task"], task.name))
    found = pc.index_in(mine["key"], value_set=keys)
    mine, rows = mine.filter(found.is_valid()), found.drop_null().to_numpy()
    said[rows] = mine[column].to_numpy()
    confidence[rows] = pc.cast(mine["confidence"], pa.float64()).to_numpy()
    places = np.flatnonzero(np.isfinite(truth) & np.isfinite(said))
    return _Answers(places=places, truth=truth[places], said=said[places], confidence=confidence[places])


def _places(ids: Ints, labels: pa.Table) -> Ints:
    """Where the samples of some labels stand among `ids`."""
    order = np.argsort(ids)
    return np.asarray(order[np.searchsorted(ids[order], labels["sample_id"].to_numpy())], np.int64)


def _boxes(now: Snapshot, tasks: Iterable[Task], ids: Ints) -> dict[int, list[tuple[str, Row]]]:
    """The known boxes of each sample, by its place: class name and the box in pixels."""
    boxes: dict[int, list[tuple[str, Row]]] = {}
    for task in tasks:
        labels = now.labels(task.name)
        known = labels.filter(pc.equal(labels["state"], 1))
        for place, found in zip(_places(ids, known).tolist(), known["boxes"].to_pylist(), strict=True):
            boxes.setdefault(place, []).extend((task.classes[box["code"]], box) for box in found or ())
    return boxes


# The sections, as plain values for the template


def _header(judged: _Judged, run: Run, plan: Plan, home: Path, rounds: Sequence[Row]) -> View:
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


def _tiles(judged: _Judged, rounds: Sequence[Row]) -> list[View]:
    """What the report comes down to: the worst there is enough data for, what cannot be said, what the loop bought."""
    test = [row for row in judged.figures if row["split"] == "test"]
    sure = [row for row in test if not _doubt(row)]
    tiles = []
    for name, rows in (
        ("Worst task", [row for row in sure if not row["slice"]]),
        ("Worst slice", [row for row in sure if row["slice"]]),
    ):
        if rows:
            worst = max(rows, key=lambda row: _error(judged, row))
            where = " of ".join(part for part in (worst["slice"], worst["task"]) if part)
            told = f"{where}: {judged.metric(worst['task'], worst['slice'])} on {worst['n']:,} test images"
            tiles.append(_tile(judged, name, worst, told))
    told = f"of {len(test)} figures on test: too little data, or none, to say anything"
    tiles.append({"name": "Not known", "value": str(len(test) - len(sure)), "interval": "", "text": told})
    return tiles + _rare_tile(judged, rounds)


def _rare_tile(judged: _Judged, rounds: Sequence[Row]) -> list[View]:
    """What the loop's first arm came to on its worst rare slice, beside the other arms."""
    last = [max((row for row in rounds if row["arm"] == arm), key=lambda row: row["labels"]) for arm in _arms(rounds)]
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
    worst = max(cells, key=lambda cell: _error(judged, of[0][cell]))
    ends = [
        (end["arm"], end["labels"], figures[worst]) for end, figures in zip(last, of, strict=True) if worst in figures
    ]
    told = [f"{arm} {_value(row)} {_interval(row)} for {labels:,} labels" for arm, labels, row in ends[1:]]
    told = [f"{judged.metric(*worst)}, {ends[0][0]}, for {ends[0][1]:,} labels", *told, _doubt(ends[0][2])]
    return [_tile(judged, f"Rare: {worst[1]}", ends[0][2], "; ".join(part for part in told if part))]


def _tile(judged: _Judged, name: str, row: Row, text: str) -> View:
    unit = judged.tasks[row["task"]].unit
    return {"name": name, "value": _value(row), "interval": f"{_interval(row)} {unit}".strip(), "text": text}


def _arms(rounds: Sequence[Row]) -> list[str]:
    return sorted(dict.fromkeys(row["arm"] for row in rounds), key=lambda arm: arm != "mined")


@dataclass(frozen=True, kw_only=True)
class _Loop:
    """The rounds of a loop, looked up by arm, labels bought, task and slice."""

    judged: _Judged
    arms: Sequence[str]
    found: Mapping[tuple[str, int], Mapping[str, int]]
    figures: Mapping[tuple[str, int, str, str], Row]

    def groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The (task, slice) cells to show: for each task its rare slices and everything; the other tasks together."""
        rare = {name for name, part in self.judged.slices.items() if part.rare}.union(*self.found.values())
        cells = list(dict.fromkeys((task, slice_) for _, _, task, slice_ in self.figures))
        tasks = [task for task in self.judged.tasks if (task, "") in cells]
        own = {task: [cell for cell in cells if cell[0] == task and cell[1] in rare] for task in tasks}
        groups = [(task, [*found, (task, "")]) for task, found in own.items() if found]
        rest = [(task, "") for task in tasks if not own[task]]
        return groups + ([("other tasks" if groups else "all tasks", rest)] if rest else [])

    def curve(self, arm: str, task: str, slice_: str) -> "_Line":
        """Labels bought and the figures on test, where there are any."""
        rows = [
            (bought, row) for (name, bought, *cell), row in sorted(self.figures.items(), key=lambda item: item[0])
            if name == arm and cell == [task, slice_] and row["value"] is not None
        ]  # fmt: skip
        return _line([bought for bought, _ in rows], [row for _, row in rows])


def _rounds(judged: _Judged, rounds: Sequence[Row]) -> View | None:
    """The rounds by task, each (task, slice) as a curve, and one table for those of a task."""
    if not rounds:
        return None
    figures = {
        (row["arm"], row["labels"], figure["task"], figure["slice"]): figure
        for row in rounds for figure in row["figures"] if figure["split"] == "test" and figure["task"] in judged.answers
    }  # fmt: skip
    found = {(row["arm"], row["labels"]): row["found"] for row in rounds}
    loop = _Loop(judged=judged, arms=_arms(rounds), found=found, figures=figures)
    groups = [
        {
            "title": name,
            "mixed": len({task for task, _ in cells}) > 1,
            "panels": [_panel(loop, *cell) for cell in cells],
            "table": _round_table(loop, cells),
        }
        for name, cells in loop.groups()
    ]
    return {"arms": loop.arms, "groups": groups}


def _panel(loop: _Loop, task: str, slice_: str) -> View:
    """One (task, slice) against labels bought: a line with its 95% band for each arm."""
    lines = [loop.curve(arm, task, slice_) for arm in loop.arms]
    low = min((edge for line in lines for edge in line.low), default=0.0)
    high = max((edge for line in lines for edge in line.high), default=1.0)
    share = loop.judged.tasks[task].metric != "mae"
    floor = min(0.9, np.floor(low * 10) / 10) if share and not slice_ else 0.0
    metric = loop.judged.metric(task, slice_)
    told = [
        f"{arm}: {', '.join(f'{y:.3g} at {x:g}' for x, y in zip(line.x, line.y, strict=True)) or 'no data'}"
        for arm, line in zip(loop.arms, lines, strict=True)
    ]
    alt = f"{metric} of {task}, {slice_ or 'everything'}, against labels bought. {'; '.join(told)}."
    return {
        "task": task, "slice": slice_, "metric": metric,
        "chart": _chart(alt, lines, span=(floor, 1.0 if share else high * 1.05), across="labels bought"),
    }  # fmt: skip


def _round_table(loop: _Loop, cells: Sequence[tuple[str, str]]) -> View:
    """A line for each number of labels bought; for each arm what it found of a rare slice, and the figures."""
    names: list[tuple[str, str]] = []
    for task, slice_ in cells:
        metric = loop.judged.metric(task, slice_)
        names += [(slice_, "found"), (slice_, metric)] if slice_ else [(task, metric)]
    lines = []
    for bought in sorted({bought for _, bought in loop.found}):
        entries: list[View | None] = []
        for arm in loop.arms:
            for task, slice_ in cells:
                if slice_:
                    found = loop.found.get((arm, bought), {}).get(slice_)
                    entries.append(None if found is None else {"value": f"{found:,}", "interval": "", "doubt": ""})
                entries.append(_entry(loop.figures.get((arm, bought, task, slice_))))
        lines.append({"labels": bought, "entries": entries})
    return {"names": names, "lines": lines}


def _entry(row: Row | None) -> View | None:
    if row is None or row["value"] is None:
        return None
    return {"value": _value(row), "interval": _interval(row), "doubt": _doubt(row), "n": row["n"]}


def _figures(judged: _Judged) -> list[View]:
    """A table for each task: everything first, then its slices, the worst first, those without data last."""
    tables = []
    for task in judged.answers:
        rows = [row for row in judged.figures if row["task"] == task and row["split"] == "test"]
        rows.sort(key=lambda row: (row["slice"] != "", row["value"] is None, -_error(judged, row), row["slice"]))
        everything = next((row["value"] for row in rows if not row["slice"]), None)
        values = [row["value"] for row in rows if row["value"] is not None]
        top = 1.0 if judged.tasks[task].metric != "mae" else 1.25 * max(values, default=0.0) or 1.0
        shown = [_figure_row(judged, row, everything, top) for row in rows]
        validation = any(row["validation"] for row in shown)
        tables.append({"task": judged.tasks[task], "rows": shown, "validation": validation, "top": _number(top)})
    return tables


def _figure_row(judged: _Judged, row: Row, everything: float | None, top: float) -> View:
    part = judged.slices.get(row["slice"])
    bar = None
    if row["value"] is not None:
        low, high = _edges(row)
        marks = {"value": row["value"], "low": low, "high": high, "everything": everything if row["slice"] else None}
        bar = {name: None if mark is None else round(100 * min(1.0, mark / top), 2) for name, mark in marks.items()}
    return {
        "slice": row["slice"], "rare": bool(part and part.rare), "predicate": _plain(part.predicate) if part else "",
        "metric": judged.metric(row["task"], row["slice"]), "n": row["n"], "groups": row["groups"],
        "entry": _entry(row), "bar": bar, "doubt": _doubt(row),
        "validation": _entry(judged.figure(row["task"], row["slice"], "validation")),
    }  # fmt: skip


def _plain(predicate: str) -> str:
    """A canonical predicate as a person would write it: without the outer parentheses and the quotes of a keyword."""
    text = predicate.replace('"label".', "label.")
    blank = re.sub("'(?:[^']|'')*'", lambda found: "x" * len(found[0]), text)
    depths = np.cumsum([(mark == "(") - (mark == ")") for mark in blank])
    whole = blank.startswith("(") and np.flatnonzero(depths == 0).tolist() == [len(text) - 1]
    return text[1:-1] if whole else text


def _training(run: Run, plan: Plan) -> list[View]:
    """The loss of each task over draws, in units of the best constant predictor's."""
    curves = {
        task.name: [(point["Draws"], point[task.name]) for point in run.curve if task.name in point]
        for task in plan.tasks
    }
    top = min(2.0, max(1.1, *(loss for points in curves.values() for _, loss in points), 1.1))
    panels = []
    for name, points in curves.items():
        line = _line([x for x, _ in points], [{"value": loss, "low": None, "high": None} for _, loss in points])
        last = points[-1][1] if points else None
        alt = f"Training loss of {name} over draws" + (f", {last:.2f} at the end." if points else ": no curve.")
        chart = _chart(alt, [line], span=(0.0, top), across="draws", reference=1.0)
        panels.append({"task": name, "last": last, "chart": chart})
    return panels


def _coverage(judged: _Judged) -> View:
    """The matrix of tasks and slices on train, slices of one task beside it, and the overlap of pairs of tasks."""
    cells = {(cell.task, cell.slice): cell for cell in judged.coverage.cells if cell.split == "train"}
    slices = list(dict.fromkeys(slice_ for _, slice_ in cells))
    shared = [slice_ for slice_ in slices if not slice_ or not judged.slices[slice_].task]
    reads = {slice_: set(columns_of(judged.slices[slice_].predicate)) if slice_ else set() for slice_ in slices}

    def cell(task: str, slice_: str) -> View | None:
        by_label = bool(reads[slice_] & {("label", task), ("boxes", task)})
        return _coverage_cell(cells.get((task, slice_)), by_label)

    rows = [
        {
            "task": task, "counts": {} if task.kind == "detection" else cells[name, ""].counts,
            "cells": [cell(name, slice_) for slice_ in shared],
            "own": {slice_: cell(name, slice_) for slice_ in slices if slice_ and judged.slices[slice_].task == name},
        }
        for name, task in judged.tasks.items()
    ]  # fmt: skip
    both = judged.coverage.overlap
    pairs = [
        [{"both": both[a][b], "heat": both[a][b] / max(1, min(both[a][a], both[b][b])), "self": a == b} for b in both]
        for a in both
    ]
    own = any(row["own"] for row in rows)
    return {"columns": shared, "own": own, "rows": rows, "tasks": list(both), "pairs": pairs}


def _coverage_cell(cell: Cell | None, by_label: bool) -> View | None:
    """`by_label`: the slice reads the task's own label; where only known ones enter it, all known says nothing."""
    if cell is None:
        return None
    by_label = by_label and cell.known == cell.samples
    share = cell.known / cell.samples if cell.samples else None
    return {
        "known": cell.known, "unsure": cell.unsure, "unknown": cell.unknown, "share": share,
        "by_label": by_label, "heat": None if share is None or by_label else share,
    }  # fmt: skip


def _worst(judged: _Judged, pack: Pack) -> View:
    """Contact sheets of the worst (task, slice) cells: two of each task before a third, none that shows nothing new."""
    sheets: list[View] = []
    shown: set[tuple[str, int]] = set()
    for row in _worst_first(judged):
        task, answers = row["task"], judged.answers[row["task"]]
        errors = judged.errors(task, row["slice"])
        chosen = _groups_first(errors, judged.groups[answers.places])[:PICTURES]
        fresh = {(task, int(place)) for place in answers.places[chosen]} - shown
        if fresh and len(sheets) < SHEETS:
            shown |= fresh
            sheets.append(
                {
                    "task": judged.tasks[task], "slice": row["slice"], "metric": judged.metric(task, row["slice"]),
                    "entry": _entry(row), "doubt": _doubt(row), "errors": len(errors),
                    "pictures": [_picture(judged, pack, task, int(place)) for place in chosen],
                }
            )  # fmt: skip
    drawn = any(picture["boxes"] for sheet in sheets for picture in sheet["pictures"])
    return {"sheets": sheets, "boxes": _box_colors(judged) if drawn else {}}


def _worst_first(judged: _Judged) -> list[Row]:
    test = [row for row in judged.figures if row["split"] == "test" and row["value"] is not None]
    ordered = sorted(test, key=lambda row: (-_error(judged, row), row["task"], row["slice"]))
    of_task: dict[str, int] = {}
    turns = []
    for row in ordered:
        turns.append(of_task.get(row["task"], 0) // 2)
        of_task[row["task"]] = of_task.get(row["task"], 0) + 1
    return [ordered[place] for place in np.argsort(turns, kind="stable")]


def _groups_first(order: Ints, groups: Ints) -> Ints:
    """`order` with the first of each group in front, then the second of each, and so on."""
    seen: dict[int, int] = {}
    turns = []
    for place in order.tolist():
        turns.append(seen.get(groups[place], 0))
        seen[groups[place]] = turns[-1] + 1
    return np.asarray(order[np.argsort(turns, kind="stable")], np.int64)


def _picture(judged: _Judged, pack: Pack, name: str, position: int) -> View:
    task, answers = judged.tasks[name], judged.answers[name]
    place = int(answers.places[position])
    truth, said = answers.truth[position], answers.said[position]
    if task.kind == "regression":
        words = {"truth": f"{_number(truth)} {task.unit}", "said": f"{_number(said)} {task.unit}"}
        words |= {"grade": "off by", "degree": f"{_number(abs(said - truth))} {task.unit}"}
    else:
        words = {"truth": task.classes[int(truth)], "said": task.classes[int(said)]}
        words |= {"grade": "confidence", "degree": f"{answers.confidence[position]:.0%}"}
    key = str(judged.keys[place])
    boxes = judged.boxes.get(place, [])
    return {**words, "key": key, "boxes": len(boxes), "image": _thumbnail(pack, key, boxes, _box_colors(judged))}


def _box_colors(judged: _Judged) -> dict[str, str]:
    names = dict.fromkeys(name for task in judged.tasks.values() if task.kind == "detection" for name in task.classes)
    return {name: BOX_COLORS[code % len(BOX_COLORS)] for code, name in enumerate(names)}


def _thumbnail(pack: Pack, key: str, boxes: Sequence[tuple[str, Row]], colors: Mapping[str, str]) -> str:
    """An image of the pack as a data: URI, at most 160 pixels wide and high, with its boxes."""
    (row,) = pack.rows([key])
    shards = pack.reader()
    pixels = load_rgb(bytes(shards.read(int(pack.shard[row]), int(pack.offset[row]), int(pack.size[row]))))
    shards.close()
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    scale = image.width / pixels.shape[1]
    draw = ImageDraw.Draw(image)
    for name, box in boxes:
        left, top = box["x"] * scale, box["y"] * scale
        right, bottom = left + max(1.0, box["w"] * scale), top + max(1.0, box["h"] * scale)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#000000")
        draw.rectangle((left, top, right, bottom), outline=colors[name])
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85, optimize=True, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _plan(plan: Plan) -> View:
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
        for task, standing, share in zip(plan.tasks, plan.standings(), drawn.tolist(), strict=True)
    ]
    return {"draws": len(plan.draws), "images": len(plan.keys), "tasks": tasks}


# Figures in words


def _doubt(row: Row) -> str:
    """Why a figure says too little, or nothing, in words; empty where there is enough data."""
    if not row["n"] or row["value"] is None:
        return "no data"
    if row["n"] < FEW:
        return f"too little data: {row['n']} image{'s' if row['n'] > 1 else ''}"
    if row["low"] is None:
        return "too little data: all of one group"
    if row["metric"] != "mae" and row["high"] - row["low"] > WIDE:
        return f"too little data: interval {row['high'] - row['low']:.2f} wide"
    return ""


def _error(judged: _Judged, row: Row) -> float:
    """How wrong a figure is: 1 - share, or the absolute error over that of the best constant; 0 without data."""
    if row["value"] is None:
        return 0.0
    if row["metric"] != "mae":
        return float(1 - row["value"])
    answers = judged.answers[row["task"]]
    truth = answers.truth[judged.test[answers.places]]
    constant = float(np.abs(truth - np.median(truth)).mean()) if len(truth) else 0.0
    return float(row["value"] / constant) if constant > 0 else 0.0


def _edges(row: Row) -> tuple[float, float]:
    """The interval of a figure, from 0 up; where there is none, the value itself."""
    value = row["value"] or 0.0
    return max(0.0, value if row["low"] is None else row["low"]), value if row["high"] is None else row["high"]


def _value(row: Row) -> str:
    return _number(row["value"]) if row["metric"] == "mae" else f"{row['value']:.3f}"


def _interval(row: Row) -> str:
    if row["low"] is None:
        return ""
    low, high = _edges(row)
    return f"[{_number(low)}, {_number(high)}]" if row["metric"] == "mae" else f"[{low:.2f}, {high:.2f}]"


def _number(value: float) -> str:
    """Three digits that count, or all those before the point."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(9, max(0, digits))}f}"


# Charts and the page


@dataclass(frozen=True, kw_only=True)
class _Line:
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


def _line(x: Sequence[float], rows: Sequence[Row]) -> _Line:
    edges = [_edges(row) for row in rows]
    return _Line(
        x=list(x), y=[row["value"] for row in rows], low=[low for low, _ in edges], high=[high for _, high in edges]
    )


def _chart(
    alt: str, lines: Sequence[_Line], *, span: tuple[float, float], across: str, reference: float | None = None
) -> Markup:
    """Lines with their bands as inline SVG, one unit a pixel at its natural width of 340; names stay outside of it."""
    figure = Figure(figsize=(340 / 72, 196 / 72))
    axes = figure.add_axes((0.115, 0.2, 0.86, 0.75))
    if reference is not None:
        axes.axhline(reference, color=INKS["muted"], linewidth=1, linestyle=(0, (3, 3)))
    for code, line in enumerate(lines):
        color, form = INKS[f"series-{code % 4}"], code % 4
        marker = MARKERS[form] if len(line.x) <= 20 else ""
        if line.low != line.high:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.16, linewidth=0)
        drawn = axes.plot(
            line.x, line.y, color=color, linewidth=1.8, linestyle=DASHES[form], marker=marker, markersize=5
        )
        drawn[0].set_clip_on(not marker)
    axes.set_ylim(*span)
    axes.set_xlabel(across, fontsize=11, color=INKS["muted"], labelpad=3)
    places = sorted({x for line in lines for x in line.x})
    axes.xaxis.set_major_locator(FixedLocator(places) if len(places) <= 6 else MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x >= 10_000 else f"{x:,g}"))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(labelsize=11, labelcolor=INKS["muted"], color=INKS["line"], length=3)
    axes.grid(axis="y", color=INKS["line"], linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(INKS["line"])
    return _inline(figure, alt)


def _inline(figure: Figure, alt: str) -> Markup:
    """A figure as the SVG element of an HTML page: its own ids, the page's colours and fonts, no namespace."""
    ident = "c" + hashlib.sha256(alt.encode()).hexdigest()[:8]
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": ident}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    inner = svg[svg.index("</defs>") + len("</defs>") : svg.rindex("</svg>")]
    inner = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{ident}-", inner).replace("xlink:href", "href")
    inner = re.sub(r"font-family: [^;\"]*;? ?", "", inner)
    for name, ink in INKS.items():
        inner = inner.replace(ink, f"var(--{name})")
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">{inner}</svg>'
    )


def _template() -> jinja2.Template:
    text = resources.files("training").joinpath("report.html").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(text)


def _write(path: Path, text: str) -> None:
    """Write the page, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
