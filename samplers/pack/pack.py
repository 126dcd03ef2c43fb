"""A complete pack: where each of its images lies, and how they are read, on this machine or at a URL."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.arrays import Int32s, Ints
from curation.errors import BadInput, Damaged, NotFound
from curation.files.digest import digest
from curation.files.locations import is_url
from curation.files.progress import Progress
from samplers.shards.open_shards import LocalShards, Shard, ShardSource, VerifiedShards
from samplers.shards.prefetcher import Cache
from samplers.shards.remote_files import RemoteFiles
from samplers.shards.remote_source import RemoteSource
from samplers.shards.row_index import RowIndex

__all__ = ["INDEX", "ImageLocations", "Pack", "manifest_digest"]

Result = TypeVar("Result")

INDEX = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("format", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Pack:
    """A complete, immutable pack of a workspace. Rows are in the order of `keys`; the index is read on first use."""

    at: Path | RemoteFiles
    """Its workspace, on this machine or at a URL."""
    hash: str
    shards: tuple[Shard, ...]
    images: int
    bytes: int
    """Of the images alone, without what the tars add."""
    replaced_hashes: tuple[str, ...] = ()
    """UInt64s of the packs that this one stands for, since an image of theirs was forgotten."""

    cache: Cache = field(default_factory=Cache)
    """What the images of a pack at a URL are fetched into."""

    @classmethod
    def open(cls, home: Path | str, hash: str, *, cache: Cache | None = None) -> "Pack":
        """The pack of that hash, or the one that stands for it since an image was forgotten; NotFound without one.

        `home` is a workspace, or the URL of a copy of its `packs` and `shards`: s3://BUCKET/PREFIX, https://HOST/PATH.
        Failed when a URL cannot be reached.
        """
        at = RemoteFiles(str(home)) if is_url(str(home)) else Path(home)
        return cls._open(at, hash, cache or Cache())

    @classmethod
    def _open(cls, at: Path | RemoteFiles, hash: str, cache: Cache) -> "Pack":
        path = f"packs/{hash}/manifest.json"

        def read(data: bytes) -> "Pack":
            try:
                manifest = json.loads(data)
                if manifest.pop("sha256", None) not in (None, manifest_digest(manifest)):
                    raise ValueError("its sha256 is another")
                shards = tuple(Shard(name=s["name"], size=s["size"], images=s["images"]) for s in manifest["shards"])
                images, size = manifest["images"], manifest["bytes"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Damaged(f"{_address(at)}/{path}: not the manifest of a pack ({error!r}); {_fix(at)}") from error
            return cls(at=at, hash=hash, shards=shards, images=images, bytes=size, cache=cache)

        try:
            return _read_as(at, path, read)
        except NotFound:
            stand_in = cls._open(at, _stand_in(at, hash), cache)
            return replace(stand_in, replaced_hashes=(*stand_in.replaced_hashes, hash))

    @property
    def home(self) -> Path:
        """The workspace; BadInput for a pack at a URL, which can only be read."""
        if isinstance(self.at, RemoteFiles):
            raise BadInput(f"{self.at.url}: a pack at a URL can only be read; copy it into a workspace first")
        return self.at

    @cached_property
    def index(self) -> pa.Table:
        """key, shard (a number in `shards`), offset and size of the image's bytes in it, width, height, sha256, format.

        Damaged if it is not the index that this pack was hashed with, or the manifest tells of other images.
        """
        path = f"packs/{self.hash}/index.parquet"
        where = f"{_address(self.at)}/{path}"

        def read(data: bytes) -> pa.Table:
            try:
                index = pq.read_table(BytesIO(data), schema=INDEX).combine_chunks()
            except (OSError, pa.ArrowException) as error:
                raise Damaged(f"{where}: cannot be read; {_fix(self.at)}") from error
            if digest(index, [shard.name for shard in self.shards]) != self.hash:
                raise Damaged(f"{where}: not the index of pack {self.hash}; {_fix(self.at)}")
            return index

        try:
            index = _read_as(self.at, path, read)
        except (NotFound, OSError) as error:
            raise Damaged(f"{where}: cannot be read; {_fix(self.at)}") from error
        counts = np.bincount(np.asarray(index["shard"]), minlength=len(self.shards)).tolist()
        found = len(index), pc.sum(index["size"]).as_py(), counts
        if found != (self.images, self.bytes, [shard.images for shard in self.shards]):
            raise Damaged(f"{where}: the manifest beside it tells of other images; {_fix(self.at)}")
        return index

    @cached_property
    def keys(self) -> pa.StringArray:
        """Keys of the images, sorted."""
        return self.index["key"].combine_chunks()

    @cached_property
    def shard(self) -> Int32s:
        """For each row the number of its shard."""
        return np.asarray(self.index["shard"], np.int32)

    @cached_property
    def offset(self) -> Ints:
        """For each row where its bytes begin in the shard."""
        return np.asarray(self.index["offset"], np.int64)

    @cached_property
    def size(self) -> Int32s:
        """For each row the number of its bytes."""
        return np.asarray(self.index["size"], np.int32)

    def rows(self, keys: pa.Array | list[str]) -> Int32s:
        """Row numbers of the keys, in their order; NotFound names the first that the pack does not hold."""
        asked = pa.array(keys, pa.string())
        rows = pc.index_in(asked, value_set=self.keys)
        if rows.null_count:
            key = asked.filter(pc.is_null(rows))[0].as_py()
            raise NotFound(f"{key}: not in pack {self.hash[:12]}; add the image, then pack again")
        return np.asarray(rows, np.int32)

    def locate(self, keys: pa.StringArray) -> "ImageLocations":
        """Where the images of `keys` lie, in their order; NotFound as `rows` raises it."""
        rows = self.rows(keys)
        return ImageLocations(keys=keys, shard=self.shard[rows], offset=self.offset[rows], size=self.size[rows])

    def reader(self, *, check: bool = False) -> ShardSource:
        """The bytes of this pack's shards; close it after use. With `check` each image is hashed when it is read, and
        Damaged where its bytes have changed; images from elsewhere always are."""
        if isinstance(self.at, Path) and not check:
            return LocalShards(self.at / "shards", self.shards)
        hashes = self.index["sha256"].combine_chunks()
        if isinstance(self.at, Path):
            rows = RowIndex(self.shard, self.offset, [shard.name for shard in self.shards])
            return VerifiedShards(LocalShards(self.at / "shards", self.shards), rows, hashes)
        return RemoteSource(self.at, self.shards, (self.shard, self.offset, self.size), hashes, self.cache)

    def scan(self) -> Iterator[tuple[str, memoryview]]:
        """Key and bytes of all images in the order of the shards, without a copy; Damaged as `Shards.whole` raises."""
        order = np.lexsort((self.offset, self.shard))
        firsts = np.searchsorted(self.shard[order], np.arange(len(self.shards) + 1))
        with closing(self.reader()) as shards:
            for number in range(len(self.shards)):
                rows = order[firsts[number] : firsts[number + 1]]
                view, starts = shards.read_shard(number), self.offset[rows]
                keys, stops = self.keys.take(pa.array(rows)).to_pylist(), (starts + self.size[rows]).tolist()
                yield from zip(keys, map(view.__getitem__, map(slice, starts.tolist(), stops)), strict=True)
                shards.close()  # one shard at a time

    def copy_to(self, url: str, progress: Progress | None = None) -> None:
        """Copy this pack of a workspace below a URL: shards that are not there yet, then the index, and the manifest
        last, so that a copy that was broken off is no pack, and goes on when it is run again."""
        to = RemoteFiles(url)
        for done, shard in enumerate(self.shards, 1):
            if to.size(path := f"shards/{shard.name}") != shard.size:
                to.put(path, self.home / path)
            if progress is not None:
                progress(done, len(self.shards))
        for name in ("index.parquet", "manifest.json"):
            to.put(path := f"packs/{self.hash}/{name}", self.home / path)
        for moved in sorted(self.home.glob("packs/*/moved.json")):  # plans of packs before an image was forgotten
            to.put(str(moved.relative_to(self.home)), moved)

    def verify(self, progress: Progress | None = None) -> None:
        """Hash all images and shards again; Damaged names the first shard, and key, that is not what was written."""
        hashes, done = self.index["sha256"].to_pylist(), 0
        with closing(self.reader()) as shards:
            for number, shard in enumerate(self.shards):
                view = shards.read_shard(number)
                for row in np.flatnonzero(self.shard == number).tolist():
                    data = view[self.offset[row] : self.offset[row] + self.size[row]]
                    if hashlib.sha256(data).hexdigest() != hashes[row]:
                        told = f"{shard.name}, {self.keys[row].as_py()}: the image's bytes have changed"
                        raise Damaged(f"{told}; delete {self._path(shard)}, then pack again")
                    done += 1
                if hashlib.sha256(view).hexdigest() != Path(shard.name).stem:
                    told = f"{shard.name}: its bytes have changed between the images"
                    raise Damaged(f"{told}; delete {self._path(shard)}, then pack again")
                view = memoryview(b"")  # one shard at a time
                shards.close()
                if progress is not None:
                    progress(done, self.images)

    def _path(self, shard: Shard) -> str:
        return f"{_address(self.at)}/shards/{shard.name}"


@dataclass(frozen=True, kw_only=True)
class ImageLocations:
    """Where some images of a pack lie: of each its key, the number of its shard, and offset and size of its bytes."""

    keys: pa.StringArray
    shard: Int32s
    offset: Ints
    size: Int32s


def _stand_in(at: Path | RemoteFiles, hash: str) -> str:
    """The pack that took the place of one of which an image was forgotten."""
    try:
        to = json.loads(_read(at, f"packs/{hash}/moved.json"))["to"]
    except NotFound:
        to = ""
    if not to:
        raise NotFound(f"pack {hash}: {_address(at)} has no complete one; `amber pack` makes one")
    return str(to)


def _read(at: Path | RemoteFiles, path: str) -> bytes:
    if isinstance(at, RemoteFiles):
        return at.get(path)
    try:
        return (at / path).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{at / path}: is not there; pack again") from error


def manifest_digest(manifest: dict[str, Any]) -> str:
    """The sha256 of what a manifest tells."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_as(at: Path | RemoteFiles, path: str, read: Callable[[bytes], Result]) -> Result:
    """What `read` makes of a file; a far one is asked for again where it raises Damaged."""
    return at.get_as(path, read) if isinstance(at, RemoteFiles) else read(_read(at, path))


def _fix(at: Path | RemoteFiles) -> str:
    return (
        "delete its folder there, then copy again"
        if isinstance(at, RemoteFiles)
        else "delete its folder and pack again"
    )


def _address(at: Path | RemoteFiles) -> str:
    return at.url if isinstance(at, RemoteFiles) else str(at)
