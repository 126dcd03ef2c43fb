"""The jobs of packing: which shards to write, in parallel, resumable after the process was killed."""

import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Ints
from curation.errors import BadInput
from curation.files.digest import digest
from curation.files.progress import Progress
from samplers.pack.worker_processes import Workers
from samplers.shards import tar
from samplers.shards.shard_members import shard_entries, sidecar_texts
from samplers.shards.shard_writer import ShardEntry, write_blocks

__all__ = ["ShardJobs", "check_positive", "noted_shards", "remove_stale_work", "write_numbered"]

_TICK = 0.1  # seconds between two progress reports
_LARGE = 256 << 20  # bytes above which worker processes pay off: they take a fifth of a second to start

ShardWriter = Callable[[Path, bytes, list[ShardEntry], Callable[[int], None]], str]


def check_positive(**numbers: int) -> None:
    """BadInput naming the first number below 1.

    >>> check_positive(workers=2, shard_bytes=1)
    """
    for name, number in numbers.items():
        if number < 1:
            raise BadInput(f"{name} {number}: at least 1; raise it")


@dataclass(frozen=True, kw_only=True)
class ShardJobs:
    """The shards to write. They are cut before any image is read, so their bytes do not depend on who writes them when.

    `images` has the columns key, location, size, width, height, sha256, format. `cuts` are ranges of its rows, one per
    shard. `folder` holds unfinished tars, and for each finished shard a receipt with the shard's name.
    """

    folder: Path
    shards: Path
    images: pa.Table
    cuts: list[tuple[int, int]]
    offsets: Ints

    @classmethod
    def cut(cls, images: pa.Table, home: Path, shard_bytes: int) -> "ShardJobs":
        """Cut images, in order, into shards of at most `shard_bytes`, with at least one image each."""
        spans = _spans(images)
        cuts = _cuts(np.cumsum(spans), shard_bytes - len(tar.END))
        starts = [np.cumsum(spans[start:stop]) - spans[start:stop] for start, stop in cuts]
        return cls(
            folder=home / "packs" / ".work" / digest(images, [str(cut) for cut in cuts]),
            shards=home / "shards",
            images=images,
            cuts=cuts,
            offsets=np.concatenate([np.zeros(0, np.int64), *starts]) + tar.BLOCK,
        )

    def run(self, workers: int, progress: Progress | None, part: int = 1, parts: int = 1) -> None:
        """Write the shards that are not yet written, or every `parts`-th of them from number `part` on (from 1).

        `workers` shards are written at the same time, in processes if there are many bytes, otherwise in threads.
        """
        check_positive(workers=workers)
        self.make_folders()
        numbers = range(part - 1, len(self.cuts), parts)
        count = _ProgressCounter(sum(self.cuts[number][1] - self.cuts[number][0] for number in numbers), progress)
        workers = min(workers, len(numbers)) or 1
        size = pc.sum(self.images["size"]).as_py() or 0
        is_large = workers > 1 and size // parts > _LARGE
        threads = workers + is_large  # one more thread makes the headers of the next shard while all processes write
        with closing(Workers(workers * is_large)) as processes, ThreadPoolExecutor(threads, "amber-pack") as pool:
            write = processes.write if is_large else write_blocks
            futures = [pool.submit(write_numbered, *self.job(number), count.add, write) for number in numbers]
            try:
                for future in futures:  # in order, so that equal input fails on the same image
                    while wait([future], _TICK).not_done:
                        count.report()
                    future.result()
                count.report()
            except BaseException:
                count.stopped = True
                processes.close()  # the threads wait for the processes
                pool.shutdown(cancel_futures=True)
                raise

    def make_folders(self) -> None:
        """Make the folders that `write_numbered` writes into."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shards.mkdir(exist_ok=True)

    def job(self, number: int) -> tuple[Path, Path, int, pa.Table]:
        """The arguments of `write_numbered` for one shard; valid in any process."""
        start, stop = self.cuts[number]
        return self.folder, self.shards, number, self.images.slice(start, stop - start)

    def written(self) -> pa.Table:
        """`images` with the columns offset and shard (its file name); BadInput while shards are missing."""
        names = [_written_name(self.folder, self.shards, number) for number in range(len(self.cuts))]
        if left := names.count(""):
            raise BadInput(f"{left} of {len(names)} shards are not written; run the unfinished parts again")
        shard = np.repeat(np.array(names, object), [stop - start for start, stop in self.cuts])
        images = self.images.append_column("offset", pa.array(self.offsets))
        return images.append_column("shard", pa.array(shard, pa.string()))


def write_numbered(
    folder: Path,
    shards: Path,
    number: int,
    images: pa.Table,
    count: Callable[[int], None] = lambda images: None,
    write: ShardWriter = write_blocks,
) -> None:
    """Write one shard into `shards`, unless its receipt in `folder` says that it exists. Two processes may do the same
    job at the same time."""
    if _written_name(folder, shards, number):
        count(images.num_rows)
        return
    part = folder / f"{number:06d}.{uuid4().hex}.part"
    try:
        name = write(part, *shard_entries(images), count) + ".tar"
        os.replace(part, shards / name)
        part.write_text(name)
        os.replace(part, _receipt(folder, number))
    except BaseException:
        part.unlink(missing_ok=True)  # so that a full disk gets its space back
        raise


def _written_name(folder: Path, shards: Path, number: int) -> str:
    """The name of a shard if it is written, otherwise ""."""
    receipt = _receipt(folder, number)
    name = receipt.read_text() if receipt.exists() else ""
    return name if name and (shards / name).exists() else ""


def _receipt(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.note"


def noted_shards(home: Path) -> set[str]:
    """File names of shards that unfinished packs of a workspace have written."""
    return {receipt.read_text() for receipt in (home / "packs" / ".work").glob("*/*.note")}


def remove_stale_work(home: Path, keep: Path, named: set[str]) -> None:
    """Remove unfinished work of killed runs, except the folder `keep`; `named` are the shards of complete packs."""
    named = named | {receipt.read_text() for receipt in keep.glob("*.note")}  # equal images make equal shards
    for folder in (home / "packs" / ".work").glob("*"):
        if folder != keep:
            for receipt in folder.glob("*.note"):
                if (name := receipt.read_text()) not in named:
                    (home / "shards" / name).unlink(missing_ok=True)
            shutil.rmtree(folder)


class _ProgressCounter:
    """Counts finished images: worker threads add, the caller's thread reports. `stopped` ends the workers."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0
        self._lock = threading.Lock()
        self.stopped = False

    def add(self, images: int) -> None:
        """Add finished images; raises CancelledError once the run is stopped."""
        if self.stopped:
            raise CancelledError
        with self._lock:
            self._done += images

    def report(self) -> None:
        """Call the progress function, in the caller's thread."""
        if self._progress is not None:
            self._progress(self._done, self._total)


def _spans(images: pa.Table) -> Ints:
    """The bytes of each image in a tar, with its json and both headers [N]."""
    batches = images.to_batches(1 << 16)
    lengths = np.fromiter((len(text) for batch in batches for text in sidecar_texts(batch)), np.int64, images.num_rows)
    return 2 * tar.BLOCK + tar.padded(np.asarray(images["size"], np.int64)) + tar.padded(lengths)


def _cuts(ends: Ints, room: int) -> list[tuple[int, int]]:
    cuts, start, base = [], 0, 0
    while start < len(ends):
        stop = max(start + 1, int(np.searchsorted(ends, base + room, "right")))
        cuts.append((start, stop))
        start, base = stop, int(ends[stop - 1])
    return cuts
