"""Embedding files of a workspace, and the search for far-apart vectors.

`embeddings/<model>/` holds `vectors.npy` (float16, memory-mapped), `statistics.npy`, `keys.parquet` and, written last,
`embeddings.json` with the sha256 of each: where it exists, the embeddings are complete. They are checked when they are
opened.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.arrays import Bools, Float32s, Ints
from curation.errors import BadInput, Damaged, NotFound
from curation.files.atomic import whole
from curation.files.read_back import check_sha256, read_json, read_npy, read_with, sha256_of

__all__ = [
    "AGAIN", "CHUNK", "Embeddings", "add_vectors", "check_vectors", "farthest_first", "forget_vectors", "is_imported",
    "models_of", "principal_directions", "statistics", "writing", "writing_in",
]  # fmt: skip


CHUNK = 4096

FILES = ("vectors.npy", "statistics.npy", "keys.parquet")

AGAIN = "remove the folder and embed the images again"


class Embeddings:
    """Vectors of one model: `vectors` [N, D] float16, `keys` (N), `blocks` of (name, width), whose widths sum to D.

    A block is one level of the trunk. `standardised` gives each block the same weight, whatever its width.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "embeddings.json").is_file():
            raise NotFound(f"{folder}: has no complete embeddings; `amber train` makes them")
        self.folder = folder
        self.model, self.blocks, hashes = read_json(folder / "embeddings.json", AGAIN, _header)
        for name, sha256 in hashes.items():
            check_sha256(folder / name, sha256, AGAIN)
        self.vectors = read_npy(folder / "vectors.npy", AGAIN, mmap=True)
        self.mean, self.scale = read_with(_read_statistics, folder / "statistics.npy", AGAIN)
        self.keys: list[str] = read_with(_read_keys, folder / "keys.parquet", AGAIN)
        if self.vectors.shape != (len(self.keys), sum(width for _, width in self.blocks)):
            raise Damaged(f"{folder}: its vectors, keys and blocks do not fit each other; {AGAIN}")

    @cached_property
    def _row(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys)}

    @classmethod
    def open(cls, home: Path, model: str) -> "Embeddings":
        """The embeddings of `model` in the workspace `home`; NotFound when they are missing or incomplete."""
        return cls(home / "embeddings" / model)

    @property
    def widths(self) -> list[int]:
        """The width of the block of each of the D columns."""
        return [width for _, width in self.blocks for _ in range(width)]

    def covers(self, keys: Sequence[str]) -> bool:
        """Whether every key has a vector."""
        return bool(self.has(keys).all())

    def has(self, keys: Sequence[str]) -> Bools:
        """Which of these keys [n] have a vector."""
        return np.fromiter((key in self._row for key in keys), np.bool_, len(keys))

    def rows(self, keys: Sequence[str]) -> Ints:
        """Rows of `vectors` for these keys; NotFound names the first key without a vector."""
        try:
            return np.fromiter((self._row[key] for key in keys), np.int64, len(keys))
        except KeyError as error:
            raise NotFound(f"key {error}: has no vector of {self.model}; embed the images again") from None

    def places(self, keys: pa.Array) -> Ints:
        """The row [n] of `vectors` for each of these keys, -1 for a key without one: faster than `rows` for many."""
        found = pc.index_in(keys, value_set=pa.array(self.keys, pa.string()))
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)

    def of(self, keys: Sequence[str]) -> npt.NDArray[np.float16]:
        """Vectors [n, D] float16 of these keys; NotFound for a key without one, BadInput for one that is not finite."""
        found = np.array(self.vectors[self.rows(keys)])
        if not (finite := np.isfinite(found).all(axis=1)).all():
            key = keys[int(np.flatnonzero(~finite)[0])]
            raise BadInput(f"key {key!r}: its vector of {self.model} is not finite; embed the image again")
        return found

    def standardised(self, rows: Ints) -> Float32s:
        """Vectors [n, D] float32, scaled to mean 0 and variance 1/width in each block over all N samples."""
        out = np.empty((len(rows), self.vectors.shape[1]), np.float32)
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            out[start : start + CHUNK] = (self.vectors[part].astype(np.float32) - self.mean) * self.scale
        return out


@contextmanager
def writing(
    home: Path, model: str, keys: Sequence[str], blocks: Sequence[tuple[str, int]]
) -> Iterator[npt.NDArray[np.float16]]:
    """An array [len(keys), D] to fill; when the block ends without an exception, the embeddings appear as a whole."""
    with writing_in(home / "embeddings" / model, model, keys, blocks) as vectors:
        yield vectors


@contextmanager
def writing_in(
    folder: Path, model: str, keys: Sequence[str], blocks: Sequence[tuple[str, int]]
) -> Iterator[npt.NDArray[np.float16]]:
    """As `writing`, into a folder of one's own."""
    with whole(folder) as part:
        part.mkdir()
        width = sum(size for _, size in blocks)
        vectors = np.lib.format.open_memmap(part / "vectors.npy", mode="w+", dtype=np.float16, shape=(len(keys), width))
        with (part / "vectors.npy").open("r+b") as file:  # otherwise a full disk would kill the process
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        yield vectors
        vectors.flush()
        np.save(part / "statistics.npy", np.stack(statistics(vectors, blocks)))
        pq.write_table(pa.table({"key": pa.array(keys, pa.string())}), part / "keys.parquet")
        hashes = {name: sha256_of(part / name) for name in FILES}
        header = {"model": model, "blocks": list(blocks), "sha256": hashes}
        (part / "embeddings.json").write_text(json.dumps(header))


def models_of(home: Path) -> list[str]:
    """The models of which a workspace has complete embeddings, sorted."""
    return sorted(path.parent.name for path in (home / "embeddings").glob("*/embeddings.json"))


def forget_vectors(home: Path, key: str) -> None:
    """Remove the vector of `key` from all embeddings of a workspace; each is rewritten as a whole."""
    for model in models_of(home):
        found = Embeddings.open(home, model)
        if not found.covers([key]):
            continue
        kept = np.delete(np.arange(len(found.keys)), found.rows([key]))
        with writing(home, found.model, [found.keys[row] for row in kept], found.blocks) as vectors:
            for start in range(0, len(kept), CHUNK):
                vectors[start : start + CHUNK] = found.vectors[kept[start : start + CHUNK]]


def is_imported(home: Path, model: str) -> bool:
    """Whether a data set brought these embeddings (`add_vectors`), so that they cannot be computed again."""
    found, blocks, _ = read_json(home / "embeddings" / model / "embeddings.json", AGAIN, _header)
    return [name for name, _ in blocks] == [found]


def check_vectors(home: Path, given: Mapping[str, pa.Table], known: Collection[str]) -> None:
    """Refuse tables (`key`, `vector`), by model, that `add_vectors` cannot add; `known` holds all sample keys."""
    for model, table in given.items():
        keys, vectors = table["key"].to_pylist(), _matrix(model, table)
        if unknown := next((key for key in keys if key not in known), None):
            raise BadInput(f"embedding {model} of {unknown!r}: no such sample; ingest the image first")
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise BadInput(
                f"embedding {model} of {keys[row]!r}: numbers must be finite and below 65504; fix the vector"
            )
        if (found := _stored(home, model)) is not None and found.vectors.shape[1] != vectors.shape[1]:
            was = found.vectors.shape[1]
            raise BadInput(
                f"embedding {model}: vectors have {was} numbers so far, here {vectors.shape[1]}; choose another name"
            )


def add_vectors(home: Path, model: str, table: pa.Table) -> None:
    """Add the vectors of a table (`key`, `vector`) to the embeddings of `model`; they replace older vectors of the same
    keys. Call `check_vectors` first."""
    keys, vectors = table["key"].to_pylist(), _matrix(model, table)
    found, given = _stored(home, model), set(keys)
    kept = np.array([row for row, key in enumerate(found.keys) if key not in given] if found else [], np.int64)
    names = [*(found.keys[row] for row in kept), *keys] if found else keys
    blocks = found.blocks if found else [(model, vectors.shape[1])]
    with writing(home, model, names, blocks) as out:
        for start in range(0, len(kept), CHUNK):
            part = kept[start : start + CHUNK]
            out[start : start + len(part)] = found.vectors[part] if found else 0
        out[len(kept) :] = vectors


def _header(value: dict[str, Any]) -> tuple[str, list[tuple[str, int]], dict[str, str]]:
    """Model, blocks, and the sha256 of each file; embeddings of before these were kept have none."""
    blocks = [(str(name), int(width)) for name, width in value["blocks"]]
    return str(value["model"]), blocks, {name: str(value["sha256"][name]) for name in FILES if "sha256" in value}


def _read_statistics(path: Path) -> tuple[Float32s, Float32s]:
    mean, scale = np.load(path)
    return mean, scale


def _read_keys(path: Path) -> list[str]:
    return [str(key) for key in pq.read_table(path)["key"].to_pylist()]


def _stored(home: Path, model: str) -> Embeddings | None:
    return Embeddings.open(home, model) if (home / "embeddings" / model / "embeddings.json").is_file() else None


def _matrix(model: str, table: pa.Table) -> npt.NDArray[np.float16]:
    """The vectors of a table, [rows, D]; BadInput when their lengths differ."""
    column = table["vector"].combine_chunks()
    lengths = np.unique(np.asarray(pc.list_value_length(column)))
    if len(lengths) != 1 or not lengths[0]:
        raise BadInput(f"embedding {model}: vectors have {lengths.tolist()} numbers; give all of them the same length")
    with np.errstate(over="ignore"):
        values: npt.NDArray[np.float16] = np.asarray(column.flatten()).astype(np.float16).reshape(len(column), -1)
    return values


def farthest_first(vectors: Float32s, chosen: Ints, count: int) -> Ints:
    """Greedy k-center (Gonzalez 1985): `count` rows of `vectors` [n, D], each the farthest from all before it.

    `chosen` are rows that are covered already; without any, the row nearest to the mean comes first.

    >>> line = np.array([[0.0], [1.0], [5.0], [9.0]], np.float32)
    >>> farthest_first(line, np.array([0]), 2).tolist()
    [3, 2]
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


def statistics(vectors: npt.NDArray[np.float16], blocks: Sequence[tuple[str, int]]) -> tuple[Float32s, Float32s]:
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


def principal_directions(vectors: Float32s, count: int, generator: "np.random.Generator") -> Float32s:
    """About the first `count` principal directions [D, count] of `vectors` [n, D] of mean 0, orthonormal, by three
    turns of a randomised power iteration (Halko, Martinsson & Tropp 2011)."""
    directions = generator.normal(size=(vectors.shape[1], min(count, vectors.shape[1]))).astype(np.float32)
    for _ in range(3):
        directions, _ = np.linalg.qr(vectors.T @ (vectors @ directions))
    return np.asarray(directions, np.float32)
