"""Smaller copies of images, for packs that do not need every pixel.

    packs/reduced.json                 the setting of the workspace: later packs hold copies of this size and quality
    reduced/<name>/<stem>.<of>.jpg     the copy of one image, made once; `of` is the sha256 of the image
    reduced/<name>/copies.parquet      the size and sha256 of each copy

`name` is the longest side and the quality. Images that are small enough are not copied, unless a quality is set.
"""

import hashlib
import json
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image

from curation.arrays import Bools
from curation.errors import BadInput, Damaged
from curation.files.atomic import remove_leftovers, whole
from curation.files.locations import read_bytes
from curation.files.progress import Progress
from curation.files.read_back import json_value, read_parquet
from curation.images.decoding import BadImage, load_rgb
from samplers.shards import tar
from samplers.shards.shard_writer import changed_image_error, unreadable_image_error

__all__ = ["Copy", "Original", "ParallelMap", "SmallerCopies", "forget_copies", "map_in_threads"]

QUALITY = 90
"""The JPEG quality if none is set."""
_COPIES = pa.schema(
    [
        ("key", pa.string()), ("of", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64()),
        ("width", pa.int32()), ("height", pa.int32()),
    ]
)  # fmt: skip
_AHEAD = 64  # copies in progress at the same time

Original = dict[str, str]
"""The key, sha256 (`of`) and location of an image to copy."""
Copy = dict[str, Any]
"""A row of `copies.parquet`."""
ParallelMap = Callable[[Callable[[Original], Copy], list[Original]], Generator[Copy]]
"""Applies a function to originals in parallel, and yields the copies in order."""


def map_in_threads(work: Callable[[Original], Copy], originals: list[Original]) -> Generator[Copy]:
    """The `ParallelMap` of a single machine: two threads."""
    with ThreadPoolExecutor(2, "amber-reduce") as pool:
        for at in range(0, len(originals), _AHEAD):
            yield from pool.map(work, originals[at : at + _AHEAD])


@dataclass(frozen=True, kw_only=True)
class SmallerCopies:
    """Images with a longer side above `max_side` pixels (0: no limit) are packed as JPEG with that longer side.

    A `quality` from 1 to 100 encodes all images as JPEG of that quality. With 0, smaller images keep their files, and
    larger ones get `QUALITY`.
    """

    max_side: int = 0
    quality: int = 0

    def __post_init__(self) -> None:
        if self.max_side < 0 or not 0 <= self.quality <= 100:
            given = f"max_side {self.max_side}, quality {self.quality}"
            raise BadInput(f"{given}: at least 1 pixel, and a quality from 1 to 100, or 0 for neither; correct it")

    @classmethod
    def load(cls, home: Path) -> Self:
        """The setting of the workspace; Damaged if its file cannot be read."""
        path = home / "packs" / "reduced.json"
        try:
            return cls(**json_value(path.read_text())) if path.is_file() else cls()
        except (ValueError, TypeError) as error:
            raise Damaged(
                f"{path}: must hold max_side and quality ({error}); delete it, then set them again"
            ) from error

    def save(self, home: Path) -> None:
        """Make this the setting of the workspace."""
        with whole(home / "packs" / "reduced.json") as part:
            part.write_text(json.dumps(asdict(self)))

    def apply(
        self, samples: pa.Table, home: Path, progress: Progress | None = None, first: float = 0.0,
        parallel_map: ParallelMap = map_in_threads,
    ) -> pa.Table:  # fmt: skip
        """`samples` (as `write_pack` takes them) with copies in place of their originals.

        Makes the missing copies with `parallel_map`, starting at the fraction `first` (0 to 1) of the samples, so that
        several machines may share the work. NotFound for a missing file; Damaged for a file that has changed since it
        was ingested, or is not an image.
        """
        where = np.flatnonzero(self._reduces(samples))
        if not len(where):
            return samples
        folder = home.resolve() / "reduced" / f"{self.max_side}-{self.quality or QUALITY}"
        copies = self._copies(samples.take(where), folder, progress, int(first * len(where)), parallel_map)
        for name in ("sha256", "bytes", "width", "height"):
            samples = _with_values(samples, name, where, copies[name])
        names = map(_name, copies["key"].to_pylist(), copies["of"].to_pylist())
        samples = _with_values(samples, "location", where, pa.array([str(folder / name) for name in names]))
        return _with_values(samples, "format", where, pa.repeat("JPEG", len(where)))

    def _reduces(self, samples: pa.Table) -> Bools:
        if self.quality:
            return np.ones(len(samples), np.bool_)
        longer = np.maximum(np.asarray(samples["width"]), np.asarray(samples["height"]))
        return np.asarray(longer > (self.max_side or np.inf))

    def _copies(
        self, samples: pa.Table, folder: Path, progress: Progress | None, first: int, parallel_map: ParallelMap
    ) -> pa.Table:
        """The rows of `copies.parquet` for these samples, in the same order."""
        remove_leftovers(folder.glob("*.part"))
        wanted = samples.select(["key", "sha256", "location"]).rename_columns(["key", "of", "location"])
        wanted, known = wanted.append_column("row", pa.array(np.arange(len(wanted)))), _known(folder)
        missing = wanted.join(known, ["key", "of"], join_type="left anti").sort_by("row")
        left = missing.drop_columns("row").to_pylist()
        if left:
            first = min(first, len(left))
            known = pa.concat_tables([known, self._make(left[first:] + left[:first], folder, progress, parallel_map)])
            with whole(folder / "copies.parquet") as path:
                pq.write_table(known, path)
        return wanted.join(known, ["key", "of"]).sort_by("row")

    def _make(
        self, originals: list[Original], folder: Path, progress: Progress | None, parallel_map: ParallelMap
    ) -> pa.Table:
        made: list[Copy] = []
        with closing(parallel_map(partial(self._copy, folder), originals)) as copies:
            for copy in copies:
                made.append(copy)
                if progress is not None:
                    progress(len(made), len(originals))
        return pa.Table.from_pylist(made, _COPIES)

    def _copy(self, folder: Path, original: Original) -> Copy:
        """Make one copy, unless it exists, for example because another process has made it."""
        key, of = original["key"], original["of"]
        path = folder / _name(key, of)
        if not path.is_file():
            pixels = _pixels(key, of, original["location"])
            height, width = pixels.shape[:2]
            scale = min(1.0, (self.max_side or np.inf) / max(height, width))
            if scale < 1:
                size = max(1, round(width * scale)), max(1, round(height * scale))
                pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
            with whole(path) as part:
                part.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), self.quality or QUALITY))
        data = path.read_bytes()
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        found = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "width": width, "height": height}
        return {"key": key, "of": of, **found}


def forget_copies(home: Path, key: str) -> None:
    """Remove all copies of one image, including copies of a killed run that are missing from `copies.parquet`."""
    for folder in (home / "reduced").glob("*"):
        for path in folder.glob(_name(key, "*")):
            path.unlink()
        copies = _known(folder)
        with whole(folder / "copies.parquet") as part:
            pq.write_table(copies.filter(pc.not_equal(copies["key"], key)), part)


def _name(key: str, of: str) -> str:
    """The file name of a copy. A stem holds no special character of a glob pattern."""
    return f"{tar.member_name(key)}.{of}.jpg"


def _pixels(key: str, sha256: str, location: str) -> npt.NDArray[np.uint8]:
    """[H, W, 3] pixels of the ingested image; NotFound or Damaged if the file is missing or has changed."""
    try:
        data = read_bytes(location)
    except BadInput as error:
        raise unreadable_image_error(key, location, error) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise changed_image_error(key, location)
    try:
        return load_rgb(data)
    except BadImage as error:
        raise Damaged(f"{key}: {location} {error}") from error


def _known(folder: Path) -> pa.Table:
    """The rows of `copies.parquet`; an empty table if it is missing."""
    table = folder / "copies.parquet"
    if not table.is_file():
        return _COPIES.empty_table()
    return read_parquet(table, "remove it, and the copies are made again")


def _with_values(
    table: pa.Table, name: str, where: npt.NDArray[np.intp], values: pa.Array | pa.ChunkedArray
) -> pa.Table:
    """`table` with `values` at the rows `where` of a column."""
    mask = np.zeros(len(table), np.bool_)
    mask[where] = True
    column = table[name].combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    updated = pc.replace_with_mask(column, pa.array(mask), values.cast(column.type))
    return table.set_column(table.column_names.index(name), name, updated)
