"""What a checkpoint overwrites in place, kept until it has ended.

DuckDB writes new blocks beside the old ones, and then switches the header; only blocks of metadata that have room left
are written in place. Linux ends a write of a killed process between two pages: so a SIGKILL may leave half of such a
block, and a file that DuckDB calls corrupt. Before each checkpoint those blocks are kept beside the file.
Whoever opens it next puts them back, unless the header shows that the checkpoint had come to its end; the write-ahead
log does the rest.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

import duckdb

from curation.files.atomic import whole

__all__ = ["BLOCK", "HEADER", "checkpoint", "mend"]

HEADER: Final = 3 * 4096
"""Bytes before the first block: the file's own header, and two that checkpoints write in turn."""

BLOCK: Final = 1 << 18
NUMBER: Final = 8
SUM: Final = 32


def checkpoint(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Let DuckDB bring the file up to its log, in such a way that a kill at any moment leaves it whole.

    `name` is that of the attached file. Failed when the blocks cannot be kept: then nothing was done.
    """
    blocks = connection.execute(f"SELECT block_id FROM pragma_metadata_info('{name}') WHERE free_blocks > 0").fetchall()
    _keep(path, [block for (block,) in blocks])
    connection.execute(f"CHECKPOINT {name}")
    _journal(path).unlink()


def mend(path: Path) -> None:
    """Undo what a killed checkpoint began; for who holds the turn. Several may do so at once: all write the same."""
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
    """Write the header and `blocks` of the file into its journal, which is there whole or not at all."""
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
