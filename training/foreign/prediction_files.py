"""Files of predictions as tables: Parquet, Arrow, CSV and npz."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.errors import BadInput, NotFound
from curation.ingestion.readers.table_files import SourceTable, read_source_table

__all__ = ["listed_keys", "read_prediction_file"]


def read_prediction_file(path: Path) -> SourceTable:
    """The table in a file: .parquet, .arrow, .csv, .tsv, or .npz, whose arrays [N] or [N, C] are its columns.

    NotFound without the file; BadInput, naming the line of a CSV, where it cannot be read or has no row.
    """
    source = _npz(path) if path.suffix.lower() == ".npz" else read_source_table(path.parent, path.name)
    if not len(source):
        raise BadInput(f"{path.name}: has no row, so it predicts nothing; export it again")
    return source


def listed_keys(path: Path) -> pa.Array:
    """The distinct keys in a list: a text file with one a line, or the column `key` of a table; sorted."""
    if path.suffix.lower() in (".txt", ".list", ""):
        if not path.is_file():
            raise NotFound(f"{path}: there is no such file; check the path")
        keys = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
    else:
        keys = set(read_prediction_file(path).column("key").cast(pa.string()).to_pylist())
    found = sorted(key for key in keys if key)
    if not found:
        raise BadInput(f"{path}: names no image; list the keys of the images that the model was trained on")
    return pa.array(found, pa.string())


def _npz(path: Path) -> SourceTable:
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file; check the path")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = "it holds Python objects" if "pickle" in str(error) else " ".join(str(error).split())
        raise BadInput(f"{path.name}: cannot be read as npz ({reason}); save plain arrays by numpy.savez") from None
    lengths = {name: len(array) if array.ndim in (1, 2) else -1 for name, array in columns.items()}
    rows = lengths.get("key", next(iter(lengths.values()), 0))
    wrong = next((name for name, length in lengths.items() if length != rows), "")
    if wrong:
        shape = "x".join(map(str, columns[wrong].shape)) or "one number"
        raise BadInput(f"{path.name}: array {wrong!r} is {shape}; each must have {rows:,} rows, as key has")
    table = pa.table({name: _column(name, array, path.name) for name, array in columns.items()})
    return SourceTable(name=path.name, table=table, word="row", numbers=pa.array(np.arange(1, rows + 1)))


def _column(name: str, array: npt.NDArray[Any], file: str) -> pa.Array:
    """An array as a column; the rows of a matrix become lists."""
    try:
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8")
        if array.ndim == 1:
            return pa.array(array)
        flat = pa.array(np.ascontiguousarray(array).ravel())
        return pa.FixedSizeListArray.from_arrays(flat, array.shape[1]).cast(pa.list_(flat.type))
    except (pa.ArrowException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{file}: array {name!r} of {array.dtype} is no column ({reason}); save numbers or text"
        ) from None
