"""How long a search for similar images takes among many, and how many of the nearest it finds."""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.table import Row, small
from curation.images import similar
from curation.images.embeddings import Embeddings, writing
from curation.images.similar import SimilarImages

__all__ = ["similar_rows"]

IMAGES = 200_000 if small() else 1_000_000
WIDTH, CLUSTERS, SEARCHES, COUNT = 512, 5_000, 20, 20
CHUNK = 50_000


def similar_rows() -> list[Row]:
    """The median time of a search, that of making the codes once, and the share of the 20 nearest that are found."""
    with tempfile.TemporaryDirectory(prefix="bench-ask-") as name:
        _write(Path(name))
        search = SimilarImages(Embeddings.open(Path(name), "made"))
        begun = time.perf_counter()
        search.nearest(search.of_key("0"), COUNT)
        first = time.perf_counter() - begun
        times, hits = list[float](), 0
        for key in np.random.default_rng(1).choice(IMAGES, SEARCHES).tolist():
            wanted = search.of_key(str(key))
            begun = time.perf_counter()
            found = {part.key for part in search.nearest(wanted, COUNT)}
            times.append(time.perf_counter() - begun)
            hits += len(found & _exact(search, wanted))
    middle = float(np.median(times))
    return [
        Row(what=f"similar among {IMAGES:,} vectors of {WIDTH}", value=middle, unit=" s", low=min(times),
            high=max(times), asked="at most 1 s", met=middle <= 1, peers={"the first, which makes codes, s": first}),
        Row(what=f"of the {COUNT} nearest found", value=100 * hits / (SEARCHES * COUNT), unit="%"),
    ]  # fmt: skip


def _write(home: Path) -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLUSTERS, WIDTH)).astype(np.float32)
    with writing(home, "made", [str(row) for row in range(IMAGES)], [("all", WIDTH)]) as vectors:
        for start in range(0, IMAGES, CHUNK):
            own = generator.normal(size=(min(CHUNK, IMAGES - start), WIDTH), scale=0.7).astype(np.float32)
            vectors[start : start + CHUNK] = centres[generator.integers(0, CLUSTERS, len(own))] + own


def _exact(search: SimilarImages, wanted: "np.ndarray") -> set[str]:  # type: ignore[type-arg]
    few, similar.FEW = similar.FEW, IMAGES
    try:
        return {part.key for part in search.nearest(wanted, COUNT)}
    finally:
        similar.FEW = few
