"""A catalog of pictures with rectangles that have a mark and a shade, which are attributes of their boxes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from support.homes import label, labels, sample_rows

from curation import Catalog, Task

__all__ = ["MARKS", "PLATES", "described_boxes_of_images", "described_catalog", "described_picture"]

MARKS = ("none", "dot", "bar")
PLATES = Task(
    name="plates", kind="detection", classes=("plate",), owner="ada",
    attributes={"mark": list(MARKS), "shade": "%", "lit": ["false", "true"]},  # type: ignore[arg-type]
)  # fmt: skip
"""`mark` and `shade` are stated of some boxes in training; nothing is ever stated of `lit`."""


def described_picture(generator: np.random.Generator) -> tuple[Image.Image, list[dict[str, Any]]]:
    """A dark picture, 64 x 96, with one or two plates and their boxes; attributes of all of them."""
    pixels = generator.integers(0, 40, (64, 96, 3))
    boxes = []
    for left in (2, 50)[: int(generator.integers(1, 3))]:
        side, mark, shade = int(generator.integers(20, 30)), int(generator.integers(3)), float(generator.uniform())
        x, y = left + int(generator.integers(0, 14)), int(generator.integers(0, 64 - side))
        pixels[y : y + side, x : x + side] = (200, 60, 60 + 180 * shade)
        reach = ((0, 0), (side // 5, side // 5), (side // 3, side // 8))[mark]
        middle_y, middle_x = y + side // 2, x + side // 2
        pixels[middle_y - reach[1] : middle_y + reach[1], middle_x - reach[0] : middle_x + reach[0]] = 255
        boxes.append(
            {"class": "plate", "x": float(x), "y": float(y), "w": float(side), "h": float(side),
             "attributes": {"mark": MARKS[mark], "shade": f"{100 * shade:.1f}"}}
        )  # fmt: skip
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), boxes


def described_boxes_of_images(images: int, seed: int = 0) -> list[list[dict[str, Any]]]:
    """The boxes on the pictures of `described_catalog`, with all of their attributes, by the number of the picture."""
    generator, found = np.random.default_rng(seed), []
    for _ in range(images):
        found.append(described_picture(generator)[1])
        generator.uniform(size=(len(found[-1]), 2))  # what is kept of their attributes
    return found


def described_catalog(
    folder: Path, *, images: int = 160, known: float = 0.7, labelled: int | None = None, seed: int = 0
) -> Catalog:
    """Pictures by half in train, a quarter each in validation and test; in train the first `labelled` (default: all)
    have boxes, and each attribute is known of the share `known` of these."""
    generator = np.random.default_rng(seed)
    catalog = Catalog.create(folder / "home")
    (folder / "images").mkdir()
    keys, paths, rows, splits = [f"{number:04d}" for number in range(images)], [], [], []
    for number, key in enumerate(keys):
        picture, boxes = described_picture(generator)
        splits.append(("train", "train", "validation", "test")[number % 4])
        for box in boxes:
            kept = generator.uniform(size=2) < (known if splits[-1] == "train" else 1.0)
            stated = zip(box["attributes"].items(), kept, strict=True)
            box["attributes"] = [pair for pair, keep in stated if keep]
        paths.append(folder / "images" / f"{key}.png")
        picture.save(paths[-1])
        if labelled is None or splits[-1] != "train" or splits.count("train") <= labelled:
            rows.append(label(key, "plates", boxes))
    with catalog.commit(author="ada", message="plates") as change:
        change.add_tasks([PLATES])
        change.add_samples(sample_rows(keys, paths), dataset="drawn")
        change.add_attributes(pa.table({"key": keys, "split": splits}))
        change.add_labels(labels(rows), source="import")
    return catalog
