"""Replay of a chain: does it reproduce, what did a link contribute, and does one training from scratch do as well?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.progress import StageProgress
from curation.files.read_back import sha256_of
from training.dynamics.chain_steps import Step, flat, reseeded, steps_of, with_threads, without
from training.dynamics.lineage import lineage_of
from training.dynamics.rebuilding import Rebuilder, weights_sha256
from training.evaluation.figures import labelled
from training.evaluation.paired import Estimate, SeedValues, estimate
from training.evaluation.predictions import LabelledPredictions, Samples
from training.judging.comparison import ComparedFigure, compare_slices, measures_of
from training.judging.paired_runs import PairedRuns
from training.loop.ranks import Ranks
from training.run import Run, libraries

__all__ = [
    "Contribution",
    "Replay",
    "ReplayedLink",
    "SeedGain",
    "Verdict",
    "contribution",
    "equal_tables",
    "flattened",
    "replay",
    "verdict_of",
]

Verdict = Literal["equal", "within noise", "differs", "cannot tell"]
"""Of a replay: every bit is equal; no difference is shown; one is; or no label judges."""
SPLITS = ("test", "validation")


@dataclass(frozen=True, kw_only=True)
class ReplayedLink:
    """One training of a chain that was repeated: the recorded run, the one that was made, and whether they are equal.

    `plan` is "equal", "same draws" or "differs"; `weights` "equal", "differ", or "not at hand" (pruned). `sha256` is
    that of the rebuilt weights.
    """

    run: str
    made: str
    plan: str
    weights: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A chain that was rebuilt: its links, and the figures of the recorded run (first) beside those of the rebuilt.

    `predictions` are "equal" or "differ" byte by byte ("not recorded" for a run that was never evaluated). The verdict
    is that of the figures, which hold for these two networks alone, on all tasks and slices. With several `seeds` it is
    that of `gains`: what the other threads gain on each task over the recipes' own.
    """

    run: str
    made: str
    links: tuple[ReplayedLink, ...]
    predictions: str
    split: str
    figures: tuple[ComparedFigure, ...]
    verdict: Verdict
    seeds: int = 1
    gains: tuple["SeedGain", ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SeedGain:
    """The gain of one chain over another on a task, over seeds and images, in `unit`; positive is better. The intervals
    of all tasks hold at once in 95% of the cases."""

    task: str
    metric: str
    unit: str
    n: int
    gain: Estimate


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """The chain of `run` beside another one (`other`): without a link, or flattened into one training from scratch.

    `figures` compare the other one (first) with the run (second) on all tasks and slices, for these two networks. With
    several seeds, `gains` has the mean gain of each task over them instead, which also counts how trainings vary.
    """

    run: str
    other: str
    without: str
    split: str
    seeds: int
    figures: tuple[ComparedFigure, ...]
    gains: tuple[SeedGain, ...]

    @property
    def better(self) -> list[str]:
        """The tasks and slices on which the run is shown to be better than the other one."""
        return self._shown("better", 1)

    @property
    def worse(self) -> list[str]:
        """Those on which it is shown to be worse."""
        return self._shown("worse", -1)

    def _shown(self, verdict: str, sign: int) -> list[str]:
        if self.seeds > 1:
            return [row.task for row in self.gains if min(sign * (row.gain.low or 0), sign * (row.gain.high or 0)) > 0]
        return [row.task + (f" on {row.slice}" if row.slice else "") for row in self.figures if row.verdict == verdict]


def replay(
    catalog: Catalog, run: str, folder: Path, *, threads: int | None = None, seeds: int = 1,
    ranks: Ranks | None = None, progress: StageProgress | None = None,
) -> Replay:  # fmt: skip
    """Rebuild the chain of a run in the new workspace `folder`, and say whether weights and figures are the same.

    With `threads`, every training uses so many instead of those of its recipe: sums then differ in their last bits, and
    two trainings part like those of two seeds. With several `seeds` the chain is therefore trained with each, on both.
    BadInput for a chain with a link that was withdrawn or is missing.
    """
    with catalog.read() as now:
        lineage = lineage_of(catalog.home, now, run)
        evaluated = lineage.run in now.runs()["run"].to_pylist()
    steps = steps_of(catalog.home, lineage)
    builder = Rebuilder(catalog, lineage, folder, ranks=ranks or Ranks(), progress=progress)
    repeated = with_threads(steps, threads) if threads else steps
    made = builder.run(repeated)
    links = tuple(_link(catalog.home, builder, step, made[step.run]) for step in steps)
    last = made[lineage.run]
    mine = builder.predictions(last)
    notes = tuple(_notes(catalog.home, steps))
    if not evaluated:
        return Replay(
            run=lineage.run, made=last, links=links, predictions="not recorded", split="", figures=(),
            verdict="equal" if links[-1].weights == "equal" else "cannot tell", notes=notes,
        )  # fmt: skip
    name = builder.recorded(lineage.run)
    theirs = builder.catalog.home / "runs" / name / "predictions.parquet"
    equal = equal_tables(mine, theirs)
    split, figures = _compared(builder.catalog, name, last)
    varied = seeds > 1 and repeated != steps and not equal
    gains = _gains(builder.catalog, _pairs(builder, steps, repeated, seeds), split) if varied else []
    return Replay(
        run=lineage.run, made=last, links=links, predictions="equal" if equal else "differ", split=split,
        figures=tuple(figures), verdict="equal" if equal else verdict_of(figures, gains), seeds=seeds,
        gains=tuple(gains), notes=notes,
    )  # fmt: skip


def contribution(
    catalog: Catalog, run: str, link: str, folder: Path, *, seeds: int = 1, ranks: Ranks | None = None,
    progress: StageProgress | None = None,
) -> Contribution:  # fmt: skip
    """What one link of a chain contributed: the run beside a rebuilt chain that leaves the link out.

    Trainings before the link are taken as they were recorded. With several `seeds` both chains are trained from the
    link on with each of them. BadInput for a link that nothing could replace.
    """
    with catalog.read() as now:
        lineage = lineage_of(catalog.home, now, run)
    steps = steps_of(catalog.home, lineage)
    left_out = lineage.link(link).run
    shorter = without(steps, left_out)
    keep = next(number for number, step in enumerate(steps) if step.run == left_out)
    builder = Rebuilder(catalog, lineage, folder, ranks=ranks or Ranks(), progress=progress)
    return _beside(builder, steps, shorter, left_out, seeds, keep)


def flattened(
    catalog: Catalog, run: str, folder: Path, *, seeds: int = 1, ranks: Ranks | None = None,
    progress: StageProgress | None = None,
) -> Contribution:  # fmt: skip
    """The run beside one training from scratch on its last plan; with several `seeds`, both are trained with each."""
    with catalog.read() as now:
        lineage = lineage_of(catalog.home, now, run)
    steps = steps_of(catalog.home, lineage)
    builder = Rebuilder(catalog, lineage, folder, ranks=ranks or Ranks(), progress=progress)
    return _beside(builder, steps, flat(steps), "", seeds, 0)


def _beside(
    builder: Rebuilder, steps: Sequence[Step], others: Sequence[Step], left_out: str, seeds: int, keep: int
) -> Contribution:
    """Train both chains with each seed, and compare their last runs. The first `keep` steps of both are common."""
    pairs = _pairs(builder, others, steps, seeds, steps[:keep])
    first, second = pairs[0]
    split, figures = _compared(builder.catalog, first, second)
    gains = _gains(builder.catalog, pairs, split) if seeds > 1 else []
    return Contribution(
        run=steps[-1].run, other=first, without=left_out, split=split, seeds=seeds, figures=tuple(figures),
        gains=tuple(gains),
    )  # fmt: skip


def _pairs(
    builder: Rebuilder, first: Sequence[Step], second: Sequence[Step], seeds: int, common: Sequence[Step] = ()
) -> list[tuple[str, str]]:
    """The last runs of two chains, trained with each seed but for the steps that are `common`."""
    pairs = []
    for turn in range(seeds):
        both = []
        for part in (first, second):
            made = builder.run(reseeded(part, turn, sum(step in common for step in part)), reuse=True)
            both.append(made[part[-1].run])
            builder.predictions(both[-1])
        if both[0] == both[1]:
            raise BadInput(
                f"run {second[-1].run}: is one training from scratch already; there is nothing to compare it with"
            )
        pairs.append((both[0], both[1]))
    return pairs


def equal_tables(first: Path, second: Path) -> bool:
    """Whether two Parquet files hold the same rows, bit by bit."""
    return sha256_of(first) == sha256_of(second) or pq.read_table(first).equals(pq.read_table(second))


def _link(home: Path, builder: Rebuilder, step: Step, made: str) -> ReplayedLink:
    recorded, rebuilt = weights_sha256(home, step.run), weights_sha256(builder.catalog.home, made)
    weights = "not at hand" if not recorded else "equal" if recorded == rebuilt else "differ"
    return ReplayedLink(run=step.run, made=made, plan=builder.plans[step.plan], weights=weights, sha256=rebuilt)


def _compared(catalog: Catalog, first: str, second: str) -> tuple[str, list[ComparedFigure]]:
    """Two runs on all tasks and slices of test, or of validation where test has no label."""
    with catalog.read() as now:
        for split in SPLITS:
            runs = PairedRuns.load(now, catalog.home, first, second, split=split)
            if any(len(pair.first.rows) for pair in runs.tasks.values()):
                return split, compare_slices(runs, measures_of(runs))
    return SPLITS[0], []


def verdict_of(figures: Sequence[ComparedFigure], gains: Sequence[SeedGain]) -> Verdict:
    """That of the gains where there are any, otherwise that of the figures."""
    judged = [figure.verdict in ("better", "worse") for figure in figures if figure.verdict != "not enough data"]
    if gains:
        judged = [(row.gain.low or 0.0) > 0 or (row.gain.high or 0.0) < 0 for row in gains]
    if not judged:
        return "cannot tell"
    return "differs" if any(judged) else "within noise"


def _notes(home: Path, steps: Sequence[Step]) -> list[str]:
    """A line for each training on several ranks, or with other versions of libraries, after which bits may differ."""
    here, found = libraries(), list[str]()
    for run in (Run.open(home, step.run) for step in steps):
        if " ranks" in run.machine:
            found.append(f"run {run.id} was trained on {run.machine}, and was repeated on one rank")
        other = [f"{name} {version} (here {here[name]})" for name, version in run.libraries.items()
                 if here.get(name, version) != version]  # fmt: skip
        if other:
            found.append(f"run {run.id} was trained with {', '.join(other)}")
    return found


def _gains(catalog: Catalog, pairs: Sequence[tuple[str, str]], split: str) -> list[SeedGain]:
    """The mean gain of the second runs over the first ones, for each task of classes or numbers. All intervals hold
    their means at once in 95% of the cases (Bonferroni)."""
    with catalog.read() as now:
        samples, tasks, found = Samples.at(now), now.tasks(), dict[str, SeedValues]()
        sides = [[_predicted(now, catalog, pair[side], samples, split) for pair in pairs] for side in (0, 1)]
        for name in (name for name in sides[0][0] if all(name in each for side in sides for each in side)):
            values = [SeedValues.of(tasks[name], [each[name] for each in side], samples) for side in sides]
            if values[0] is not None and values[1] is not None:
                found[name] = values[1].minus(values[0])
    return [_gain(tasks[name], values, 1 - 0.05 / len(found)) for name, values in found.items()]


def _gain(task: Task, values: SeedValues, level: float) -> SeedGain:
    sign, scale, unit = (-1, 1.0, task.unit) if task.metric == "mae" else (1, 100.0, "points")
    gain = _scaled(estimate([values], level=level), sign * scale)
    return SeedGain(task=task.name, metric=task.metric, unit=unit, n=len(values.groups), gain=gain)


def _scaled(gain: Estimate, factor: float) -> Estimate:
    ends = [None if end is None else factor * end for end in (gain.low, gain.high)]
    low, high = ends if factor > 0 else ends[::-1]
    return Estimate(value=factor * gain.value, low=low, high=high)


def _predicted(
    now: Snapshot, catalog: Catalog, run: str, samples: Samples, split: str
) -> dict[str, LabelledPredictions]:
    table = pq.read_table(now.runs.predictions_file(catalog.home, run))
    found = {}
    for name in table["task"].unique().to_pylist():
        part = labelled(now, now.task(name), samples, table)
        if isinstance(part, LabelledPredictions):
            found[name] = part.at(samples.splits == split)
    return found
