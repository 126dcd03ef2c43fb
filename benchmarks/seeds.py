"""The same work for many seeds: on all cores, one process a seed; or kept by seed, so that a bench can go on later."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import track

__all__ = ["by_seed", "for_each"]

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


def by_seed(name: str, seeds: Sequence[int], work: Callable[[int], Found], processes: int = 1) -> list[Found]:
    """What `work` finds for each seed (anything that JSON holds), printed to stderr as it comes.

    With KEPT=FOLDER it is kept in its file NAME.jsonl, and a seed that is there is not done again.
    """
    path = Path(os.environ["KEPT"]) / f"{name}.jsonl" if os.environ.get("KEPT") else None
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines() if path and path.exists() else ())
    kept: dict[int, Found] = {row["seed"]: row["found"] for row in rows}
    for seed, found in _each([seed for seed in seeds if seed not in kept], work, processes):
        kept[seed] = found
        line = json.dumps({"seed": seed, "found": found})
        sys.stderr.write(f"{name}: {line}\n")
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
    return [kept[seed] for seed in seeds]


def _each(seeds: Sequence[int], work: Callable[[int], Found], processes: int) -> Iterator[tuple[int, Found]]:
    if processes == 1:
        yield from ((seed, work(seed)) for seed in seeds)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(work, seed): seed for seed in seeds}
        yield from ((running[future], future.result()) for future in as_completed(running))
