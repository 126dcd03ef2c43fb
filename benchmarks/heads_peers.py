"""scikit-learn on the vectors, labels and weights of a task: its best C by grouped cross-validation, without Amber.

python heads_peers.py reads lines `IN OUT` from its input. IN is an .npz of `features` [n, D] and `test` [m, D] float64,
`targets`, `weights`, `groups` [n] and `numeric`; OUT gets `predicted` [m] and `seconds`, the time of the search and the
last fit. The path has as many values as Amber's, over the same span.
"""

import sys
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold

FOLDS = 5
TOLERANCE = 1e-4  # of the gradient, as in Amber's path; scikit-learn's default
LIMIT = 2000
PATH = np.logspace(-1, -6, 11)  # ridges over the mean squared length of the features


def search(features: np.ndarray, targets: np.ndarray, groups: np.ndarray, numeric: bool) -> GridSearchCV:
    """A grid search over the strength of the ridge, by the metric of the task."""
    unit = float(((features - features.mean(axis=0)) ** 2).sum(axis=1).mean())
    if numeric:
        return GridSearchCV(
            Ridge(), {"alpha": (PATH * unit * len(targets)).tolist()}, scoring="neg_mean_absolute_error",
            cv=GroupKFold(FOLDS),
        )  # fmt: skip
    return GridSearchCV(
        LogisticRegression(tol=TOLERANCE, max_iter=LIMIT), {"C": (1 / (PATH * unit * len(targets))).tolist()},
        scoring="balanced_accuracy", cv=StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0),
    )  # fmt: skip


def main() -> None:
    """Answer every line of the input by one of its own: "done", or "refused" where scikit-learn refuses the labels."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", UserWarning)  # a class with fewer members than folds
    warnings.simplefilter("ignore", FitFailedWarning)  # a fold without one of two classes
    for line in sys.stdin:
        given, out = line.split()
        data = np.load(given)
        features, targets, groups = data["features"], data["targets"], data["groups"]
        started = time.monotonic(), time.process_time()
        found = search(features, targets, groups, bool(data["numeric"]))
        try:
            found.fit(features, targets, groups=groups, sample_weight=data["weights"] * len(targets))
        except ValueError as error:  # fewer labels of every class, or fewer groups, than folds
            sys.stdout.write(f"refused: {str(error).splitlines()[0]}\n")
            continue
        took = time.monotonic() - started[0], time.process_time() - started[1]
        np.savez(out, predicted=found.predict(data["test"]), seconds=took[0], cpu=took[1])
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
