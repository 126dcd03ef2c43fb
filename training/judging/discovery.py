"""Slices that a run fails on and nobody declared: searched on half of the groups, confirmed on the other half.

A candidate is a conjunction of up to three conditions. Frames of a burst are alike, so the mean error inside is
compared with that of all other images by a variance taken over groups: with U_g the sum of w_i (e_i - mean inside) / W
over the images of group g that are inside, less the same of the others, it is sum U_g^2 G / (G - 1) (Liang & Zeger
1986). The score test, whose variance holds what was planted, ranks narrow candidates too low. What stands out in one
half by chance does not in the other, so p is that of Student's t there, and what is reported has a false discovery rate
of 5% (Benjamini & Hochberg 1995) over all tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.arrays import Bools, Float32s, Floats, Ints

__all__ = ["SUPPORT", "Candidate", "Conditions", "JudgedErrors", "confirmed_p", "found_on"]

Candidate = tuple[int, ...]
"""A conjunction of up to three conditions, by their numbers."""
SUPPORT = 10
"""In each half, a candidate holds images of at least so many groups, and as many are outside."""
MOST_FOUND = 10
"""Candidates of a task that are taken to the other half."""
SEARCH_Z = 2.0
"""A candidate is taken to the other half from this z on."""
SAME = 0.5
"""Of two candidates whose images have a larger Jaccard index, only the first is kept."""
CLOSER, BEAM = 300, 50
"""Conjunctions whose variance over groups is computed, and pairs that are extended by a third condition."""
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """L conditions over n images: `holds` [L, n]. Those with one number in `columns` [L] are of one column and side, so
    at most one of them stands in a conjunction; `alone` [L] marks conditions that stand in none."""

    holds: Bools
    columns: Ints
    alone: Bools

    def inside(self, literals: Sequence[int]) -> Bools:
        """The images [n] for which all of these conditions hold."""
        return np.asarray(self.holds[list(literals)].all(axis=0), np.bool_)

    def at(self, rows: Bools | Ints) -> "Conditions":
        """The same for some of the images."""
        return Conditions(holds=self.holds[:, rows], columns=self.columns, alone=self.alone)


@dataclass(frozen=True, kw_only=True)
class JudgedErrors:
    """The errors of a run on n images [n], their weights [n], and group codes [n]."""

    errors: Floats
    weights: Floats
    groups: Ints

    def at(self, rows: Bools | Ints) -> "JudgedErrors":
        """The same for some of the images."""
        return JudgedErrors(errors=self.errors[rows], weights=self.weights[rows], groups=self.groups[rows])

    def excess(self) -> Floats:
        """How much larger each error [n] is than the mean, times its weight."""
        total = self.weights.sum()
        mean = (self.weights * self.errors).sum() / total if total else 0.0
        return np.asarray(self.weights * (self.errors - mean), np.float64)

    def z(self, inside: Bools) -> float:
        """How many standard errors the mean error inside is above that of all other images; 0 where too few groups are
        inside or outside."""
        if min(self.groups_of(inside), self.groups_of(~inside)) < SUPPORT:
            return 0.0
        means = self.mean(inside), self.mean(~inside)
        totals = self.weights[inside].sum(), self.weights[~inside].sum()
        shares = np.where(inside, (self.errors - means[0]) / totals[0], (means[1] - self.errors) / totals[1])
        _, codes = np.unique(self.groups, return_inverse=True)
        sums = np.bincount(codes, self.weights * shares)
        variance = float((sums**2).sum()) * len(sums) / (len(sums) - 1)
        return (means[0] - means[1]) / variance**0.5 if variance > ROUNDING else 0.0

    def mean(self, inside: Bools) -> float:
        """The mean error inside; NaN where there is no image."""
        total = self.weights[inside].sum()
        return float((self.weights * self.errors)[inside].sum() / total) if total else float("nan")

    def groups_of(self, inside: Bools) -> int:
        """How many groups have an image inside."""
        return len(np.unique(self.groups[inside]))


def found_on(errors: JudgedErrors, conditions: Conditions) -> list[Candidate]:
    """The candidates of one half, the first found first.

    The images of one are taken out before the next is sought, so that a condition is not found again for what one of
    its conjunctions explains; and a condition is dropped from a conjunction where errors are about as large without it.
    """
    left, found = np.ones(len(errors.errors), np.bool_), list[Candidate]()
    taken = list[Bools]()
    while len(found) < MOST_FOUND and left.any():
        part, own = errors.at(left), conditions.at(left)
        best = _best(part, own)
        if best is None:
            break
        literals = _simplest(part, own, best)
        inside = conditions.inside(literals)
        if all(_jaccard(inside, other) <= SAME for other in taken):
            found.append(literals)
            taken.append(inside)
        left &= ~inside
    return found


def confirmed_p(errors: JudgedErrors, conditions: Conditions, candidates: Sequence[Candidate]) -> Floats:
    """For each candidate [K] the one-sided p of the other half, over the images that no earlier candidate holds; 1
    where too few groups are inside or outside."""
    from scipy import stats

    left, p = np.ones(len(errors.errors), np.bool_), np.ones(len(candidates))
    for number, candidate in enumerate(candidates):
        part, inside = errors.at(left), conditions.at(left).inside(candidate)
        groups = part.groups_of(inside)
        if groups > 1 and (z := part.z(inside)):
            p[number] = stats.t.sf(z, groups - 1)
        left &= ~conditions.inside(candidate)
    return p


def _best(errors: JudgedErrors, conditions: Conditions) -> Candidate | None:
    """The conjunction with the largest z; None where none reaches `SEARCH_Z`."""
    exact = [(errors.z(conditions.inside(literals)), literals) for literals in _rough(errors, conditions)]
    z, literals = max(exact, default=(0.0, ()))
    return literals if z >= SEARCH_Z else None


def _rough(errors: JudgedErrors, conditions: Conditions) -> list[Candidate]:
    """The conjunctions with the largest z of independent images: single conditions, pairs, and triples of the best
    pairs."""
    excess = errors.excess()
    deviation = float(np.sqrt((excess**2).mean())) if len(excess) else 0.0
    if deviation <= ROUNDING:
        return []
    holds = conditions.holds.astype(np.float32)
    everything = np.ones((1, holds.shape[1]), np.float32)
    found: dict[Candidate, float] = {
        (number,): z for number, z in enumerate(_z(holds, everything, excess, deviation)[:, 0].tolist())
    }
    able = np.flatnonzero(~conditions.alone)
    pairs = _z(holds[able], holds[able], excess, deviation)
    pairs[conditions.columns[able][:, None] == conditions.columns[able][None, :]] = -np.inf
    pairs[np.tril_indices(len(able))] = -np.inf
    twos: dict[Candidate, float] = {(int(able[a]), int(able[b])): z for z, (a, b) in _largest(pairs, CLOSER)}
    if beam := list(twos)[:BEAM]:
        both = np.stack([conditions.inside(literals) for literals in beam]).astype(np.float32)
        triples = _z(both, holds[able], excess, deviation)
        columns = conditions.columns
        for row, literals in enumerate(beam):
            triples[row, np.isin(columns[able], columns[list(literals)])] = -np.inf
        found |= {tuple(sorted((*beam[row], int(able[at])))): z for z, (row, at) in _largest(triples, CLOSER)}
    found |= twos
    ordered = sorted(found, key=lambda literals: (-found[literals], literals))
    return [literals for literals in ordered[:CLOSER] if found[literals] > 0]


def _z(first: Float32s, second: Float32s, excess: Floats, deviation: float) -> Floats:
    """z of each conjunction of a row of `first` [A, n] and one of `second` [B, n], as if images were independent."""
    counts = first @ second.T
    sums = (first * excess.astype(np.float32)) @ second.T
    size = counts * (1 - counts / first.shape[1])
    return np.asarray(np.where(size >= SUPPORT, sums / (deviation * np.sqrt(np.maximum(size, 1e-9))), -np.inf))


def _largest(values: Floats, count: int) -> list[tuple[float, tuple[int, int]]]:
    """The largest finite entries of a matrix, and where they stand."""
    flat = values.ravel()
    order = np.argsort(-flat, kind="stable")[:count]
    return [
        (float(flat[at]), (int(at // values.shape[1]), int(at % values.shape[1])))
        for at in order.tolist()
        if np.isfinite(flat[at])
    ]


def _simplest(errors: JudgedErrors, conditions: Conditions, literals: Candidate) -> Candidate:
    """`literals` without each condition that does not matter: where only it fails, errors are nearer to those inside
    than to those of all other images."""
    inside = conditions.inside(literals)
    middle = (errors.mean(inside) + errors.mean(~inside)) / 2
    for literal in literals:
        rest = tuple(other for other in literals if other != literal)
        if rest and errors.mean(conditions.inside(rest) & ~conditions.holds[literal]) > middle:
            return _simplest(errors, conditions, rest)
    return literals


def _jaccard(first: Bools, second: Bools) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))
