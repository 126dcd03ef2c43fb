"""Renders the images of synthetic drives into a folder, and returns their samples and labels."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from curation.errors import BadInput, Damaged
from curation.files.atomic import remove_leftovers, whole
from curation.files.read_back import json_value
from curation.ingestion.readers.content import Content
from curation.synthetic.drives import Drives, choose_drives, natural_drives
from curation.synthetic.labels import describe, names_of, path_of
from curation.synthetic.renderer import render
from curation.synthetic.sign_labels import describe_signs

__all__ = ["read_streets"]

Value = TypeVar("Value")


_VERSION = 1  # raise it if a pixel or a fact changes: folders of an older version are refused
_LEAST_IMAGES, _MOST_IMAGES = 400, 200_000  # more would draw millions of facts for a few rare drives


def read_streets(
    folder: Path,
    *,
    images: int = 20_000,
    seed: int = 0,
    signs: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Content:
    """Render `images` scenes (400 to 200,000) of `seed` into `folder`; returns their samples and labels.

    With `signs`, scenes are those of the data set `street_signs`: signs, moving road users and frames that show the
    speed. `workers` processes render (default: one a core; 1 renders in this process); neither order nor bytes depend
    on it.
    `progress` is called with (images done, total). The next call keeps the images of an interrupted one; a complete
    folder holds `streets.json`, and nothing is rendered again. BadInput if a parameter is out of range or differs from
    the folder's; Damaged if `streets.json` cannot be read.
    """
    _check(folder, images, seed, workers)
    manifest = folder / "streets.json"
    requested = {"images": images, "seed": seed, "version": _VERSION} | ({"signs": True} if signs else {})
    done = _is_complete(manifest, requested)
    drives = (natural_drives if signs else choose_drives)(images, seed)
    if not done:
        work = partial(_render_chunk, folder, seed, signs)
        _render_all(drives, work, workers or os.cpu_count() or 1, progress)
        remove_leftovers(folder.glob("images/*/*.part"))
        with whole(manifest) as part:
            part.write_text(json.dumps(requested, indent=1) + "\n")
    described = (describe_signs if signs else describe)(drives, folder, seed)
    return Content(**described._asdict())


def _check(folder: Path, images: int, seed: int, workers: int | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: streets are rendered into a folder, and this is a file; choose another path")
    if not _LEAST_IMAGES <= images <= _MOST_IMAGES:
        raise BadInput(f"images = {images}: must be {_LEAST_IMAGES} to {_MOST_IMAGES}; choose a number between")
    if not 0 <= seed < 2**63:
        raise BadInput(f"seed = {seed}: must be 0 to 2**63 - 1; choose another")
    if workers is not None and workers < 1:
        raise BadInput(f"workers = {workers}: must be at least 1; leave it out for one a core")


def _is_complete(manifest: Path, requested: dict[str, int]) -> bool:
    try:
        found = json_value(manifest.read_text())
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise Damaged(f"{manifest}: not valid JSON; delete it, and only missing images are rendered") from error
    if found != requested:
        raise BadInput(
            f"{manifest.parent}: holds streets of {found}, not of {requested}; choose another folder or delete this"
        )
    return True


def _render_all(
    drives: Drives, work: Callable[[Drives], int], workers: int, progress: Callable[[int, int], None] | None
) -> None:
    chunks = [drives.take(slice(a, b)) for a, b in pairwise([*range(0, len(drives), 16), len(drives)])]
    total, done = int(drives.frames.sum()), 0
    for rendered in _mapped(work, chunks, min(workers, len(chunks))):
        done += rendered
        if progress is not None:
            progress(done, total)


def _mapped(work: Callable[[Drives], Value], chunks: list[Drives], workers: int) -> Iterator[Value]:
    if workers == 1:
        yield from map(work, chunks)
        return
    # spawn: a forked process with threads (DuckDB, torch) may hang
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_with_parent)
    try:
        yield from pool.map(work, chunks)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_with_parent() -> None:
    """In a worker: ignore Ctrl-C, which the parent handles, and exit after a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _render_chunk(folder: Path, seed: int, signs: bool, drives: Drives) -> int:
    names = names_of(drives, seed)
    missing = [i for i, name in enumerate(names) if not _has_all(folder, name, int(drives.frames[i]))]
    for position, frame, image in render(drives.take(np.array(missing, np.int64)), seed, signs=signs):
        path = folder / path_of(names[missing[position]], frame)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_image(path, image)
    return int(drives.frames.sum())


def _has_all(folder: Path, name: str, frames: int) -> bool:
    return all((folder / path_of(name, frame)).is_file() for frame in range(frames))


def _write_image(path: Path, image: Image.Image) -> None:
    with whole(path) as part:
        image.save(part, "JPEG", quality=90, subsampling=0)  # a lamp of 4 pixels keeps its colour
