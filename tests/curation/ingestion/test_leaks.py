"""Leaks: any change that puts a group into training and evaluation is caught; near-duplicates are separated."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.homes import copy_home, make_home, sample_rows

from amber.cli import run
from curation import BadInput, Catalog
from curation.images.embeddings import writing
from curation.images.near_duplicates import near_duplicate_groups, near_duplicate_vectors
from curation.ingestion.leaks import exclude_training_side, near_duplicate_sets, refuse_leaks
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.evaluation.evaluation import evaluate
from training.loop.trainer import train
from training.recipe import Recipe
from training.report import write_report
from training.run import Run

LEAKS = {
    "a sample of train joins a group of test": {"group": ["drive-0"]},
    "a sample of train becomes one of test": {"split": ["test"]},
    "a sample of train becomes one of validation": {"split": ["validation"]},
}
"""New attributes of a sample of train whose group has other samples in train."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, str]:
    """A workspace with a plan and an evaluated run."""
    catalog = make_home(tmp_path_factory.mktemp("leaks"), samples=80)
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    plan = make_plan(catalog, policy, make_pack(catalog), draws=64)
    run_ = train(Recipe.of("small", size=(32, 48)), plan, catalog)
    evaluate(run_, catalog, author="ada")
    return catalog, run_.id


@pytest.fixture
def catalog(original: tuple[Catalog, str], tmp_path: Path) -> Catalog:
    return copy_home(original[0], tmp_path)


def drawn(catalog: Catalog) -> str:
    """The key of a sample of train that the plan draws from."""
    return str(Plan.newest(catalog.home).keys[0])


def change(catalog: Catalog, key: str, attributes: dict[str, list[object]]) -> None:
    with catalog.commit(author="eve", message="leak") as made:
        made.add_attributes(pa.table({"key": [key], **attributes}))


def planned(catalog: Catalog) -> Plan:
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    return make_plan(catalog, policy, make_pack(catalog), draws=64)


@pytest.mark.parametrize("attributes", LEAKS.values(), ids=LEAKS)
def test_a_leaky_change_is_caught(
    original: tuple[Catalog, str], catalog: Catalog, attributes: dict[str, list[object]], tmp_path: Path
) -> None:
    run_ = Run.open(catalog.home, original[1])
    write_report(catalog, run_.id, tmp_path / "before.html")
    change(catalog, drawn(catalog), attributes)
    for caught in (
        lambda: planned(catalog),
        lambda: evaluate(run_, catalog, author="ada"),
        lambda: write_report(catalog, run_.id, tmp_path / "report.html"),
    ):
        with pytest.raises(BadInput, match=r"^group 'drive-\d+' is in training and in evaluation .*--apply"):
            caught()
    assert not (tmp_path / "report.html").exists()


def test_a_group_in_both_splits_is_fixed(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    change(catalog, drawn(catalog), {"group": ["drive-0"]})
    words = ["duplicates", "--distance", "0", "--apply", "--author", "ada", "--home", str(catalog.home)]
    assert run(words) == 0
    plan = planned(catalog)
    with catalog.read() as now:
        refuse_leaks(now)
        refuse_leaks(now, plan.keys)
        before = now.commit
    assert run(words) == 0
    with catalog.read() as now:
        assert now.commit == before


def test_an_excluded_sample_is_not_a_leak(catalog: Catalog) -> None:
    change(catalog, drawn(catalog), {"group": ["drive-0"], "excluded": [True]})
    planned(catalog)


def test_ingested_near_duplicates_are_found_and_separated(catalog: Catalog, original: tuple[Catalog, str]) -> None:
    folder = original[0].home.parent / "images"
    copies = [catalog.home / f"{number}.jpg" for number in range(2)]
    for number, path in enumerate(copies):  # of a picture of test and of one of train, in train and test
        shutil.copy(folder / f"{4 * number:05d}.jpg", path)
    with catalog.commit(author="eve", message="copies") as made:
        made.add_samples(sample_rows(["copy/0", "copy/1"], copies), dataset="copies")
        made.add_attributes(pa.table({"key": ["copy/0", "copy/1"], "split": ["train", "test"]}))
    with catalog.read() as now:
        keys, hashes = (now.hashes()[name].to_pylist() for name in ("key", "phash"))
        found = near_duplicate_sets(now, near_duplicate_groups(keys, hashes, 0), keys)
    across = [part for part in found if part.across]
    assert {"copy/0", "copy/1"} <= {key for part in across for key in part.keys}
    exclude_training_side(catalog, found, author="ada")
    with catalog.read() as now:
        refuse_leaks(now)
        rows = {row["key"]: row for row in now.samples().to_pylist()}
    assert rows["copy/0"]["excluded"]
    assert rows["copy/0"]["group"] == rows["pictures/00000"]["group"]
    assert (rows["copy/1"]["split"], rows["copy/1"]["excluded"]) == ("test", False)
    evaluated = {row["group"] for row in rows.values() if row["split"] == "test"}
    assert all(row["excluded"] == (row["group"] in evaluated) for row in rows.values() if row["split"] == "train")


def test_vectors_group_as_every_pair_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.images.near_duplicates._BLOCK", 7)
    generator = np.random.default_rng(0)
    vectors = np.repeat(generator.normal(size=(20, 6)), 2, axis=0) + generator.normal(size=(40, 6)) * 0.2
    keys = [f"image-{number:02}" for number in range(40)]
    units = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    expected = list(keys)
    for i, j in zip(*np.nonzero(units @ units.T >= 0.95), strict=True):
        low, high = sorted((expected[i], expected[j]))
        expected = [low if group == high else group for group in expected]
    assert near_duplicate_vectors(keys, vectors.astype(np.float32), 0.95) == expected
    assert near_duplicate_vectors(["a", "b"], np.ones((2, 3), np.float32), 1.0) == ["a", "a"]


@pytest.mark.parametrize("similarity", [0.0, 1.1, float("nan")])
def test_a_similarity_out_of_range_is_refused(similarity: float) -> None:
    with pytest.raises(BadInput, match="above 0 and at most 1"):
        near_duplicate_vectors(["a"], np.ones((1, 2), np.float32), similarity)


def test_near_duplicates_by_embedding(catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with catalog.read() as now:
        keys = now.hashes()["key"].to_pylist()
    vectors = np.random.default_rng(0).normal(size=(len(keys), 16))
    vectors[1] = vectors[5]
    with writing(catalog.home, "toy", keys, [("all", 16)]) as out:
        out[:] = vectors
    words = ["duplicates", "--embeddings", "toy", "--sheet", str(tmp_path / "twins.html"), "--home", str(catalog.home)]
    assert run(words) == 0
    assert "1 groups of near-duplicates, 1 of them across" in capsys.readouterr().out
    page = (tmp_path / "twins.html").read_text()
    assert page.count("data:image/jpeg") == 2
    assert keys[1] in page
    assert keys[5] in page
