"""Files that appear whole or not at all, whatever ends the process that writes them."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curation.errors import Failed

__all__ = ["remove_leftovers", "whole"]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to make a file or folder at; leaving the block without an exception puts it in the place of `path`.

    Failed when the disk is full or does not take it; then nothing is left and `path` is as it was. The name tells which
    process writes, so that two do not write into one file and `remove_leftovers` knows whose process is gone.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    _remove(part)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if part.is_dir():
            _remove(path)
        os.replace(part, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise Failed(f"{path}: not written ({reason}); free space or mend that, and run the same again") from error
    finally:
        _remove(part)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove those of `paths` that `whole` had begun in a process that was killed."""
    for path in paths:
        writer = re.search(r"\.(\d+)\.part$", path.name)
        if writer and not _runs(int(writer[1])):
            _remove(path)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and is somebody else's
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
