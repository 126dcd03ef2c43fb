"""Loose files for the benchmarks of packs and streams: JPEGs of 256 x 256 pixels, about 20 KB each, and plans."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import simplejpeg

from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from samplers.pack.pack import Pack
from samplers.plan.build import make_plan
from samplers.plan.interleave import hash64
from samplers.policy.policy import Policy

__all__ = ["SIZE", "loose", "planned"]

SIZE = (256, 256)
QUALITY = 85
PATTERNS = 64  # distinct images; the others differ from these by a mark, so no two files are equal


def loose(folder: Path, count: int) -> pa.Table:
    """Write `count` images, a thousand a folder; returns the table that a packer takes."""
    generator = np.random.default_rng(0)
    patterns = [_pattern(generator) for _ in range(PATTERNS)]
    rows = []
    for number in range(count):
        pixels = patterns[number % PATTERNS].copy()
        pixels[:8, :64] = (number >> np.arange(8) & 1).repeat(8)[None, :, None].astype(np.uint8) * 255
        pixels[8:16, :64] = (number >> np.arange(8, 16) & 1).repeat(8)[None, :, None].astype(np.uint8) * 255
        data = simplejpeg.encode_jpeg(pixels, QUALITY)
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append(
            {"key": f"{path.parent.name}/{path.stem}", "location": str(path), "bytes": len(data)}
            | {"sha256": hashlib.sha256(data).hexdigest(), "width": SIZE[1], "height": SIZE[0], "format": "JPEG"}
        )
    return pa.Table.from_pylist(rows)


def planned(images: pa.Table, pack: Pack, *lengths: int) -> list[Path]:
    """Fill a new catalog in the pack's workspace with `images`; returns the folders of plans of so many draws each.

    Six tasks of six classes, later classes rarer, each known on 30% of the images; every second task balances its
    classes. So draws of an image depend on the tasks that know it, and all labels have weights.
    """
    catalog, numbers = Catalog.create(pack.home), np.arange(len(images))
    tasks = [Task(name=f"t{i}", kind="categorical", classes=tuple("abcdef"), owner="bench") for i in range(6)]
    with catalog.commit(author="bench", message="a fleet") as change:
        change.add_tasks(tasks)
        change.add_samples(images.append_column("phash", pa.array(numbers, pa.uint64())), dataset="loose")
        change.add_attributes(pa.table({"key": images["key"], "split": pa.repeat("train", len(images))}))
        for code, task in enumerate(tasks):
            known = np.flatnonzero(hash64(0, code, numbers) % np.uint64(10) < 3)
            # of 63 parts 32, 16, 8, 4, 2 and 1
            kind = 5 - np.log2(hash64(1, code, known) % np.uint64(63) + 1).astype(np.int64)
            change.add_labels(
                pa.table(
                    {
                        "key": images["key"].take(pa.array(known)), "task": pa.repeat(task.name, len(known)),
                        "state": pa.repeat("known", len(known)), "text": pa.array(task.classes).take(pa.array(kind)),
                        "annotator": pa.repeat("vendor", len(known)),
                    }
                ),
                source="import",
            )  # fmt: skip
    rule = ("natural", "balanced")
    policy = Policy.model_validate(
        {
            "task": {
                task.name: {"owner": "bench", "share": 1 / 6, "importance": 1 / 6, "rule": rule[code % 2]}
                for code, task in enumerate(tasks)
            }
        }
    )
    return [make_plan(catalog, policy, pack, draws=draws).folder for draws in lengths]


def _pattern(generator: np.random.Generator) -> np.ndarray:
    """Blocks of colour with noise: a file of about 20 KB."""
    blocks = np.kron(generator.integers(0, 256, (32, 32, 3)), np.ones((8, 8, 1), np.int64))
    return (blocks + generator.integers(-12, 13, (*SIZE, 1))).clip(0, 255).astype(np.uint8)
