"""The same work for many seeds, on all cores, one process a seed."""

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, TypeVar

from rich.progress import track

__all__ = ["for_each"]

Key = TypeVar("Key")
Found = TypeVar("Found")


def for_each(work: Callable[..., Found], jobs: Mapping[Key, tuple[Any, ...]]) -> dict[Key, Found]:
    """The results of `work` for the arguments of each job, by key; on a terminal with a progress bar."""
    found: dict[Key, Found] = {}
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(work, *arguments): key for key, arguments in jobs.items()}
        done = track(as_completed(running), "seeds", total=len(jobs), disable=not sys.stderr.isatty())
        for future in done:
            found[running[future]] = future.result()
    return found
