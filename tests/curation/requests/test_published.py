"""BADGE, TypiClust and DIRECT on arrays, beside plain forms of the same rules; and every strategy on one catalog."""

import doctest
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.homes import copy_home, make_home

from curation import Catalog
from curation.files.read_back import sha256_of
from curation.images.embeddings import writing
from curation.requests import answer_seconds, gradients, separation
from curation.requests.clusters import typical_of_clusters
from curation.requests.gradients import class_residuals, gradient_spread, important_rows
from curation.requests.proposals import Proposal, choose_requests
from curation.requests.ranking import STRATEGIES
from curation.requests.separation import around_separations, undecided

STATES = st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The pictures with vectors, and a run that predicts the class of each task."""
    catalog = make_home(tmp_path_factory.mktemp("published"), samples=120)
    generator = np.random.default_rng(0)
    with catalog.commit(author="ada", message="run") as change:
        keys = change.now.samples()["key"].to_pylist()
        with writing(catalog.home, "m", keys, [("all", 8)]) as vectors:
            vectors[:] = generator.normal(size=(len(keys), 8))
        rows = [
            {"key": key, "task": name, "code": int(np.argmax(chances)), "confidence": float(max(chances)),
             "probabilities": chances.tolist()}
            for name, classes in (("color", 3), ("car", 2), ("bike", 2))
            for key, chances in zip(keys, generator.dirichlet(np.ones(classes), len(keys)), strict=True)
        ]  # fmt: skip
        path = catalog.home / "predictions.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        change.add_run("r", plan="p", predictions=path.name, sha256=sha256_of(path))
    return catalog


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("run", ["r", ""])
def test_every_strategy_spends_its_budget_on_open_training_samples(
    strategy: str, run: str, original: Catalog, tmp_path: Path
) -> None:
    catalog = copy_home(original, tmp_path)
    proposal = Proposal(budget=60, seed=1, run=run, embeddings="m", strategy=strategy)  # type: ignore[arg-type]
    with catalog.read() as now:
        rows = choose_requests(now, proposal, catalog.home)
        assert rows == choose_requests(now, proposal, catalog.home)
        train, names = set(now.training_ids().tolist()), {id_: name for name, id_ in now.task_ids().items()}
        known = {(id_, name) for name in now.tasks() for id_ in now.labels(name)["sample_id"].to_pylist()}
    pairs = {(int(str(row["sample_id"])), names[int(str(row["task_id"]))]) for row in rows}
    assert len(pairs) == len(rows) == 60
    assert {id_ for id_, _ in pairs} <= train
    assert not pairs & known
    assert all(row["reason"] for row in rows)
    assert ({row["arm"] for row in rows} == {"random"}) == (strategy == "random")


def test_strategies_differ(original: Catalog) -> None:
    found = set()
    with original.read() as now:
        for strategy in STRATEGIES:
            proposal = Proposal(budget=12, seed=1, run="r", embeddings="m", strategy=strategy, importance={"color": 1})
            rows = choose_requests(now, proposal, original.home)
            found.add(tuple(row["sample_id"] for row in rows if row["arm"] != "random" or strategy == "random"))
    assert len(found) == len(STRATEGIES)


def test_gradients_are_spread_as_if_they_were_built() -> None:
    generator = np.random.default_rng(0)
    residuals = class_residuals(generator.dirichlet(np.ones(4), 60))
    vectors = generator.normal(size=(60, 5)).astype(np.float32)
    whole = (residuals[:, :, None] * vectors[:, None, :]).reshape(60, -1).astype(np.float64)
    picked, draws = [int((whole**2).sum(axis=1).argmax())], np.random.default_rng(3)
    while len(picked) < 12:
        nearest = ((whole[:, None] - whole[picked]) ** 2).sum(axis=2).min(axis=1)
        mass = np.cumsum(nearest)
        picked.append(int(np.searchsorted(mass, draws.random() * mass[-1], side="right")))
    assert gradient_spread(residuals, vectors, 12, np.random.default_rng(3)).tolist() == picked


def test_equal_gradients_are_taken_once() -> None:
    residuals = np.tile(np.array([[0.5, -0.5], [-0.2, 0.2]], np.float32), (10, 1))
    vectors = np.ones((20, 3), np.float32)
    assert len(gradient_spread(residuals, vectors, 6, np.random.default_rng(0))) == 2
    assert len(gradient_spread(residuals * 0, vectors, 6, np.random.default_rng(0))) == 0


def test_rows_of_a_large_mass_are_kept_and_weigh_less() -> None:
    masses = np.r_[np.full(990, 0.001), np.full(10, 100.0)]
    rows, weights = important_rows(masses, 200, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 200
    assert set(range(990, 1000)) <= set(rows.tolist())
    assert weights[rows >= 990].max() < weights[rows < 990].min()
    rows, weights = important_rows(masses, 1000, np.random.default_rng(0))
    assert (rows.tolist(), set(weights.tolist())) == (list(range(1000)), {1.0})


def test_typical_rows_are_the_middles_of_large_clusters_without_labels() -> None:
    generator = np.random.default_rng(1)
    middles = np.eye(4) * 50
    sizes = (40, 30, 20, 10)
    vectors = np.concatenate(
        [middle + np.r_[np.zeros((1, 4)), generator.normal(size=(size - 1, 4)) * 3]
         for middle, size in zip(middles, sizes, strict=True)]
    ).astype(np.float32)  # fmt: skip
    taken = np.zeros(100, np.bool_)
    taken[:1] = True
    found = typical_of_clusters(vectors, taken, 3, np.random.default_rng(0))
    clusters = np.repeat(np.arange(4), sizes)[found].tolist()
    assert clusters[0] != 0
    distance = np.linalg.norm(vectors[found] - middles[clusters], axis=1)
    assert distance.max() < 4
    assert len(typical_of_clusters(vectors, ~taken, 5, np.random.default_rng(0))) == 1


def test_typical_rows_of_one_large_cluster_take_little_memory() -> None:
    vectors = np.random.default_rng(0).normal(size=(6_000, 2)).astype(np.float32)
    tracemalloc.start()
    found = typical_of_clusters(vectors, np.zeros(6_000, np.bool_), 1, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.linalg.norm(vectors[found]) < 1
    assert peak < 100e6  # all distances at once take 144 MB, and their copies as much again


def test_a_small_cluster_gives_a_row_only_after_the_larger_ones() -> None:
    vectors = np.concatenate([np.zeros((20, 2)), np.full((2, 2), 50)]).astype(np.float32)
    found = typical_of_clusters(vectors, np.zeros(22, np.bool_), 22, np.random.default_rng(3)).tolist()
    assert sorted(found) == list(range(22))
    assert set(found[-2:]) == {20, 21}


@given(STATES)
def test_the_separation_gets_most_known_labels_right(states: list[int]) -> None:
    values = np.array(states, np.int8)
    right = [int((values[:cut] == 1).sum() + (values[cut:] == 0).sum()) for cut in range(len(values) + 1)]
    assert separation.separation(values) == right.index(max(right))


@given(STATES)
def test_the_undecided_rows_lie_between_what_is_certain(states: list[int]) -> None:
    values = np.array(states, np.int8)
    first, last = undecided(values)
    assert 0 <= first <= last <= len(values)
    assert not (values[:first] == 0).any()
    assert not (values[last:] == 1).any()


def test_one_wrong_label_hardly_moves_what_is_asked_around_the_separation() -> None:
    scores = np.linspace(1, -1, 200)[:, None]
    states = np.full((200, 1), -1, np.int8)
    states[:100:5], states[100::5] = 1, 0
    states[10] = 0  # wrong
    open_, groups = states[:, 0] < 0, np.arange(200)
    asked = [row for row, _ in around_separations(scores, states, open_, groups, 20, np.random.default_rng(0))]
    assert len(set(asked)) == 20
    assert open_[asked].all()
    assert all(85 <= row <= 110 for row in asked[10:])


def test_direct_divides_its_budget_over_classes() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(300, 3))
    states = np.full((300, 3), -1, np.int8)
    states[:30] = np.eye(3, dtype=np.int8)[np.arange(30) % 3]
    found = around_separations(scores, states, states[:, 0] < 0, np.arange(300), 30, generator)
    assert np.bincount([code for _, code in found]).tolist() == [10, 10, 10]


@pytest.mark.parametrize("module", [gradients, separation, answer_seconds])
def test_the_examples_run(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
