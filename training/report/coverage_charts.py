"""Charts of the labels: coverage by task and slice, co-labelling, labels not missing at random, and agreement."""

from collections.abc import Mapping, Sequence
from typing import Any

from curation.analysis.agreement import Agreement, AgreementGroup, Annotator
from curation.analysis.coverage import Cell
from curation.catalog.slices import columns_of
from training.report.run_results import RunResults

__all__ = ["agreement_view", "coverage_view", "missing_view"]

View = dict[str, Any]

SURE = 0.05
"""Highest false discovery rate of a difference that is shown."""
SHOWN = 12
"""Most classes, values of an attribute, or annotators that a chart shows: the largest ones."""
PARTS = ("known", "none", "unsure", "inapplicable", "unknown")


def coverage_view(results: RunResults) -> View:
    """Coverage by task and slice, slices of one task in a column of their own, and the overlap of pairs of tasks."""
    split = results.coverage.split
    cells = {(cell.task, cell.slice): cell for cell in results.coverage.cells if cell.split == split}
    slices = list(dict.fromkeys(slice_ for _, slice_ in cells))
    shared = [slice_ for slice_ in slices if not slice_ or not results.slices[slice_].task]
    reads = {slice_: set(columns_of(results.slices[slice_].predicate)) if slice_ else set() for slice_ in slices}

    def cell(task: str, slice_: str) -> View | None:
        by_label = bool(reads[slice_] & {("label", task), ("boxes", task)})
        return _coverage_cell(cells.get((task, slice_)), by_label)

    rows = [
        {
            "task": task, "counts": _largest(cells[name, ""].counts), "hidden": max(0, len(task.classes) - SHOWN),
            "none": cells[name, ""].none if task.kind in ("multilabel", "detection") else None,
            "annotators": [part for part in results.coverage.annotators if part.task == name],
            "cells": [cell(name, slice_) for slice_ in shared],
            "own": {slice_: cell(name, slice_) for slice_ in slices if slice_ and results.slices[slice_].task == name},
        }
        for name, task in results.tasks.items()
    ]  # fmt: skip
    own = any(row["own"] for row in rows)
    both = results.coverage.overlap
    return {"split": split, "columns": shared, "own": own, "rows": rows, "tasks": list(both), "pairs": _pairs(both)}


def _coverage_cell(cell: Cell | None, by_label: bool) -> View | None:
    """`by_label`: the slice reads the task's own label. If only known labels enter it, its coverage is always 100%."""
    if cell is None:
        return None
    by_label = by_label and cell.known == cell.samples
    share = cell.known / cell.samples if cell.samples else None
    counts = {
        "known": cell.known - cell.none, "none": cell.none, "unsure": cell.unsure, "inapplicable": cell.inapplicable,
        "unknown": cell.unknown,
    }  # fmt: skip
    return {
        "known": cell.known, "unsure": cell.unsure, "inapplicable": cell.inapplicable,
        "unknown": cell.unknown, "share": share, "by_label": by_label,
        "heat": None if share is None or by_label else share, "strip": _strip(counts, cell.samples),
    }  # fmt: skip


def _strip(counts: Mapping[str, int], total: int) -> list[View]:
    """Start and width of each part of a strip, in percent."""
    parts, start = [], 0.0
    for name in PARTS:
        width = 100 * counts[name] / total if total else 0.0
        if counts[name]:
            parts.append({"name": name, "start": round(start, 2), "width": round(width, 2)})
        start += width
    return parts


def _largest(counts: Mapping[str, int]) -> dict[str, int]:
    """The classes in their order if there are at most 12, else the most common ones."""
    if len(counts) <= SHOWN:
        return dict(counts)
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:SHOWN])


def _pairs(both: Mapping[str, Mapping[str, int]]) -> list[list[View]]:
    """For each pair of tasks: images labelled for both, and their share of the images of the row's task."""
    return [
        [{"both": both[a][b], "share": both[a][b] / both[a][a] if both[a][a] else None, "self": a == b} for b in both]
        for a in both
    ]


def missing_view(results: RunResults) -> View:
    """The significant differences, the strongest first, with the labelled share of each value as a bar."""
    sure = sorted((part for part in results.missing if part.q <= SURE), key=lambda part: -abs(part.effect))
    rows = []
    for part in sure:
        mean = part.labelled / part.samples
        top = max([*part.shares.values(), mean]) or 1.0
        bars = [
            {"name": name, "share": share, "width": round(100 * share / top, 2)}
            for name, share in list(part.shares.items())[:SHOWN]
        ]
        rows.append({"part": part, "bars": bars, "mean": mean, "at": round(100 * mean / top, 2)})
    return {"tested": len(results.missing), "rows": rows, "sure": SURE}


def agreement_view(results: RunResults) -> View:
    """A panel for each task with several annotators: who agrees with whom, and the errors of each."""
    panels = [
        {
            "task": results.tasks[part.task], "circles": [circle for circle in part.circles if circle.samples],
            "matrix": _matrix(part), "annotators": _busiest(part.annotators), "disputed": len(part.disputed),
            "classes": _classes(part.circles),
        }
        for part in results.agreement if part.pairs
    ]  # fmt: skip
    alone = [part.task for part in results.agreement if not part.pairs]
    return {"panels": panels, "alone": alone}


def _busiest(annotators: Sequence[Annotator]) -> list[View]:
    busiest = sorted((part for part in annotators if part.shared), key=lambda part: -part.shared)[:SHOWN]
    return [{"who": part, "bias": list(part.bias.items())[:3]} for part in busiest]


def _classes(circles: Sequence[AgreementGroup]) -> list[tuple[str, float]]:
    """Alpha by class, the lowest first."""
    known = [(name, alpha) for name, alpha in circles[0].by_class.items() if alpha is not None]
    return sorted(known, key=lambda item: item[1])[:SHOWN]


def _matrix(part: Agreement) -> View:
    """Share of samples on which each pair of the annotators with most labels agrees."""
    names = [row["who"].name for row in _busiest(part.annotators)]
    pairs = {frozenset((pair.one, pair.other)): pair for pair in part.pairs}
    rows = [[None if a == b else pairs.get(frozenset((a, b))) for b in names] for a in names]
    cells = [
        [None if pair is None else {"both": pair.both, "share": pair.same / pair.both} for pair in row] for row in rows
    ]
    return {"names": names, "rows": cells}
