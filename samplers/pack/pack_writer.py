"""Packs: image bytes written once into plain tars that any WebDataset reader opens, and an index over them.

    shards/<sha256>.tar          <stem>.jpg, <stem>.json of one image after the other
    packs/<hash>/index.parquet   one row per image, sorted by key
    packs/<hash>/manifest.json   written last: a pack with a manifest is complete

Shards are never rewritten: a larger pack reuses the shards of smaller packs and adds its own.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Failed
from curation.files.atomic import whole
from curation.files.digest import digest
from curation.files.locations import MAX_BYTES
from curation.files.locks import locked
from curation.files.progress import Progress
from samplers.pack.pack import INDEX, Pack, manifest_digest
from samplers.pack.shard_jobs import ShardJobs, check_positive, remove_stale_work
from samplers.pack.smaller_copies import ParallelMap, SmallerCopies, map_in_threads
from samplers.shards.open_shards import Shard

__all__ = [
    "SHARD_BYTES",
    "Pack",
    "check_part",
    "complete_packs",
    "finish_pack",
    "make_pack",
    "pack_lock",
    "packable_samples",
    "shard_jobs_for",
    "write_pack",
    "write_pack_index",
    "write_part",
]  # fmt: skip

SHARD_BYTES = 64 << 20
"""The maximum size of a shard in bytes; a larger image gets a shard of its own."""

_SAMPLE_SCHEMA = pa.schema(
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
_LOCATED_SCHEMA = INDEX.set(1, pa.field("shard", pa.string()))  # by file name, until shards have indices


def make_pack(catalog: Catalog, *, shard_bytes: int = SHARD_BYTES, progress: Progress | None = None) -> Pack:
    """The pack of all samples that are not excluded. Images that are in a pack of the workspace are not written again.

    Shards hold up to `shard_bytes` bytes. If the process is killed, calling it again resumes. Raises what `write_pack`
    raises.

    >>> pack = make_pack(catalog)
    >>> pack.images == len(pack.keys), make_pack(catalog).hash == pack.hash
    (True, True)
    """
    samples = packable_samples(catalog, progress=progress)
    return write_pack(samples, catalog.home, shard_bytes=shard_bytes, progress=progress)


def packable_samples(
    catalog: Catalog,
    *,
    first: float = 0.0,
    parallel_map: ParallelMap = map_in_threads,
    progress: Progress | None = None,
) -> pa.Table:
    """The samples that `make_pack` packs: those that are not excluded, as smaller copies if the workspace has set so.

    Passes `first` and `parallel_map` to `SmallerCopies.apply`, and raises what it raises.
    """
    with catalog.read() as now:
        samples = now.samples()
    samples = samples.filter(pc.invert(samples["excluded"]))
    with _one_line_errors(catalog.home):
        return SmallerCopies.load(catalog.home).apply(samples, catalog.home, progress, first, parallel_map)


def write_pack(
    samples: pa.Table,
    home: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Pack:
    """The pack of the images of a table with the columns key, location, sha256, width, height, format and bytes.

    A location is a path, a URL or a member of a tar (`curation/files/locations.py`). `workers` shards are written at
    the same time (default: one per core); equal input gives equal bytes for any number. BadInput if there are no
    images, for an empty or repeated key, and for an image above `curation.files.locations.MAX_BYTES`; NotFound for a
    missing file, Damaged for one that has changed since it was ingested, Busy while another process packs in the
    workspace.
    """
    with pack_lock(home), _one_line_errors(home):
        kept, jobs = shard_jobs_for(samples, home, shard_bytes)
        jobs.run(_workers(workers), progress)
        return _finish(kept, jobs, home)


def write_part(
    samples: pa.Table,
    home: Path,
    part: int,
    parts: int,
    *,
    shard_bytes: int = SHARD_BYTES,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write part `part` of `parts` (from 1) of the shards that `write_pack` writes; `finish_pack` makes the pack.

    Parts may run at the same time, on any machines that share `home`. A killed part is simply run again.
    """
    check_part(part, parts)
    with pack_lock(home, shared=True), _one_line_errors(home):
        shard_jobs_for(samples, home, shard_bytes)[1].run(_workers(workers), progress, part, parts)


def _workers(requested: int | None) -> int:
    return len(os.sched_getaffinity(0)) if requested is None else requested


def check_part(part: int, parts: int) -> None:
    """BadInput unless `part` is from 1 to `parts`."""
    if not 1 <= part <= parts:
        raise BadInput(f"part {part}/{parts}: from 1/{parts} to {parts}/{parts}; correct it")


def finish_pack(samples: pa.Table, home: Path, *, shard_bytes: int = SHARD_BYTES) -> Pack:
    """The pack of all parts, byte for byte equal to the result of `write_pack`. BadInput if shards are missing."""
    with pack_lock(home), _one_line_errors(home):
        return _finish(*shard_jobs_for(samples, home, shard_bytes), home)


@contextmanager
def pack_lock(home: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of the workspace's packs, or raise Busy: two packers would remove each other's unfinished files.

    Writers of parts share the lock: they never touch files of other parts.
    """
    (home / "packs").mkdir(parents=True, exist_ok=True)
    busy = "{}: {} packs there; wait for it, or end it"
    with locked(home / "packs" / ".lock", lambda holder: busy.format(home, holder), shared=shared):
        yield


@contextmanager
def _one_line_errors(home: Path) -> Iterator[None]:
    """Raise operating system errors as Failed, in one line."""
    try:
        yield
    except OSError as error:
        raise Failed(f"{home}: not fully packed ({error.strerror}); fix that, then pack again") from error


def shard_jobs_for(samples: pa.Table, home: Path, shard_bytes: int) -> tuple[pa.Table, ShardJobs]:
    """The locations of the images that a pack already holds, and the jobs that write the others."""
    check_positive(shard_bytes=shard_bytes)
    kept, new = _split_packed(_checked_samples(samples), complete_packs(home))
    return kept, ShardJobs.cut(new, home, shard_bytes)


def _finish(kept: pa.Table, jobs: ShardJobs, home: Path) -> Pack:
    remove_stale_work(
        home, keep=jobs.folder, named={shard.name for pack in complete_packs(home) for shard in pack.shards}
    )
    pack = write_pack_index(pa.concat_tables([kept, jobs.written().select(_LOCATED_SCHEMA.names)]), home)
    shutil.rmtree(jobs.folder, ignore_errors=True)
    return pack


def _checked_samples(samples: pa.Table) -> pa.Table:
    """The samples sorted by key, validated, with the columns of `ShardJobs` and the index."""
    if not samples.num_rows:
        raise BadInput("0 images: a pack holds at least one; ingest images, or include excluded ones again")
    if pc.any(pc.equal(pc.fill_null(samples["key"], ""), "")).as_py():
        raise BadInput("key '': is empty, and readers of shards skip it; name the image")
    if large := _first(samples["key"], pc.greater(samples["bytes"], MAX_BYTES)):
        raise BadInput(f"{large}: an image has at most {MAX_BYTES} bytes; shrink it, or exclude the sample")
    table = (
        samples.append_column("size", samples["bytes"]).select(_SAMPLE_SCHEMA.names).cast(_SAMPLE_SCHEMA).sort_by("key")
    )
    if repeated := _first(table["key"][1:], pc.equal(table["key"][1:], table["key"][:-1])):
        raise BadInput(f"{repeated}: two images have this key; give each its own key")
    return table


def _first(values: pa.ChunkedArray, mask: pa.ChunkedArray) -> str | None:
    found = values.filter(mask)
    return str(found[0]) if len(found) else None


def complete_packs(home: Path) -> list[Pack]:
    """All complete packs of a workspace."""
    return [Pack.open(home, path.parent.name) for path in sorted((home / "packs").glob("*/manifest.json"))]


def _split_packed(samples: pa.Table, packs: list[Pack]) -> tuple[pa.Table, pa.Table]:
    """The samples whose image is in a shard of a complete pack, with the shard's name and offset; and the others."""
    if not packs:
        return _LOCATED_SCHEMA.empty_table(), samples
    locations = pa.concat_tables([_locations_in(pack) for pack in packs])
    found = samples.join(_one_location_each(locations), ["key", "sha256"], join_type="left outer").sort_by("key")
    new = pc.is_null(found["shard"])
    return found.filter(pc.invert(new)).select(_LOCATED_SCHEMA.names), found.filter(new).select(_SAMPLE_SCHEMA.names)


def _locations_in(pack: Pack) -> pa.Table:
    """key, sha256, shard (its name) and offset of the images whose shard exists in full size."""
    names = pa.array([shard.name if _intact(pack, shard) else None for shard in pack.shards], pa.string())
    shard = names.take(pack.index["shard"])
    locations = pack.index.select(["key", "sha256", "offset"]).append_column("shard", shard)
    return locations.filter(pc.is_valid(locations["shard"]))


def _intact(pack: Pack, shard: Shard) -> bool:
    path = pack.home / "shards" / shard.name
    return path.is_file() and path.stat().st_size == shard.size


def _one_location_each(locations: pa.Table) -> pa.Table:
    """One location per image, in the shard with the smallest name, so that a further pack moves no image."""
    ordered = locations.sort_by([("key", "ascending"), ("sha256", "ascending"), ("shard", "ascending")])
    keys, hashes = ordered["key"], ordered["sha256"]
    same = pc.and_(pc.equal(keys[1:], keys[:-1]), pc.equal(hashes[1:], hashes[:-1]))
    first = np.concatenate([np.ones(min(1, len(keys)), bool), ~np.asarray(same, bool)])
    return ordered.filter(pa.array(first))


def write_pack_index(located: pa.Table, home: Path) -> Pack:
    """The pack of images in written shards; `located` has the columns of the index, with file names in `shard`."""
    located = located.sort_by("key")
    names = sorted(pc.unique(located["shard"]).to_pylist())
    codes = pc.index_in(located["shard"], value_set=pa.array(names)).cast(pa.int32())
    index = located.set_column(located.column_names.index("shard"), "shard", codes).select(INDEX.names)
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
        part.write_text(json.dumps(manifest | {"sha256": manifest_digest(manifest)}, indent=1))
