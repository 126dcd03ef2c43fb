"""Loose files for the benchmarks of packs and streams: JPEGs of 256 x 256 pixels and about 20 KB."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import simplejpeg

__all__ = ["SIZE", "loose"]

SIZE = (256, 256)
QUALITY = 85
PATTERNS = 64  # different images; the rest differ in a mark, so that no two files are the same


def loose(folder: Path, count: int) -> pa.Table:
    """Write `count` images, a thousand to a folder; the table that a packer takes."""
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


def _pattern(generator: np.random.Generator) -> np.ndarray:
    """Blocks of colour under noise, which makes a file of about 20 KB."""
    blocks = np.kron(generator.integers(0, 256, (32, 32, 3)), np.ones((8, 8, 1), np.int64))
    return (blocks + generator.integers(-12, 13, (*SIZE, 1))).clip(0, 255).astype(np.uint8)
