"""Whether labels are missing at random: the attributes in which labelled and unlabelled samples of a task differ.

Frames of a burst are alike and are often labelled together, so tests that count each frame find everything
significant. The tests are the usual ones, chi-square over the values of text and flags and the rank test (Mann-Whitney)
over numbers and times, as score tests whose variance is taken over groups (Rao & Scott 1984; Liang & Zeger 1986): with
S_g = sum over i of group g of (x_i - mean x)(y_i - mean y), y whether labelled and x indicators of values or the rank,
the statistic is S' V^-1 S with S = sum S_g and V = sum S_g S_g'. With one sample a group it is the usual test.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.snapshot import Snapshot
from curation.rows import tabled

__all__ = [
    "CLUSTERS", "ORGANISING", "CodedAttribute", "Difference", "aligned_attribute", "coded_attribute", "compare",
    "label_missingness",
]  # fmt: skip


ORGANISING: Final = {"key", "group", "split", "excluded"}
"""Attributes that describe how samples are organised, not what they show."""
VALUES: Final = 20
"""At most so many values of a text are distinguished; the rarer ones are merged."""
GROUPS: Final = 10
"""A value is distinguished if it occurs in at least so many groups."""
CLUSTERS: Final = 20_000
"""At most so many groups: more are merged at random, which keeps a test valid and its cost bounded."""
SINGULAR: Final = 1e-9
OTHER, NONE = "(rare)", "(none)"
QUARTERS: Final = ("lowest quarter", "second", "third", "highest quarter")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One (task, attribute) of training samples: whether being labelled depends on the attribute.

    `p` is for this test only; `q` is the false discovery rate at which it is significant among all pairs (Benjamini &
    Hochberg 1995). `effect` is Cramer's V (0 to 1), or the rank-biserial correlation (-1 to 1; above 0: labelled
    samples have higher values). `design` is the design effect: the variance over that of independent samples. `shares`
    is the labelled share by value, or by quarter of the numbers.
    """

    task: str
    attribute: str
    test: str
    samples: int
    labelled: int
    groups: int
    statistic: float
    freedom: int
    p: float
    q: float
    effect: float
    design: float
    shares: dict[str, float]

    def row(self) -> dict[str, object]:
        """The whole as plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class CodedAttribute:
    """An attribute of N samples: their `row` among all samples, their `code` [N] in `names` (a value, or a quarter of
    the numbers), and for numbers the `rank` [N] of each among all, 0 to 1 (else None)."""

    name: str
    row: Ints
    code: Ints
    names: tuple[str, ...]
    rank: Floats | None


@dataclass(frozen=True, kw_only=True)
class _GroupedAttribute:
    """An attribute of N samples, and what its tests of all tasks share: the `group` [N] of each sample, the `sizes` [G]
    of the groups, how many samples have each value (`total`), and `sums`: of numbers the sum of rank - `mean` over
    each group [G], of values the number of samples by group and value [G * K]."""

    column: CodedAttribute
    group: Ints
    sizes: Floats
    total: Ints
    sums: Floats
    mean: float
    variance: float

    @classmethod
    def of(cls, column: CodedAttribute, cluster: Ints) -> "_GroupedAttribute":
        group, rank, values = cluster[column.row], column.rank, len(column.names)
        sizes, mean = np.bincount(group).astype(np.float64), 0.0 if rank is None else float(rank.mean())
        if rank is None:
            sums = np.bincount(group * values + column.code, minlength=len(sizes) * values).astype(np.float64)
        else:
            sums = np.asarray(np.bincount(group, rank - mean), np.float64)
        return cls(
            column=column, group=group, sizes=sizes, sums=sums, mean=mean,
            total=np.bincount(column.code, minlength=values),
            variance=0.0 if rank is None else float(rank.var()),
        )  # fmt: skip


@tabled(Difference)
def label_missingness(now: Snapshot) -> list[Difference]:
    """A test of every (task, attribute) of training samples that can be tested, by q, then by size of the effect.

    A sample counts as labelled if its label is known, unsure or inapplicable. While nothing is split yet, all samples
    that are not excluded are compared.

    >>> [(found.task, found.attribute) for found in label_missingness(now) if found.q < 1e-6]
    []
    """
    samples, usable = now.samples("sample_id", "group"), pa.array(now.training_ids(before_split=True))
    samples = samples.filter(pc.is_in(samples["sample_id"], value_set=usable))
    ids = samples["sample_id"].combine_chunks()
    names = [name for name in now.attributes() if name not in ORGANISING]
    return compare(
        {task: np.isin(ids.to_numpy(), now.labels(task, "sample_id")["sample_id"].to_numpy()) for task in now.tasks()},
        {name: aligned_attribute(now.attribute(name), ids) for name in names},
        samples["group"],
    )


def compare(
    labelled: Mapping[str, Bools], attributes: Mapping[str, pa.ChunkedArray], groups: pa.ChunkedArray
) -> list[Difference]:
    """The same for N samples: a mask [N] of the labelled ones by task, attributes [N] with nulls, and the groups [N].

    Samples without a number or a time are left out of its test; a missing text is a value of its own.
    """
    codes = pc.dictionary_encode(groups).combine_chunks().indices
    cluster = np.asarray(codes.to_numpy(), np.int64) % CLUSTERS
    found: list[Difference] = []
    for name, value in attributes.items():
        column = coded_attribute(name, value, cluster)
        if column is not None:
            grouped = _GroupedAttribute.of(column, cluster)
            tested = [_tested(task, grouped, who) for task, who in labelled.items()]
            found += [part for part in tested if part is not None]
    return _corrected(found)


def aligned_attribute(attribute: pa.Table, ids: pa.Array) -> pa.ChunkedArray:
    """The values of an attribute (sample_id, value) for the samples `ids` [N], null where there is none."""
    return attribute["value"].take(pc.index_in(ids, value_set=attribute["sample_id"].combine_chunks()))


def coded_attribute(name: str, value: pa.ChunkedArray, cluster: Ints) -> CodedAttribute | None:
    """The attribute `value` [N] of samples in the groups `cluster` [N]; None where it has fewer than two values."""
    from scipy import stats

    if pa.types.is_string(value.type) or pa.types.is_boolean(value.type):
        return _values(name, value, cluster)
    row = np.flatnonzero(np.asarray(pc.is_valid(value), np.bool_))
    integral = pa.types.is_timestamp(value.type)
    number = np.asarray(pc.cast(value.drop_null(), pa.int64() if integral else pa.float64()).to_numpy(), np.float64)
    if len(number) < 2 or number.min() == number.max():
        return None
    rank = (stats.rankdata(number) - 0.5) / len(number)
    quarter = np.minimum((rank * 4).astype(np.int64), 3)
    return CodedAttribute(name=name, row=row, code=quarter, names=QUARTERS, rank=rank)


def _values(name: str, value: pa.ChunkedArray, cluster: Ints) -> CodedAttribute | None:
    """The values of a text by sample: those in at least `GROUPS` groups, the most common first; the others merged."""
    encoded = pc.dictionary_encode(pc.fill_null(pc.cast(value, pa.string()), NONE)).combine_chunks()
    names = encoded.dictionary.to_pylist()
    code = np.asarray(encoded.indices.to_numpy(), np.int64)
    groups = np.bincount(np.unique(code * CLUSTERS + cluster) // CLUSTERS, minlength=len(names))
    common = np.argsort(-groups, kind="stable")[:VALUES]
    common = common[groups[common] >= GROUPS]
    kept: Ints = np.full(len(names), len(common), np.int64)
    kept[common] = np.arange(len(common))
    kept_names = (*(names[code] for code in common), *([OTHER] if len(common) < len(names) else []))
    if len(kept_names) < 2:
        return None
    return CodedAttribute(name=name, row=np.arange(len(code)), code=kept[code], names=kept_names, rank=None)


def _tested(task: str, grouped: _GroupedAttribute, labelled: Bools) -> Difference | None:
    """The test of one task; None where all samples are labelled, or none."""
    column, sizes = grouped.column, grouped.sizes
    y = np.flatnonzero(labelled[column.row])
    samples = len(column.row)
    if len(y) in (0, samples):
        return None
    scores, variance = (_value_scores if column.rank is None else _rank_scores)(grouped, y)
    score, spread = scores.sum(axis=0), scores.T @ scores
    values, axes = np.linalg.eigh(spread)
    sound = values > SINGULAR * values.max()
    freedom, statistic = int(sound.sum()), float((((score @ axes)[sound]) ** 2 / values[sound]).sum())
    counts, total = np.bincount(column.code[y], minlength=len(column.names)), grouped.total
    return Difference(
        task=task, attribute=column.name, test="rank" if column.rank is not None else "chi-square",
        samples=samples, labelled=len(y), groups=int((sizes > 0).sum()), statistic=statistic, freedom=freedom,
        p=_p(statistic, freedom, sizes), q=1.0,
        effect=_rank_biserial(column.rank, y) if column.rank is not None else _cramers_v(counts, total),
        design=float(np.trace(spread) / variance) if variance else 1.0,
        shares={name: float(k / n) for name, k, n in zip(column.names, counts, total, strict=False) if n},
    )  # fmt: skip


def _value_scores(grouped: _GroupedAttribute, y: Ints) -> tuple[Floats, float]:
    """Scores of each group for all values but the last [G, K - 1], whose score follows from the others, and the sum of
    their variances if samples were independent; `y` are the places of the labelled ones."""
    column, samples = grouped.column, len(grouped.group)
    values, rate = len(column.names), len(y) / samples
    inside = np.bincount(grouped.group[y] * values + column.code[y], minlength=len(grouped.sums))
    above = (inside - rate * grouped.sums).reshape(-1, values)
    share = grouped.total / samples
    scores = above - share * above.sum(axis=1, keepdims=True)
    return scores[:, :-1], float(samples * rate * (1 - rate) * (share * (1 - share))[:-1].sum())


def _rank_scores(grouped: _GroupedAttribute, y: Ints) -> tuple[Floats, float]:
    column, samples = grouped.column, len(grouped.group)
    assert column.rank is not None
    rate, mean = len(y) / samples, grouped.mean
    inside = np.bincount(grouped.group[y], column.rank[y] - mean, len(grouped.sums))
    scores = np.asarray(inside - rate * grouped.sums, np.float64)
    return scores[:, None], float(samples * rate * (1 - rate) * grouped.variance)


def _p(statistic: float, freedom: int, sizes: Floats) -> float:
    """The p-value: from F, not chi-square, because the variance comes from few or uneven groups."""
    from scipy import stats

    even = float(sizes.sum() ** 2 / (sizes**2).sum())
    rest = max(1.0, even - freedom)
    return float(stats.f.sf(statistic / freedom * rest / even, freedom, rest)) if freedom else 1.0


def _rank_biserial(rank: Floats, y: Ints) -> float:
    """How much more often a labelled sample is above an unlabelled one than below (Wendt 1972)."""
    mine = float(rank[y].sum())
    return 2 * (mine / len(y) - (float(rank.sum()) - mine) / (len(rank) - len(y)))


def _cramers_v(labelled: Ints, total: Ints) -> float:
    """sqrt(chi2 / n) of the table of values by labelled or not (Cramer 1946)."""
    rate = labelled.sum() / total.sum()
    expected = np.maximum(total * rate * (1 - rate), 1e-300)
    return float(np.sqrt(((labelled - total * rate) ** 2 / expected).sum() / total.sum()))


def _corrected(found: list[Difference]) -> list[Difference]:
    from scipy import stats

    if not found:
        return []
    rates = stats.false_discovery_control([part.p for part in found])
    corrected = [replace(part, q=float(rate)) for part, rate in zip(found, rates, strict=True)]
    return sorted(corrected, key=lambda part: (part.q, -abs(part.effect), part.task, part.attribute))
