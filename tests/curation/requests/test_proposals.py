"""Label requests: training samples only, none twice, a uniform random arm, and mining that finds rare classes."""

import doctest
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from support.homes import TASKS, copy_home, label, labels, make_home

from curation import BadInput, Catalog, NotFound
from curation.catalog.event_tables import REQUESTS
from curation.catalog.snapshot import Snapshot
from curation.files.read_back import sha256_of
from curation.images.embeddings import Embeddings, farthest_first, writing
from curation.requests import proposals
from curation.requests.budget import spread
from curation.requests.candidates import Candidates
from curation.requests.proposals import Proposal, choose_requests, propose


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("requests"), samples=120)


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(original, tmp_path)


def ask(catalog: Catalog, **fields: object) -> list[dict[str, object]]:
    """The open requests after one proposal."""
    proposal = Proposal(**{"budget": 40, "seed": 0, **fields})
    propose(catalog, proposal, author="ada", batch=f"ask {proposal}")
    with catalog.read() as now:
        return now.requests("open").to_pylist()


def add_run(catalog: Catalog, chance_of_yellow: float = 0.9) -> str:
    """A run that predicts yellow with this probability for yellow pictures, and is undecided about all other tasks."""
    with catalog.read() as now:
        samples = now.samples()
    pictures = {}
    for row in samples.to_pylist():
        red, green, _ = np.asarray(Image.open(row["location"])).reshape(-1, 3).mean(axis=0)
        pictures[row["key"]] = 0.6 < green / red < 1.4
    rows = []
    for key, is_yellow in pictures.items():
        p = chance_of_yellow if is_yellow else 0.05
        rows.append({"key": key, "task": "color", "code": 1, "confidence": p, "probabilities": [1 - p, p, 0.0]})
        rows += [
            {"key": key, "task": name, "code": 0, "confidence": 0.5, "probabilities": [0.5, 0.5]}
            for name in ("car", "bike")
        ]
        rows.append({"key": key, "task": "speed", "number": 1.0})
    path = catalog.home / "predictions.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    with catalog.commit(author="ada", message="run") as change:
        change.add_run("r", plan="p", predictions=path.name, sha256=sha256_of(path))
    return "r"


def test_candidates_are_unlabelled_training_samples(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="out") as change:
        change.add_attributes(pa.table({"key": ["pictures/00005"], "excluded": [True]}))
    rows = ask(catalog, random_share=1.0, budget=150)
    with catalog.read() as now:
        train = set(now.training_ids().tolist())
        labelled = {(id_, name) for name in now.tasks() for id_ in now.labels(name)["sample_id"].to_pylist()}
    pairs = {(row["sample_id"], row["task"]) for row in rows}
    assert len(pairs) == len(rows) == 150
    assert {id_ for id_, _ in pairs} <= train
    assert not pairs & labelled
    assert {task for _, task in pairs} == {"color", "car", "bike", "speed"}


def test_nothing_is_requested_twice(catalog: Catalog) -> None:
    first = ask(catalog, seed=1)
    both = ask(catalog, seed=2)
    pairs = Counter((row["sample_id"], row["task"]) for row in both)
    assert len(both) == 2 * len(first)
    assert max(pairs.values()) == 1


def test_random_arm_has_its_share_and_its_propensity(catalog: Catalog) -> None:
    rows = ask(catalog, random_share=0.25, budget=16, importance={"color": 1.0})
    drawn = [row for row in rows if row["arm"] == "random"]
    with catalog.read() as now:
        unknown = len(now.training_ids()) - np.isin(now.labels("color")["sample_id"], now.training_ids()).sum()
    assert len(drawn) == 4
    assert {row["propensity"] for row in drawn} == {4 / unknown}


def test_random_arm_is_uniform(original: Catalog) -> None:
    hits: Counter[object] = Counter()
    with original.read() as now:
        for seed in range(40):
            proposal = Proposal(budget=20, seed=seed, random_share=1.0, importance={"car": 1.0})
            rows = choose_requests(now, proposal, original.home)
            hits.update(row["sample_id"] for row in rows)
    assert {row["propensity"] for row in rows} == {20 / len(hits)}
    assert stats.chisquare(list(hits.values())).pvalue > 0.001


def test_same_batch_is_a_no_op(catalog: Catalog) -> None:
    assert ask(catalog) == ask(catalog)


def test_the_likeliest_get_their_share_and_the_others_have_the_smallest_margin(catalog: Catalog) -> None:
    rows = ask(catalog, run=add_run(catalog), budget=8, random_share=0.0, importance={"color": 1.0})
    mine = [str(row["reason"]) for row in rows if row["slice"] == "yellow"]
    likely = [float(why.rpartition("=")[2]) for why in mine if "chance to be yellow" in why]
    margins = [float(why.rpartition("=")[2]) for why in mine if "margin" in why]
    assert likely == sorted(likely, reverse=True)
    assert margins == sorted(margins, reverse=True)
    assert likely[0] == 0.9
    assert len(likely) == round(len(mine) / 2)  # no batch was answered yet
    assert {row["arm"] for row in rows} == {"mined"}


def test_the_share_of_the_likeliest_follows_the_last_batch(catalog: Catalog) -> None:
    answered(catalog, "red", "yellow", 20)
    rows = ask(catalog, run=add_run(catalog), budget=40, random_share=0.0, importance={"color": 1.0})
    mine = [str(row["reason"]) for row in rows if row["slice"] == "yellow"]
    assert sum("chance to be yellow" in why for why in mine) == round(0.15 * len(mine))


def test_one_of_each_group_comes_first(catalog: Catalog) -> None:
    rows = ask(catalog, run=add_run(catalog, 0.05), budget=12, random_share=0.0, importance={"color": 1.0})
    with catalog.read() as now:
        group = dict(zip(*(now.samples()[name].to_pylist() for name in ("sample_id", "group")), strict=True))
    yellow = [group[row["sample_id"]] for row in rows if row["slice"] == "yellow"]
    assert len(set(yellow)) == len(yellow)


def test_budget_is_met_while_labels_are_missing(catalog: Catalog) -> None:
    assert len(ask(catalog, run=add_run(catalog), budget=90)) == 90
    with catalog.read() as now:
        left = sum(
            len(now.training_ids()) - int(np.isin(now.labels(name)["sample_id"], now.training_ids()).sum())
            for name in ("color", "car", "bike", "speed")
        )
    assert len(ask(catalog, budget=10_000, random_share=1.0)) == left


def test_budget_goes_to_other_tasks_where_one_runs_dry(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="nearly all known") as change:
        keys = [row["key"] for row in change.now.samples().to_pylist()[5:]]
        change.add_labels(labels([label(key, "car", True, "ada") for key in keys]), source="human")
    for share in (0.0, 0.15, 1.0):
        rows = ask(catalog, budget=20, random_share=share, importance={"car": 9.0, "bike": 1.0})
        assert len(rows) % 20 == 0


@pytest.mark.parametrize(("importance", "message"), [({"cra": 1.0}, "'cra'"), ({"car": -1.0}, "importance of car")])
def test_importance_names_tasks_and_is_not_negative(
    catalog: Catalog, importance: dict[str, float], message: str
) -> None:
    with pytest.raises((BadInput, NotFound), match=message):
        ask(catalog, importance=importance)


def test_budget_is_spread_by_importance_and_known_labels(catalog: Catalog) -> None:
    with catalog.read() as now:
        known = {
            name: int(np.isin(now.labels(name)["sample_id"], now.training_ids()).sum()) for name in ("car", "bike")
        }
    weight = {"car": 1 / (10 + known["car"]) ** 0.5, "bike": 2 / (10 + known["bike"]) ** 0.5}
    counts = Counter(row["task"] for row in ask(catalog, random_share=0.0, importance={"car": 1.0, "bike": 2.0}))
    assert counts["car"] + counts["bike"] == 40
    assert abs(counts["car"] - 40 * weight["car"] / sum(weight.values())) < 1


def test_budget_goes_to_the_largest_error(catalog: Catalog) -> None:
    run = add_run(catalog)
    rest = {"run": run, "slice": "", "split": "validation", "n": 1000, "groups": 9, "low": 0.0, "high": 1.0}
    rows = [
        {**rest, "task": "car", "metric": "accuracy", "value": 1.0},
        {**rest, "task": "bike", "metric": "accuracy", "value": 0.0},
        {**rest, "task": "speed", "metric": "mae", "value": 0.0},
    ]
    with catalog.commit(author="ada", message="figures") as change:
        change.add_slice_errors(pa.Table.from_pylist(rows))
    importance = {"car": 1.0, "bike": 1.0, "speed": 1.0}
    counts = Counter(row["task"] for row in ask(catalog, run=run, random_share=0.0, importance=importance))
    assert counts["bike"] >= 39


def answered(catalog: Catalog, color: str, slice_: str, count: int) -> list[int]:
    """Answer `count` mined requests for a slice with one colour; returns the sample ids."""
    with catalog.commit(author="ada", message="ask") as change:
        samples = change.now.samples().to_pylist()
        known = set(change.now.labels("color")["sample_id"].to_pylist())
        train = set(change.now.training_ids().tolist())
        chosen = [row for row in samples if row["sample_id"] in train - known][:count]
        ids = [row["sample_id"] for row in chosen]
        row = {"task_id": change.now.task_ids()["color"], "arm": "mined", "slice": slice_, "reason": "", "run": "",
               "priority": 0, "propensity": 1.0, "cost": 1.0}  # fmt: skip
        change.add_requests(pa.Table.from_pylist([{"sample_id": id_, **row} for id_ in ids], REQUESTS))
    with catalog.commit(author="bob", message="answers") as change:
        change.add_labels(labels([label(row["key"], "color", color, "bob") for row in chosen]), source="human")
        change.close_requests(change.now.requests("open")["request_id"].to_pylist(), state="answered")
        return ids


def known_in(now: Snapshot, predicate: str) -> int:
    ids = np.intersect1d(now.labels("color")["sample_id"], now.training_ids())
    return len(np.intersect1d(ids, now.members(predicate)))


def test_budget_leaves_a_slice_that_earlier_requests_missed(catalog: Catalog) -> None:
    answered(catalog, "red", "yellow_at_night", 20)
    with catalog.read() as now:
        candidates = Candidates(now, catalog.home)
        cells = spread(candidates, {**dict.fromkeys(now.tasks(), 0.0), "color": 1.0}, 10_000, run="")
        counts = {slice_.name: count for _, slice_, count in cells if slice_}
        hit_rate = {"yellow": 1 / 2, "yellow_at_night": 1 / 22}
        known = {name: known_in(now, part.predicate) for name, part in now.slices().items()}
    weight = {name: rate / (10 + known[name]) ** 0.5 for name, rate in hit_rate.items()}
    expected = {name: 10_000 * part / sum(weight.values()) for name, part in weight.items()}
    assert counts == pytest.approx(expected, abs=1)


def test_groups_with_a_known_label_come_last(catalog: Catalog) -> None:
    with catalog.read() as now:
        group = dict(zip(*(now.samples()[name].to_pylist() for name in ("sample_id", "group")), strict=True))
        train = set(now.training_ids().tolist())
        known = {group[id_] for id_ in now.labels("color")["sample_id"].to_pylist() if id_ in train}
    fresh = {group[id_] for id_ in train} - known
    rows = ask(catalog, run=add_run(catalog), budget=len(fresh), random_share=0.0, importance={"color": 1.0})
    assert {group[row["sample_id"]] for row in rows if row["slice"] == "yellow"} <= fresh


def test_a_run_that_lacks_a_task_or_a_sample_mines_what_it_can(catalog: Catalog) -> None:
    run = add_run(catalog)
    path = catalog.home / "predictions.parquet"
    table = pq.read_table(path)
    first = pa.compute.equal(table["key"], "pictures/00001")
    pq.write_table(
        table.filter(pa.compute.invert(pa.compute.or_(first, pa.compute.equal(table["task"], "bike")))), path
    )
    with catalog.commit(author="ada", message="evaluated again") as change:
        change.add_run(run, plan="p", predictions=path.name, sha256=sha256_of(path))
    rows = ask(catalog, run=run, random_share=0.0)
    assert len(rows) == 40
    assert {row["arm"] for row in rows if row["task"] == "bike"} == {"diverse"}


def test_slices_over_predictions_wait_for_a_run(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="slice") as change:
        change.add_slice("doubtful", "pred.car.confidence < 0.6", task="car", rare=True)
    assert not [row for row in ask(catalog) if row["slice"] == "doubtful"]
    assert [row for row in ask(catalog, run=add_run(catalog)) if row["slice"] == "doubtful"]


def test_a_cold_start_requests_the_outliers(catalog: Catalog) -> None:
    with catalog.read() as now:
        keys = now.samples()["key"].to_pylist()
        train = np.isin(now.samples()["sample_id"], now.training_ids())
    far = [key for key, usable in zip(keys, train, strict=True) if usable][7::20]
    with writing(catalog.home, "m", keys, [("all", 2)]) as vectors:
        vectors[:] = np.random.default_rng(0).normal(size=(len(keys), 2)) * 0.01
        for turn, key in enumerate(far):
            vectors[keys.index(key)] = [np.cos(turn), np.sin(turn)]
    with catalog.commit(author="ada", message="new task") as change:
        change.add_tasks([TASKS[1].model_copy(update={"name": "fresh"})])
    rows = ask(catalog, embeddings="m", random_share=0.0, importance={"fresh": 1.0}, budget=len(far) + 1)
    assert {row["key"] for row in rows} >= set(far)
    assert {row["arm"] for row in rows} == {"diverse"}


def test_choosing_changes_nothing_and_is_what_propose_adds(catalog: Catalog) -> None:
    proposal = Proposal(budget=15, seed=3, run=add_run(catalog))
    with catalog.read() as now:
        chosen, before = choose_requests(now, proposal, catalog.home), now.commit
    assert propose(catalog, proposal, author="ada", batch="ask") == 15
    with catalog.read() as now:
        added = now.requests("open").sort_by("priority").to_pylist()
        assert now.commit == before + 1
    cell = ("sample_id", "arm", "slice", "reason", "propensity", "priority")
    assert [[row[name] for name in cell] for row in added] == [[row[name] for name in cell] for row in chosen]


def test_the_examples_run(catalog: Catalog) -> None:
    assert doctest.testmod(proposals, extraglobs={"catalog": catalog}).failed == 0


def test_bad_budgets_and_unknown_runs(catalog: Catalog) -> None:
    with pytest.raises(BadInput, match="budget 0"):
        Proposal(budget=0, seed=0)
    with pytest.raises(BadInput, match=r"random share 1\.5"):
        Proposal(budget=1, seed=0, random_share=1.5)
    with pytest.raises(NotFound, match="run 'nosuch'"):
        ask(catalog, run="nosuch")


def test_embeddings_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(fails: bool) -> None:
        with writing(tmp_path, "m", ["a", "b", "c"], [("one", 2), ("two", 4)]) as vectors:
            vectors[:] = np.arange(18).reshape(3, 6)
            if fails:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(fails=True)
    with pytest.raises(NotFound, match="no complete embeddings"):
        Embeddings.open(tmp_path, "m")
    fill(fails=False)
    found = Embeddings.open(tmp_path, "m")
    standard = found.standardised(found.rows(["c", "a", "b"]))
    assert standard.mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-6)
    assert (standard**2).mean(axis=0) == pytest.approx([1 / 2] * 2 + [1 / 4] * 4, rel=1e-5)
    with pytest.raises(NotFound, match="'d'"):
        found.rows(["d"])


def test_farthest_first_covers_within_twice_the_best() -> None:
    points = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    chosen = farthest_first(points, np.empty(0, np.int64), 3)
    best = min(distance[:, [a, b, c]].min(axis=1).max() for a in range(12) for b in range(a) for c in range(b))
    assert distance[:, chosen].min(axis=1).max() <= 2 * best + 1e-5
    assert not set(farthest_first(points, chosen, 5).tolist()) & set(chosen.tolist())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(0, 12))
def test_farthest_first_takes_no_point_twice(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(3, 40)).astype(np.float32)[generator.integers(0, 3, 10)] * 100
    chosen = generator.permutation(10)[: generator.integers(0, 6)]
    picked = farthest_first(points, chosen, count)
    assert len(set(picked.tolist()) | set(chosen.tolist())) == len(picked) + len(chosen)
    assert len(picked) == min(count, 10 - len(chosen))
