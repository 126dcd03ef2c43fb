"""What is measured beside `amber discover` and `amber doubts`, in an environment of its own.

python ask_peers.py reads lines `IN OUT` from its input. IN is an .npz:

- `values` [n, F], a code of each attribute of each image, and `errors` [n]: OUT gets `slices` [K, F], the code that
  each of SliceLine's 10 worst slices requires, or -1.
- `said` [n] with probabilities `grouped` and `plain` [n, C]: OUT gets for both the labels by cleanlab's quality score.
- `known_*` and `predicted_*` of boxes: OUT gets the places of predicted boxes by ObjectLab's score of being overlooked,
  and of known ones by that of being badly located.
"""

import sys
from functools import partial
from typing import Any

import numpy as np


def worst(values: np.ndarray, errors: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The slices [K, F] of at most three conditions, with the settings of its documentation."""
    from sliceline.slicefinder import Slicefinder

    finder = Slicefinder(alpha=0.95, k=10, max_l=3, min_sup=max(20, len(values) // 100), verbose=False)
    finder.fit(values, errors)
    return np.array([[-1 if code is None else code for code in found] for found in finder.top_slices_])


def by_quality(said: np.ndarray, chances: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The labels, those of the lowest quality first."""
    from cleanlab.rank import get_label_quality_scores

    return np.argsort(get_label_quality_scores(said, chances), kind="stable")


def doubted(data: Any) -> dict[str, Any]:
    """The places of predicted boxes that may be overlooked, and of known ones that may be badly located."""
    from cleanlab.object_detection.rank import compute_badloc_box_scores, compute_overlooked_box_scores

    images = 1 + int(max(data["known_images"].max(), data["predicted_images"].max()))
    classes = 1 + int(max(data["known_codes"].max(), data["predicted_codes"].max()))
    corners = {
        side: np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        for side, boxes in ((side, data[f"{side}_corners"]) for side in ("known", "predicted"))
    }
    labels, predictions, known_at, predicted_at = [], [], [], []
    for image in range(images):
        own = np.flatnonzero(data["known_images"] == image)
        labels.append({"bboxes": corners["known"][own], "labels": data["known_codes"][own]})
        known_at.append(own)
        here = data["predicted_images"] == image
        theirs = [np.flatnonzero(here & (data["predicted_codes"] == code)) for code in range(classes)]
        boxes = np.empty(classes, object)
        for code, at in enumerate(theirs):
            boxes[code] = np.concatenate([corners["predicted"][at], data["predicted_scores"][at][:, None]], axis=1)
        predictions.append(boxes)
        predicted_at.append(np.concatenate(theirs))
    found = {}
    overlooked = partial(compute_overlooked_box_scores, high_probability_threshold=0.5)  # 0.95 leaves hardly a box
    for name, score, places in (
        ("overlooked", overlooked, predicted_at), ("badloc", compute_badloc_box_scores, known_at),
    ):  # fmt: skip
        scores = score(labels=labels, predictions=predictions)
        flat = np.concatenate([np.asarray(part, float) for part in scores])
        at = np.concatenate(places)
        usable = np.isfinite(flat)
        found[name] = at[usable][np.argsort(flat[usable], kind="stable")]
    return found


def answer(data: Any) -> dict[str, Any]:
    """What the peer says of one file."""
    if "values" in data:
        return {"slices": worst(data["values"], data["errors"])}
    if "said" in data:
        return {name: by_quality(data["said"], data[name]) for name in ("grouped", "plain")}
    return doubted(data)


if __name__ == "__main__":
    for line in sys.stdin:
        given, out = line.split()
        with np.load(given) as data:
            np.savez(out, **answer(data))
