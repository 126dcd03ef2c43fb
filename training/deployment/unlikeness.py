"""How unlike the training images an image is: its Mahalanobis distance, as a rank among held-out groups."""

from dataclasses import dataclass, replace

import numpy as np

from curation.arrays import Bools, Float32s, Floats, Ints
from training.network.folds import FOLDS, folds_of

__all__ = ["UNLIKE", "Unlikeness"]

UNLIKE = 0.95
"""Images with a larger rank are reported as unlike the training images."""


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """A Gaussian of the images outside of one fold, and the sorted distances of those inside.

    The inverse of its covariance is `rest` times the identity, plus `more` [R] along the `directions` [D, R].
    """

    mean: Float32s
    directions: Floats
    more: Floats
    rest: float
    held_out: Floats

    def distances(self, features: Float32s) -> Floats:
        """Mahalanobis distances [n] over sqrt(D): about 1 for images like those of the fit."""
        centred = (features - self.mean).astype(np.float64)
        squares = self.rest * (centred**2).sum(axis=1) + (centred @ self.directions) ** 2 @ self.more
        return np.asarray(np.sqrt(np.maximum(squares, 0) / features.shape[1]), np.float64)


class Unlikeness:
    """Compares images with N training images by features [N, D] of a trunk; `groups` [N] are codes.

    The distance of an image is the Mahalanobis distance of its features from the mean of the training images (Lee et
    al., NeurIPS 2018, arXiv 1807.03888, with one Gaussian for all classes), divided by sqrt(D), with the covariance
    shrunk towards a multiple of the identity (Ledoit & Wolf, J. Multivariate Analysis 2004). The rank of an image is
    the part of the training images that are nearer than it is, where the distance of a training image is from a fit
    without its fold, and folds hold whole groups: what an image of a new drive or burst would get (cross-conformal
    ranks: Vovk, Annals of Mathematics and AI 2015). Of new images of the same kind at most about 5% are above 0.95.

    >>> generator = np.random.default_rng(0)
    >>> known = Unlikeness(generator.normal(size=(200, 4)).astype(np.float32), np.arange(200))
    >>> distances, ranks = known.of(np.array([[0, 0, 0, 0], [9, 9, 9, -9]], np.float32))
    >>> distances.round(1).tolist(), ranks.tolist()
    ([0.1, 9.1], [0.0, 1.0])
    """

    def __init__(self, features: Float32s, groups: Ints) -> None:
        folds = folds_of(groups, np.zeros(len(groups), np.int64), folds=FOLDS)
        names = np.unique(folds)
        self._fits = [_fit(features, folds != fold, folds == fold) for fold in names] if len(names) > 1 else []
        self._alone = None if self._fits else _fit(features, folds >= 0, folds < 0)

    def of(self, features: Float32s) -> tuple[Floats, Floats]:
        """Distances [n], and ranks [n] in [0, 1]; ranks are NaN where all training images are one group."""
        if self._alone is not None:
            return self._alone.distances(features), np.full(len(features), np.nan)
        found = [fit.distances(features) for fit in self._fits]
        nearer = [np.searchsorted(fit.held_out, each) for fit, each in zip(self._fits, found, strict=True)]
        total = sum(len(fit.held_out) for fit in self._fits)
        return np.asarray(np.mean(found, axis=0), np.float64), np.asarray(np.sum(nearer, axis=0) / total, np.float64)


def _fit(features: Float32s, inside: Bools, held_out: Bools) -> _Fit:
    """The fit of the rows that are `inside` [N], and the distances of those that are `held_out` [N]."""
    mean = features[inside].mean(axis=0)
    centred = (features[inside] - mean).astype(np.float64)
    variances, directions = _principal(centred)
    width = centred.shape[1]
    scale = variances.sum() / width
    squares = float((variances**2).sum())
    spread = squares - width * scale**2
    noise = (float((((centred**2).sum(axis=1)) ** 2).sum()) / len(centred) - squares) / len(centred)
    shrinkage = min(1.0, max(noise / spread, 1e-6)) if spread > 0 else 1.0
    rest = 1 / (shrinkage * scale + 1e-12)
    more = 1 / ((1 - shrinkage) * variances + shrinkage * scale + 1e-12) - rest
    fit = _Fit(mean=mean, directions=directions, more=more, rest=rest, held_out=np.zeros(0))
    return replace(fit, held_out=np.sort(fit.distances(features[held_out])))


def _principal(centred: Floats) -> tuple[Floats, Floats]:
    """Variances [R], none of them 0, of centred rows [n, D] and their directions [D, R], by the smaller Gram matrix."""
    count, width = centred.shape
    if count >= width:
        variances, directions = np.linalg.eigh(centred.T @ centred / count)
        kept = variances > 1e-9 * variances.max(initial=0.0)
        return variances[kept], directions[:, kept]
    variances, mixtures = np.linalg.eigh(centred @ centred.T / count)
    kept = variances > 1e-9 * variances.max(initial=0.0)
    directions = centred.T @ mixtures[:, kept] / np.sqrt(count * variances[kept])
    return variances[kept], directions
