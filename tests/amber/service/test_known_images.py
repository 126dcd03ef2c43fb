"""Images that are found by hashes in memory: as the catalog finds them, after commits, forgetting and for the past."""

from pathlib import Path

import pytest
from support.bare_samples import bare_samples

from amber.forget import forget
from amber.service.images import known_images
from amber.service.images.known_images import KnownImages
from curation.catalog.catalog import Catalog
from curation.errors import NotFound

KEYS = [f"d/{number:03d}" for number in range(40)]


def add(catalog: Catalog, keys: list[str]) -> None:
    with catalog.commit(author="ada", message="more") as change:
        change.add_samples(bare_samples(keys), dataset="d")


@pytest.fixture(params=["hash(key)", "one hash for all"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A catalog; also with keys that all have the same hash."""
    if request.param == "one hash for all":
        monkeypatch.setattr(known_images, "KEY_BITS", "CAST(length({}) * 0 AS UINTEGER)")
    made = Catalog.create(tmp_path / "home")
    add(made, KEYS[:30])
    return made


def test_they_are_what_the_catalog_finds_also_after_more_commits(catalog: Catalog) -> None:
    known = KnownImages()
    for count in (30, 40):
        if count == 40:
            add(catalog, KEYS[30:])
        with catalog.read() as now:
            for key in KEYS[:count]:
                sample = now.sample(key)
                assert known.sample(now, key) == sample
                assert known.near(now, sample, 3).equals(now.near_duplicates(key, 3))
            for key in [*KEYS[count:], "", "d/", "d/000 "]:
                with pytest.raises(NotFound, match="no such sample"):
                    known.sample(now, key)


def test_what_was_forgotten_or_is_not_there_yet_is_not_found(catalog: Catalog) -> None:
    known = KnownImages()
    with catalog.read() as now:
        before = now.commit
    add(catalog, KEYS[30:])
    with catalog.read() as now:
        assert known.sample(now, KEYS[35])["key"] == KEYS[35]
    with catalog.read(before) as then, pytest.raises(NotFound):
        known.sample(then, KEYS[35])
    forget(catalog, KEYS[3], author="ada")
    with catalog.read() as now, pytest.raises(NotFound):
        known.sample(now, KEYS[3])


def test_another_catalog_in_its_place_is_read_anew(catalog: Catalog, tmp_path: Path) -> None:
    known = KnownImages()
    with catalog.read() as now:
        known.sample(now, KEYS[0])
    other = Catalog.create(tmp_path / "other")
    add(other, ["e/1"])
    add(other, ["e/2"])
    with other.read() as now:
        assert known.sample(now, "e/1")["key"] == "e/1"
        with pytest.raises(NotFound):
            known.sample(now, KEYS[0])
