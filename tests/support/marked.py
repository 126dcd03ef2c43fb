"""A workspace with a multilabel task beside a binary one, and cached features that show its classes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from support.homes import labels, sample_rows
from support.learned import recipe

from curation import Catalog, Task
from curation.images import embeddings
from samplers import make_pack

CLASSES = ("car", "person", "bicycle", "bus")
SEEN = Task(name="seen", kind="multilabel", classes=CLASSES, owner="eve")
WET = Task(name="wet", kind="binary", owner="bob")
RATES = np.array([0.5, 0.35, 0.2, 0.08])
WIDTH = 12


def listed(key: str, names: list[str] | None, looked: list[str] | None = None) -> dict[str, object]:
    """A row of `LABELS` of the task `seen`: the classes that are there, and those looked at (None: all)."""
    state = "unsure" if names is None else "known"
    return {"key": key, "task": "seen", "state": state, "names": names, "looked": looked, "annotator": "vendor"}


def truth_of(samples: int) -> np.ndarray:
    """Which classes [samples, 4] the pictures show."""
    return np.random.default_rng(1).random((samples, len(CLASSES))) < RATES


def make_marked(
    folder: Path, *, samples: int = 240, signal: float = 2.0, partial: float = 0.0, labelled: int | None = None
) -> Catalog:
    """Pictures in groups of four, of which one in five is for validation and one in five for test.

    Each class raises its own feature by `signal` deviations. A share `partial` of the statements about classes is
    missing: nobody looked. Of the pictures for training, `labelled` (None: all) have a label. The slice `bus` holds the
    images with a bus.
    """
    generator = np.random.default_rng(0)
    catalog, there = Catalog.create(folder / "home"), truth_of(samples)
    looked = generator.random(there.shape) >= partial
    looked[~looked.any(axis=1), 0] = True
    wet = generator.random(samples) < 0.4
    keys = [f"roads/{number:04d}" for number in range(samples)]
    paths = [folder / "images" / f"{number:04d}.png" for number in range(samples)]
    (folder / "images").mkdir(parents=True)
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    splits = np.array(["train", "train", "train", "validation", "test"])[np.arange(samples) // 4 % 5]
    rows = [
        listed(key, [CLASSES[code] for code in np.flatnonzero(row & seen)],
               None if seen.all() else [CLASSES[code] for code in np.flatnonzero(seen)])
        for key, row, seen in zip(keys, there, looked, strict=True)
    ]  # fmt: skip
    train = np.flatnonzero(splits == "train")
    rows = [row for number, row in enumerate(rows) if number not in set(train[labelled:].tolist() if labelled else ())]
    rows += [
        {"key": key, "task": "wet", "state": "known", "text": str(bool(value)).lower(), "annotator": "vendor"}
        for key, value in zip(keys, wet, strict=True)
    ]
    with catalog.commit(author="eve", message="roads") as change:
        change.add_tasks([SEEN, WET])
        change.add_samples(sample_rows(keys, paths), dataset="roads")
        groups = [f"drive-{number // 4}" for number in range(samples)]
        change.add_attributes(pa.table({"key": keys, "group": groups, "split": splits.tolist()}))
        change.add_labels(labels(rows), source="import")
        change.add_slice("bus", "list_contains(label.seen, 'bus')", task="seen", rare=True)
    vectors = generator.normal(size=(samples, WIDTH))
    vectors[:, : len(CLASSES)] += signal * there
    vectors[:, len(CLASSES)] += signal * wet
    packed = make_pack(catalog).keys.to_pylist()
    order = [keys.index(key) for key in packed]
    with embeddings.writing(catalog.home, recipe().embeddings, packed, [("made", WIDTH)]) as written:
        written[:] = vectors[order].astype(np.float16)
    return catalog
