"""The difference estimator: a mean over images of which some are labelled, with a model's expectation for all.

    total = sum over all of w m + sum over labelled of w a (y - m)

w is the weight of an image, m what a model expects of it, y what its label says, and a the weight of the label: 1 where
it is known anyway, the inverse propensity where it was drawn. It is unbiased whatever m is (Sarndal, Swensson &
Wretman 1992, 6.3). The interval is for these images; images to come add the variance between groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from curation.arrays import Floats, Ints
from training.evaluation.drawn_labels import Answered

__all__ = ["Pool", "design_variance"]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """P images: `weights` [P]; `labelled` [n] are positions of those with a label, `expansion` [n] the weights of the
    labels, and `answers` the batches that were drawn, with positions among the labelled."""

    weights: Floats
    labelled: Ints
    expansion: Floats
    answers: Sequence[Answered]

    def total(self, expected: Floats, values: Floats) -> float:
        """The estimated sum over the images, from what is `expected` of each [P] and the `values` of the labels [n]."""
        residual = self.weights[self.labelled] * self.expansion * (values - expected[self.labelled])
        return float(self.weights @ expected + residual.sum())

    def variance(self, residuals: Floats, expected: Floats | None = None) -> float:
        """The variance of such a total by the design, from `residuals` y - m of the labels [n].

        With `expected`, the model's own variance [P] of them, it is at least what the model expects.
        """
        return sum(
            batch.share**2
            * design_variance(
                (self.weights[self.labelled] * residuals)[batch.at], batch.propensity,
                None if expected is None else (self.weights**2 * expected)[self.labelled[batch.at]],
            )
            for batch in self.answers
        )  # fmt: skip


def design_variance(values: Floats, propensity: Floats, expected: Floats | None = None) -> float:
    """The variance of sum(values / propensity) over one batch [a] of a fixed size, drawn with these propensities.

    Hajek's (1964) approximation for unequal probabilities; with equal ones it is that of simple random sampling.
    With `expected`, the expectation [a] of the squared values, it is at least that of independent draws by those. It is
    infinite for one value that was not certain to be drawn.

    >>> design_variance(np.array([1.0, 0.0, 1.0, 0.0]), np.full(4, 0.5))
    2.6666666666666665
    """
    size, left = len(values), 1 - propensity
    if size < 2 and left.sum() > 0:
        return float("inf")
    scaled = values / propensity
    centre = (left @ scaled) / max(float(left.sum()), 1e-300)
    found = size / max(1, size - 1) * float(left @ (scaled - centre) ** 2)
    floor = 0.0 if expected is None else float((left / propensity**2) @ expected)
    return max(found, floor)
