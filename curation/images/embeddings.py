"""Embedding files beside the catalog, and the searches over them.

`embeddings/<model>/` holds `vectors.npy` (float16, memory-mapped), `statistics.npy`, `keys.parquet` and, written last,
`embeddings.json`, whose presence means complete.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.arrays import Float32s, Ints
from curation.errors import BadInput, NotFound
from curation.files.atomic import whole

__all__ = ["Embeddings", "add_vectors", "check_vectors", "farthest_first", "forget_vectors", "writing"]


CHUNK = 4096


class Embeddings:
    """Vectors of one model over samples: `vectors` [N, D] float16, `keys` (N), `blocks` (name, width) that add up to D.

    A block is one level of the trunk. `standardised` gives each block the same weight whatever its width.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "embeddings.json").is_file():
            raise NotFound(f"{folder}: there are no complete embeddings; `amber train` makes them")
        header = json.loads((folder / "embeddings.json").read_text())
        self.model: str = header["model"]
        self.blocks: list[tuple[str, int]] = [(name, width) for name, width in header["blocks"]]
        self.vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        self.mean, self.scale = np.load(folder / "statistics.npy")
        self.keys: list[str] = pq.read_table(folder / "keys.parquet")["key"].to_pylist()
        self._row = {key: row for row, key in enumerate(self.keys)}

    @classmethod
    def open(cls, home: Path, model: str) -> "Embeddings":
        """The embeddings of `model` in the workspace `home`; NotFound when they were not computed."""
        return cls(home / "embeddings" / model)

    @property
    def widths(self) -> list[int]:
        """For each of the D columns, the width of the block that it belongs to."""
        return [width for _, width in self.blocks for _ in range(width)]

    def covers(self, keys: Sequence[str]) -> bool:
        """Whether every key has a vector."""
        return all(key in self._row for key in keys)

    def rows(self, keys: Sequence[str]) -> Ints:
        """Rows of `vectors` for these keys; NotFound names the first that has none."""
        try:
            return np.fromiter((self._row[key] for key in keys), np.int64, len(keys))
        except KeyError as error:
            raise NotFound(f"key {error}: has no vector of {self.model}; embed the images again") from None

    def standardised(self, rows: Ints) -> Float32s:
        """Vectors [n, D] float32 of mean 0 and variance 1/width in each block, over all N samples."""
        out = np.empty((len(rows), self.vectors.shape[1]), np.float32)
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            out[start : start + CHUNK] = (self.vectors[part].astype(np.float32) - self.mean) * self.scale
        return out


@contextmanager
def writing(
    home: Path, model: str, keys: Sequence[str], blocks: Sequence[tuple[str, int]]
) -> Iterator[npt.NDArray[np.float16]]:
    """An array [len(keys), D] to fill in; leaving the block without an exception makes the embeddings appear whole."""
    final = home / "embeddings" / model
    with whole(final) as part:
        part.mkdir()
        width = sum(size for _, size in blocks)
        vectors = np.lib.format.open_memmap(part / "vectors.npy", mode="w+", dtype=np.float16, shape=(len(keys), width))
        with (part / "vectors.npy").open("r+b") as file:  # else a full disk would end the process by a signal
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        yield vectors
        vectors.flush()
        np.save(part / "statistics.npy", np.stack(_statistics(vectors, blocks)))
        pq.write_table(pa.table({"key": pa.array(keys, pa.string())}), part / "keys.parquet")
        (part / "embeddings.json").write_text(json.dumps({"model": model, "blocks": list(blocks)}))


def forget_vectors(home: Path, key: str) -> None:
    """Write all embeddings of a workspace that hold a vector of `key` anew without it, each whole."""
    for header in sorted((home / "embeddings").glob("*/embeddings.json")):
        found = Embeddings(header.parent)
        if not found.covers([key]):
            continue
        kept = np.delete(np.arange(len(found.keys)), found.rows([key]))
        with writing(home, found.model, [found.keys[row] for row in kept], found.blocks) as vectors:
            for start in range(0, len(kept), CHUNK):
                vectors[start : start + CHUNK] = found.vectors[kept[start : start + CHUNK]]


def check_vectors(home: Path, given: Mapping[str, pa.Table], known: Collection[str]) -> None:
    """Refuse tables of `key` and `vector` that `add_vectors` cannot take, by model; `known` are all keys."""
    for model, table in given.items():
        keys, vectors = table["key"].to_pylist(), _matrix(model, table)
        if unknown := next((key for key in keys if key not in known), None):
            raise BadInput(f"embedding {model} of {unknown!r}: no such sample; ingest the image first")
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise BadInput(
                f"embedding {model} of {keys[row]!r}: numbers must be finite and below 65504; mend the vector"
            )
        if (found := _there(home, model)) is not None and found.vectors.shape[1] != vectors.shape[1]:
            was = found.vectors.shape[1]
            raise BadInput(f"embedding {model}: vectors have {was} numbers so far, here {vectors.shape[1]}; rename it")


def add_vectors(home: Path, model: str, table: pa.Table) -> None:
    """Write the embeddings of `model` anew with the vectors of a table (`key`, `vector`) in place of what they held of
    the same keys; the rest stays. Call `check_vectors` first."""
    keys, vectors = table["key"].to_pylist(), _matrix(model, table)
    found, given = _there(home, model), set(keys)
    kept = np.array([row for row, key in enumerate(found.keys) if key not in given] if found else [], np.int64)
    names = [*(found.keys[row] for row in kept), *keys] if found else keys
    blocks = found.blocks if found else [(model, vectors.shape[1])]
    with writing(home, model, names, blocks) as out:
        for start in range(0, len(kept), CHUNK):
            part = kept[start : start + CHUNK]
            out[start : start + len(part)] = found.vectors[part] if found else 0
        out[len(kept) :] = vectors


def _there(home: Path, model: str) -> Embeddings | None:
    return Embeddings.open(home, model) if (home / "embeddings" / model / "embeddings.json").is_file() else None


def _matrix(model: str, table: pa.Table) -> npt.NDArray[np.float16]:
    """The vectors of a table, [rows, D]; BadInput when they are not all of one length."""
    column = table["vector"].combine_chunks()
    lengths = np.unique(np.asarray(pc.list_value_length(column)))
    if len(lengths) != 1 or not lengths[0]:
        raise BadInput(f"embedding {model}: vectors have {lengths.tolist()} numbers; give all of them one length")
    with np.errstate(over="ignore"):
        values: npt.NDArray[np.float16] = np.asarray(column.flatten()).astype(np.float16).reshape(len(column), -1)
    return values


def farthest_first(vectors: Float32s, chosen: Ints, count: int) -> Ints:
    """Greedy k-center (Gonzalez 1985): `count` rows of `vectors` [n, D], each the farthest from all before it.

    `chosen` are rows that are covered already; without any, the row nearest to the mean comes first.
    """
    norms = np.einsum("nd,nd->n", vectors, vectors)
    picked: list[int] = []
    if len(chosen):
        nearest: Float32s = np.full(len(vectors), np.inf, np.float32)
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK]
            products = vectors @ vectors[part].T
            nearest = np.minimum(nearest, (norms[:, None] + norms[part] - 2 * products).min(axis=1))
        nearest[chosen] = -np.inf
    else:
        middle = vectors.mean(axis=0)
        picked.append(int(np.argmin(norms - 2 * vectors @ middle)))
        nearest = _distances(vectors, norms, picked[0])
    while len(picked) < min(count, len(vectors) - len(chosen)):
        nearest[picked] = -np.inf
        picked.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, _distances(vectors, norms, picked[-1]))
    return np.asarray(picked[:count], np.int64)


def _distances(vectors: Float32s, norms: Float32s, row: int) -> Float32s:
    distances: Float32s = norms + norms[row] - 2 * vectors @ vectors[row]
    return distances


def _statistics(vectors: npt.NDArray[np.float16], blocks: Sequence[tuple[str, int]]) -> tuple[Float32s, Float32s]:
    """Mean [D] and scale [D] = 1 / (standard deviation x sqrt(width of the block)); a constant column gets scale 0."""
    total = np.zeros(vectors.shape[1])
    squares = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), CHUNK):
        part = vectors[start : start + CHUNK].astype(np.float64)
        total += part.sum(axis=0)
        squares += (part**2).sum(axis=0)
    count = max(1, len(vectors))
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    widths = np.repeat([width for _, width in blocks], [width for _, width in blocks])
    with np.errstate(divide="ignore"):
        scale = np.where(deviation > 1e-6, 1 / (deviation * np.sqrt(widths)), 0)
    return mean.astype(np.float32), scale.astype(np.float32)
