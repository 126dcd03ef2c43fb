"""Packing on a Ray cluster: each task writes one shard or some smaller copies. The bytes do not depend on the cluster.

All machines see the workspace under the same path. Ray runs a task again if its worker dies; finished tasks have left a
receipt, so a packing that was killed as a whole resumes.
"""

import logging
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import AmberError, Failed, not_installed
from curation.files.progress import Progress
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import SHARD_BYTES, finish_pack, pack_lock, shard_jobs_for
from samplers.pack.shard_jobs import ShardJobs, write_numbered
from samplers.pack.smaller_copies import Copy, Original, ParallelMap

__all__ = ["map_on_ray", "write_on_ray"]

_RETRIES = 20  # worker deaths that one task survives
_AHEAD = 256  # tasks submitted to Ray before the first must have ended
_COPIES = 16  # smaller copies that one task makes
_CONNECT_TIMEOUT = 5.0  # seconds


def write_on_ray(
    samples: pa.Table,
    home: Path,
    address: str,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Pack:
    """The pack of `samplers.pack.pack_writer.write_pack`, written on the Ray cluster at `address`; "local" starts one.

    NotFound if Ray is not installed; Failed if the cluster is not reached, or if a worker dies too often; otherwise
    raises what `write_pack` raises.
    """
    home = home.resolve()
    with _connected(address):
        with pack_lock(home, shared=True):
            _run(samples, home, shard_bytes, progress)
        return finish_pack(samples, home, shard_bytes=shard_bytes)


def map_on_ray(address: str) -> ParallelMap:
    """A `ParallelMap` on the Ray cluster at `address`; raises what `write_on_ray` raises."""

    def parallel_map(work: Callable[[Original], Copy], originals: list[Original]) -> Generator[Copy]:
        with _connected(address):
            import ray

            make = ray.remote(max_retries=_RETRIES, num_cpus=1)(_each)
            parts = (originals[at : at + _COPIES] for at in range(0, len(originals), _COPIES))
            for copies in _results(make.remote(work, part) for part in parts):
                yield from copies

    return parallel_map


def _each(work: Callable[[Original], Copy], originals: list[Original]) -> list[Copy]:
    return list(map(work, originals))


@contextmanager
def _connected(address: str) -> Iterator[None]:
    try:
        import ray
    except ImportError as error:
        raise not_installed("ray", "ray") from error
    try:
        _check_reachable(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, ignore_reinit_error=True)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        problem = f"ray {address!r}: not reached ({' '.join(str(error).split())})"
        raise Failed(f"{problem}; check the address, and RAY_AUTH_MODE if the cluster requires a token") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """OSError if nothing listens at HOST:PORT: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal() and host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT).close()


def _run(samples: pa.Table, home: Path, shard_bytes: int, progress: Progress | None) -> None:
    import ray

    _, jobs = shard_jobs_for(samples, home, shard_bytes)
    jobs.make_folders()
    write = ray.remote(max_retries=_RETRIES, num_cpus=1)(write_numbered)
    tasks = (write.remote(*_job(jobs, number)) for number in range(len(jobs.cuts)))
    for (_, done), _ in zip(jobs.cuts, _results(tasks), strict=True):
        if progress is not None:
            progress(done, jobs.images.num_rows)


def _job(jobs: ShardJobs, number: int) -> tuple[Path, Path, int, pa.Table]:
    folder, shards, _, images = jobs.job(number)
    return folder, shards, number, images.take(list(range(images.num_rows)))  # a slice would pickle the whole table


def _results(tasks: Iterator[Any]) -> Iterator[Any]:
    """The results of tasks, in order; at most `_AHEAD` + 1 tasks are submitted before the oldest ends."""
    waiting: deque[Any] = deque()
    for task in tasks:
        waiting.append(task)
        if len(waiting) > _AHEAD:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _result(task: Any) -> Any:
    import ray

    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, AmberError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise Failed(f"ray: a worker died ({' '.join(str(error).split())[:200]}); fix it, then pack again") from error
