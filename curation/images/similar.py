"""The nearest images by embeddings: exactly among few, and among many by a short code of each vector first.

Vectors are standardised and compared by their cosine. With more than 100,000 of them, each has a code: its cosines with
64 principal directions, made once and kept beside the vectors. The nearest codes are then compared exactly.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.arrays import Bools, Float32s, Ints
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.read_back import read_npy
from curation.images.embeddings import AGAIN, CHUNK, Embeddings, principal_directions

__all__ = ["FEW", "Similar", "SimilarImages"]

FEW = 100_000
"""Up to so many vectors are all compared exactly."""
WIDTH = 64
FITTED = 20_000
"""Vectors to which the directions of the codes are fitted."""
SHORTLIST = 50
"""For each image that is wanted, so many with the nearest codes are compared exactly, and at least 1,000."""


@dataclass(frozen=True, kw_only=True)
class Similar:
    """One image by its `key`, and the cosine (-1 to 1) of its vector with the wanted one."""

    key: str
    similarity: float


class SimilarImages:
    """Search among the N vectors of `embeddings`; codes are kept in their folder."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings

    def of_key(self, key: str) -> Float32s:
        """The standardised vector [D] of a sample; NotFound without one."""
        return np.asarray(self.embeddings.standardised(self.embeddings.rows([key]))[0], np.float32)

    def of_vector(self, vector: Float32s) -> Float32s:
        """A vector [D] as the trunk gives it, standardised; BadInput for another length or a number not finite."""
        width = len(self.embeddings.mean)
        if vector.shape != (width,):
            raise BadInput(
                f"vector of {'x'.join(map(str, vector.shape))} numbers: those of {self.embeddings.model} have {width}; "
                "compute it by the same model"
            )
        if not np.isfinite(vector).all():
            raise BadInput("vector: has a number that is not finite; compute it again")
        return np.asarray((vector - self.embeddings.mean) * self.embeddings.scale, np.float32)

    def nearest(self, wanted: Float32s, count: int, *, without: Bools | None = None) -> list[Similar]:
        """The `count` images nearest to a standardised vector [D], the nearest first; those in `without` [N] are left
        out.

        Among more than 100,000 images it may miss one whose code is far from that of the vector.
        """
        rows = np.arange(len(self.embeddings.keys)) if without is None else np.flatnonzero(~without)
        if len(rows) > FEW:
            rows = self._shortlist(wanted, rows, max(1_000, SHORTLIST * count))
        found: Float32s = np.empty(len(rows), np.float32)
        length = float(np.linalg.norm(wanted)) or 1.0
        for start in range(0, len(rows), CHUNK):
            vectors = self.embeddings.standardised(rows[start : start + CHUNK])
            norms = np.linalg.norm(vectors, axis=1)
            found[start : start + CHUNK] = vectors @ wanted / np.where(norms > 0, norms * length, 1.0)
        order = np.argsort(-found, kind="stable")[:count]
        return [Similar(key=self.embeddings.keys[int(rows[at])], similarity=float(found[at])) for at in order.tolist()]

    def _shortlist(self, wanted: Float32s, rows: Ints, count: int) -> Ints:
        """The `count` of `rows` whose codes are nearest to that of a standardised vector, ascending."""
        codes, directions = self._codes()
        code = wanted @ directions
        near = codes[rows] @ (code / (float(np.linalg.norm(code)) or 1.0)) if len(rows) < len(codes) else codes @ code
        best = np.argpartition(-near, min(count, len(near) - 1))[:count]
        return np.sort(rows[best])

    def _codes(self) -> tuple[Float32s, Float32s]:
        """The code of each vector [N, 64], of length 1, and the directions [D, 64]; made where they are missing."""
        path = self.embeddings.folder / "codes"
        if not (path / "codes.npy").is_file():
            self._make(path)
        return read_npy(path / "codes.npy", AGAIN, mmap=True), read_npy(path / "directions.npy", AGAIN)

    def _make(self, path: Path) -> None:
        generator, count = np.random.default_rng(0), len(self.embeddings.keys)
        some = np.sort(generator.permutation(count)[:FITTED])
        directions = principal_directions(self.embeddings.standardised(some), WIDTH, generator)
        codes: Float32s = np.empty((count, directions.shape[1]), np.float32)
        for start in range(0, count, CHUNK):
            part = self.embeddings.standardised(np.arange(start, min(start + CHUNK, count))) @ directions
            norms = np.linalg.norm(part, axis=1, keepdims=True)
            codes[start : start + CHUNK] = part / np.where(norms > 0, norms, 1.0)
        with whole(path) as made:
            made.mkdir()
            np.save(made / "codes.npy", codes)
            np.save(made / "directions.npy", directions)
