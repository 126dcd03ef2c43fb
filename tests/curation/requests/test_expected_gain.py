"""Requests of numbers: the greedy choice beside every single choice, and the ridge beside what was planted."""

from pathlib import Path

import numpy as np
import pytest
from support.homes import make_home

from curation.images.embeddings import writing
from curation.requests.expected_gain import RIDGES, chosen_ridge, most_expected_gain
from curation.requests.proposals import Proposal, choose_requests

N, RIDGE = 60, 2.0


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)


def variance(vectors: np.ndarray, rows: list[int]) -> float:
    """The mean variance of a prediction over all rows, in units of the noise, given labels of these."""
    x = np.c_[vectors, np.ones(N)].astype(np.float64)
    inverse = np.linalg.inv(RIDGE * np.eye(5) + x[rows].T @ x[rows])
    return float(np.einsum("nd,de,ne->n", x, inverse, x).mean())


def test_each_row_lowers_the_variance_most(vectors: np.ndarray) -> None:
    open_ = np.arange(N) >= 5
    found, gains = most_expected_gain(vectors, np.arange(5), open_, np.arange(N), 6, ridge=RIDGE)
    known, first = list(range(5)), variance(vectors, list(range(5)))
    for row, gain in zip(found.tolist(), gains.tolist(), strict=True):
        after = {other: variance(vectors, [*known, other]) for other in range(5, N) if other not in known}
        assert row == min(after, key=after.get)  # type: ignore[arg-type]
        assert gain * first == pytest.approx(variance(vectors, known) - after[row], rel=1e-4)
        known.append(row)


def test_one_of_each_group_comes_first(vectors: np.ndarray) -> None:
    groups = np.arange(N) // 6
    found, _ = most_expected_gain(vectors, np.arange(3), np.arange(N) >= 3, groups, 12, ridge=RIDGE)
    assert sorted(groups[found[:9]].tolist()) == list(range(1, 10))  # group 0 has labels: it comes last
    assert len(set(found.tolist())) == 12
    everything, _ = most_expected_gain(vectors, np.arange(3), np.arange(N) >= 3, groups, 500, ridge=RIDGE)
    assert sorted(everything.tolist()) == list(range(3, N))


def test_noise_raises_the_ridge() -> None:
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(300, 10)).astype(np.float32)
    exact = vectors @ generator.normal(size=10)
    ridges = [
        chosen_ridge(vectors, exact + noise * generator.normal(size=300), np.arange(300)) for noise in (0.0, 30.0)
    ]
    assert ridges[0] < ridges[1]
    unit = float((vectors**2).sum(axis=1).mean())
    assert ridges[0] == pytest.approx(RIDGES[0] * unit)
    assert chosen_ridge(vectors[:5], exact[:5], np.arange(5)) == pytest.approx((vectors[:5] ** 2).sum(axis=1).mean())


def test_a_task_of_numbers_is_asked_where_the_features_are_new(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=80)
    with catalog.read() as now:
        keys = now.samples()["key"].to_pylist()
        known = set(now.labels("speed")["sample_id"].to_pylist())
        rows = [
            row["key"] for row in now.samples().to_pylist() if row["sample_id"] not in known and row["split"] == "train"
        ]
    with writing(catalog.home, "m", keys, [("all", 4)]) as vectors:
        vectors[:] = np.random.default_rng(0).normal(size=(80, 4)) * 0.1
        for key in rows[::9]:
            vectors[keys.index(key), 3] += 5
    with catalog.read() as now:
        proposal = Proposal(budget=1, seed=0, random_share=0.0, embeddings="m", importance={"speed": 1.0})
        (asked,) = choose_requests(now, proposal, catalog.home)
        key = now.samples()["key"].to_pylist()[now.samples()["sample_id"].to_pylist().index(asked["sample_id"])]
    assert key in rows[::9]
    assert asked["arm"] == "mined"
    assert "expected to lower the error" in str(asked["reason"])
