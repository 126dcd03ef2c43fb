"""Smaller copies of images, for packs that need not hold every pixel.

    packs/reduced.json                 what the workspace asks for: every later pack of it holds such copies
    reduced/<name>/<stem>.<of>.jpg     the copy of one image, made once; `of` is the sha256 of the image
    reduced/<name>/copies.parquet      of each copy its size and sha256

`name` is the longest side and the quality. An image that is no larger stays as it is, unless all are to be made anew.
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
from curation.images.decoding import BadImage, load_rgb
from samplers.shards import tar
from samplers.shards.shard_writer import changed_image_error, unreadable_image_error

__all__ = ["Copy", "Original", "ParallelMap", "SmallerCopies", "forget_copies", "map_in_threads"]

QUALITY = 90
"""Of JPEG, where none is asked for."""
_COPIES = pa.schema(
    [
        ("key", pa.string()), ("of", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64()),
        ("width", pa.int32()), ("height", pa.int32()),
    ]
)  # fmt: skip
_AHEAD = 64  # copies that are being made while the first of them is waited for

Original = dict[str, str]
"""The key, sha256 (`of`) and location of an image that a copy is made of."""
Copy = dict[str, Any]
"""A line of `copies.parquet`."""
ParallelMap = Callable[[Callable[[Original], Copy], list[Original]], Generator[Copy]]
"""Does a work for many originals at a time, and yields the copies in their order."""


def map_in_threads(work: Callable[[Original], Copy], originals: list[Original]) -> Generator[Copy]:
    """The `ParallelMap` of a machine by itself."""
    with ThreadPoolExecutor(2, "amber-reduce") as pool:
        for at in range(0, len(originals), _AHEAD):
            yield from pool.map(work, originals[at : at + _AHEAD])


@dataclass(frozen=True, kw_only=True)
class SmallerCopies:
    """Images whose longer side has more than `max_side` pixels (0: none) are packed as JPEG with that side.

    With a `quality` (1 to 100) all images are written anew as JPEG of it; 0 leaves those that are no larger as they
    are, and gives the others `QUALITY`.
    """

    max_side: int = 0
    quality: int = 0

    def __post_init__(self) -> None:
        if self.max_side < 0 or not 0 <= self.quality <= 100:
            told = f"max_side {self.max_side}, quality {self.quality}"
            raise BadInput(f"{told}: pixels from 1 on, and a quality from 1 to 100, or 0 for neither; correct it")

    @classmethod
    def of(cls, home: Path) -> Self:
        """What the workspace asks for."""
        path = home / "packs" / "reduced.json"
        try:
            return cls(**json.loads(path.read_text())) if path.is_file() else cls()
        except (ValueError, TypeError) as error:
            raise Damaged(f"{path}: does not say max_side and quality ({error}); delete it, and ask anew") from error

    def save(self, home: Path) -> None:
        """Let the workspace ask for it from now on."""
        with whole(home / "packs" / "reduced.json") as part:
            part.write_text(json.dumps(asdict(self)))

    def apply(
        self, samples: pa.Table, home: Path, progress: Progress | None = None, first: float = 0.0,
        spread: ParallelMap = map_in_threads,
    ) -> pa.Table:  # fmt: skip
        """`samples` (as `write_pack` takes them) with the copies in the place of the images that they are made of.

        Copies are made that are not there yet, from the place `first` (0 to 1) of the samples on, so that several may
        share the work; `spread` does it. NotFound or Damaged for a file that is not there, is not the one that was
        ingested, or is no image.
        """
        where = np.flatnonzero(self._reduces(samples))
        if not len(where):
            return samples
        folder = home.resolve() / "reduced" / f"{self.max_side}-{self.quality or QUALITY}"
        copies = self._copies(samples.take(where), folder, progress, int(first * len(where)), spread)
        for name in ("sha256", "bytes", "width", "height"):
            samples = _put(samples, name, where, copies[name])
        names = map(_name, copies["key"].to_pylist(), copies["of"].to_pylist())
        samples = _put(samples, "location", where, pa.array([str(folder / name) for name in names]))
        return _put(samples, "format", where, pa.repeat("JPEG", len(where)))

    def _reduces(self, samples: pa.Table) -> Bools:
        if self.quality:
            return np.ones(len(samples), np.bool_)
        longer = np.maximum(np.asarray(samples["width"]), np.asarray(samples["height"]))
        return np.asarray(longer > (self.max_side or np.inf))

    def _copies(
        self, samples: pa.Table, folder: Path, progress: Progress | None, first: int, spread: ParallelMap
    ) -> pa.Table:
        """The lines of `copies.parquet` for these samples, in their order."""
        remove_leftovers(folder.glob("*.part"))
        wanted = samples.select(["key", "sha256", "location"]).rename_columns(["key", "of", "location"])
        wanted, known = wanted.append_column("place", pa.array(np.arange(len(wanted)))), _known(folder)
        lacking = wanted.join(known, ["key", "of"], join_type="left anti").sort_by("place")
        left = lacking.drop_columns("place").to_pylist()
        if left:
            first = min(first, len(left))
            known = pa.concat_tables([known, self._make(left[first:] + left[:first], folder, progress, spread)])
            with whole(folder / "copies.parquet") as path:
                pq.write_table(known, path)
        return wanted.join(known, ["key", "of"]).sort_by("place")

    def _make(
        self, originals: list[Original], folder: Path, progress: Progress | None, spread: ParallelMap
    ) -> pa.Table:
        made: list[Copy] = []
        with closing(spread(partial(self._copy, folder), originals)) as copies:
            for copy in copies:
                made.append(copy)
                if progress is not None:
                    progress(len(made), len(originals))
        return pa.Table.from_pylist(made, _COPIES)

    def _copy(self, folder: Path, original: Original) -> Copy:
        """Make one copy, unless another process just did."""
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
    """Remove all copies of one image, also those that a killed run has left without a line."""
    for folder in (home / "reduced").glob("*"):
        for path in folder.glob(_name(key, "*")):
            path.unlink()
        copies = _known(folder)
        with whole(folder / "copies.parquet") as part:
            pq.write_table(copies.filter(pc.not_equal(copies["key"], key)), part)


def _name(key: str, of: str) -> str:
    """The file of a copy; a stem has no character that a pattern gives a meaning to."""
    return f"{tar.member_name(key)}.{of}.jpg"


def _pixels(key: str, sha256: str, location: str) -> npt.NDArray[np.uint8]:
    """[H, W, 3] of the image as it was ingested."""
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
    """The copies that were made before."""
    table = folder / "copies.parquet"
    return pq.read_table(table) if table.is_file() else _COPIES.empty_table()


def _put(table: pa.Table, name: str, where: npt.NDArray[np.intp], values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """`table` with `values` in the places `where` of a column."""
    mask = np.zeros(len(table), np.bool_)
    mask[where] = True
    column = table[name].combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    changed_image_error = pc.replace_with_mask(column, pa.array(mask), values.cast(column.type))
    return table.set_column(table.column_names.index(name), name, changed_image_error)
