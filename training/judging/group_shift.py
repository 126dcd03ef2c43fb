"""Whether a value is distributed differently in two sets of groups: an exact test that exchanges whole groups.

Frames of a burst are alike, so every group counts once, by the mean of its images: of the indicators of values, or of
the rank of numbers. If the two sets are alike, each choice of as many groups is as likely to be the second set. The
statistic is the quadratic form of the summed means in the inverse of their covariance over such choices (Strasser &
Weber 1999), and p is the share of random choices that reach it (Phipson & Smyth 2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.analysis.missingness import CodedAttribute
from curation.arrays import Bools, Floats, Ints

__all__ = ["MOST_GROUPS", "GroupMeans", "exchange_p", "most_found"]

MOST_GROUPS = 4_000
"""More groups are merged, inside each set, so that the exchanges stay affordable."""
FEW, MANY, BLOCK = 2_000, 20_000, 500
REFINED = 0.005
"""p values up to this are computed again with many exchanges."""
SINGULAR = 1e-9


@dataclass(frozen=True, kw_only=True)
class GroupMeans:
    """The mean of a value over each of G groups, [G, K] indicators or ranks, and the share of each in the second set
    [G], which is 0 or 1 unless a group is in both."""

    means: Floats
    second: Floats

    @classmethod
    def of(cls, column: CodedAttribute, groups: Ints, second: Bools) -> "GroupMeans":
        """The means of a column of samples in `groups` [N], of which `second` [N] marks those of the second set."""
        codes, count = _merged(groups[column.row], second[column.row])
        sizes: Floats = np.bincount(codes, minlength=count).astype(np.float64)
        if column.rank is not None:
            sums = np.bincount(codes, column.rank, count)[:, None]
        else:
            kinds = len(column.names)
            sums = np.bincount(codes * kinds + column.code, minlength=count * kinds).reshape(count, kinds)
        share = np.bincount(codes, second[column.row], count) / sizes
        return cls(means=np.asarray(sums / sizes[:, None], np.float64), second=np.asarray(share, np.float64))

    def sides(self) -> tuple[Floats, Floats]:
        """The mean [K] over the groups of the first set and over those of the second."""
        first, second = (
            (share[:, None] * self.means).sum(axis=0) / share.sum() for share in (1 - self.second, self.second)
        )
        return np.asarray(first, np.float64), np.asarray(second, np.float64)


def exchange_p(columns: Sequence[GroupMeans], seed: int) -> Floats:
    """For each column the p value that the two sets of groups have the same means; 1 where one of the sets is empty.

    Small values are computed again with more exchanges. Columns of the same groups share the exchanges.
    """
    p: Floats = np.ones(len(columns))
    alike: dict[bytes, list[int]] = {}
    for place, column in enumerate(columns):
        if 0 < column.second.sum() < len(column.second):
            alike.setdefault(column.second.tobytes(), []).append(place)
    for places in alike.values():
        second, scores = columns[places[0]].second, [_white(columns[place].means) for place in places]
        p[places] = _tails(scores, second, FEW, seed)
        if again := [place for place, found in enumerate(p[places]) if found <= REFINED]:
            p[[places[place] for place in again]] = _tails([scores[place] for place in again], second, MANY, seed)
    return p


def most_found(column: GroupMeans) -> float:
    """The smallest p value that so many groups could give: one over the choices of the second set."""
    from scipy.special import gammaln

    total, chosen = len(column.second), round(float(column.second.sum()))
    return float(np.exp(gammaln(chosen + 1) + gammaln(total - chosen + 1) - gammaln(total + 1)))


def _tails(scores: Sequence[Floats], second: Floats, exchanges: int, seed: int) -> Floats:
    """For each column the share of exchanges whose statistic reaches that of `second`, which counts as one of them."""
    ends = np.cumsum([part.shape[1] for part in scores])
    whole = np.concatenate(scores, axis=1)

    def statistics(chosen: Floats) -> Floats:
        sums = np.concatenate([np.zeros((len(chosen), 1)), np.cumsum((chosen @ whole) ** 2, axis=1)], axis=1)
        return np.diff(sums[:, np.r_[0, ends]], axis=1)

    generator, reached = np.random.default_rng(seed), np.ones(len(scores))
    observed = statistics(second[None, :]) * (1 - 1e-9) - 1e-12  # ties are equal up to rounding
    for start in range(0, exchanges, BLOCK):
        many = np.repeat(second[None, :], min(BLOCK, exchanges - start), axis=0)
        reached += (statistics(generator.permuted(many, axis=1)) >= observed).sum(axis=0)
    return np.asarray(reached / (exchanges + 1), np.float64)


def _white(means: Floats) -> Floats:
    """Centred means in coordinates of equal variance [G, rank], so that the quadratic form is a sum of squares."""
    centred = means - means.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    sound = values > SINGULAR * max(float(values.max(initial=0.0)), 1e-300)
    return np.asarray(centred @ axes[:, sound] / np.sqrt(values[sound]), np.float64)


def _merged(groups: Ints, second: Bools) -> tuple[Ints, int]:
    """Codes [n] of the groups from 0 on, and how many; where they are too many, several of one set share a code."""
    names, codes = np.unique(groups, return_inverse=True)
    together = -(-len(names) // MOST_GROUPS)
    if together == 1:
        return np.asarray(codes, np.int64), len(names)
    side = np.bincount(codes, second) * 2 > np.bincount(codes)
    place = np.where(side, np.cumsum(side) - 1, np.cumsum(~side) - 1) // together
    merged = np.unique(place * 2 + side, return_inverse=True)[1]
    return np.asarray(merged[codes], np.int64), int(merged.max()) + 1
