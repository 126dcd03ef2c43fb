"""Images fetched ahead of the reader into a cache of fixed size, in the order in which they will be read.

The plan says which image is read when, to its end. So the image that makes room is the one that is needed last (Belady
1966: no rule fetches less), and what is fetched ahead is what comes next. A read waits until its image is there.

The cache is one file without a name, cut into pages: nothing is left of it, whatever ends the process.
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
"""Bytes in which the cache gives out its room."""

_GROUP = 64  # images that are looked at together: those of one shard are asked for at once
_FETCHERS = 64  # threads that wait for the network: enough for some thousand images a second at 50 ms
_PART = 8  # the part of the cache that may hold what is fetched ahead, as 1 / _PART
_NEVER = np.iinfo(np.int64).max

Fetch = Callable[[list[int]], list[memoryview]]
"""The bytes of images by their rows; raises AmberError."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """How large the cache of a pack that lies elsewhere is, and in which folder (default: that of temporary files).

    It takes at most `bytes` of the disk, from a stream's first read to its end.
    """

    bytes: int = 8 << 30
    folder: Path | None = None


@dataclass(eq=False)
class _CachedImage:
    """An image in the cache: its pages, when it is used next, and how many planned reads are to come: until then it
    stays."""

    pages: Ints
    next: int = 0
    pending: int = 0
    ready: bool = False
    error: Exception | None = None


class Prefetcher:
    """One course of reading: `order` [N] are the rows in the order of the reads, `sizes` [rows] their bytes, `shards`
    [rows] where they lie: what is fetched at once is of one shard.

    Reads may come a little out of order, each row as often as the order has it.
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
                f"cache of {cache.bytes} bytes: an image has {largest}; make it larger, at best a tenth of all"
            )
        self._order, self._sizes, self._shards, self._fetch = order, sizes, shards, fetch
        self._pages = _pages(cache, int((-(-sizes[np.unique(order)].astype(np.int64) // PAGE)).sum()))
        self._most_ahead = cache.bytes // PAGE // _PART
        self._stack, self._free = np.arange(len(self._pages)), len(self._pages)  # the first so many of these are free
        self._entries: dict[int, _CachedImage] = {}
        self._unused: list[tuple[int, int]] = []  # (-next use, row) of what nobody waits for; entries may be outdated
        self._ahead = 0  # pages that wait for reads
        self._room = ThreadBuffer()
        self._lock = threading.RLock()  # the collector of garbage may close it in a thread that holds it
        self._arrived = threading.Condition(self._lock)  # readers wait for images
        self._left = threading.Condition(self._lock)  # the planner waits for room: it alone, woken when there is some
        self._closed = False
        self._stuck: tuple[int, int] | None = None  # the image and its pages that the planner waits for
        self._astray: Counter[int] = Counter()
        self._pool = ThreadPoolExecutor(_FETCHERS, "amber-fetch")
        self._planner = threading.Thread(target=self._plan, name="amber-fetch-plan", daemon=True)
        self._planner.start()

    def take(self, row: int) -> memoryview:
        """The bytes of an image, once they are there, until the same thread takes another; raises what kept it away."""
        with self._lock:
            if not self._is_there(row):
                self._arrived.wait_for(lambda: self._closed or self._is_there(row) or self._is_astray(row))
            if self._closed:
                raise BadInput("the stream is closed: nothing more is read; open it again")
            if self._is_there(row):
                return self._copy(row, self._entries[row])
            self._astray[row] += 1
            self._left.notify()
        return self._fetch([row])[0]

    def close(self, wait: bool = True) -> None:
        """End the threads, and let go of the file. Any of them may ask for it without `wait`, at any moment."""
        with self._lock:
            self._closed = True
            self._arrived.notify_all()
            self._left.notify()
        if wait:
            self._planner.join()
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _is_there(self, row: int) -> bool:
        entry = self._entries.get(row)
        return entry is not None and entry.pending > 0 and entry.ready

    def _is_astray(self, row: int) -> bool:
        """Whether the planner waits for reads while this one waits for it: a read of the same image, whose turn was
        later, has taken what was meant for this one. It then goes around the cache, and the planner leaves it out."""
        entry = self._entries.get(row)
        return (entry is None or not entry.pending) and self._stuck is not None and not self._may_go_on(*self._stuck)

    def _copy(self, row: int, entry: _CachedImage) -> memoryview:
        """Copy an image out of the cache; it may be dropped when that was its last planned read for now."""
        entry.pending -= 1
        try:
            if entry.error is not None:
                raise entry.error
            room = self._room.of(len(entry.pages) * PAGE)
            self._pages.take(entry.pages, axis=0, out=np.asarray(room).reshape(-1, PAGE), mode="clip")
            return room[: int(self._sizes[row])]
        finally:
            if not entry.pending:
                self._ahead -= len(entry.pages)
                if entry.error is not None or entry.next == _NEVER:
                    self._drop(row)
                else:
                    heapq.heappush(self._unused, (-entry.next, row))
                if self._stuck is not None and self._may_go_on(*self._stuck):
                    self._left.notify()

    def _drop(self, row: int) -> None:
        pages = self._entries.pop(row).pages
        self._stack[self._free : self._free + len(pages)] = pages
        self._free += len(pages)

    def _plan(self) -> None:
        """Walk through the order ahead of the reads, make room, and have fetched what is not there."""
        wanted: list[int] = []
        for row, next_use in zip(self._order.tolist(), next_uses(self._order).tolist(), strict=True):
            pages = -(-int(self._sizes[row]) // PAGE)
            with self._lock:
                full = not self._has_room(row, pages, self._most_ahead)
                if full or len(wanted) == _GROUP:
                    self._submit(wanted)
                    wanted = []
                if full:  # wait for more than one image's room: they are fetched in groups
                    self._stuck = row, pages
                    self._arrived.notify_all()
                    self._left.wait_for(partial(self._may_go_on, row, pages))
                    self._stuck = None
                if self._closed:
                    return
                if self._astray[row]:
                    self._astray[row] -= 1
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

    def _may_go_on(self, row: int, pages: int) -> bool:
        return self._closed or self._astray[row] > 0 or self._has_room(row, pages, self._most_ahead * 4 // 5)

    def _has_room(self, row: int, pages: int, most: int) -> bool:
        """Whether the image may be read ahead by now, at `most` so many pages; what is needed last makes room."""
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
        apart: dict[int, list[int]] = {}
        for row in rows:
            apart.setdefault(int(self._shards[row]), []).append(row)
        for mine in apart.values():
            self._pool.submit(self._bring, mine)

    def _bring(self, rows: list[int]) -> None:
        """Fetch images into their pages; one by one, where not all can be had."""
        try:
            found: list[memoryview | Exception] = list(self._fetch(rows))
        except Exception:  # whatever it is, who waits for an image must hear of it
            found = [self._bring_one(row) for row in rows]
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

    def _bring_one(self, row: int) -> memoryview | Exception:
        try:
            return Failed("the stream is closed") if self._closed else self._fetch([row])[0]
        except Exception as error:
            return error


def next_uses(order: Ints) -> Ints:
    """For each place in `order` [N] the next place with the same row, or the largest number."""
    by_row = np.argsort(order, kind="stable")
    following = np.full(len(order), _NEVER)
    same = order[by_row[1:]] == order[by_row[:-1]]
    following[by_row[:-1][same]] = by_row[1:][same]
    return following


def _pages(cache: Cache, needed: int) -> npt.NDArray[np.uint8]:
    """[pages, PAGE] of a file without a name, at most as many as are `needed`; their room on the disk is taken now,
    since a write into a mapped file that finds none kills the process."""
    pages = max(1, min(needed, cache.bytes // PAGE))
    try:
        with tempfile.TemporaryFile(dir=cache.folder) as file:
            os.posix_fallocate(file.fileno(), 0, pages * PAGE)
            return np.memmap(file, np.uint8, "r+", shape=(pages, PAGE))
    except OSError as error:
        where = cache.folder or tempfile.gettempdir()
        told = f"cache of {pages * PAGE} bytes in {where}: not made ({error.strerror})"
        raise Failed(f"{told}; make it smaller, or name another folder") from error
