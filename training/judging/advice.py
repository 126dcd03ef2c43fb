"""Whether learning tasks together pays here: what was measured, and what amounts of labels and width let one expect.

Measured is what the newest run recorded when it compared a shared layer with exact heads by cross-validation, or two
evaluated runs on one plan and trunk of which one shares layers between the task and others and the other does not; two
such runs count before what a run recorded.
Without either, only a rule of thumb is left: learning together tends to pay where tasks have similar amounts of labels,
or the task has few against the rest, and the shared layer is wide enough (docs/judging.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final, Literal

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Damaged
from curation.rows import tabled
from samplers.plan.plan import Plan
from training.judging.comparison import compare_slices, measures_of
from training.judging.label_history import learned_labels, trained_runs
from training.judging.paired_runs import PairedRuns
from training.recipe import Recipe
from training.run import Run
from training.tree import TRUNK

__all__ = ["Amount", "Together", "TogetherAdvice", "advise", "shares_layers"]

Amount = Literal["few", "similar", "many"]
Verdict = Literal["pays", "costs", "no difference shown", "cannot tell"]

SIMILAR: Final = 3.0
"""Amounts of labels within so many times of each other are similar."""
WIDE: Final = 16
"""Shared units for each task from which on a layer is wide."""
SPLITS: Final = ("validation", "test")
COMPARE: Final = "amber compare-trees --trees shared,separate --seeds 5"


@dataclass(frozen=True, kw_only=True)
class Together:
    """The measured gain of learning a task together over learning it alone, with its 95% interval, in `unit`.

    A gain above 0 is better for every metric. `source` says what was compared.
    """

    gain: float
    low: float
    high: float
    unit: str
    source: str


@dataclass(frozen=True, kw_only=True)
class TogetherAdvice:
    """What is known about one task of the newest run: its labels, the median of the other tasks' labels, the units of
    the layers that tasks share, what was `measured` (None: nothing), and the advice.

    `verdict`: "pays", "costs" (the interval lies above or below 0), "no difference shown", or "cannot tell". `expected`
    is the rule of thumb, and `command` tells where nothing is shown ("" elsewhere).
    """

    task: str
    labels: int
    others: float
    amount: Amount
    units: int
    measured: Together | None
    verdict: Verdict
    expected: bool
    command: str


@tabled(TogetherAdvice)
def advise(now: Snapshot, home: Path) -> list[TogetherAdvice]:
    """A row for each task of the newest run that Amber trained on several; none where each run learned one task.

    BadInput where no run can be read.
    """
    runs = [Run.open(home, entry.run) for entry in trained_runs(now, home)[0]]
    if not runs:
        raise BadInput(f"{home}: no run that Amber trained can be read; `amber train` makes one")
    newest = next((run for run in runs if len(learned_labels(home, run)) > 1), None)
    if newest is None:
        return []
    counts = learned_labels(home, newest)
    measured = _recorded(newest) | _compared(now, home, runs, list(counts))
    units = _units(newest)
    rows = []
    for name, labels in counts.items():
        others = median(count for other, count in counts.items() if other != name)
        amount: Amount = "few" if SIMILAR * labels < others else "many" if labels > SIMILAR * others else "similar"
        found = measured.get(name)
        verdict = _verdict(found)
        rows.append(
            TogetherAdvice(
                task=name, labels=labels, others=float(others), amount=amount, units=units, measured=found,
                verdict=verdict, expected=amount != "many" and units >= WIDE * len(counts),
                command=_command(newest, verdict),
            )
        )  # fmt: skip
    return rows


def shares_layers(run: Run, plan: Plan, task: str) -> bool:
    """Whether a layer that learned is read by the task and by another task of the plan of a run."""
    if run.recipe.solved:
        shared = [head.task for head in run.heads if head.kind == "shared"]
        return task in shared and len(shared) > 1
    linear = [part.name for part in plan.tasks if part.task.kind != "detection"]
    tree, learns = run.recipe.branching, run.recipe.learns
    learned = {node.name for node in tree.nodes(linear) if node.width} | ({TRUNK} if learns else set())
    read = {part.name: {TRUNK} for part in plan.tasks}  # boxes are found on the maps of the trunk
    read |= {name: {part.partition(":")[0] for part in tree.path(name, linear)} for name in linear}
    return any(read[task] & read[other] & learned for other in read if other != task)


def _verdict(measured: Together | None) -> Verdict:
    if measured is None:
        return "cannot tell"
    return "pays" if measured.low > 0 else "costs" if measured.high < 0 else "no difference shown"


def _recorded(run: Run) -> dict[str, Together]:
    """What a run measured itself: its shared layer minus its exact heads, on held-out groups of training labels."""
    found = {}
    for head in run.heads:
        if head.gain is not None and head.low is not None and head.high is not None:
            unit, scale = ("points", 100.0) if head.classes else ("deviations", 1.0)
            found[head.task] = Together(
                gain=scale * head.gain, low=scale * head.low, high=scale * head.high, unit=unit,
                source=f"run {run.id[:12]}: its shared layer minus exact heads, cross-validated",
            )  # fmt: skip
    return found


def _compared(now: Snapshot, home: Path, runs: Sequence[Run], tasks: Sequence[str]) -> dict[str, Together]:
    """For each task the newest two runs on one plan and trunk that differ in whether it shares layers."""
    found = dict[str, Together]()
    for first, second in product(runs, runs):
        alike = (first.plan, first.recipe.trunk, first.parent) == (second.plan, second.recipe.trunk, second.parent)
        if first.id == second.id or not alike or first.recipe.only or second.recipe.only:
            continue
        plan = Plan.open(home, first.plan)
        for task in {part.name for part in plan.tasks} & set(tasks) - set(found):
            if shares_layers(first, plan, task) and not shares_layers(second, plan, task):
                measured = _difference(now, home, first, second, task)
                found |= {task: measured} if measured else {}
    return found


def _difference(now: Snapshot, home: Path, together: Run, alone: Run, task: str) -> Together | None:
    for split in SPLITS:
        try:
            pair = PairedRuns.load(now, home, alone.id, together.id, split=split, tasks=[task])
        except (BadInput, Damaged):
            return None
        (figure,) = compare_slices(pair, measures_of(pair), [""])
        if figure.difference is None or figure.low is None or figure.high is None:
            continue
        measure = measures_of(pair)[task][0]
        gain, *ends = (measure.sign * measure.scale * part for part in (figure.difference, figure.low, figure.high))
        return Together(
            gain=gain, low=min(ends), high=max(ends), unit=measure.unit,
            source=f"runs {together.id[:12]} (together) and {alone.id[:12]} (alone), on {split}; one training of each",
        )  # fmt: skip
    return None


def _units(run: Run) -> int:
    """Units of the layers that tasks share; those that the recipe would give them where no task took one."""
    if run.recipe.solved:
        return run.recipe.units
    widths = [branch.width for branch in run.recipe.branching.branch.values() if not branch.each]
    return sum(widths) or run.recipe.hidden


def _command(run: Run, verdict: Verdict) -> str:
    """What measures whether learning together pays, where nothing is shown yet."""
    if verdict in ("pays", "costs"):
        return ""
    alike = run.recipe.trunk == Recipe.trunk and run.recipe.embeddings and run.recipe.heads != "auto"
    return "amber train --heads auto" if verdict == "cannot tell" and alike else COMPARE
