"""SliceLine on planted errors, in an environment of its own.

python ask_peers.py reads lines `IN OUT` from its input. IN is an .npz of `values` [n, F], a code of each attribute of
each image, and `errors` [n]; OUT gets `slices` [K, F], the code that each of the 10 worst slices requires, or -1.
"""

import sys

import numpy as np
from sliceline.slicefinder import Slicefinder


def worst(values: np.ndarray, errors: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The slices [K, F] of at most three conditions, with the settings of its documentation."""
    finder = Slicefinder(alpha=0.95, k=10, max_l=3, min_sup=max(20, len(values) // 100), verbose=False)
    finder.fit(values, errors)
    return np.array([[-1 if code is None else code for code in found] for found in finder.top_slices_])


if __name__ == "__main__":
    for line in sys.stdin:
        given, out = line.split()
        with np.load(given) as data:
            np.savez(out, slices=worst(data["values"], data["errors"]))
