"""Slices that nobody declared: how many planted pairs are found, and how often null data give something."""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.table import Row, small
from curation.arrays import Bools, Floats, Ints
from training.judging.discovery import SUPPORT, Conditions, JudgedErrors, confirmed_p, found_on
from training.judging.undeclared_slices import RATE

__all__ = ["discovery_rows"]

RUNS = int(os.environ.get("RUNS", "6" if small() else "50"))
FIRST = int(os.environ.get("FIRST_SEED", "1000"))
GROUPS, PER, PLANTED = 1_100, 5, 3
RAISED = 0.3
"""By how much the images of a planted pair are predicted wrong more often; elsewhere 10%, more in some bursts."""
PEER = Path(".venv-ask-peers/bin/python")
CUTS = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Errors of images in bursts of 5, 68 conditions on them, the codes of their attributes, and planted pairs."""

    judged: JudgedErrors
    conditions: Conditions
    codes: Ints
    planted: list[Bools]


def discovery_rows() -> list[Row]:
    """Recall and false share over plantings of three pairs, and the share of null data on which nothing is found."""
    found, hits, false, seconds = 0, 0, 0, list[float]()
    theirs = np.zeros(3)
    for run in range(RUNS):
        fleet = made(FIRST + run, PLANTED)
        begun = time.perf_counter()
        parts = ours(fleet, FIRST + run)
        seconds.append(time.perf_counter() - begun)
        found, hits, false = (old + new for old, new in zip((found, hits, false), _told(fleet, parts), strict=True))
        theirs += _told(fleet, _sliceline(fleet))
    silent = sum(not ours(made(FIRST + 10_000 + run, 0), FIRST + run) for run in range(RUNS))
    low, high = stats.binomtest(hits, PLANTED * RUNS).proportion_ci(method="wilson")
    none = stats.binomtest(silent, RUNS).proportion_ci(method="wilson")
    return [
        Row(
            what=f"3 planted pairs found, {RUNS} plantings", value=100 * hits / (PLANTED * RUNS), unit="%",
            low=100 * low, high=100 * high, asked="at least 85%", met=hits >= 0.85 * PLANTED * RUNS,
            peers={"SliceLine %": 100 * theirs[1] / (PLANTED * RUNS)},
        ),
        Row(
            what="false share of what is found", value=100 * false / max(1, found), unit="%", asked="at most 10%",
            met=false <= 0.1 * found, peers={"SliceLine %": 100 * theirs[2] / max(1.0, theirs[0])},
        ),
        Row(
            what=f"nothing found on null data, {RUNS} sets", value=100 * silent / RUNS, unit="%", low=100 * none[0],
            high=100 * none[1], asked="at least 90%", met=silent >= 0.9 * RUNS,
        ),
        Row(what="time of a search", value=float(np.median(seconds)), unit=" s"),
    ]  # fmt: skip


def made(seed: int, pairs: int) -> Fleet:
    """A fleet with planted pairs of conditions of different columns that hold for 2% to 8% of the images."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(GROUPS), PER)
    holds, columns, codes = _attributes(generator, groups)
    conditions = Conditions(holds=holds, columns=columns, alone=np.zeros(len(holds), np.bool_))
    planted = list[Bools]()
    chance = np.clip(0.1 + 0.1 * generator.normal(size=GROUPS), 0.01, 0.5)[groups]
    while len(planted) < pairs:
        first, second = generator.choice(len(holds), 2, replace=False)
        inside = holds[first] & holds[second]
        implied = inside.sum() in (holds[first].sum(), holds[second].sum())
        if columns[first] // 2 == columns[second] // 2 or implied or not 0.02 < inside.mean() < 0.08:
            continue
        if all((inside & other).sum() <= 0.1 * (inside | other).sum() for other in planted):
            planted.append(inside)
            chance = np.where(inside, chance + RAISED, chance)
    errors = (generator.random(len(groups)) < chance).astype(np.float64)
    judged = JudgedErrors(errors=errors, weights=np.ones(len(groups)), groups=groups)
    return Fleet(judged=judged, conditions=conditions, codes=codes, planted=planted)


def _attributes(generator: "np.random.Generator", groups: Ints) -> tuple[Bools, Ints, Ints]:
    """8 texts of 2 to 5 values, half of them constant in a burst, and 4 numbers; conditions that enough groups have."""
    holds, columns, codes = list[Bools](), list[int](), list[Ints]()
    for number in range(8):
        count = int(generator.integers(2, 6))
        shares = generator.dirichlet(np.full(count, 2.0))
        value = generator.choice(count, GROUPS, p=shares)[groups]
        if number % 2:
            value = generator.choice(count, len(groups), p=shares)
        codes.append(value + 1)
        holds += [value == code for code in range(count)]
        columns += [2 * number] * count
    for number in range(8, 12):
        values: Floats = generator.normal(size=GROUPS)[groups] + 0.5 * generator.normal(size=len(groups))
        cuts = np.quantile(values, CUTS)
        codes.append(np.searchsorted(cuts, values, side="right") + 1)
        for cut in cuts:
            holds += [values < cut, values >= cut]
            columns += [2 * number, 2 * number + 1]
    kept = [at for at, held in enumerate(holds) if len(np.unique(groups[held])) >= 2 * SUPPORT]
    return np.stack([holds[at] for at in kept]), np.array(columns)[kept], np.stack(codes, axis=1)


def ours(fleet: Fleet, seed: int) -> list[Bools]:
    """The images of each slice that is reported."""
    half = (np.random.default_rng((seed, 1)).permutation(GROUPS) % 2 == 0)[fleet.judged.groups]
    found = found_on(fleet.judged.at(half), fleet.conditions.at(half))
    p = confirmed_p(fleet.judged.at(~half), fleet.conditions.at(~half), found)
    rates = stats.false_discovery_control(p) if len(p) else p
    return [fleet.conditions.inside(part) for part, q in zip(found, rates, strict=True) if q <= RATE]


def _sliceline(fleet: Fleet) -> list[Bools]:
    with tempfile.TemporaryDirectory(prefix="bench-ask-") as name:
        given, out = Path(name) / "in.npz", Path(name) / "out.npz"
        np.savez(given, values=fleet.codes, errors=fleet.judged.errors)
        subprocess.run([PEER, "benchmarks/ask_peers.py"], input=f"{given} {out}\n", text=True, check=True,
                       stdout=subprocess.PIPE)  # fmt: skip
        slices = np.load(out)["slices"]
    return [np.asarray(((fleet.codes == wanted) | (wanted < 0)).all(axis=1), np.bool_) for wanted in slices]


def _told(fleet: Fleet, found: list[Bools]) -> tuple[int, int, int]:
    """How many slices were found, how many planted pairs are among them, and how many are none of these."""
    hits = sum(any(_same(part, other) for other in found) for part in fleet.planted)
    return len(found), hits, sum(not any(_same(part, other) for other in fleet.planted) for part in found)


def _same(first: Bools, second: Bools) -> bool:
    return bool((first & second).sum() >= 0.5 * (first | second).sum())
