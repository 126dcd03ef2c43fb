"""Groups of frames a tenth of a second apart, whose brightness jumps: what a task of two frames can learn alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from support.homes import label, labels, sample_rows

from curation import Catalog, Task

__all__ = ["GAP", "GROUPS", "LONG", "make_frames"]

GROUPS, LONG, GAP = 24, 5, 0.15


def make_frames(folder: Path, *, gap: float = GAP, labelled: int | None = None) -> Catalog:
    """24 groups of five flat grey frames; every fourth is for test, every fourth for validation.

    `change` is how much brighter a frame is than the one before it (0 for the first), and reads two frames; `level`
    is the brightness, and reads one. In train the first `labelled` frames have both labels (default: all).
    """
    generator = np.random.default_rng(0)
    catalog, keys, paths, rows = Catalog.create(folder / "home"), list[str](), list[Path](), list[dict[str, object]]()
    attributes: dict[str, list[object]] = {"key": [], "group": [], "captured_at": [], "split": []}
    (folder / "images").mkdir()
    for group in range(GROUPS):
        shades = generator.uniform(60, 200, LONG)
        for frame, shade in enumerate(shades):
            keys.append(f"frames/{group:02d}-{frame}")
            paths.append(folder / "images" / f"{group:02d}-{frame}.jpg")
            pixels = shade + generator.integers(-6, 7, (32, 48, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
            change = float(shade - shades[frame - 1]) if frame else 0.0
            split = ["train", "train", "validation", "test"][group % 4]
            if labelled is None or split != "train" or attributes["split"].count("train") < labelled:
                rows += [label(keys[-1], "change", change), label(keys[-1], "level", float(shade))]
            for name, value in zip(attributes, (keys[-1], f"g{group}", frame * 100_000, split), strict=True):
                attributes[name].append(value)
    number = {"kind": "regression", "unit": "grey", "metric": "mae", "owner": "ada"}
    tasks = [Task(name="change", inputs=2, gap=gap, **number), Task(name="level", **number)]
    table = {name: pa.array(values) for name, values in attributes.items()}
    table["captured_at"] = table["captured_at"].cast(pa.timestamp("us"))
    with catalog.commit(author="ada", message="frames", batch="frames") as change_:
        change_.add_tasks(tasks)
        change_.add_samples(sample_rows(keys, paths), dataset="frames")
        change_.add_attributes(pa.table(table))
        change_.add_labels(labels(rows), source="import")
    return catalog
