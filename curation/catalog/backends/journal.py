"""A journal of the blocks that a checkpoint overwrites, so that a killed checkpoint can be undone.

DuckDB writes new blocks beside the old ones and then switches the header. Only metadata blocks with free space are
overwritten. Linux stops a write of a killed process between two pages, so SIGKILL may leave half of such a block, and a
file that DuckDB reports as corrupt. Therefore those blocks are copied beside the file before each checkpoint. The next
process that opens the file restores them, unless the header shows that the checkpoint completed; the write-ahead log
holds everything else.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

import duckdb

from curation.files.atomic import whole

__all__ = ["BLOCK", "HEADER", "checkpoint", "undo_killed_checkpoint"]

HEADER: Final = 3 * 4096
"""Bytes before the first block: the header of the file, and two headers that checkpoints write alternately."""

BLOCK: Final = 1 << 18
NUMBER: Final = 8
SUM: Final = 32


def checkpoint(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Write the log of DuckDB into the file; a kill at any moment leaves the file intact.

    `name` is the name of the attached file. Failed when the journal cannot be written; then nothing was done.
    """
    blocks = connection.execute(f"SELECT block_id FROM pragma_metadata_info('{name}') WHERE free_blocks > 0").fetchall()
    _keep(path, [block for (block,) in blocks])
    connection.execute(f"CHECKPOINT {name}")
    _journal(path).unlink()


def undo_killed_checkpoint(path: Path) -> None:
    """Restore the file if a checkpoint was killed. The caller holds the lock; readers may do this at once."""
    journal = _journal(path)
    try:
        kept = journal.read_bytes()
    except FileNotFoundError:
        return
    content, checked = kept[:-SUM], kept[-SUM:]
    with path.open("r+b") as file:
        if hashlib.sha256(content).digest() == checked and file.read(HEADER) == content[:HEADER]:
            for at in range(HEADER, len(content), NUMBER + BLOCK):
                number = int.from_bytes(content[at : at + NUMBER])
                os.pwrite(file.fileno(), content[at + NUMBER : at + NUMBER + BLOCK], HEADER + number * BLOCK)
            os.fsync(file.fileno())
    journal.unlink(missing_ok=True)


def _keep(path: Path, blocks: list[int]) -> None:
    """Write the header and `blocks` of the file into its journal, as a whole or not at all."""
    with path.open("rb") as file:
        pieces = [file.read(HEADER)]
        for number in blocks:
            pieces += (number.to_bytes(NUMBER), os.pread(file.fileno(), BLOCK, HEADER + number * BLOCK))
    content = b"".join(pieces)
    with whole(_journal(path)) as part, part.open("wb") as out:
        out.write(content + hashlib.sha256(content).digest())
        out.flush()
        os.fsync(out.fileno())


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")
