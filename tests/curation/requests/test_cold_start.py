"""A cold start: a mix of arms whose shares follow their hits, an example, and what other tasks say of the class."""

import doctest
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from support.homes import copy_home, label, labels, make_home

from curation import BadInput, Catalog, NotFound, Task
from curation.catalog.event_tables import REQUESTS
from curation.catalog.slices import Slice
from curation.images.embeddings import writing
from curation.requests import spending, strategies
from curation.requests.candidates import Candidates
from curation.requests.clusters import one_of_each_cluster
from curation.requests.cold_start import PRIOR, arm_weights, cold_start
from curation.requests.proposals import Proposal, choose_requests
from curation.requests.strategies import likely_share

KIND = Task(name="kind", kind="categorical", classes=("car", "van", "tram"), owner="ada")
TRAM = "label.kind = 'tram'"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A new task `kind` without labels, a rare slice of it, and vectors in four clusters."""
    catalog = make_home(tmp_path_factory.mktemp("cold"), samples=120)
    with catalog.commit(author="ada", message="kind") as change:
        change.add_tasks([KIND])
        change.add_slice("tram", TRAM, task="kind", rare=True)
        keys = change.now.samples()["key"].to_pylist()
    generator = np.random.default_rng(0)
    with writing(catalog.home, "m", keys, [("all", 3)]) as vectors:
        vectors[:] = generator.normal(size=(len(keys), 3)) * 0.1 + 5 * np.eye(4, 3)[np.arange(len(keys)) % 4]
    return catalog


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(original, tmp_path)


def request(catalog: Catalog, budget: int = 24, **fields: object) -> list[dict[str, object]]:
    proposal = Proposal(**{"budget": budget, "seed": 1, "random_share": 0.0, "embeddings": "m",
                           "importance": {"kind": 1.0}, **fields})  # fmt: skip
    with catalog.read() as now:
        return choose_requests(now, proposal, catalog.home)


def arms(rows: list[dict[str, object]]) -> Counter[str]:
    return Counter(str(row["arm"]) for row in rows)


def without_other_tasks(catalog: Catalog) -> Iterator[Candidates]:
    """Candidates of a catalog in which no other task says anything."""
    with catalog.read() as now:
        candidates = Candidates(now, catalog.home, embeddings="m")
        candidates.tasks = {"kind": candidates.tasks["kind"]}
        yield candidates


def test_every_arm_has_its_share(catalog: Catalog) -> None:
    for candidates in without_other_tasks(catalog):
        tram = Slice(name="tram", predicate=f"({TRAM})", task="kind", rare=True)
        picks = cold_start(candidates, KIND, tram, 24, [0])
        shares = {"cluster": 12, "diverse": 6, "cold_random": 6}
        assert Counter(pick.arm for pick in picks) == pytest.approx(shares, abs=1)
        assert len({pick.row for pick in picks}) == 24
        assert picks == cold_start(candidates, KIND, tram, 24, [0])
        assert all(pick.reason.startswith("no label yet of a tram: ") for pick in picks)


def test_the_share_of_an_arm_follows_its_hits(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="asked") as change:
        task = change.now.task_ids()["kind"]
        rows = [
            {"sample_id": id_, "task_id": task, "arm": "diverse" if id_ < 20 else "cluster", "slice": "yellow",
             "reason": "", "run": "", "priority": 0, "propensity": 1.0, "cost": 1.0}
            for id_ in range(10, 30)
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
        keys = [f"pictures/{id_:05d}" for id_ in range(10, 20)]
        change.add_labels(labels([label(key, "color", "yellow", "eve") for key in keys]), source="human")
    with catalog.commit(author="ada", message="answered") as change:
        change.close_requests(change.now.requests("open")["request_id"].to_pylist(), state="answered")
        yellow = set(change.now.members("label.color = 'yellow'").tolist())
    hits = len(yellow & set(range(20, 30)))
    with catalog.read() as now:
        weights = arm_weights(Candidates(now, catalog.home))
    assert weights["diverse"] == pytest.approx(PRIOR["diverse"] * 2 * 11 / 12)
    assert weights["cluster"] == pytest.approx(PRIOR["cluster"] * 2 * (hits + 1) / 12)
    assert weights["like"] == PRIOR["like"]


def test_an_example_takes_the_largest_share_with_its_neighbours(catalog: Catalog) -> None:
    rows = request(catalog, like="pictures/00010", budget=12)
    near = [row for row in rows if row["arm"] == "like"]
    assert len(near) >= 8
    assert {int(str(row["sample_id"])) % 4 for row in near} == {2}
    with pytest.raises(NotFound, match=r"^--like 'pictures/nosuch': the pack holds no image with this key"):
        request(catalog, like="pictures/nosuch")
    with pytest.raises(BadInput, match=r"^--like 'pictures/00010': there are no features"):
        request(catalog, like="pictures/00010", embeddings="")


def test_a_predicate_over_other_tasks_points_to_its_samples(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="slice") as change:
        change.add_slice("tram", f"{TRAM} OR (label.color = 'red' AND NOT label.car)", task="kind", rare=True)
        pointed = change.now.members("label.color = 'red' AND NOT label.car")
        pointed = np.intersect1d(pointed, change.now.training_ids())
    rows = request(catalog)
    related = {row["sample_id"] for row in rows if row["arm"] == "related"}
    assert len(pointed) > 0
    assert related == set(pointed.tolist())
    assert all("by other tasks = 1.000" in str(row["reason"]) for row in rows if row["arm"] == "related")


def test_each_combination_of_other_tasks_comes_once_before_any_comes_twice(catalog: Catalog) -> None:
    rows = request(catalog, budget=8)
    related = [int(str(row["sample_id"])) for row in rows if row["arm"] == "related"]
    with catalog.read() as now:
        codes: dict[str, dict[int, int]] = {
            name: dict(zip(*(now.labels(name)[part].to_pylist() for part in ("sample_id", "code")), strict=True))
            for name in ("color", "car", "bike")
        }
    found = [tuple(codes[name].get(id_) for name in codes) for id_ in related]
    assert len(found) > 1
    assert None not in {code for combination in found for code in combination}
    assert len(set(found[: len(set(found))])) == len(set(found)) > 1


def test_without_vectors_the_arms_that_need_none_share_the_budget(catalog: Catalog) -> None:
    assert set(arms(request(catalog, embeddings=""))) <= {"related", "cold_random"}
    assert len(request(catalog, embeddings="", budget=60)) == 60


def vectors_of(clusters: int) -> npt.NDArray[np.float32]:
    generator = np.random.default_rng(0)
    return np.asarray(10 * np.eye(clusters)[np.arange(60) % clusters] + generator.normal(size=(60, clusters)) * 0.01,
                      np.float32)  # fmt: skip


def test_one_of_each_cluster_leaves_out_clusters_with_a_label() -> None:
    taken = np.zeros(60, np.bool_)
    taken[[0, 1]] = True
    found = one_of_each_cluster(vectors_of(6), taken, 4, np.random.default_rng(3))
    assert len(set(found.tolist())) == len(found)
    assert not set(found.tolist()) & {0, 1}
    assert {row % 6 for row in found.tolist()} <= {2, 3, 4, 5} | {0, 1}


@pytest.mark.parametrize(("hits", "requests", "share"), [(0, 0, 0.5), (0, 20, 0.15), (20, 20, 0.85), (4, 8, 0.5)])
def test_the_share_of_the_likeliest_follows_the_last_batch(hits: int, requests: int, share: float) -> None:
    assert likely_share(hits, requests) == share


def test_the_examples_run(original: Catalog) -> None:
    with original.read() as now:
        assert doctest.testmod(spending, extraglobs={"now": now, "home": original.home}).failed == 0
    assert doctest.testmod(strategies).failed == 0
