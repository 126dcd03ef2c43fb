"""A complete pack: its index of images, and its reader, on local disk or at a URL."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.arrays import Int32s, Ints
from curation.errors import BadInput, Damaged, NotFound
from curation.files.digest import digest
from curation.files.locations import is_url
from curation.files.progress import Progress
from curation.files.read_back import json_value
from curation.rows import SHOWN, html_table, shortened
from samplers.shards.open_shards import LocalShards, Shard, ShardSource, VerifiedShards
from samplers.shards.prefetcher import Cache
from samplers.shards.row_index import RowIndex

if TYPE_CHECKING:
    from curation.files.remote_files import RemoteFiles

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

    root: "Path | RemoteFiles"
    """Its workspace, on local disk or at a URL."""
    hash: str
    shards: tuple[Shard, ...]
    images: int
    bytes: int
    """The size of all images, without tar headers and sidecars."""
    replaced_hashes: tuple[str, ...] = ()
    """Hashes of earlier packs that this pack replaces because one of their images was forgotten."""

    cache: Cache = field(default_factory=Cache)
    """The cache for the images of a pack at a URL."""

    def __repr__(self) -> str:
        return shortened(f"Pack {self.hash[:12]}: {self._in_short()}")

    def _repr_html_(self) -> str:
        rows = [[shard.name, shard.images, shard.size] for shard in self.shards[:SHOWN]]
        return html_table(f"Pack {self.hash}: {self._in_short()}", ["shard", "images", "bytes"], rows)

    def _in_short(self) -> str:
        return f"{self.images:,} images, {self.bytes:,} bytes, in {len(self.shards):,} shards"

    @classmethod
    def open(cls, home: Path | str, hash: str, *, cache: Cache | None = None) -> "Pack":
        """The pack with `hash`, or the pack that replaces it after an image was forgotten; NotFound if there is none.

        `home` is a workspace, or the URL of a copy of its `packs` and `shards`: s3://BUCKET/PREFIX, https://HOST/PATH.
        Failed if a URL cannot be reached.
        """
        root = _remote(str(home)) if is_url(str(home)) else Path(home)
        return cls._open(root, hash, cache or Cache())

    @classmethod
    def _open(cls, root: "Path | RemoteFiles", hash: str, cache: Cache) -> "Pack":
        path = f"packs/{hash}/manifest.json"

        def read(data: bytes) -> "Pack":
            try:
                manifest = json_value(data)
                if manifest.pop("sha256", None) not in (None, manifest_digest(manifest)):
                    raise ValueError("its sha256 does not match")
                shards = tuple(Shard(name=s["name"], size=s["size"], images=s["images"]) for s in manifest["shards"])
                images, size = manifest["images"], manifest["bytes"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Damaged(
                    f"{_address(root)}/{path}: not the manifest of a pack ({error!r}); {_fix(root)}"
                ) from error
            return cls(root=root, hash=hash, shards=shards, images=images, bytes=size, cache=cache)

        try:
            return _read_as(root, path, read)
        except NotFound:
            successor = cls._open(root, _successor(root, hash), cache)
            return replace(successor, replaced_hashes=(*successor.replaced_hashes, hash))

    @property
    def home(self) -> Path:
        """The workspace; BadInput for a pack at a URL, which is read-only."""
        if not isinstance(self.root, Path):
            raise BadInput(f"{self.root.url}: a pack at a URL is read-only; copy it into a workspace first")
        return self.root

    @cached_property
    def index(self) -> pa.Table:
        """One row per image: key, shard (index into `shards`), offset and size in bytes, width, height, sha256, format.

        Damaged if it is not the index that this pack was hashed with, or the manifest counts other images.
        """
        path = f"packs/{self.hash}/index.parquet"
        where = f"{_address(self.root)}/{path}"

        def read(data: bytes) -> pa.Table:
            try:
                index = pq.read_table(pa.BufferReader(data), schema=INDEX).combine_chunks()
            except (OSError, pa.ArrowException) as error:
                raise Damaged(f"{where}: cannot be read; {_fix(self.root)}") from error
            if digest(index, [shard.name for shard in self.shards]) != self.hash:
                raise Damaged(f"{where}: not the index of pack {self.hash}; {_fix(self.root)}")
            return index

        try:
            index = _read_as(self.root, path, read)
        except (NotFound, OSError) as error:
            raise Damaged(f"{where}: cannot be read; {_fix(self.root)}") from error
        counts = np.bincount(np.asarray(index["shard"]), minlength=len(self.shards)).tolist()
        found = len(index), pc.sum(index["size"]).as_py(), counts
        if found != (self.images, self.bytes, [shard.images for shard in self.shards]):
            raise Damaged(f"{where}: the manifest counts other images; {_fix(self.root)}")
        return index

    @cached_property
    def keys(self) -> pa.StringArray:
        """Sorted keys of the images [N]."""
        return self.index["key"].combine_chunks()

    def sizes(self, keys: Sequence[str]) -> Ints:
        """Width and height [n, 2] in pixels of the upright images of these keys."""
        rows = self.rows(list(keys))
        return np.stack([self.index[name].to_numpy()[rows] for name in ("width", "height")], axis=1).astype(np.int64)

    @cached_property
    def shard(self) -> Int32s:
        """The index of each image's shard [N]."""
        return np.asarray(self.index["shard"], np.int32)

    @cached_property
    def offset(self) -> Ints:
        """The byte offset of each image in its shard [N]."""
        return np.asarray(self.index["offset"], np.int64)

    @cached_property
    def size(self) -> Int32s:
        """The size of each image in bytes [N]."""
        return np.asarray(self.index["size"], np.int32)

    def rows(self, keys: pa.Array | list[str]) -> Int32s:
        """The rows of `keys`, in the same order; NotFound names the first key that the pack lacks.

        >>> pack = make_pack(catalog)
        >>> pack.rows(pack.keys[2:4].to_pylist()).tolist()
        [2, 3]
        """
        requested = pa.array(keys, pa.string())
        rows = pc.index_in(requested, value_set=self.keys)
        if rows.null_count:
            key = requested.filter(pc.is_null(rows))[0].as_py()
            raise NotFound(f"{key}: not in pack {self.hash[:12]}; add the image, then pack again")
        return np.asarray(rows, np.int32)

    def locate(self, keys: pa.StringArray) -> "ImageLocations":
        """The locations of the images of `keys`, in the same order; raises what `rows` raises."""
        rows = self.rows(keys)
        return ImageLocations(keys=keys, shard=self.shard[rows], offset=self.offset[rows], size=self.size[rows])

    def reader(self, *, check: bool = False) -> ShardSource:
        """A reader of this pack's shards; close it after use. With `check` it hashes each image and raises Damaged if
        the bytes have changed; images from a URL are always hashed."""
        if isinstance(self.root, Path) and not check:
            return LocalShards(self.root / "shards", self.shards, home=self.root)
        hashes = self.index["sha256"].combine_chunks()
        if isinstance(self.root, Path):
            rows = RowIndex(self.shard, self.offset, [shard.name for shard in self.shards])
            return VerifiedShards(LocalShards(self.root / "shards", self.shards, home=self.root), rows, hashes)
        from samplers.shards.remote_source import RemoteSource

        return RemoteSource(self.root, self.shards, (self.shard, self.offset, self.size), hashes, self.cache)

    def copy_to(self, url: str, progress: Progress | None = None) -> None:
        """Copy this pack below a URL: the missing shards, then the index, and the manifest last. An interrupted copy is
        not yet a pack; running it again resumes it."""
        to = _remote(url)
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
        """Hash all images and shards again; Damaged names the first shard, and image, that has changed."""
        hashes, done = self.index["sha256"].to_pylist(), 0
        with closing(self.reader()) as shards:
            for number, shard in enumerate(self.shards):
                view = shards.read_shard(number)
                for row in np.flatnonzero(self.shard == number).tolist():
                    data = view[self.offset[row] : self.offset[row] + self.size[row]]
                    if hashlib.sha256(data).hexdigest() != hashes[row]:
                        problem = f"{shard.name}, {self.keys[row].as_py()}: the image's bytes have changed"
                        raise Damaged(f"{problem}; delete {self._path(shard)}, then pack again")
                    done += 1
                if hashlib.sha256(view).hexdigest() != Path(shard.name).stem:
                    problem = f"{shard.name}: its bytes have changed between the images"
                    raise Damaged(f"{problem}; delete {self._path(shard)}, then pack again")
                view = memoryview(b"")  # one shard at a time
                shards.close()
                if progress is not None:
                    progress(done, self.images)

    def _path(self, shard: Shard) -> str:
        return f"{_address(self.root)}/shards/{shard.name}"


@dataclass(frozen=True, kw_only=True)
class ImageLocations:
    """Locations of N images of a pack: their keys, shard indices, and offsets and sizes in bytes."""

    keys: pa.StringArray
    shard: Int32s
    offset: Ints
    size: Int32s


def _successor(root: "Path | RemoteFiles", hash: str) -> str:
    """The hash of the pack that replaces `hash` after an image was forgotten."""
    try:
        to = json_value(_read(root, f"packs/{hash}/moved.json"))["to"]
    except NotFound:
        to = ""
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{_address(root)}/packs/{hash}/moved.json: cannot be read ({error!r}); {_fix(root)}") from error
    if not to:
        raise NotFound(f"pack {hash}: not complete in {_address(root)}; `amber pack` makes one")
    return str(to)


def _remote(url: str) -> "RemoteFiles":
    """The files below a URL; with obstore, which packs on a local disk do not need."""
    from curation.files.remote_files import RemoteFiles

    return RemoteFiles(url)


def _read(root: "Path | RemoteFiles", path: str) -> bytes:
    if not isinstance(root, Path):
        return root.get(path)
    try:
        return (root / path).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{root / path}: is missing; pack again") from error


def manifest_digest(manifest: dict[str, Any]) -> str:
    """The sha256 of a manifest's content."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_as(root: "Path | RemoteFiles", path: str, read: Callable[[bytes], Result]) -> Result:
    """`read` of the bytes of a file; a remote file is fetched again while `read` raises Damaged."""
    return read(_read(root, path)) if isinstance(root, Path) else root.get_as(path, read)


def _fix(root: "Path | RemoteFiles") -> str:
    remote = not isinstance(root, Path)
    return "delete its folder there, then copy again" if remote else "delete its folder and pack again"


def _address(root: "Path | RemoteFiles") -> str:
    return str(root) if isinstance(root, Path) else root.url
