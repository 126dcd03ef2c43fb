"""False blocks, power, false passes and time of the gate's two tests, on simulated runs beside the usual rules."""

import os
import time
from collections.abc import Sequence

import numpy as np
from scipy import stats

from benchmarks.decide_data import BURST, Floats, Pair, bursts, overlapping_slices, together
from benchmarks.table import Row, small
from training.judging.bounds import ONE_SIDED, Bound
from training.judging.swaps import Swaps

__all__ = ["block_rows", "pass_rows", "power_rows", "time_rows"]

RUNS = int(os.environ.get("RUNS", "150" if small() else "500"))
FIRST = int(os.environ.get("FIRST_SEED", "1000"))
SLICES = 30
ALPHA = 0.05
MARGIN = 0.03
COST, MARGIN_OF_ERRORS = 15.0, 1.0
"""Of the mean absolute error: what a failing burst costs on each image, and the margin."""


def block_rows() -> list[Row]:
    """How often a run that is as good is blocked, over 30 overlapping slices."""
    rows = []
    for groups in (300, 900):
        blocked = {"McNemar + Holm": 0, "drop > 2 points": 0, "paired z + Holm": 0, "ours": 0}
        for run in range(RUNS):
            generator = np.random.default_rng([FIRST + run, groups])
            pair = _exchangeable(generator, groups)
            parts = [pair.at(part) for part in overlapping_slices(generator, groups, SLICES)]
            p = Swaps.of([part.accuracy for part in parts], seed=run).step_down("drop")
            blocked["ours"] += bool((p <= ALPHA).any())
            blocked["McNemar + Holm"] += bool(_holm([_mcnemar(part) for part in parts]))
            blocked["paired z + Holm"] += bool(_holm([_paired_z(part) for part in parts]))
            blocked["drop > 2 points"] += any((part.first - part.second).mean() > 0.02 for part in parts)
        what = f"false blocks, {SLICES} overlapping slices, {groups} bursts of {BURST}"
        rows.append(_rate_row(what, blocked, most=0.07))
    return rows


def power_rows() -> list[Row]:
    """How often a planted drop is shown: in a slice of 4%, and on everything."""
    settings = {
        "98 -> 74 in a slice of 4%, 32 bursts of 5": (800, 32, 0.74, 0.95),
        "98 -> 93, 120 bursts of 5": (400, 120, 0.93, 0.75),
        "98 -> 90, 120 bursts of 5": (400, 120, 0.90, 0.95),
    }
    rows = []
    for what, (groups, inside, falls_to, asked) in settings.items():
        shown = {"ours": 0, "McNemar + Holm": 0, "sign flips + Holm": 0, "ours, correlation 0.3": 0}
        for run in range(RUNS):
            generator = np.random.default_rng([FIRST + run, groups, inside])
            pair, more_alike = (_fallen(generator, groups, inside, falls_to, icc) for icc in (0.1, 0.3))
            here = np.arange(groups * BURST) < inside * BURST
            slices = [here, *overlapping_slices(generator, groups, SLICES - 1)]
            parts = [pair.at(part) for part in slices]
            test = Swaps.of([part.accuracy for part in parts], seed=run)
            shown["ours"] += bool(test.step_down("drop")[0] <= ALPHA)
            other = Swaps.of([more_alike.at(part).accuracy for part in slices], seed=run)
            shown["ours, correlation 0.3"] += bool(other.step_down("drop")[0] <= ALPHA)
            shown["sign flips + Holm"] += bool(0 in _holm(test.each("drop").tolist()))
            shown["McNemar + Holm"] += bool(0 in _holm([_mcnemar(part) for part in parts]))
        rows.append(_rate_row(f"power: {what}, correlation 0.1", shown, least=asked))
    return rows


def pass_rows() -> list[Row]:
    """How often something passes whose true drop is the margin, where bursts fail together."""
    rows = []
    for name, judge in (("accuracy", _accuracy), ("balanced accuracy", _balanced), ("mean absolute error", _numbers)):
        worst: tuple[float, str, dict[str, int]] = (-1.0, "", {})
        passes = []
        for groups in (80, 160, 300):
            for icc in (1.0, 0.5):
                passed = {"ours": 0, "Student t": 0, "iid paired z": 0}
                for run in range(RUNS):
                    generator = np.random.default_rng([FIRST + run, groups, int(10 * icc)])
                    for peer, found in judge(generator, groups, icc, True).items():
                        passed[peer] += found
                if passed["ours"] / RUNS > worst[0]:
                    worst = passed["ours"] / RUNS, f"{groups} bursts, correlation {icc:g}", passed
            alike = [
                judge(np.random.default_rng([FIRST + run, groups]), groups, 0.5, False)["ours"] for run in range(RUNS)
            ]
            passes.append(float(np.mean(alike)))
        rows.append(_rate_row(f"false pass at the margin, {name}; worst of 6 cells: {worst[1]}", worst[2], most=0.07))
        what = f"passes under no change, {name}, 160 bursts"
        rows.append(Row(what=what, value=passes[1], peers={"80 bursts": passes[0], "300 bursts": passes[2]}))
    return rows


def time_rows() -> list[Row]:
    """Seconds of one joint test over 200 slices of 100,000 labels."""
    groups = 2_000 if small() else 20_000
    generator = np.random.default_rng(FIRST)
    pair = _exchangeable(generator, groups)
    parts = [pair.at(part).accuracy for part in overlapping_slices(generator, groups, 200)]
    began = time.process_time()
    Swaps.of(parts).step_down("drop")
    what = f"joint test of 200 slices, {groups * BURST:,} labels, seconds of processor"
    return [Row(what=what, value=time.process_time() - began, unit=" s")]


def _exchangeable(generator: np.random.Generator, groups: int) -> Pair:
    """Two runs that are right in about 90%: errors that both make, and as many of each run's own, in bursts."""
    shared = together(generator, groups, 0.05, 0.5)
    runs = [1 - np.maximum(shared, together(generator, groups, 0.05, 0.5)) for _ in range(2)]
    return Pair(groups=bursts(groups), first=runs[0], second=runs[1], classes=np.zeros(groups * BURST, np.int64))


def _fallen(generator: np.random.Generator, groups: int, inside: int, falls_to: float, icc: float) -> Pair:
    """Two runs that are right in 98%, the second in `falls_to` of the first `inside` bursts."""
    first, second = (1 - together(generator, groups, 0.02, icc) for _ in range(2))
    second[: inside * BURST] = 1 - together(generator, inside, 1 - falls_to, icc)
    return Pair(groups=bursts(groups), first=first, second=second, classes=np.zeros(groups * BURST, np.int64))


def _accuracy(generator: np.random.Generator, groups: int, icc: float, drop: bool) -> dict[str, bool]:
    """Right in 95%, with errors of its own in the bursts; the second run falls by the margin in bursts."""
    shared = together(generator, groups, 0.03, 0.5)
    first, second = (1 - np.maximum(shared, together(generator, groups, 0.02, 0.3)) for _ in range(2))
    if drop:
        second = second * (1 - together(generator, groups, MARGIN / 0.95, icc))
    worse = first - second
    bound = Bound.of_losses(worse, np.ones(len(worse)), bursts(groups), z=ONE_SIDED)
    return {"ours": bound.high < MARGIN, **_peers(worse, MARGIN)}


def _balanced(generator: np.random.Generator, groups: int, icc: float, drop: bool) -> dict[str, bool]:
    """The same with a class of 30% of the bursts, in which the whole drop is."""
    shared = together(generator, groups, 0.03, 0.5)
    first, second = (1 - np.maximum(shared, together(generator, groups, 0.02, 0.3)) for _ in range(2))
    rare = np.repeat(generator.random(groups) < 0.3, BURST)
    if drop:
        second = np.where(rare, second * (1 - together(generator, groups, 2 * MARGIN / 0.95, icc)), second)
    worse, group = first - second, bursts(groups)
    parts = [Bound.of_losses(worse[own], np.ones(own.sum()), group[own], z=ONE_SIDED) for own in (rare, ~rare)]
    scaled = np.where(rare, worse / 2 / rare.mean(), worse / 2 / (1 - rare.mean()))
    return {"ours": Bound.of_parts(parts, [0.5, 0.5]).high < MARGIN, **_peers(scaled, MARGIN)}


def _numbers(generator: np.random.Generator, groups: int, icc: float, drop: bool) -> dict[str, bool]:
    """Errors of about 3, correlated in bursts; the second run's bursts fail by 15, which is what a constant costs."""
    first, second = (_errors(generator, groups) for _ in range(2))
    if drop:
        second = second + COST * together(generator, groups, MARGIN_OF_ERRORS / COST, icc)
    worse = second - first
    bound = Bound.of_losses(
        worse,
        np.ones(len(worse)),
        bursts(groups),
        z=ONE_SIDED,
        scale=float(max(first.max(), second.max())),
        rarest=COST,
    )
    return {"ours": bound.high < MARGIN_OF_ERRORS, **_peers(worse, MARGIN_OF_ERRORS)}


def _errors(generator: np.random.Generator, groups: int) -> Floats:
    common = np.repeat(generator.normal(size=groups), BURST)
    return np.asarray(4 * np.abs(0.6 * common + 0.8 * generator.normal(size=groups * BURST)), np.float64)


def _peers(worse: Floats, margin: float) -> dict[str, bool]:
    """Whether the one-sided 95% bounds of Student's t over bursts, and of independent images, pass."""
    means = worse.reshape(-1, BURST).mean(axis=1)
    t = means.mean() + stats.t.ppf(0.95, len(means) - 1) * means.std(ddof=1) / len(means) ** 0.5
    z = worse.mean() + ONE_SIDED * worse.std(ddof=1) / len(worse) ** 0.5
    return {"Student t": bool(t < margin), "iid paired z": bool(z < margin)}


def _mcnemar(part: Pair) -> float:
    """The exact one-sided p value of McNemar's test: losses among all labels on which the runs differ."""
    lost, won = int((part.first > part.second).sum()), int((part.second > part.first).sum())
    return float(stats.binom.sf(lost - 1, lost + won, 0.5)) if lost + won else 1.0


def _paired_z(part: Pair) -> float:
    worse = part.first - part.second
    error = worse.std(ddof=1) / len(worse) ** 0.5
    return float(stats.norm.sf(worse.mean() / error)) if error > 0 else 1.0


def _holm(p: Sequence[float]) -> list[int]:
    """The places that Holm's step-down procedure rejects."""
    order, found = np.argsort(p, kind="stable").tolist(), list[int]()
    for rank, place in enumerate(order):
        if p[place] > ALPHA / (len(p) - rank):
            break
        found.append(place)
    return found


def _rate_row(what: str, counts: dict[str, int], *, most: float = 1.0, least: float = 0.0) -> Row:
    """A row of how often ours did it, with Clopper and Pearson's interval, and the peers beside it."""
    done = counts["ours"]
    low, high = stats.binomtest(done, RUNS).proportion_ci(method="exact")
    peers = {name: count / RUNS for name, count in counts.items() if name != "ours"}
    return Row(
        what=f"{what}, {RUNS} runs", value=done / RUNS, low=float(low), high=float(high),
        asked=f"at least {least:g}" if least else f"at most {most:g}", met=least <= done / RUNS <= most, peers=peers,
    )  # fmt: skip
