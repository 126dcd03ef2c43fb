"""Average precision of boxes from sums that merge: what each image adds is known without the other images."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from curation.arrays import Bools, Floats, Ints
from training.evaluation.box_matching import THRESHOLDS, Boxes, found_objects
from training.evaluation.intervals import NOT_ENOUGH_DATA, Figure, share_of_sums, share_of_variance

__all__ = ["RECALLS", "BoxSums", "mean_figures"]

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is read, as COCO does."""

RESAMPLES, SEED = 50, 0


@dataclass(frozen=True, kw_only=True)
class BoxSums:
    """The judged boxes and the objects of images whose boxes are known.

    Of each of m boxes: `images`, `groups`, class `codes`, `scores`, `weights` (that of its image), and at each overlap
    `found` [m, T], whether it finds an object, and `judged` [m, T], whether it counts. Of each of k objects:
    `object_images`, `object_groups`, `object_codes` and `object_weights`. `a + b` is the sums of both, of different
    images. Boxes of equal score count in the order of their images, so the order of the addends does not matter. A
    metric of a class without an object is None.
    """

    images: Ints
    groups: Ints
    codes: Ints
    scores: Floats
    weights: Floats
    found: Bools
    judged: Bools
    object_images: Ints
    object_groups: Ints
    object_codes: Ints
    object_weights: Floats

    @classmethod
    def of(cls, predicted: Boxes, known: Boxes, weights: Floats, groups: Ints) -> Self:
        """The sums of images whose boxes are known; `weights` and `groups` are indexed by the numbers of images."""
        judged, found, crowded = found_objects(predicted, known)
        known = known.taken(~known.crowd)
        return cls(
            images=judged.images, groups=groups[judged.images], codes=judged.codes, scores=judged.scores,
            weights=weights[judged.images], found=found, judged=~crowded, object_images=known.images,
            object_groups=groups[known.images], object_codes=known.codes, object_weights=weights[known.images],
        )  # fmt: skip

    def __add__(self, other: Self) -> Self:
        return type(self)(**{name: np.concatenate([value, getattr(other, name)]) for name, value in vars(self).items()})

    def weighted(self, weights: Floats) -> Self:
        """The same with other weights, indexed by the numbers of images; images of weight 0 are left out."""
        kept, own = weights[self.images] > 0, weights[self.object_images] > 0
        of_objects = [name for name in vars(self) if name.startswith("object_")]
        parts = {name: value[own if name in of_objects else kept] for name, value in vars(self).items()}
        parts["weights"] = weights[parts["images"]]
        parts["object_weights"] = weights[parts["object_images"]]
        return type(self)(**parts)

    def classes(self) -> list[int]:
        """The codes of the classes that have an object."""
        return [int(code) for code in np.unique(self.object_codes)]

    def average_precisions(self, code: int) -> Floats | None:
        """Average precision [T] of a class at each overlap, precision read at 101 recalls; None without an object."""
        ranked = _Ranked.of(self, code)
        return ranked.average_precisions() if ranked else None

    def mean_average_precision(self) -> tuple[float, float] | None:
        """The mean over classes of the average precision: over all overlaps (COCO's AP), and at an overlap of one half
        (AP50); None without an object."""
        found = [self.average_precisions(code) for code in self.classes()]
        if not found:
            return None
        each = np.stack([part for part in found if part is not None])
        return float(each.mean()), float(each[:, 0].mean())

    def curve(self, code: int) -> tuple[Floats, Floats, Floats]:
        """Recall [n], precision [n] and score [n] of a class at an overlap of one half, by falling score."""
        ranked = _Ranked.of(self, code)
        if ranked is None or not len(ranked.scores):
            return np.empty(0), np.empty(0), np.empty(0)
        here = ranked.judged[:, 0] > 0
        weights = ranked.weights[here]
        hits, total = np.cumsum(weights * ranked.found[here, 0]), np.cumsum(weights)
        return hits / ranked.objects, hits / total, ranked.scores[here]

    def precision(self, code: int, score: float) -> Figure:
        """The share of the boxes of a class with at least this score that find an object, at an overlap of one half."""
        here = (self.codes == code) & (self.scores >= score) & self.judged[:, 0]
        return _share(self.groups[here], self.weights[here] * self.found[here, 0], self.weights[here], int(here.sum()))

    def recall(self, code: int, score: float) -> Figure:
        """The share of the objects of a class that a box with at least this score finds, at an overlap of one half."""
        hit = (self.codes == code) & (self.scores >= score) & self.found[:, 0]
        own = self.object_codes == code
        groups = np.r_[self.object_groups[own], self.groups[hit]]
        zeros, none = np.zeros(int(own.sum())), np.zeros(int(hit.sum()))
        return _share(groups, np.r_[zeros, self.weights[hit]], np.r_[self.object_weights[own], none], int(own.sum()))


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """The boxes of one class by falling score, and the weight of its objects; groups are codes."""

    scores: Floats
    weights: Floats
    found: Floats
    judged: Floats
    groups: Ints
    objects: float
    object_weights: Floats
    object_groups: Ints

    @classmethod
    def of(cls, sums: BoxSums, code: int) -> "_Ranked | None":
        own, here = sums.object_codes == code, np.flatnonzero(sums.codes == code)
        if not own.any():
            return None
        here = here[np.lexsort((sums.images[here], -sums.scores[here]))]
        return cls(
            scores=sums.scores[here], weights=sums.weights[here], found=sums.found[here].astype(np.float64),
            judged=sums.judged[here].astype(np.float64),
            groups=sums.groups[here], objects=float(sums.object_weights[own].sum()),
            object_weights=sums.object_weights[own], object_groups=sums.object_groups[own],
        )  # fmt: skip

    def average_precisions(self, times: Ints | None = None) -> Floats:
        """Average precision [T], with each group counted `times`; NaN where no object is left."""
        weights, objects = self.weights, self.objects
        if times is not None:
            weights = weights * times[self.groups]
            objects = float((self.object_weights * times[self.object_groups]).sum())
        if objects <= 0:
            return np.full(len(THRESHOLDS), np.nan)
        hits, total = (np.cumsum(weights[:, None] * part, axis=0) for part in (self.found, self.judged))
        precision = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
        ahead = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        found: Floats = np.zeros(len(THRESHOLDS))
        for place in range(len(THRESHOLDS)):
            at = np.searchsorted(hits[:, place] / objects, RECALLS, side="left")
            found[place] = ahead[at[at < len(ahead)], place].sum() / len(RECALLS)
        return found


def mean_figures(sums: BoxSums, *, n: int, groups: int) -> tuple[Figure, Figure]:
    """COCO's AP and AP50 over `n` images of `groups` groups, with 95% intervals.

    The intervals are Wilson's at the effective sample size that the variance over resampled groups gives, at most one
    for each group that holds an object. The value is None without an object.
    """
    means = sums.mean_average_precision()
    if means is None:
        none = NOT_ENOUGH_DATA
        return Figure(**{**vars(none), "n": n, "groups": groups}), Figure(**{**vars(none), "n": n, "groups": groups})
    names = np.unique(np.r_[sums.groups, sums.object_groups])
    coded = BoxSums(
        **{
            **vars(sums), "groups": np.searchsorted(names, sums.groups),
            "object_groups": np.searchsorted(names, sums.object_groups),
        }
    )  # fmt: skip
    variances = _variances(coded, len(names))
    own = np.bincount(coded.object_groups, coded.object_weights, len(names))
    holding, effective = int((own > 0).sum()), float(own.sum() ** 2 / (own**2).sum())
    made = [
        share_of_variance(value, variance, effective, n=holding, groups=holding)
        for value, variance in zip(means, variances, strict=True)
    ]
    first, second = (Figure(**{**vars(part), "n": n, "groups": groups}) for part in made)
    return first, second


def _variances(sums: BoxSums, groups: int) -> tuple[float, float]:
    """The variances of AP and AP50 over resamples that draw as many groups, with replacement."""
    ranked = [part for code in sums.classes() if (part := _Ranked.of(sums, code)) is not None]
    generator, found = np.random.default_rng(SEED), []
    for _ in range(RESAMPLES):
        times = np.bincount(generator.integers(0, groups, groups), minlength=groups)
        each = np.stack([part.average_precisions(times) for part in ranked])
        each = each[~np.isnan(each[:, 0])]
        if len(each):
            found.append((each.mean(), each[:, 0].mean()))
    first, second = np.var(np.asarray(found), axis=0) if found else (0.0, 0.0)
    return float(first), float(second)


def _share(groups: Ints, hits: Floats, totals: Floats, n: int) -> Figure:
    _, codes = np.unique(groups, return_inverse=True)
    if not n:
        return NOT_ENOUGH_DATA
    return share_of_sums(
        np.asarray(np.bincount(codes, hits), np.float64), np.asarray(np.bincount(codes, totals), np.float64), n
    )
