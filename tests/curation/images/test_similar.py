"""The nearest images: exactly among few, by codes among many, and what no search can answer."""

from pathlib import Path

import numpy as np
import pytest

from curation.errors import BadInput, NotFound
from curation.images import similar
from curation.images.embeddings import Embeddings, add_vectors, writing
from curation.images.similar import SimilarImages

COUNT, WIDTH = 600, 96


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors in 30 clusters, as those of images are."""
    folder, generator = tmp_path_factory.mktemp("similar"), np.random.default_rng(0)
    centres = generator.normal(size=(30, WIDTH))
    with writing(folder, "toy", [f"image/{row:03d}" for row in range(COUNT)], [("all", WIDTH)]) as vectors:
        vectors[:] = centres[np.arange(COUNT) % 30] + 0.4 * generator.normal(size=(COUNT, WIDTH))
    return folder


def search(home: Path) -> SimilarImages:
    return SimilarImages(Embeddings.open(home, "toy"))


def test_the_nearest_are_those_of_the_largest_cosine(home: Path) -> None:
    found = search(home)
    vectors = found.embeddings.standardised(np.arange(COUNT))
    cosines = vectors @ vectors[7] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[7])
    best = np.argsort(-cosines, kind="stable")[:5]
    nearest = found.nearest(found.of_key("image/007"), 5)
    assert [part.key for part in nearest] == [f"image/{row:03d}" for row in best]
    assert [part.similarity for part in nearest] == pytest.approx(cosines[best])
    assert nearest[0].similarity == pytest.approx(1)


def test_among_many_codes_find_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = {key: search(home).nearest(search(home).of_key(key), 10) for key in ("image/003", "image/500")}
    monkeypatch.setattr(similar, "FEW", 100)
    monkeypatch.setattr(similar, "SHORTLIST", 6)
    monkeypatch.setattr(similar, "max", lambda _, wanted: wanted, raising=False)
    found = search(home)
    for key, nearest in exact.items():
        assert [part.key for part in found.nearest(found.of_key(key), 10)] == [part.key for part in nearest]
    kept = np.arange(COUNT) % 2 == 0
    assert all(int(part.key[-3:]) % 2 for part in found.nearest(found.of_key("image/003"), 10, without=kept))
    assert (home / "embeddings" / "toy" / "codes" / "codes.npy").is_file()


def test_new_vectors_get_new_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    monkeypatch.setattr(similar, "FEW", 2)
    generator = np.random.default_rng(1)
    table = pa.table({"key": ["a", "b", "c"], "vector": generator.normal(size=(3, 8)).tolist()})
    add_vectors(tmp_path, "mine", table)
    before = SimilarImages(Embeddings.open(tmp_path, "mine"))
    assert len(before.nearest(before.of_key("a"), 9)) == 3
    add_vectors(tmp_path, "mine", pa.table({"key": ["d"], "vector": [table["vector"][0].as_py()]}))
    after = SimilarImages(Embeddings.open(tmp_path, "mine"))
    assert {part.key for part in after.nearest(after.of_key("a"), 2)} == {"a", "d"}


def test_what_has_no_vector_or_one_of_another_length(home: Path) -> None:
    found = search(home)
    with pytest.raises(NotFound, match="image/999"):
        found.of_key("image/999")
    with pytest.raises(BadInput, match=f"vector of 3 numbers: those of toy have {WIDTH}"):
        found.of_vector(np.zeros(3, np.float32))
    with pytest.raises(BadInput, match="not finite"):
        found.of_vector(np.full(WIDTH, np.nan, np.float32))
    assert found.nearest(np.zeros(WIDTH, np.float32), 1)[0].similarity == 0
