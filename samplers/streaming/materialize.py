"""Write a plan as shards of its own, for consumers without Amber: images in draw order, with labels and weights.

    000000.tar, 000001.tar, ...   <position>.jpg, <position>.json of one draw after the other
    plan.json                     the plan's hash and tasks; written last: a folder with plan.json is complete

An image that is drawn again is written again: read from first to last, with `webdataset` or GNU tar, the shards are the
stream. Image bytes are copied from the pack's shards without decoding. `samplers/streaming/sidecars.py` shows the json.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from curation.errors import AmberError, BadInput
from curation.files.atomic import remove_leftovers, whole
from curation.files.progress import Progress
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import SHARD_BYTES
from samplers.pack.shard_jobs import check_positive
from samplers.plan.plan import Plan
from samplers.shards import tar
from samplers.shards.open_shards import ShardSource
from samplers.shards.shard_members import extension
from samplers.streaming.sidecars import Sidecars

__all__ = ["Materialized", "materialize"]

_PIECES = 1000  # buffers in one call of writev, which takes at most 1,024
_CHUNK = 4096  # draws whose labels are looked up together


@dataclass(frozen=True, kw_only=True)
class Materialized:
    """The folder of the shards, the number of shards and of draws, and their size in bytes."""

    folder: Path
    shards: int
    draws: int
    bytes: int


def materialize(
    plan: Plan,
    pack: Pack,
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    threads: int = 2,
    progress: Progress | None = None,
) -> Materialized:
    """Write all draws of `plan` into `folder`, in shards of about `shard_bytes` bytes with at least one draw each.

    BadInput if `folder` exists, or `pack` is not the plan's; NotFound, Damaged or Failed, naming shard and key, for an
    image that cannot be read. The folder appears atomically; leftovers of a killed run are removed.

    >>> result = materialize(plan, make_pack(catalog), catalog.home / "draws")
    >>> result.draws, result.shards, (result.folder / "000000.tar").is_file()
    (100, 1, True)
    """
    check_positive(shard_bytes=shard_bytes, threads=threads)
    if folder.exists():
        raise BadInput(f"{folder}: exists already; name a new folder, or remove that one")
    if plan.pack_hash not in (pack.hash, *pack.replaced_hashes):
        raise BadInput(f"pack {pack.hash[:12]}: the plan is over pack {plan.pack_hash[:12]}; open that one")
    remove_leftovers(folder.parent.glob(f"{escape(folder.name)}.*.part"))
    copier = _ShardCopier(plan, pack)
    cuts = copier.cuts(shard_bytes)
    with whole(folder) as part, closing(pack.reader()) as shards, ThreadPoolExecutor(threads, "amber-copy") as pool:
        part.mkdir()
        written = pool.map(lambda job: copier.write(shards, part / f"{job[0]:06d}.tar", *job[1]), enumerate(cuts))
        total = 0
        for (_, stop), size in zip(cuts, written, strict=True):
            total += size
            if progress is not None:
                progress(stop, len(plan.draws))
        header = {"plan": plan.hash, "draws": len(plan.draws), "shards": len(cuts), "tasks": plan.header["tasks"]}
        (part / "plan.json").write_text(json.dumps(header, indent=1))
    return Materialized(folder=folder, shards=len(cuts), draws=len(plan.draws), bytes=total)


class _ShardCopier:
    """Copies draws from a pack's shards into new shards."""

    def __init__(self, plan: Plan, pack: Pack) -> None:
        self._plan = plan
        self._table = plan if pack.hash == plan.pack_hash else pack.locate(plan.keys)
        formats = pc.dictionary_encode(pack.index["format"]).combine_chunks()
        codes = np.asarray(formats.indices)[pack.rows(plan.keys)]
        self._extensions = [[extension(kind) for kind in formats.dictionary.to_pylist()][code] for code in codes]
        self._sidecars = Sidecars(plan)

    def cuts(self, shard_bytes: int) -> list[tuple[int, int]]:
        """The range of draws [start, stop) of each shard."""
        sizes = self._table.size.astype(np.int64)[self._plan.draws] + 4 * tar.BLOCK
        shard = (np.cumsum(sizes) - sizes) // shard_bytes
        stops = [*(np.flatnonzero(np.diff(shard)) + 1).tolist(), len(sizes)]
        return list(zip([0, *stops[:-1]], stops, strict=True))

    def write(self, shards: ShardSource, path: Path, start: int, stop: int) -> int:
        """Write one shard, and return its size in bytes."""
        with path.open("wb", buffering=0) as file:
            pieces: list[bytes | memoryview] = []
            for at in range(start, stop, _CHUNK):
                for before, image, after in self._draws(shards, at, min(at + _CHUNK, stop)):
                    pieces += (before, image, after)
                    if len(pieces) >= _PIECES - 3:
                        _write(file.fileno(), pieces)
                        pieces = []
            _write(file.fileno(), [*pieces, tar.END])
            return file.tell()

    def _draws(self, shards: ShardSource, start: int, stop: int) -> Iterator[tuple[bytes, memoryview, bytes]]:
        """For each draw the header before its image, the image, and the bytes up to the next header."""
        rows = self._plan.draws[start:stop]
        texts = self._sidecars.texts(start, rows)
        sizes = np.asarray(self._table.size[rows], np.int64)
        names = [f"{start + i:09d}.{self._extensions[row]}" for i, row in enumerate(rows.tolist())]
        headers = tar.headers(names, sizes)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        sidecar_headers = tar.headers([f"{start + i:09d}.json" for i in range(len(rows))], lengths)
        locations = zip(
            self._table.shard[rows].tolist(), self._table.offset[rows].tolist(), sizes.tolist(), strict=True
        )
        for i, (location, text) in enumerate(zip(locations, texts, strict=True)):
            after = b"".join((tar.padding(location[2]), sidecar_headers[i].tobytes(), text, tar.padding(len(text))))
            try:
                image = shards.read_out_of_order(*location)
            except AmberError as error:
                raise type(error)(f"{self._plan.keys[int(rows[i])]}: {error}") from error
            yield headers[i].tobytes(), image, after


def _write(descriptor: int, pieces: list[bytes | memoryview]) -> None:
    """Write all pieces; if the kernel writes only a part, write the rest."""
    done, size = os.writev(descriptor, pieces), sum(map(len, pieces))
    if done == size:
        return
    views = [memoryview(piece) for piece in pieces]
    while done < sum(map(len, views)):
        while views and done >= len(views[0]):
            done -= len(views.pop(0))
        views[0] = views[0][done:]
        done = os.writev(descriptor, views)
