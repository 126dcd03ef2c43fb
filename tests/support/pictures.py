"""Small real images, the table that a packer takes, and a plan with given draws over a real pack."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from samplers.pack.pack import Pack

SIZE = (24, 32)
AWKWARD = ["a/b/c.jpg", "a.b", "..", "../up", "straße/雪", "%2F", "~x", "k" * 150, "k" * 151, "plain"]


def picture(number: int, height: int = SIZE[0], width: int = SIZE[1]) -> Image.Image:
    """A gradient that differs for each number."""
    ramp = np.linspace(0, 200, width)[None, :] + np.linspace(0, 50, height)[:, None]
    colours = [(ramp * ((number * step) % 7 + 1) / 7) for step in (1, 3, 5)]
    return Image.fromarray(np.stack(colours, axis=2).astype(np.uint8))


def table(paths: Iterable[Path], keys: Iterable[str]) -> pa.Table:
    """The sample rows of the catalog for these files."""
    lines = []
    for path, key in zip(paths, keys, strict=True):
        data = path.read_bytes()
        with Image.open(path) as image:
            facts = {"width": image.width, "height": image.height, "format": image.format}
        lines.append(
            {"key": key, "location": str(path), "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} | facts
        )
    return pa.Table.from_pylist(lines)


def pictures(folder: Path, keys: Sequence[str]) -> pa.Table:
    """One JPEG per key."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.jpg" for number in range(len(keys))]
    for number, path in enumerate(paths):
        picture(number).save(path, quality=90)
    return table(paths, keys)


def packed_images(pack: Pack) -> dict[str, bytes]:
    """The bytes of every image of a pack, by key."""
    with closing(pack.reader()) as shards:
        return {
            key: bytes(shards.read_out_of_order(int(shard), int(offset), int(size)))
            for key, shard, offset, size in zip(pack.keys.to_pylist(), pack.shard, pack.offset, pack.size, strict=True)
        }


class Draws:
    """A plan as the stream sees it. Each sample has one label, its row, with weight 1/2."""

    def __init__(self, pack: Pack, draws: Sequence[int] | np.ndarray) -> None:
        self.hash, self.pack_hash, self.keys, self.seed = f"draws of {pack.hash}", pack.hash, pack.keys, 0
        self.shard, self.offset, self.size = pack.shard, pack.offset, pack.size
        self.draws, self.tasks = np.asarray(draws, np.int32), ()
        self._p = np.bincount(self.draws, minlength=pack.images) / len(self.draws)

    def phase_at(self, positions: np.ndarray) -> np.ndarray:
        """One phase."""
        return np.zeros(len(positions), np.int64)

    def probabilities(self, phase: int = 0) -> np.ndarray:
        """p of each row of the pack."""
        return self._p

    def members(self, position: int) -> np.ndarray:
        """Two strata: even rows and odd ones."""
        return np.arange(self.draws[position] % 2, len(self.keys), 2)

    def presence(self, rows: np.ndarray) -> np.ndarray:
        """No multilabel task."""
        return np.zeros((len(rows), 0), np.int8)

    def labels(
        self, rows: np.ndarray, positions: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known = (rows >= 0)[:, None]
        return np.where(known, rows[:, None], 0).astype(np.float32), known, known.astype(np.float32) / 2
