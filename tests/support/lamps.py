"""A small data set of flat coloured pictures, declared as a user would."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amber.cli import run

__all__ = ["DECLARATION", "LAMPS", "declare", "ingested"]

LAMPS = {"red": (200, 30, 30), "yellow": (200, 190, 30), "green": (30, 180, 30)}
"""Classes and their RGB colours."""

DECLARATION = """
name = "lamps"
title = "Flat coloured pictures"
licence = "Apache-2.0"
source = "drawn by the tests"

[reader]
kind = "class_folders"
folder = "images"
pattern = "{label}/{name}"
task = "color"
held_back = true

[[task]]
name = "color"
kind = "categorical"
classes = ["red", "yellow", "green"]
metric = "balanced_accuracy"
owner = "signals"

[[slice]]
name = "yellow"
task = "color"
predicate = "label.color = 'yellow'"
rare = true

[split]
by = "group"
test = 0.3
"""


def declare(folder: Path, *, counts: tuple[int, int, int] = (40, 8, 32), seed: int = 0) -> Path:
    """A folder with a dataset.toml and `counts` red, yellow and green pictures of 32 x 48 pixels."""
    generator = np.random.default_rng(seed)
    for (color, shade), count in zip(LAMPS.items(), counts, strict=True):
        (folder / "images" / color).mkdir(parents=True)
        for number in range(count):
            pixels = np.array(shade) * generator.uniform(0.4, 1) + generator.integers(0, 40, (32, 48, 3))
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(folder / "images" / color / f"{number:03d}.jpg", quality=90)
    (folder / "dataset.toml").write_text(DECLARATION)
    return folder


def ingested(folder: Path, **options: Any) -> Path:
    """A workspace with the data set of `declare`; they are `home` and `data` in `folder`."""
    declare(folder / "data", **options)
    assert run(["ingest", str(folder / "data"), "--author", "ada", "--home", str(folder / "home")]) == 0
    return folder / "home"
