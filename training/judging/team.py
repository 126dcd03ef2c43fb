"""The figure by which a team judges all its tasks together, by one of three rules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.errors import BadInput
from training.judging.bounds import ONE_SIDED, Bound, effective_labels
from training.judging.box_measures import AnyMeasure, measure_of
from training.judging.gate_rules import EVERYTHING, Team, margin_in
from training.judging.group_sums import PairedSums
from training.judging.measures import POINTS
from training.judging.paired_runs import PairedRuns

__all__ = ["TeamFigure", "team_figure"]


@dataclass(frozen=True, kw_only=True)
class TeamFigure:
    """What a team's rule judges: sums and bound of its figure over n labels, its `scale` into `unit`, and the margin.

    The rule holds where the drop stays below `margin`; it is negative, or 0, where the run must gain.
    """

    what: str
    measure: str
    unit: str
    scale: float
    margin: float
    n: int
    sums: PairedSums
    bound: Bound

    @property
    def must_gain(self) -> bool:
        """Whether the rule demands a gain, not only that nothing is lost."""
        return self.margin <= 0

    @property
    def groups_needed(self) -> int | None:
        """How many groups like these would do: if the runs are equal, or gain as much as here; None if none would."""
        margin = (self.margin - self.bound.drop * self.scale if self.must_gain else self.margin) / self.scale
        return self.bound.groups_for(margin) if margin > 0 else None


def team_figure(runs: PairedRuns, team: Team, tasks: Sequence[str], where: str) -> TeamFigure:
    """The figure of a team's rule; `tasks` are all that the gate judges. BadInput where it is not defined."""
    if team.rule == "one_better":
        return _one_better(runs, team, where)
    return _weighted_mean(runs, team, where) if team.rule == "weighted_mean" else _metric(runs, team, tasks, where)


def _weighted_mean(runs: PairedRuns, team: Team, where: str) -> TeamFigure:
    measures = [measure_of(runs.tasks[name].task) for name in team.weights]
    total = sum(team.weights.values())
    weights = [weight / total / 100 * m.scale for m, weight in zip(measures, team.weights.values(), strict=True)]
    sums = [_sums(runs, measure, where) for measure in measures]
    bounds = [measure.bound(runs.tasks[measure.task.name], z=ONE_SIDED) for measure in measures]
    return TeamFigure(
        what=f"weighted mean of {', '.join(team.weights)}", measure="weighted mean", unit=POINTS, scale=100.0,
        margin=_points(team), n=sum(len(runs.tasks[name].first.rows) for name in team.weights),
        sums=PairedSums.of_means_over(sums, weights), bound=Bound.of_parts(bounds, weights),
    )  # fmt: skip


def _one_better(runs: PairedRuns, team: Team, where: str) -> TeamFigure:
    measure = measure_of(runs.tasks[team.optimise].task)
    pair = runs.tasks[team.optimise]
    gain = margin_in(team.margin, measure, where) if team.margin else 0.0
    return TeamFigure(
        what=f"{team.optimise} must be better", measure=measure.text, unit=measure.unit, scale=measure.scale,
        margin=-gain, n=len(pair.first.rows), sums=_sums(runs, measure, where),
        bound=measure.bound(pair, z=ONE_SIDED),
    )  # fmt: skip


def _metric(runs: PairedRuns, team: Team, tasks: Sequence[str], where: str) -> TeamFigure:
    names = team.tasks or [name for name in tasks if runs.tasks[name].task.classes]
    if not names:
        raise BadInput(f"{where}: team: no task with classes is judged, so {team.metric} is not defined; name some")
    measures = [measure_of(runs.tasks[name].task, team.metric) for name in names]
    sums = PairedSums.of_means_over(
        [_sums(runs, measure, where) for measure in measures], [1 / len(names)] * len(names)
    )
    rows = np.unique(np.concatenate([runs.tasks[name].first.rows for name in names]))
    effective = effective_labels(runs.samples.weights[rows], runs.samples.groups[rows])
    return TeamFigure(
        what=f"{team.metric} over {', '.join(names)}", measure=team.metric, unit=POINTS, scale=100.0,
        margin=_points(team), n=sum(len(runs.tasks[name].first.rows) for name in names), sums=sums,
        bound=Bound.of_sums(sums, z=ONE_SIDED, effective=effective),
    )  # fmt: skip


def _sums(runs: PairedRuns, measure: AnyMeasure, where: str) -> PairedSums:
    pair = runs.tasks[measure.task.name]
    found = measure.sums(pair)
    if found is None:
        raise BadInput(
            f"{where}: team: {measure.text} of {measure.task.name} on {EVERYTHING} is not defined, because "
            f"{measure.undefined(pair)}; label some, or leave the task out"
        )
    return found


def _points(team: Team) -> float:
    return float(team.margin.split()[0])
