"""Small files that only their owner may read, and that survive a power loss: the key, the tokens, the forgotten."""

import os
from pathlib import Path

from curation.files.atomic import whole

__all__ = ["write_secret"]


def write_secret(path: Path, text: str) -> None:
    """Write `text` to `path` with mode 0600, then flush the file and its folder to disk.

    After a power loss the file holds the old text or the new one, and a removed token does not come back.
    """
    with whole(path) as part:
        part.touch(mode=0o600)
        with part.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
