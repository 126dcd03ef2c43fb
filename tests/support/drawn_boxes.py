"""A catalog of pictures with coloured rectangles, and one task of boxes that a small trunk learns in seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from support.homes import label, labels, sample_rows

from curation import Catalog, Task
from samplers import Pack, Plan, Policy, TaskPolicy, make_pack
from samplers.plan.build import draft_plan

__all__ = ["COLORS", "DARK", "SIGNS", "boxes_catalog", "boxes_of_images", "boxes_plan", "drawn_picture"]

COLORS = {"stop": (220, 30, 30), "give_way": (30, 200, 60)}
SIGNS = Task(name="signs", kind="detection", classes=tuple(COLORS), owner="ada")
DARK = Task(name="dark", kind="binary", owner="ada")
SIZE = (64, 96)


def drawn_picture(
    generator: np.random.Generator, most: int = 3, size: tuple[int, int] = SIZE
) -> tuple[Image.Image, list[dict[str, Any]], bool]:
    """A grey picture with up to `most` rectangles, their boxes, and whether it is dark."""
    height, width = size
    dark = bool(generator.integers(2))
    pixels = generator.integers(0, 40, (height, width, 3)) + (20 if dark else 120)
    boxes, taken = [], np.zeros(size, np.bool_)
    for _ in range(int(generator.integers(0, most + 1))):
        name = str(generator.choice(list(COLORS)))
        w, h = (int(side) for side in generator.integers(12, 28, 2))
        x, y = int(generator.integers(0, width - w)), int(generator.integers(0, height - h))
        if not taken[y : y + h, x : x + w].any():
            taken[y : y + h, x : x + w] = True
            pixels[y : y + h, x : x + w] = COLORS[name]
            boxes.append({"class": name, "x": float(x), "y": float(y), "w": float(w), "h": float(h)})
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), boxes, dark


def boxes_of_images(images: int, *, most: int = 3, seed: int = 0) -> list[list[dict[str, Any]]]:
    """The boxes on the pictures of `boxes_catalog`, by the number of the picture."""
    generator = np.random.default_rng(seed)
    return [drawn_picture(generator, most)[1] for _ in range(images)]


def boxes_catalog(
    folder: Path, *, images: int = 160, known: float = 1.0, most: int = 3, dark: bool = True, seed: int = 0
) -> Catalog:
    """Pictures of which the first `known` have boxes, all are dark or not, and a quarter is for validation, one for
    test."""
    generator = np.random.default_rng(seed)
    catalog = Catalog.create(folder / "home")
    (folder / "images").mkdir()
    keys = [f"{number:04d}" for number in range(images)]
    paths, rows, splits = [], [], []
    for number, key in enumerate(keys):
        picture, boxes, is_dark = drawn_picture(generator, most)
        paths.append(folder / "images" / f"{key}.png")
        picture.save(paths[-1])
        splits.append(("train", "train", "validation", "test")[number % 4])
        if number < known * images or splits[-1] != "train":
            rows.append(label(key, "signs", boxes))
        if dark:
            rows.append(label(key, "dark", is_dark))
    with catalog.commit(author="ada", message="pictures") as change:
        change.add_tasks([SIGNS, DARK] if dark else [SIGNS])
        change.add_samples(sample_rows(keys, paths), dataset="drawn")
        change.add_attributes(pa.table({"key": keys, "split": splits}))
        change.add_labels(labels(rows), source="import")
    return catalog


def boxes_plan(catalog: Catalog, *, draws: int = 1600, **shares: float) -> tuple[Plan, Pack]:
    """A plan of these tasks by their shares (default: boxes alone), and its pack."""
    shares = shares or {"signs": 1.0}
    part = 1 / len(shares)
    policy = Policy(
        task={name: TaskPolicy(owner="ada", share=share, importance=part) for name, share in shares.items()}
    )
    pack = make_pack(catalog)
    return draft_plan(catalog, policy, pack, draws=draws).save(), pack
