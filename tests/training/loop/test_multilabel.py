"""A task of several classes is learned: solved and from draws, from features and from shards, with unknown classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.homes import copy_home
from support.learned import planned, recipe
from support.marked import CLASSES, SEEN, make_marked

from curation import Catalog
from samplers import Plan, make_pack
from samplers.streaming.batches import batches
from samplers.streaming.materialize import materialize
from training import Run, evaluate, train
from training.loop.exact_heads import Start, exact_head
from training.loop.shard_feed import Shards
from training.loop.smoke import smoke
from training.loop.task_labels import groups_of, task_labels
from training.network.model import load_any

TREE = {"branch": {"both": {"width": 8, "tasks": ["*"]}}}
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # webdataset leaves shards to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

STOPPING = {"every": 4, "patience": 1, "floor": 0.5, "tolerance": 0.5}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_marked(tmp_path_factory.mktemp("multilabel"), partial=0.2, signal=4.0)


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return planned(catalog, draws=960)


def figure(catalog: Catalog, run: Run, metric: str = "map") -> float:
    rows = evaluate(run, catalog, author="eve").to_pylist()
    found = next(
        row for row in rows
        if (row["task"], row["slice"], row["split"], row["metric"]) == ("seen", "", "test", metric)
    )  # fmt: skip
    assert found["low"] < found["value"] <= found["high"]
    return float(found["value"])


@pytest.fixture(scope="module")
def exact(catalog: Catalog, plan: Plan) -> Run:
    return train(recipe(heads="exact", hidden=0), plan, catalog)


def test_solved_heads_rank_the_classes(catalog: Catalog, exact: Run) -> None:
    assert [(head.task, head.kind, head.classes) for head in exact.heads] == [("seen", "exact", 4), ("wet", "exact", 2)]
    assert not exact.alarms
    assert figure(catalog, exact) > 0.85


def test_a_warm_start_ends_at_the_same_head(catalog: Catalog, plan: Plan) -> None:
    """Begun at a head of half of the labels; and the head of equal labels is taken as it is."""
    with catalog.read() as now:
        (seen, _) = task_labels(plan, groups_of(now, plan))
    assert seen.presence is not None
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(len(seen.rows), 6)))
    features[:, :4] += 2.0 * torch.from_numpy((seen.presence == 1).astype(np.float64))
    half = np.arange(len(seen.rows)) % 2 == 0
    part = replace(
        seen, rows=seen.rows[half], values=seen.values[half], weights=seen.weights[half] / seen.weights[half].sum(),
        names=seen.names[half], presence=seen.presence[half],
    )  # fmt: skip
    before, cold = exact_head(part, features[torch.from_numpy(half)]), exact_head(seen, features)
    start = Start(record=before.record, weights=before.weights, biases=before.biases)
    warm = exact_head(seen, features, start=start)
    assert (warm.record.ridge, warm.record.temperature) == (cold.record.ridge, cold.record.temperature)
    assert torch.allclose(warm.weights, cold.weights, atol=1e-6)
    again = exact_head(seen, features, start=Start(record=warm.record, weights=warm.weights, biases=warm.biases))
    assert again.weights is warm.weights


def test_classes_that_all_labels_agree_about_are_named(catalog: Catalog, tmp_path: Path) -> None:
    copy = copy_home(catalog, tmp_path)
    with copy.commit(author="eve", message="another class") as change:
        change.redefine_task(SEEN.model_copy(update={"classes": (*CLASSES, "tram")}), {})
    run = train(recipe(heads="exact", hidden=0), planned(copy, draws=160), copy)
    assert run.alarms == ["seen: all labels agree about tram, which so are constant; label others"]
    assert [head.kind for head in run.heads] == ["exact", "exact"]


def test_a_tree_learns_from_draws_and_is_stopped_with_soft_labels(catalog: Catalog, plan: Plan) -> None:
    made = recipe(tree=TREE, learning_rate=0.05, task={"seen": {"smoothing": 0.1}})
    assert figure(catalog, train(made, plan, catalog)) > 0.6
    run = train(recipe(tree=TREE, learning_rate=0.2, stopping=STOPPING), plan, catalog)
    assert {"ACTIVE", "DISTILL"} <= {row["state"] for row in run.states if row["task"] == "seen"}
    assert set(run.ended) == {"seen", "wet"}
    assert figure(catalog, run) > 0.35


def test_a_shared_layer_and_a_smoke_check(catalog: Catalog, plan: Plan) -> None:
    assert figure(catalog, train(recipe(heads="shared", hidden=0, epochs=20), plan, catalog)) > 0.8
    for made in (recipe(heads="auto", hidden=0), recipe(tree=TREE, learning_rate=0.02)):
        heads = {(head.task, head.kind): head.fits for head in smoke(made, plan, catalog)}
        assert heads["seen", "drawn" if made.tree else "exact"]


def test_batches_say_what_was_looked_for(catalog: Catalog, plan: Plan) -> None:
    """The bus of an image in which nobody looked for it is unknown, never absent."""
    with catalog.read() as now:
        labels = {row["sample_id"]: row for row in now.labels("seen").to_pylist()}
        ids = {row["key"]: row["sample_id"] for row in now.samples().to_pylist()}
    seen = set()
    for batch in batches(plan, 16):
        for key, states in zip(batch.keys, batch.presence.tolist(), strict=True):
            label = labels[ids[key]]
            looked = label["looked"] if label["looked"] is not None else list(range(len(CLASSES)))
            wanted = [1 if c in label["codes"] else 0 if c in looked else -1 for c in range(len(CLASSES))]
            assert states == wanted
            seen |= set(states)
    assert seen == {-1, 0, 1}


def test_shards_hold_the_same_batches(catalog: Catalog, plan: Plan, tmp_path: Path) -> None:
    materialize(plan, make_pack(catalog), tmp_path / "draws")
    from_shards = Shards(folder=tmp_path / "draws").batches(plan, 64, (8, 8))
    count = 0
    for ours, theirs in zip(batches(plan, 64), from_shards, strict=True):
        assert (ours.presence == theirs.presence).all()
        assert (ours.known == theirs.known).all()
        count += 1
    assert count == 15


def test_a_class_that_nobody_looked_for_moves_nothing(catalog: Catalog, plan: Plan) -> None:
    """The gradient of a step on the road picture {car: yes, person: yes, bicycle: no} leaves the bus alone."""
    from training.loop.learner import Draws, Learner
    from training.loop.ranks import Ranks
    from training.network.model import build

    made = recipe(optimizer="sgd", learning_rate=0.1, hidden=0, weight_decay=0.0)
    network = build(made, plan.tasks, None if not made.embeddings else _embeddings(catalog, made.embeddings))
    learner = Learner(made, network, plan.tasks, Ranks())
    presence = torch.tensor([[1, 1, 0, -1]] * 16, dtype=torch.int8)
    known = torch.tensor([[True, False]] * 16)
    learner.step(
        Draws(
            inputs=torch.randn(16, network.width), values=torch.zeros(16, 2), known=known, weights=known.float(),
            keys=["road"] * 16, positions=np.arange(16), presence=presence,
        ), 0, 1.0,
    )  # fmt: skip
    columns = network.losses.layout.columns[0]
    moved = network.heads.bias[columns].detach()
    assert (moved[:2] > 0).all()
    assert moved[2] < 0
    assert moved[3] == 0
    assert not network.heads.weight[columns][3].any()


@pytest.mark.parametrize("changed", [{"accumulate": 2}, {"accumulate": 4}])
def test_parts_of_a_batch_add_up(catalog: Catalog, plan: Plan, changed: dict[str, int]) -> None:
    made = recipe(tree=TREE, learning_rate=0.02)
    heads = [
        load_any(train(replace(made, **fields), plan, catalog), plan.tasks, catalog.home).state_dict()
        for fields in ({}, changed)
    ]  # fmt: skip
    for name, part in heads[0].items():
        assert torch.allclose(part, heads[1][name], atol=1e-4), name


def test_a_run_goes_on_from_another_class_by_class(catalog: Catalog, plan: Plan, tmp_path: Path) -> None:
    """A class that is new starts from scratch, the others where the run before left them."""
    first = train(recipe(tree=TREE, learning_rate=0.05), plan, catalog)
    copy = copy_home(catalog, tmp_path)
    with copy.commit(author="eve", message="another class") as change:
        change.redefine_task(SEEN.model_copy(update={"classes": ("tram", *reversed(CLASSES))}), {})
    other = planned(copy, draws=160)
    run = train(recipe(tree=TREE, learning_rate=1e-6), other, copy, parent=first.id)
    assert "seen: class tram starts from scratch" in run.alarms
    before, after = (
        load_any(each, tasks, copy.home) for each, tasks in ((first, plan.tasks), (run, other.tasks))
    )  # fmt: skip
    rows = [net.head(net.rows(0)[0]).weight[net.rows(0)[1]] for net in (before, after)]  # type: ignore[union-attr]
    assert torch.allclose(rows[0].flip(0), rows[1][1:], atol=1e-3)


def _embeddings(catalog: Catalog, name: str):  # type: ignore[no-untyped-def]
    from curation.images.embeddings import Embeddings

    return Embeddings.open(catalog.home, name)


def test_labels_that_only_differ_in_what_was_looked_for_have_another_digest(plan: Plan) -> None:
    from training.loop.task_stops import labels_digest

    class Other:
        def __init__(self) -> None:
            self.__dict__.update(vars(plan))

        def __getattr__(self, name: str) -> object:
            return getattr(plan, name)

        def presence(self, rows: np.ndarray) -> np.ndarray:
            return np.zeros_like(plan.presence(rows))

    assert labels_digest(plan, 0) != labels_digest(Other(), 0)  # type: ignore[arg-type]
    assert labels_digest(plan, 1) == labels_digest(Other(), 1)  # type: ignore[arg-type]
