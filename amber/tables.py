"""Coverage, agreement and figures of a run as tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group

from amber.terminal import WrappedTable, interval, table
from curation.analysis.agreement import Agreement
from curation.analysis.coverage import Coverage
from curation.analysis.missingness import Difference

__all__ = ["agreement_tables", "coverage_tables", "figures_table"]

COMMON = 8
"""A cell lists at most this many classes, pairs or shares: the largest."""
SURE = 0.05
"""False discovery rate up to which a difference is shown."""


def coverage_tables(found: Coverage, split: str, differences: Sequence[Difference]) -> Group:
    """Labels by task and slice, annotators, co-labelled tasks, and labels that are not missing at random."""
    cells = [cell for cell in found.cells if cell.split == split]
    rows = [
        [
            cell.task,
            cell.slice,
            cell.samples,
            cell.known,
            cell.unsure,
            cell.inapplicable,
            cell.unknown,
            cell.none,
            _largest(cell.counts),
        ]
        for cell in cells
    ]
    columns = ["task", "slice", "samples", "known", "unsure", "inapplicable", "unknown", "none", "counts"]
    title = f"Coverage of {split} at commit {found.commit} (none: labelled as having none of the classes)"
    parts = [table(title, columns, rows), *_attributes_tables(found, split)]
    return Group(*parts, _annotators_table(found), _overlap_table(found), _missing_table(differences))


def _attributes_tables(found: Coverage, split: str) -> Iterator[WrappedTable]:
    """What is known of boxes, where a task declares attributes of them."""
    rows = [part for part in found.attributes if part.split == split]
    if rows:
        cells = [[part.task, part.attribute, part.boxes, part.known, _largest(part.counts)] for part in rows]
        yield table("Attributes of boxes", ["task", "attribute", "boxes", "known", "counts"], cells)


def agreement_tables(parts: Iterable[Agreement]) -> Group:
    """Agreement by task (everyone, people, others against people), then by annotator."""
    shown = list(parts)
    circles = [
        [part.task, circle.name, circle.samples, circle.statements, _share(circle.agreement), _number(circle.alpha),
         _largest({name: value for name, value in circle.by_class.items() if value is not None}, smallest=True)]
        for part in shown for circle in part.circles
    ]  # fmt: skip
    people = [
        [part.task, who.name, who.source, who.labels, who.unsure, who.shared, who.others, _share(who.majority),
         _share(who.accuracy), _largest(who.bias)]
        for part in shown for who in part.annotators
    ]  # fmt: skip
    disputed = [[part.task, len(part.disputed)] for part in shown if len(part.disputed)]
    return Group(
        table("Agreement on samples with several annotators",
              ["task", "who", "samples", "labels", "pairs agree", "alpha", "alpha by class"], circles),
        table("Annotators",
              ["task", "annotator", "source", "labels", "unsure", "shared", "others", "with majority", "accuracy",
               "labels more (+) or less (-) often"], people),
        table("Disputed samples (--json lists them)", ["task", "samples"], disputed),
    )  # fmt: skip


def figures_table(title: str, figures: Iterable[Mapping[str, Any]]) -> WrappedTable:
    """Figures of a run that have samples, one row per task, slice and split, with 95% intervals; those of an
    imported run state what its model was trained on."""
    shown = [row for row in figures if row["n"]]
    imported = any("trained_on" in row for row in shown)
    rows = [
        [row["task"], row["slice"] or "(all)", row["split"], row["n"], row["groups"], row["metric"], interval(row),
         *([row["trained_on"]] if imported else [])]
        for row in shown
    ]  # fmt: skip
    columns = ["task", "slice", "split", "n", "groups", "metric", "value [95% interval]"]
    return table(title, [*columns, *(["trained on"] if imported else [])], rows)


def _annotators_table(found: Coverage) -> WrappedTable:
    of: dict[str, list[str]] = {}
    for part in found.annotators:
        of.setdefault(part.task, []).append(f"{part.annotator} ({part.source}) {part.labels:,}")
    rows = [[task, len(who), _cut(who)] for task, who in of.items()]
    return table("Annotators (--annotators shows agreement)", ["task", "annotators", "labels of each"], rows)


def _overlap_table(found: Coverage) -> WrappedTable:
    rows = [
        [task, row[task], _largest({other: n for other, n in row.items() if other != task and n})]
        for task, row in found.overlap.items()
    ]
    return table("Labelled together", ["task", "known", "also known for"], rows)


def _missing_table(differences: Sequence[Difference]) -> WrappedTable:
    sure = sorted((part for part in differences if part.q <= SURE), key=lambda part: -abs(part.effect))
    rows = [
        [part.task, part.attribute, part.test, part.q, f"{part.effect:{'+' * (part.test == 'rank')}.2f}",
         f"{part.design:.1f}", _cut([f"{name} {_share(share)}" for name, share in part.shares.items()])]
        for part in sure
    ]  # fmt: skip
    title = f"Not missing at random: {len(sure)} of {len(differences)} pairs of task and attribute, worst first"
    columns = ["task", "attribute", "test", "false discovery rate", "effect", "design", "labelled share by value"]
    return table(title, columns, rows)


def _largest(counts: Mapping[str, float], *, smallest: bool = False) -> str:
    """The largest (or smallest) of some numbers by name; in their given order when all fit."""
    ordered = sorted(counts.items(), key=lambda item: item[1] if smallest else -abs(item[1]))
    kept = counts.items() if len(counts) <= COMMON else ordered
    return _cut([f"{name} {_plain(number)}" for name, number in kept])


def _cut(parts: Sequence[str]) -> str:
    rest = len(parts) - COMMON
    return ", ".join(parts[:COMMON]) + (f" and {rest:,} more" if rest > 0 else "")


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:+.2f}"


def _share(value: float | None) -> Any:
    return None if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> Any:
    return None if value is None else f"{value:.3f}"
