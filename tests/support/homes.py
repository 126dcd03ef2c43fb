"""Small workspaces with real images, for tests of packages above the catalog."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.postgres import Server

from curation.catalog.backends.ducklake import Address
from curation.catalog.catalog import Catalog, address_of, keep_address
from curation.catalog.event_tables import LABELS
from curation.catalog.tasks import Task
from curation.images.decoding import ImageFacts, inspect

TASKS = [
    Task(name="color", kind="categorical", classes=("red", "yellow", "green"), metric="balanced_accuracy", owner="ada"),
    Task(name="car", kind="binary", owner="bob"),
    Task(name="bike", kind="binary", owner="bob"),
    Task(name="speed", kind="regression", unit="km/h", metric="mae", owner="eve"),
    Task(name="things", kind="detection", classes=("light",), owner="ada"),
]
SHADES = {"red": (200, 30, 30), "yellow": (200, 190, 30), "green": (30, 180, 30)}


def label(key: str, task: str, value: object, annotator: str = "vendor") -> dict[str, object]:
    """A row of `LABELS`; `value` is a class name or a boolean, a number, a list of boxes, or None for unsure."""
    boxes = value if isinstance(value, list) else None
    number = value if isinstance(value, float) else None
    text = str(value).lower() if isinstance(value, str | bool) else None
    state = "unsure" if value is None else "known"
    return {
        "key": key,
        "task": task,
        "state": state,
        "text": text,
        "number": number,
        "boxes": boxes,
        "annotator": annotator,
    }


def labels(rows: list[dict[str, object]]) -> pa.Table:
    """A labels table for `PendingCommit.add_labels`."""
    return pa.Table.from_pylist(rows, LABELS)


def sample_rows(keys: list[str], paths: list[Path]) -> pa.Table:
    """A samples table for `PendingCommit.add_samples`, from existing images."""
    facts: list[ImageFacts] = [inspect(path) for path in paths]
    return pa.table(
        {
            "key": keys,
            "location": [str(path) for path in paths],
            "sha256": [fact.sha256 for fact in facts],
            "phash": pa.array([fact.phash for fact in facts], pa.uint64()),
            "format": [fact.format for fact in facts],
            "width": pa.array([fact.width for fact in facts], pa.int32()),
            "height": pa.array([fact.height for fact in facts], pa.int32()),
            "bytes": pa.array([fact.size for fact in facts], pa.int64()),
        }
    )


def make_home(folder: Path, *, samples: int = 240, seed: int = 0, lake: Server | None = None) -> Catalog:
    """A catalog of flat coloured pictures; each task has labels on its own part, and every tenth sample is for test.

    It is one DuckDB file, or on DuckLake when `lake` is its server. Yellow is rare, and rarer at night. The slices are
    `yellow`, `yellow_at_night` (rare) and `night`.
    """
    generator = np.random.default_rng(seed)
    catalog = Catalog.create(folder / "home", url=lake.url(folder / "lake") if lake else "")
    colors = generator.choice(list(SHADES), size=samples, p=[0.55, 0.1, 0.35])
    night = generator.random(samples) < 0.3
    keys = [f"pictures/{number:05d}" for number in range(samples)]
    paths = [folder / "images" / f"{number:05d}.jpg" for number in range(samples)]
    (folder / "images").mkdir()
    for path, color, dark in zip(paths, colors, night, strict=True):
        shade = np.array(SHADES[color]) // (3 if dark else 1)
        noise = generator.integers(0, 25, (32, 48, 3))
        Image.fromarray((shade + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    rows = []
    for key, color, known in zip(keys, colors, generator.random((samples, 4)) < [0.5, 0.4, 0.2, 0.3], strict=True):
        truth = [
            str(color),
            bool(generator.random() < 0.4),
            bool(generator.random() < 0.05),
            float(generator.gamma(2, 20)),
        ]
        rows += [
            label(key, task.name, value) for task, value, is_known in zip(TASKS, truth, known, strict=False) if is_known
        ]
    rows.append(label(keys[0], "things", [{"class": "light", "x": 2.0, "y": 2.0, "w": 5.0, "h": 8.0}]))
    with catalog.commit(author="ada", message="pictures", batch="pictures") as change:
        change.add_tasks(TASKS)
        change.add_samples(sample_rows(keys, paths), dataset="pictures")
        change.add_attributes(
            pa.table(
                {
                    "key": keys,
                    "group": [f"drive-{number // 4}" for number in range(samples)],
                    "split": [("test" if number // 4 % 10 == 0 else "train") for number in range(samples)],
                    "night": night,
                }
            )
        )
        change.add_labels(labels(rows), source="import")
        change.add_slice("yellow", "label.color = 'yellow'", task="color", rare=True)
        change.add_slice("yellow_at_night", "label.color = 'yellow' AND attr.night", task="color", rare=True)
        change.add_slice("night", "attr.night")
    return catalog


def work_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make `folder` the current one and the workspace `home` in it that of verbs, with ada as the author."""
    patch.chdir(folder)
    patch.setenv("AMBER_HOME", "home")
    patch.setenv("AMBER_AUTHOR", "ada")


def copy_home(catalog: Catalog, folder: Path, lake: Server | None = None) -> Catalog:
    """A copy of the workspace, for a test to change: cheaper than `make_home`."""
    shutil.copytree(catalog.home, folder / "home")
    if lake:
        catalog.close()
        url = address_of(catalog.home)
        shutil.copytree(Address.parse(url).data, folder / "lake")
        keep_address(folder / "home", lake.copy(url, folder / "lake"))
    return Catalog.open(folder / "home")
