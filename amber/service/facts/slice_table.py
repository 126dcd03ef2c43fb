"""All slices: definition, size, newest figure, and the gate of the newest release on each; and one slice in detail."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amber.service.facts.counted import Figure
from amber.service.facts.run_choice import chosen_run
from amber.service.facts.trends import Trend, Trends
from amber.service.models.slices import Declaration, SliceFacts, SliceFigure, SliceSummary
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError, BadInput
from curation.files.read_back import read_json
from training.dynamics.releases import folder_of, releases

__all__ = ["PARTS", "SliceRowView", "gate_outcomes", "slice_facts", "slice_rows", "slice_sizes", "trends_of"]

PARTS: Final = ("slice sizes", "trends")
"""What is counted in the background of a page of slices."""


def slice_sizes(now: Snapshot, home: Path) -> dict[str, int]:
    """The number of samples in each slice: over predictions by the newest run. Slices that cannot be evaluated are
    left out."""
    slices, run = now.slices(), chosen_run(home, now, "")
    wanted = {
        name: part.predicate for name, part in slices.items() if run.file is not None or not part.reads_predictions
    }
    try:
        return {name: len(ids) for name, ids in now.members_of(wanted, predictions=run.file).items()}
    except BadInput:  # one of them fails on a value that came later
        return {name: size for name in wanted if (size := _size(now, wanted[name], run.file)) is not None}


@dataclass(frozen=True, kw_only=True)
class SliceRowView:
    """A slice in a table, with the trend whose newest figure is shown."""

    slice: SliceSummary
    trend: Trend | None


def slice_rows(
    slices: Mapping[str, Slice], figures: Mapping[str, Figure | None], gates: Mapping[tuple[str, str], str]
) -> list[SliceRowView]:
    """A row for each slice, from what was counted (`PARTS`) and the outcomes of a gate by (task, slice)."""
    sizes, by_slice = figures["slice sizes"], dict[str, list[Trend]]()
    for trend in _all_trends(figures):
        by_slice.setdefault(trend.slice, []).append(trend)
    found = []
    for name, part in slices.items():
        worst = _worst([trend for trend in by_slice.get(name, []) if part.task in ("", trend.task)])
        gate = gates.get((worst.task if worst else part.task, name), "")
        found.append(SliceRowView(slice=_summary(part, sizes, worst, gate), trend=worst))
    return found


def slice_facts(now: Snapshot, part: Slice, figures: Mapping[str, Figure | None]) -> SliceFacts:
    """One slice: its declarations, its size, and its figures by task and run, the newest run first."""
    size, rows = _size_at(part.name, figures["slice sizes"]), now.slice_history(part.name).to_pylist()
    return SliceFacts(
        name=part.name, task=part.task, predicate=part.predicate, rare=part.rare, samples=size[0],
        samples_commit=size[1],
        declarations=[
            Declaration(
                commit=row["commit_id"], at=row["committed_at"], author=row["author"], task=row["task"],
                predicate=row["predicate"], rare=row["rare"],
            ) for row in rows
        ],
        figures=[
            _figure(run, row) for trend in trends_of(figures, part) for run, row in reversed(trend.rows)
        ],
    )  # fmt: skip


def trends_of(figures: Mapping[str, Figure | None], part: Slice) -> list[Trend]:
    """The trends of a slice, by task."""
    found = [each for each in _all_trends(figures) if each.slice == part.name and part.task in ("", each.task)]
    return sorted(found, key=lambda trend: trend.task)


def gate_outcomes(home: Path, now: Snapshot) -> tuple[str, dict[tuple[str, str], str]]:
    """The run of the newest release, and what its gate decided by (task, slice; "" is everything); "" and none where
    nothing was released, or its report cannot be read."""
    for release in releases(now)[-1:]:
        try:
            return release.run, read_json(folder_of(home, release.digest) / "gate.json", "release again", _outcomes)
        except AmberError:
            break
    return "", {}


def _all_trends(figures: Mapping[str, Figure | None]) -> list[Trend]:
    counted = figures["trends"]
    found: Trends | None = counted.value if counted else None
    return list(found.by_cell.values()) if found else []


def _figure(run: str, row: Mapping[str, Any]) -> SliceFigure:
    return SliceFigure.model_validate(
        {"run": run, **{name: row[name] for name in SliceFigure.model_fields if name != "run"}}
    )


def _outcomes(data: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(str(row["task"]), str(row["slice"])): str(row["outcome"]) for row in data["figures"]}


def _size(now: Snapshot, predicate: str, predictions: str | None) -> int | None:
    try:
        return len(now.members(predicate, predictions=predictions))
    except BadInput:
        return None


def _size_at(name: str, sizes: Figure | None) -> tuple[int | None, int | None]:
    size = sizes.value.get(name) if sizes and sizes.value else None
    return size, sizes.commit if sizes and size is not None else None


def _worst(found: list[Trend]) -> Trend | None:
    """The trend with the largest error; numbers, whose errors have units, only where there are no others."""
    shares = [trend for trend in found if trend.metric != "mae"] or found
    return max(shares, key=lambda trend: (trend.sure, trend.error), default=None)


def _summary(part: Slice, sizes: Figure | None, trend: Trend | None, gate: str) -> SliceSummary:
    size, commit = _size_at(part.name, sizes)
    newest = trend.newest if trend else {}
    return SliceSummary(
        name=part.name, task=part.task, predicate=part.predicate, rare=part.rare, samples=size, samples_commit=commit,
        figure_task=trend.task if trend else "", run=trend.run if trend else "", metric=trend.metric if trend else "",
        n=newest.get("n"), value=newest.get("value"), low=newest.get("low"), high=newest.get("high"),
        change=trend.change if trend else None, gate=gate,
    )  # fmt: skip
