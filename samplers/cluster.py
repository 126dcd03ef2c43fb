"""Packing as tasks of a Ray cluster: a shard a task, on whatever machine, with the same bytes out.

All machines see the workspace under one path. A task that dies with its worker is run again by Ray, and one that had
ended has left its note: so is a packing that was killed as a whole.
"""

import logging
from collections import deque
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import AmberError, Failed
from samplers.pack import SHARD_BYTES, Pack, finish_pack, planned, turn
from samplers.work import Progress, write_numbered

__all__ = ["write_on_ray"]

_RETRIES = 20  # deaths of a worker that one shard survives
_AHEAD = 256  # tasks handed to Ray before the first must have ended


def write_on_ray(
    samples: pa.Table,
    home: Path,
    address: str,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Pack:
    """`samplers.pack.write_pack` on the Ray cluster at `address`, or on one of this machine for "local".

    Failed when Ray is not installed or not to be reached, or a worker died too often; else as `write_pack` raises.
    """
    try:
        import ray
    except ImportError as error:
        raise Failed("ray: is not installed; install amber-curation[ray]") from error
    home = home.resolve()
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Failed(f"ray {address!r}: not reached ({' '.join(str(error).split())}); check the address") from error
    try:
        with turn(home, shared=True):
            _run(samples, home, shard_bytes, progress)
        return finish_pack(samples, home, shard_bytes=shard_bytes)
    finally:
        ray.shutdown()


def _run(samples: pa.Table, home: Path, shard_bytes: int, progress: Progress | None) -> None:
    import ray

    _, work = planned(samples, home, shard_bytes)
    work.begin()
    write = ray.remote(max_retries=_RETRIES, num_cpus=1)(write_numbered)
    waiting: deque[tuple[int, Any]] = deque()
    done = 0
    for number in [*range(len(work.cuts)), *[-1] * _AHEAD]:
        if number >= 0:
            folder, shards, _, images = work.job(number)
            whole = images.take(list(range(images.num_rows)))  # a slice would take the whole table with it
            waiting.append((images.num_rows, write.remote(folder, shards, number, whole)))
        if waiting and (number < 0 or len(waiting) > _AHEAD):
            images, task = waiting.popleft()
            _result(task)
            done += images
            if progress is not None:
                progress(done, work.images.num_rows)


def _result(task: Any) -> None:
    import ray

    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, AmberError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise Failed(f"ray: a worker died ({' '.join(str(error).split())[:200]}); mend it, then pack again") from error
