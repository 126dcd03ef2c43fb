"""Small real images, a samples table for the packer, and a plan of given draws over a real pack."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from samplers.pack.pack import Pack

SIZE = (24, 32)
AWKWARD = ["a/b/c.jpg", "a.b", "..", "../up", "straße/雪", "%2F", "~x", "k" * 150, "k" * 151, "plain"]


def picture(number: int, height: int = SIZE[0], width: int = SIZE[1]) -> Image.Image:
    """A gradient that depends on `number`."""
    ramp = np.linspace(0, 200, width)[None, :] + np.linspace(0, 50, height)[:, None]
    colours = [(ramp * ((number * step) % 7 + 1) / 7) for step in (1, 3, 5)]
    return Image.fromarray(np.stack(colours, axis=2).astype(np.uint8))


def table(paths: Iterable[Path], keys: Iterable[str]) -> pa.Table:
    """The samples table of these files."""
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
    """One JPEG per key, and their samples table."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.jpg" for number in range(len(keys))]
    for number, path in enumerate(paths):
        picture(number).save(path, quality=90)
    return table(paths, keys)


class Draws:
    """A plan as the stream sees it. The only label of a sample is its row, with weight 0.5."""

    def __init__(self, pack: Pack, draws: Sequence[int] | np.ndarray) -> None:
        self.hash, self.pack_hash, self.keys, self.seed = f"draws of {pack.hash}", pack.hash, pack.keys, 0
        self.shard, self.offset, self.size = pack.shard, pack.offset, pack.size
        self.draws = np.asarray(draws, np.int32)
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

    def labels(
        self, rows: np.ndarray, positions: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known = (rows >= 0)[:, None]
        return np.where(known, rows[:, None], 0).astype(np.float32), known, known.astype(np.float32) / 2
