"""Prefetch images into a cache of fixed size, in the order in which they will be read.

The plan fixes the whole order of reads. So the cache evicts the image whose next use is furthest away (Belady 1966: no
rule fetches less), and fetches the images that are read next. A read waits until its image has arrived.

The cache is one unlinked file, divided into pages, so nothing remains of it however the process ends.
"""

import heapq
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.arrays import Int32s, Ints
from curation.errors import BadInput, Failed
from samplers.shards.open_shards import ThreadBuffer

__all__ = ["PAGE", "Cache", "Prefetcher", "next_uses"]

PAGE = 1024
"""The allocation unit of the cache in bytes."""

_GROUP = 64  # images that are planned together: one request fetches all images of a shard in the group
_FETCHERS = 64  # threads that wait for the network: enough for some thousand images a second at 50 ms
_PART = 8  # images that were fetched but not yet read may fill 1 / _PART of the cache
_NEVER = np.iinfo(np.int64).max

Fetch = Callable[[list[int]], list[memoryview]]
"""Returns the bytes of the images of these rows; raises AmberError."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The cache for a pack at a URL: at most `bytes` of disk in `folder` (default: the folder of temporary files),
    from a stream's first read to its end.
    """

    bytes: int = 8 << 30
    folder: Path | None = None


@dataclass(eq=False)
class _CachedImage:
    """An image in the cache: its pages, the position of its `next` use, and its `pending` planned reads, which must
    reach 0 before it may be evicted."""

    pages: Ints
    next: int = 0
    pending: int = 0
    ready: bool = False
    error: Exception | None = None


class Prefetcher:
    """Fetches the images of one sequence of reads: `order` [N] are rows in the order of the reads, `sizes` [rows] their
    bytes, `shards` [rows] their shards; one call of `fetch` gets rows of one shard only.

    Reads may come slightly out of order, each row as often as `order` contains it.
    """

    def __init__(
        self,
        order: Ints,
        sizes: Int32s,
        shards: Int32s,
        fetch: Fetch,
        cache: Cache,
    ) -> None:
        if len(order) and (largest := int(sizes[order].max())) > cache.bytes // PAGE * PAGE:
            raise BadInput(
                f"cache of {cache.bytes} bytes: an image has {largest}; enlarge it, at best to a tenth of all images"
            )
        self._order, self._sizes, self._shards, self._fetch = order, sizes, shards, fetch
        self._pages = _pages(cache, int((-(-sizes[np.unique(order)].astype(np.int64) // PAGE)).sum()))
        self._most_ahead = cache.bytes // PAGE // _PART
        self._stack, self._free = np.arange(len(self._pages)), len(self._pages)  # stack[:free] are the free pages
        self._entries: dict[int, _CachedImage] = {}
        self._unused: list[tuple[int, int]] = []  # heap of (-next use, row) without pending reads; may hold stale items
        self._ahead = 0  # pages with pending reads
        self._buffer = ThreadBuffer()
        self._lock = threading.RLock()  # reentrant: the garbage collector may call close in a thread that holds it
        self._arrived = threading.Condition(self._lock)  # readers wait for images
        self._freed = threading.Condition(self._lock)  # the planner waits for free pages
        self._closed = False
        self._blocked_on: tuple[int, int] | None = None  # the row, and its number of pages, that the planner waits for
        self._bypassed: Counter[int] = Counter()  # reads by row that went around the cache
        self._pool = ThreadPoolExecutor(_FETCHERS, "amber-fetch")
        self._planner = threading.Thread(target=self._plan, name="amber-fetch-plan", daemon=True)
        self._planner.start()

    def take(self, row: int) -> memoryview:
        """The bytes of an image, once fetched, valid until the same thread takes another; raises the fetch error."""
        with self._lock:
            if not self._is_ready(row):
                self._arrived.wait_for(lambda: self._closed or self._is_ready(row) or self._must_bypass(row))
            if self._closed:
                raise BadInput("the stream is closed: it reads no more images; open it again")
            if self._is_ready(row):
                return self._copy(row, self._entries[row])
            self._bypassed[row] += 1
            self._freed.notify()
        return self._fetch([row])[0]

    def close(self, wait: bool = True) -> None:
        """End the threads and release the file. Without `wait`, callable at any moment from any of the threads."""
        with self._lock:
            self._closed = True
            self._arrived.notify_all()
            self._freed.notify()
        if wait:
            self._planner.join()
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _is_ready(self, row: int) -> bool:
        entry = self._entries.get(row)
        return entry is not None and entry.pending > 0 and entry.ready

    def _must_bypass(self, row: int) -> bool:
        """Whether this read and the planner would wait for each other: a later read of the same image has used up the
        planned read. This read then bypasses the cache, and the planner skips the image once."""
        entry = self._entries.get(row)
        return (
            (entry is None or not entry.pending)
            and self._blocked_on is not None
            and not self._may_proceed(*self._blocked_on)
        )

    def _copy(self, row: int, entry: _CachedImage) -> memoryview:
        """Copy an image out of the cache. After its last pending read it may be evicted."""
        entry.pending -= 1
        try:
            if entry.error is not None:
                raise entry.error
            buffer = self._buffer.view(len(entry.pages) * PAGE)
            self._pages.take(entry.pages, axis=0, out=np.asarray(buffer).reshape(-1, PAGE), mode="clip")
            return buffer[: int(self._sizes[row])]
        finally:
            if not entry.pending:
                self._ahead -= len(entry.pages)
                if entry.error is not None or entry.next == _NEVER:
                    self._drop(row)
                else:
                    heapq.heappush(self._unused, (-entry.next, row))
                if self._blocked_on is not None and self._may_proceed(*self._blocked_on):
                    self._freed.notify()

    def _drop(self, row: int) -> None:
        pages = self._entries.pop(row).pages
        self._stack[self._free : self._free + len(pages)] = pages
        self._free += len(pages)

    def _plan(self) -> None:
        """Walk through the order ahead of the reads: evict images, and fetch those that are missing."""
        wanted: list[int] = []
        for row, next_use in zip(self._order.tolist(), next_uses(self._order).tolist(), strict=True):
            pages = -(-int(self._sizes[row]) // PAGE)
            with self._lock:
                full = not self._make_room(row, pages, self._most_ahead)
                if full or len(wanted) == _GROUP:
                    self._submit(wanted)
                    wanted = []
                if full:  # wait for the pages of several images, because images are fetched in groups
                    self._blocked_on = row, pages
                    self._arrived.notify_all()
                    self._freed.wait_for(partial(self._may_proceed, row, pages))
                    self._blocked_on = None
                if self._closed:
                    return
                if self._bypassed[row]:
                    self._bypassed[row] -= 1
                    continue
                entry = self._entries.get(row)
                if entry is None:
                    self._free -= pages
                    entry = self._entries[row] = _CachedImage(pages=self._stack[self._free : self._free + pages].copy())
                    wanted.append(row)
                self._ahead += 0 if entry.pending else pages
                entry.pending += 1
                entry.next = next_use
                if entry.ready:
                    self._arrived.notify_all()
        self._submit(wanted)

    def _may_proceed(self, row: int, pages: int) -> bool:
        return self._closed or self._bypassed[row] > 0 or self._make_room(row, pages, self._most_ahead * 4 // 5)

    def _make_room(self, row: int, pages: int, most: int) -> bool:
        """Whether the image may be fetched now, with at most `most` pages ahead; evicts by furthest use."""
        entry = self._entries.get(row)
        if entry is not None and entry.pending:
            return True
        if self._ahead and self._ahead + pages > most:
            return False
        while entry is None and self._free < pages:
            if not self._unused:
                return False
            next_use, last = heapq.heappop(self._unused)
            unused = self._entries.get(last)
            if unused is not None and not unused.pending and unused.next == -next_use:
                self._drop(last)
        return True

    def _submit(self, rows: list[int]) -> None:
        by_shard: dict[int, list[int]] = {}
        for row in rows:
            by_shard.setdefault(int(self._shards[row]), []).append(row)
        for mine in by_shard.values():
            self._pool.submit(self._fetch_group, mine)

    def _fetch_group(self, rows: list[int]) -> None:
        """Fetch images of one shard into their pages; one by one if the request for all of them fails."""
        try:
            found: list[memoryview | Exception] = list(self._fetch(rows))
        except Exception:  # of any kind: the readers that wait for these images must receive it
            found = [self._fetch_one(row) for row in rows]
        for row, data in zip(rows, found, strict=True):
            if isinstance(data, memoryview):
                pages, (whole, rest), flat = self._entries[row].pages, divmod(len(data), PAGE), np.asarray(data)
                self._pages[pages[:whole]] = flat[: whole * PAGE].reshape(-1, PAGE)
                self._pages[pages[whole:], :rest] = flat[whole * PAGE :]
        with self._lock:
            for row, data in zip(rows, found, strict=True):
                self._entries[row].error = data if isinstance(data, Exception) else None
                self._entries[row].ready = True
            self._arrived.notify_all()

    def _fetch_one(self, row: int) -> memoryview | Exception:
        try:
            return Failed("the stream is closed") if self._closed else self._fetch([row])[0]
        except Exception as error:
            return error


def next_uses(order: Ints) -> Ints:
    """For each index into `order` [N] the next index with the same row, or the largest int64.

    >>> next_uses(np.array([5, 7, 5]))[:1].tolist()
    [2]
    """
    by_row = np.argsort(order, kind="stable")
    following = np.full(len(order), _NEVER)
    same = order[by_row[1:]] == order[by_row[:-1]]
    following[by_row[:-1][same]] = by_row[1:][same]
    return following


def _pages(cache: Cache, needed: int) -> npt.NDArray[np.uint8]:
    """[pages, PAGE] bytes of an unlinked file, at most `needed` pages. The disk space is allocated now, because a write
    into a mapped file on a full disk kills the process."""
    pages = max(1, min(needed, cache.bytes // PAGE))
    try:
        with tempfile.TemporaryFile(dir=cache.folder) as file:
            os.posix_fallocate(file.fileno(), 0, pages * PAGE)
            return np.memmap(file, np.uint8, "r+", shape=(pages, PAGE))
    except OSError as error:
        where = cache.folder or tempfile.gettempdir()
        problem = f"cache of {pages * PAGE} bytes in {where}: not made ({error.strerror})"
        raise Failed(f"{problem}; make it smaller, or name another folder") from error
