"""Splits depend on the group alone, follow the requested shares, and never change."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.lamps import declare
from support.pictures import picture

from curation import Catalog, Dataset, ingest
from curation.ingestion.splits import keep_splits, split_of

GROUPS = [f"drive-{number}" for number in range(4000)]


def test_shares_are_close_to_the_request() -> None:
    counts = Counter(split_of(GROUPS, test=0.2, validation=0.1, seed=0))
    assert counts["test"] == pytest.approx(800, abs=5 * 800**0.5)
    assert counts["validation"] == pytest.approx(400, abs=5 * 400**0.5)


@given(groups=st.lists(st.sampled_from(GROUPS[:50])), seed=st.integers(0, 9))
def test_a_split_depends_on_seed_and_group_alone(groups: list[str], seed: int) -> None:
    alone = {group: split_of([group], test=0.3, validation=0.3, seed=seed)[0] for group in groups}
    assert split_of(groups, test=0.3, validation=0.3, seed=seed) == [alone[group] for group in groups]


def test_another_seed_gives_other_splits() -> None:
    first, second = (split_of(GROUPS, test=0.5, validation=0.0, seed=seed) for seed in (0, 1))
    same = sum(a == b for a, b in zip(first, second, strict=True))
    assert same == pytest.approx(2000, abs=200)


def test_splits_are_kept_and_new_samples_join_their_group() -> None:
    keys, groups = list("abcdef"), ["one", "one", "two", "two", "three", "three"]
    known = {"a": "train", "c": "test", "d": "train"}
    splits, excluded = keep_splits(keys, groups, ["validation"] * 6, known)
    assert splits == ["train", "train", "test", "train", "validation", "validation"]
    assert excluded == [False, False, False, True, False, False]


def splits_of(catalog: Catalog) -> dict[str, tuple[str, bool]]:
    with catalog.read() as now:
        return {row["key"]: (row["split"], row["excluded"]) for row in now.samples().to_pylist()}


def test_ingest_never_moves_a_sample(tmp_path: Path) -> None:
    dataset = Dataset.load(declare(tmp_path / "data"))
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, dataset, author="ada")
    before = splits_of(catalog)
    noise = np.random.default_rng(0).integers(0, 255, (32, 48, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "data" / "images" / "red" / "000a.jpg")
    assert ingest(catalog, dataset, author="ada", seed=7).new == 1
    after = splits_of(catalog)
    assert {key: after[key] for key in before} == before


def test_near_duplicates_across_splits_exclude_the_train_side(tmp_path: Path) -> None:
    folder = declare(tmp_path / "data")
    for quality, path in enumerate(sorted((folder / "images" / "red").iterdir()), start=50):
        picture(1, 32, 48).save(path, quality=quality)
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, Dataset.load(folder), author="ada")
    before = splits_of(catalog)
    declaration = (folder / "dataset.toml").read_text()
    (folder / "dataset.toml").write_text(declaration.replace('by = "group"', 'by = "near_duplicates"'))
    ingest(catalog, Dataset.load(folder), author="ada")
    after = splits_of(catalog)
    assert {key: split for key, (split, _) in after.items()} == {key: split for key, (split, _) in before.items()}
    with catalog.read() as now:
        groups = {row["key"]: row["group"] for row in now.samples().to_pylist()}
    evaluated = {groups[key] for key, (split, _) in after.items() if split == "test"}
    for key, (split, excluded) in after.items():
        assert excluded == (split == "train" and groups[key] in evaluated)
    assert any(excluded for _, excluded in after.values())
