"""Two runs beside each other, and a gate's decision between them, for pages and routes alike."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from amber.comparison_tables import unequal_lines
from amber.gate import decide_gate
from amber.service.made import Maker
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from training.judging.comparison import ComparedFigure, compare_attributes, compare_slices, measures_of
from training.judging.flips import Flip, flips
from training.judging.gate_rules import GateRules
from training.judging.paired_runs import PairedRuns
from training.run_list import two_runs

__all__ = ["KEPT", "Comparison", "comparison", "decision", "pair_of"]

KEPT: Final = 200
"""Flipped images of each task, and of each of broken and fixed, that are kept."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs on a split at a commit: all figures, attributes that differ, and the first flipped images.

    `flipped` counts all flipped images by task and what ("broken", "fixed"); `notes` are lines about labels that only
    one run predicts and slices that are left out. `locations` are those of the flipped images that are kept, by key.
    """

    first: str
    second: str
    split: str
    commit: int
    figures: Sequence[ComparedFigure]
    attributes: Sequence[ComparedFigure]
    flips: Sequence[Flip]
    flipped: dict[tuple[str, str], int]
    notes: Sequence[str]
    locations: dict[str, str]

    @property
    def tasks(self) -> list[str]:
        """The tasks that both predict."""
        return list(dict.fromkeys(part.task for part in self.figures))


def pair_of(catalog: Catalog, first: str, second: str) -> tuple[str, str, int]:
    """The whole ids of two runs, and the commit; without `first`, the run before `second`.

    NotFound for a run that was not evaluated, or an ambiguous beginning of an id.
    """
    with catalog.read() as now:
        earlier, newest = two_runs(catalog.home, now, second, first)
        return earlier, newest, now.commit


def comparison(catalog: Catalog, first: str, second: str, split: str, commit: int) -> tuple[Hashable, Maker]:
    """The key and the maker of the `Comparison` of two runs (whole ids); raises what `PairedRuns.load` raises."""

    def make(tell: Any) -> Comparison:
        with catalog.read() as now:
            runs = PairedRuns.load(now, catalog.home, first, second, split=split)
            tell(1, 4)
            measures = measures_of(runs)
            figures = compare_slices(runs, measures)
            tell(2, 4)
            found, flipped = compare_attributes(now, runs, measures), flips(runs)
            tell(3, 4)
            counts: dict[tuple[str, str], int] = {}
            kept = []
            for flip in flipped:
                number = counts[flip.task, flip.what] = counts.get((flip.task, flip.what), 0) + 1
                kept += [flip] if number <= KEPT else []
            shown = now.samples_of([flip.key for flip in kept]).select(["key", "location"]).to_pylist()
            locations = {row["key"]: row["location"] for row in shown}
            return Comparison(
                first=first, second=second, split=split, commit=now.commit, figures=figures, attributes=found,
                flips=kept, flipped=counts, notes=unequal_lines(runs), locations=locations,
            )  # fmt: skip

    return ("comparison", first, second, split, commit), make


def decision(
    catalog: Catalog, pair: tuple[str, str], rules: GateRules, *, by: Identity, author: str, commit: int
) -> tuple[Hashable, Maker]:
    """The key and the maker of a gate's report as plain values; the decision is recorded, as by `amber gate`."""

    def make(tell: Any) -> dict[str, Any]:
        made = decide_gate(catalog, pair, rules, where="rules", by=by, author=author, home=str(catalog.home))
        return made.view

    return ("gate", *pair, rules.sha256, commit), make
