"""Packs: image bytes written once into plain tars that any WebDataset reader opens, and an index over them.

    shards/<sha256>.tar          <stem>.jpg, <stem>.json of one image after the other
    packs/<hash>/index.parquet   one line an image, by key
    packs/<hash>/manifest.json   written last: where it is, the pack is complete

Shards are never rewritten: a larger pack takes over the shards of the smaller ones and adds its own.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.digest import digest
from curation.errors import BadInput, Busy, Damaged, Failed, NotFound
from curation.files import whole
from samplers.shards import Shard, Shards
from samplers.work import Progress, Work, clean

if TYPE_CHECKING:
    from curation import Catalog

__all__ = [
    "SHARD_BYTES", "Pack", "Progress", "complete", "finish_pack", "included", "make_pack", "planned", "repack", "turn",
    "write_pack", "write_part",
]  # fmt: skip

SHARD_BYTES = 64 << 20
"""How large a tar may grow, in bytes; an image that is larger has a shard of its own."""

_INDEX = pa.schema(
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
_WANTED = pa.schema(
    [
        ("key", pa.string()),
        ("location", pa.string()),
        ("size", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("format", pa.string()),
    ]
)
_PLACED = _INDEX.set(1, pa.field("shard", pa.string()))  # named by its file, as long as numbers are not yet given


@dataclass(frozen=True, kw_only=True)
class Pack:
    """A complete, immutable pack of a workspace. Rows are in the order of `keys`; the index is read on first use."""

    home: Path
    hash: str
    shards: tuple[Shard, ...]
    images: int
    bytes: int
    """Of the images alone, without what the tars add."""
    formerly: tuple[str, ...] = ()
    """Hashes of the packs that this one stands for, since an image of theirs was forgotten."""

    @classmethod
    def open(cls, home: Path | str, hash: str) -> "Pack":
        """The pack of that hash, or the one that stands for it since an image was forgotten; NotFound without one."""
        path = Path(home) / "packs" / hash / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            shards = tuple(Shard(name=s["name"], size=s["size"], images=s["images"]) for s in manifest["shards"])
            return cls(home=Path(home), hash=hash, shards=shards, images=manifest["images"], bytes=manifest["bytes"])
        except FileNotFoundError:
            stand_in = cls.open(home, _stand_in(Path(home), hash))
            return replace(stand_in, formerly=(*stand_in.formerly, hash))
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f"{path}: not the manifest of a pack ({error!r}); delete its folder and pack again"
            ) from error

    @cached_property
    def index(self) -> pa.Table:
        """key, shard (a number in `shards`), offset and size of the image's bytes in it, width, height, sha256, format.

        Damaged if it is not the index that this pack was hashed with.
        """
        path = self.home / "packs" / self.hash / "index.parquet"
        try:
            index = pq.read_table(path, schema=_INDEX).combine_chunks()
        except (OSError, pa.ArrowException) as error:
            raise Damaged(f"{path}: cannot be read; delete its folder and pack again") from error
        if digest(index, [shard.name for shard in self.shards]) != self.hash:
            raise Damaged(f"{path}: not the index of pack {self.hash}; delete its folder and pack again")
        return index

    @cached_property
    def keys(self) -> pa.StringArray:
        """Keys of the images, sorted."""
        return self.index["key"].combine_chunks()

    @cached_property
    def shard(self) -> npt.NDArray[np.int32]:
        """For each row the number of its shard."""
        return np.asarray(self.index["shard"], np.int32)

    @cached_property
    def offset(self) -> npt.NDArray[np.int64]:
        """For each row where its bytes begin in the shard."""
        return np.asarray(self.index["offset"], np.int64)

    @cached_property
    def size(self) -> npt.NDArray[np.int32]:
        """For each row the number of its bytes."""
        return np.asarray(self.index["size"], np.int32)

    def rows(self, keys: pa.Array | list[str]) -> npt.NDArray[np.int32]:
        """Row numbers of the keys, in their order; NotFound names the first that the pack does not hold."""
        asked = pa.array(keys, pa.string())
        rows = pc.index_in(asked, value_set=self.keys)
        if rows.null_count:
            key = asked.filter(pc.is_null(rows))[0].as_py()
            raise NotFound(f"{key}: not in pack {self.hash[:12]}; add the image, then pack again")
        return np.asarray(rows, np.int32)

    def take(self, keys: pa.StringArray) -> "Placed":
        """Where the images of `keys` lie, in their order; NotFound as `rows` raises it."""
        rows = self.rows(keys)
        return Placed(keys=keys, shard=self.shard[rows], offset=self.offset[rows], size=self.size[rows])

    def reader(self) -> Shards:
        """The bytes of this pack's shards; close it after use."""
        return Shards(self.home / "shards", self.shards)

    def scan(self) -> Iterator[tuple[str, memoryview]]:
        """Key and bytes of all images in the order of the shards, without a copy; Damaged as `Shards.whole` raises."""
        order = np.lexsort((self.offset, self.shard))
        firsts = np.searchsorted(self.shard[order], np.arange(len(self.shards) + 1))
        with closing(self.reader()) as shards:
            for number in range(len(self.shards)):
                rows = order[firsts[number] : firsts[number + 1]]
                view, starts = shards.whole(number), self.offset[rows]
                keys, stops = self.keys.take(pa.array(rows)).to_pylist(), (starts + self.size[rows]).tolist()
                yield from zip(keys, map(view.__getitem__, map(slice, starts.tolist(), stops)), strict=True)
                shards.close()  # one shard at a time

    def verify(self, progress: Progress | None = None) -> None:
        """Hash all images and shards again; Damaged names the first shard, and key, that is not what was written."""
        hashes, done = self.index["sha256"].to_pylist(), 0
        with closing(self.reader()) as shards:
            for number, shard in enumerate(self.shards):
                for row in np.flatnonzero(self.shard == number).tolist():
                    data = shards.read(number, int(self.offset[row]), int(self.size[row]))
                    if hashlib.sha256(data).hexdigest() != hashes[row]:
                        name, key = shard.name, self.keys[row].as_py()
                        raise Damaged(
                            f"{name}, {key}: the image's bytes have changed; restore the shard, or pack again"
                        )
                    done += 1
                if hashlib.sha256(shards.whole(number)).hexdigest() != Path(shard.name).stem:
                    raise Damaged(f"{shard.name}: its bytes have changed between the images; restore it, or pack again")
                shards.close()  # one shard at a time
                if progress is not None:
                    progress(done, self.images)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where some images of a pack lie: of each its key, the number of its shard, and offset and size of its bytes."""

    keys: pa.StringArray
    shard: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]


def _stand_in(home: Path, hash: str) -> str:
    """The pack that took the place of one of which an image was forgotten."""
    path = home / "packs" / hash / "moved.json"
    to = json.loads(path.read_bytes())["to"] if path.is_file() else ""
    if not to:
        raise NotFound(f"pack {hash}: {home} has no complete one; `amber pack` makes one")
    return str(to)


def make_pack(catalog: "Catalog", *, shard_bytes: int = SHARD_BYTES, progress: Progress | None = None) -> Pack:
    """Pack all samples that are not excluded; an image that a pack of the workspace holds stays where it is.

    Killed at any moment, it goes on from there when it is run again. Raises as `write_pack` does.
    """
    return write_pack(included(catalog), catalog.home, shard_bytes=shard_bytes, progress=progress)


def included(catalog: "Catalog") -> pa.Table:
    """The samples that `make_pack` packs."""
    with catalog.read() as now:
        samples = now.samples()
    return samples.filter(pc.invert(samples["excluded"]))


def write_pack(
    samples: pa.Table,
    home: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    threads: int = 2,
    progress: Progress | None = None,
) -> Pack:
    """Pack the images of a table with the columns key, location, sha256, width, height, format and bytes.

    A location is a path, a URL or a member of a tar (`curation/locations.py`).
    Equal input gives equal bytes, whatever `threads` is. BadInput when there are no images, NotFound or Damaged when
    a file is not there or no longer the one that was ingested, Busy while another process packs in the workspace.
    """
    with turn(home), _said(home):
        kept, work = planned(samples, home, shard_bytes)
        work.run(threads, progress)
        return _finished(kept, work, home)


def write_part(
    samples: pa.Table,
    home: Path,
    part: int,
    parts: int,
    *,
    shard_bytes: int = SHARD_BYTES,
    threads: int = 2,
    progress: Progress | None = None,
) -> None:
    """Write the `part`-th of `parts` (from 1) of the shards that `write_pack` would write; `finish_pack` ends it.

    Parts may run at the same time, on any machines that see `home`, and again when they were killed.
    """
    if not 1 <= part <= parts:
        raise BadInput(f"part {part}/{parts}: from 1/{parts} to {parts}/{parts}; correct it")
    with turn(home, shared=True), _said(home):
        planned(samples, home, shard_bytes)[1].run(threads, progress, part, parts)


def finish_pack(samples: pa.Table, home: Path, *, shard_bytes: int = SHARD_BYTES) -> Pack:
    """The pack whose parts were all written: byte for byte that of `write_pack`. BadInput when shards are missing."""
    with turn(home), _said(home):
        return _finished(*planned(samples, home, shard_bytes), home)


@contextmanager
def turn(home: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the workspace's pack.lock: two packers would each take the other's files for leftovers.

    Writers of parts share it: they leave alone what they do not write.
    """
    (home / "packs").mkdir(parents=True, exist_ok=True)
    with (home / "packs" / ".lock").open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{home}: another process packs there; wait for it, or end it") from None
        yield


@contextmanager
def _said(home: Path) -> Iterator[None]:
    """What the machine refuses, in one line."""
    try:
        yield
    except OSError as error:
        raise Failed(f"{home}: not fully packed ({error.strerror}); mend that, then pack again") from error


def planned(samples: pa.Table, home: Path, shard_bytes: int) -> tuple[pa.Table, Work]:
    """Where the images lie that are in a pack already, and the work of writing the others."""
    kept, new = _placed(_wanted(samples), complete(home))
    return kept, Work.cut(new, home, shard_bytes)


def _finished(kept: pa.Table, work: Work, home: Path) -> Pack:
    clean(home, keep=work.folder, named={shard.name for pack in complete(home) for shard in pack.shards})
    pack = repack(pa.concat_tables([kept, work.written().select(_PLACED.names)]), home)
    shutil.rmtree(work.folder, ignore_errors=True)
    return pack


def _wanted(samples: pa.Table) -> pa.Table:
    """The samples by key, checked, with the columns that `Work` and the index take."""
    if not samples.num_rows:
        raise BadInput("0 images: a pack holds at least one; ingest some, or include some again")
    table = samples.append_column("size", samples["bytes"]).select(_WANTED.names).cast(_WANTED).sort_by("key")
    if repeated := _first(table["key"][1:], pc.equal(table["key"][1:], table["key"][:-1])):
        raise BadInput(f"{repeated}: two images have this key; name each once")
    return table


def _first(values: pa.ChunkedArray, mask: pa.ChunkedArray) -> str | None:
    found = values.filter(mask)
    return str(found[0]) if len(found) else None


def complete(home: Path) -> list[Pack]:
    """All complete packs of a workspace."""
    return [Pack.open(home, path.parent.name) for path in sorted((home / "packs").glob("*/manifest.json"))]


def _placed(wanted: pa.Table, packs: list[Pack]) -> tuple[pa.Table, pa.Table]:
    """The images that lie in a shard of a complete pack, with shard (its name) and offset; and those that do not."""
    if not packs:
        return _PLACED.empty_table(), wanted
    places = pa.concat_tables([_places(pack) for pack in packs])
    found = wanted.join(_one_each(places), ["key", "sha256"], join_type="left outer").sort_by("key")
    new = pc.is_null(found["shard"])
    return found.filter(pc.invert(new)).select(_PLACED.names), found.filter(new).select(_WANTED.names)


def _places(pack: Pack) -> pa.Table:
    """key, sha256, shard (its name) and offset of the images whose shard is there in full."""
    names = pa.array([shard.name if _intact(pack, shard) else None for shard in pack.shards], pa.string())
    shard = names.take(pack.index["shard"])
    places = pack.index.select(["key", "sha256", "offset"]).append_column("shard", shard)
    return places.filter(pc.is_valid(places["shard"]))


def _intact(pack: Pack, shard: Shard) -> bool:
    path = pack.home / "shards" / shard.name
    return path.is_file() and path.stat().st_size == shard.size


def _one_each(places: pa.Table) -> pa.Table:
    """Of the places of one image the one in the shard of the smallest name: so a further pack moves nothing."""
    ordered = places.sort_by([("key", "ascending"), ("sha256", "ascending"), ("shard", "ascending")])
    keys, hashes = ordered["key"], ordered["sha256"]
    same = pc.and_(pc.equal(keys[1:], keys[:-1]), pc.equal(hashes[1:], hashes[:-1]))
    first = np.concatenate([np.ones(min(1, len(keys)), bool), ~np.asarray(same, bool)])
    return ordered.filter(pa.array(first))


def repack(placed: pa.Table, home: Path) -> Pack:
    """The pack of images whose shards are written, with the columns of the index, `shard` being a file's name."""
    placed = placed.sort_by("key")
    names = sorted(pc.unique(placed["shard"]).to_pylist())
    codes = pc.index_in(placed["shard"], value_set=pa.array(names)).cast(pa.int32())
    index = placed.set_column(placed.column_names.index("shard"), "shard", codes).select(_INDEX.names)
    hash = digest(index, names)
    if not (home / "packs" / hash / "manifest.json").exists():
        _write_index(home, hash, index, names)
    return Pack.open(home, hash)


def _write_index(home: Path, hash: str, index: pa.Table, names: list[str]) -> None:
    counts = np.bincount(np.asarray(index["shard"]), minlength=len(names)).tolist()
    shards = [
        Shard(name=name, size=(home / "shards" / name).stat().st_size, images=count)
        for name, count in zip(names, counts, strict=True)
    ]
    manifest = {
        "hash": hash,
        "images": index.num_rows,
        "bytes": pc.sum(index["size"]).as_py(),
        "shards": [asdict(shard) for shard in shards],
    }
    folder = home / "packs" / hash
    with whole(folder / "index.parquet") as part:
        pq.write_table(index, part, compression="zstd")
    with whole(folder / "manifest.json") as part:
        part.write_text(json.dumps(manifest, indent=1))
