"""The decision of a gate: whether a run may replace another one, is worse, or needs more labels to tell.

*Pass* where the upper bound of the drop is below the margin on everything that is judged, and the team's rule holds.
Of a task that both runs predict alike, to the bit, for every image of the catalog, the drop is 0, however few labels
judge it: a run that solved the heads of other tasks again is not held up by it.
*Block* where a drop is shown (step-down max-T at 5% over all that is judged) on something that does not pass. Otherwise
*not enough data*, with the number of groups that would do. What truly drops by its margin passes with a chance of about
5%, and a run that is as good is blocked with a chance of at most 5% in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.arrays import Floats
from curation.errors import BadInput, NotFound
from training.judging.bounds import ONE_SIDED, Bound
from training.judging.box_measures import AnyMeasure, measure_of
from training.judging.comparison import ALPHA
from training.judging.floors import floor_figures
from training.judging.gate_rules import ALL, EVERYTHING, GateRules, Judged, margin_in
from training.judging.group_sums import PairedSums
from training.judging.judged import JudgedFigure, Outcome
from training.judging.paired_runs import AnyPair, PairedPredictions, PairedRuns
from training.judging.swaps import Swaps
from training.judging.team import TeamFigure, team_figure

__all__ = ["GateResult", "JudgedFigure", "Outcome", "decide", "decide_by_floors"]


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The decision on all that is judged; `team` is the team's figure, if there is a rule for it."""

    outcome: Outcome
    figures: list[JudgedFigure]
    team: JudgedFigure | None


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """What is judged: a measure on a slice, its margin, and the sums and the bound of the drop, in fractions."""

    measure: AnyMeasure
    slice: str
    margin: float
    pair: AnyPair
    sums: PairedSums
    bound: Bound


def decide(runs: PairedRuns, rules: GateRules, *, where: str = "gate") -> GateResult:
    """The decision on the second of two runs against the first; `where` names the rules in errors.

    BadInput where the runs were not evaluated on the same labels, where a slice is empty or a metric is not defined by
    its labels, and for a margin in another unit than the metric.
    """
    _refuse_other_labels(runs)
    places = _places(runs, rules, where)
    cells = [_cell(runs, part, slice_, where) for part, slice_ in places]
    team = team_figure(runs, rules.team, rules.tasks, where) if rules.team else None
    sums = [*(cell.sums for cell in cells), *([team.sums] if team else [])]
    chances = Swaps.of(sums).step_down("drop").tolist()
    figures = [_judged(runs, cell, p) for cell, p in zip(cells, chances, strict=False)]
    figures += floor_figures(runs, places, where)
    for_team = _judged_team(team, chances[-1]) if team else None
    return GateResult(outcome=_together([*figures, *([for_team] if for_team else [])]), figures=figures, team=for_team)


def decide_by_floors(runs: PairedRuns, rules: GateRules, *, where: str = "gate") -> GateResult:
    """The decision on a run that nothing came before (`PairedRuns.alone`): all that is judged must beat its floor.

    BadInput where something has no floor, for a team's rule, which needs a run before, and for what `decide` refuses.
    """
    for part in rules.judge:
        if not part.floor:
            raise BadInput(
                f"{where}: judge {part.task}: has no floor, and there is no run to compare with; add a line such as "
                "floor = '90 points', or name a run with --against"
            )
    if rules.team:
        raise BadInput(f"{where}: the team's rule compares with a run; name one with --against, or take the rule out")
    figures = floor_figures(runs, _places(runs, rules, where), where)
    return GateResult(outcome=_together(figures), figures=figures, team=None)


def _together(figures: Sequence[JudgedFigure]) -> Outcome:
    """The worst outcome decides: block, then not enough data."""
    found = {figure.outcome for figure in figures}
    return "block" if "block" in found else "not enough data" if "not enough data" in found else "pass"


def _refuse_other_labels(runs: PairedRuns) -> None:
    for task, part in runs.unequal.items():
        both = len(runs.tasks[task].first.rows)
        raise BadInput(
            f"runs {runs.runs[0]} and {runs.runs[1]}: not judged by the same evaluation set: of the {runs.split} "
            f"labels of {task} they predict {both + part.only_first:,} and {both + part.only_second:,}, of which "
            f"{both:,} are the same; evaluate both on the same images"
        )


def _places(runs: PairedRuns, rules: GateRules, where: str) -> list[tuple[Judged, str]]:
    """Each entry of the rules with each of its slices; BadInput where two judge the same, or a margin is in another
    unit than its metric."""
    places = [(part, slice_) for part in rules.judge for slice_ in _slices(runs, part, where)]
    seen = set()
    for part, slice_ in places:
        measure = measure_of(runs.tasks[part.task].task, part.metric)
        margin_in(part.margin, measure, where)
        if (name := (part.task, slice_, measure.text)) in seen:
            raise BadInput(
                f"{where}: {name[2]} of {name[0]} on {name[1] or EVERYTHING} is judged twice; keep one of them"
            )
        seen.add(name)
    return places


def _slices(runs: PairedRuns, part: Judged, where: str) -> list[str]:
    """The slices of one entry of the rules, "" for everything."""
    found: list[str] = []
    for name in part.slices:
        if name == ALL:
            found += [slice_ for task, slice_ in runs.cells() if task == part.task and slice_]
        elif name == EVERYTHING:
            found.append("")
        elif name in runs.left_out:
            raise BadInput(f"{where}: slice {name} {runs.left_out[name]}; take it out, or name a run that does")
        elif name not in runs.slices:
            raise NotFound(f"{where}: slice {name!r}: the catalog has no such slice; `amber slices` lists them")
        elif runs.slices[name].task not in ("", part.task):
            raise BadInput(f"{where}: slice {name} is one of {runs.slices[name].task}, not of {part.task}; take it out")
        else:
            found.append(name)
    return found


def _cell(runs: PairedRuns, part: Judged, slice_: str, where: str) -> _Cell:
    pair = runs.cell(part.task, slice_)
    measure = measure_of(pair.task, part.metric)
    margin = margin_in(part.margin, measure, where)
    place = f"{where}: {measure.text} of {part.task} on {slice_ or EVERYTHING}"
    sums = measure.sums(pair)
    if sums is None:
        raise BadInput(f"{place}: is not defined, because {measure.undefined(pair)}; label some, or take it out")
    if measure.name == "balanced_accuracy" and not slice_ and len(_truth(pair)) < 2:
        only = pair.task.classes[int(_truth(pair)[0])]
        raise BadInput(f"{place}: is not defined, because all labels are {only}; label others, or judge recall:{only}")
    bound = measure.bound(pair, z=ONE_SIDED)
    return _Cell(measure=measure, slice=slice_, margin=margin, pair=pair, sums=sums, bound=bound)


def _truth(pair: AnyPair) -> Floats:
    """The distinct known labels of a task of classes or numbers."""
    assert isinstance(pair, PairedPredictions)
    return np.unique(pair.first.truth)


def _judged(runs: PairedRuns, cell: _Cell, p: float) -> JudgedFigure:
    measure, scale = cell.measure, cell.measure.scale
    base, run = (scale * value for value in cell.sums.values())
    alike = measure.task.name in runs.alike
    high = 0.0 if alike else scale * cell.bound.high
    outcome = _outcome(alike or high < cell.margin, p)
    return JudgedFigure(
        what=f"{measure.task.name} on {cell.slice or EVERYTHING}", task=measure.task.name, slice=cell.slice,
        measure=measure.text, unit=measure.unit, n=len(cell.pair.first.rows),
        groups=len(np.unique(runs.samples.groups[cell.pair.first.rows])), base=base, run=run,
        drop=measure.sign * (base - run), high=high, margin=cell.margin, p=p, outcome=outcome,
        groups_needed=None if outcome == "pass" else cell.bound.groups_for(cell.margin / scale),
    )  # fmt: skip


def _judged_team(team: TeamFigure, p: float) -> JudgedFigure:
    base, run = (team.scale * value for value in team.sums.values())
    high, low = team.scale * team.bound.high, team.scale * team.bound.low
    outcome = _outcome(high < team.margin, p)
    if team.must_gain and outcome == "not enough data" and low >= team.margin:
        outcome = "block"  # it is shown that the run does not gain so much
    return JudgedFigure(
        what=f"team: {team.what}", task="", slice="", measure=team.measure, unit=team.unit, n=team.n,
        groups=len(team.sums.groups), base=base, run=run, drop=team.sums.sign * (base - run), high=high,
        margin=team.margin, p=p, outcome=outcome, groups_needed=None if outcome == "pass" else team.groups_needed,
    )  # fmt: skip


def _outcome(passes: bool, p: float) -> Outcome:
    return "pass" if passes else "block" if p <= ALPHA else "not enough data"
