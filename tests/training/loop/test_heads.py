"""Heads that learn without draws: one task never moves another, warm is cold, and what cannot be learned is named."""

import doctest
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from curation import Task
from samplers.plan.plan import PlanTask
from training.loop import alarms
from training.loop.exact_heads import Start, exact_head
from training.loop.shared_layer import table_of, train_shared
from training.loop.solved_heads import SolvedHeads, solve_heads
from training.loop.task_labels import TaskLabels
from training.network.exact import ABSENT
from training.recipe import Recipe

WIDTH = 24
RECIPE = Recipe(units=16, epochs=2, threads=1)


def features(rows: int = 90) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(rows, WIDTH)).astype(np.float32))


def task(name: str, kind: str = "categorical", classes: Sequence[str] = ("a", "b", "c"), **more: object) -> PlanTask:
    own = (
        {"classes": classes}
        if kind == "categorical"
        else {"unit": "m", "metric": "mae"}
        if kind == "regression"
        else {}
    )
    fields = {"share": 1, "importance": 0.5, "constant_loss": 1.0, "mean": 0.0, "deviation": 1.0, "labelled": ()}
    rest = {"owner": "ada", "rule": "balanced", "class_factor": None, "strata": ()}
    made = Task.model_validate({"name": name, "kind": kind, "owner": "ada", **own})
    return PlanTask(**{"task": made, **fields, **rest, **more})


def labels(asked: PlanTask, *, seed: int = 0, count: int = 60, values: Sequence[float] | None = None) -> TaskLabels:
    """Labels that depend on the first features; one group for every two rows."""
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(90)[: count if values is None else len(values)])
    seen = features().numpy()[rows].astype(np.float64)
    noise = generator.normal(size=len(rows)) * 0.5
    found = seen[:, 0] + noise
    if values is not None:
        found = np.asarray(values, np.float64)
    elif asked.task.kind == "categorical":
        found = np.digitize(found, [-0.5, 0.5]).astype(np.float64)
    elif asked.task.kind == "binary":
        found = (found > 0).astype(np.float64)
    weights = np.full(len(rows), 1 / len(rows))
    return TaskLabels(task=asked, rows=rows, values=found, weights=weights, names=(rows // 2).astype(str))


def own(part: TaskLabels) -> torch.Tensor:
    return features()[torch.from_numpy(part.rows)].double()


def solved(parts: list[TaskLabels], **changed: object) -> SolvedHeads:
    return solve_heads(replace(RECIPE, **changed), parts, features(), fewest_images=1)


def test_no_other_task_moves_a_bit_of_an_exact_head() -> None:
    first = labels(task("first"))
    alone = solved([first], heads="exact").exact["first"]
    for other in (
        labels(task("other"), seed=2),
        labels(task("other", share=7, importance=0.9), seed=3, count=20),
        labels(task("other", kind="regression"), seed=4),
    ):
        beside = solved([first, other], heads="exact").exact["first"]
        assert torch.equal(beside.weights, alone.weights)
        assert torch.equal(beside.biases, alone.biases)
        assert beside.record == alone.record


@pytest.mark.parametrize("kind", ["categorical", "binary", "regression"])
def test_a_warm_head_is_the_cold_one(kind: str) -> None:
    part = labels(task("first", kind=kind))
    before = exact_head(labels(task("first", kind=kind), count=40), own(labels(task("first", kind=kind), count=40)))
    cold = exact_head(part, own(part))
    start = Start(weights=before.weights, biases=before.biases, record=before.record)
    warm = exact_head(part, own(part), start=start)
    assert warm.record.ridge == cold.record.ridge
    assert float((warm.weights - cold.weights).abs().max()) < 1e-6
    assert len(warm.record.path) <= len(cold.record.path)


@pytest.mark.parametrize("kind", ["categorical", "binary", "regression"])
def test_a_head_records_how_it_was_solved(kind: str) -> None:
    record = exact_head(labels(task("first", kind=kind)), own(labels(task("first", kind=kind)))).record
    assert (record.kind, record.labels, record.classes) == (
        "exact",
        60,
        {"binary": 2}.get(kind, 3) * (kind != "regression"),
    )
    assert record.gradient < 1e-6
    assert record.ridge in [ridge for ridge, _, _ in record.path]


def test_huber_is_not_moved_by_an_outlier() -> None:
    asked = task("speed", kind="regression")
    values = labels(asked).values
    wild = np.where(np.arange(60) == 5, 200.0, values)
    plain = labels(asked, values=values)
    moved = [
        float((exact_head(labels(asked, values=wild), own(plain), huber=huber).weights
               - exact_head(plain, own(plain), huber=huber).weights).abs().max())
        for huber in (True, False)
    ]  # fmt: skip
    assert moved[0] < moved[1] / 3


@pytest.mark.parametrize(("kind", "present"), [("binary", 0), ("binary", 1), ("categorical", 1)])
def test_one_class_gives_a_constant_head(kind: str, present: int) -> None:
    part = labels(task("first", kind=kind), values=[present] * 12)
    head = exact_head(part, own(part))
    assert (head.record.kind, bool(head.weights.any())) == ("constant", False)
    if kind == "binary":
        assert torch.sigmoid(head.biases).item() == pytest.approx(12.5 / 13 if present else 0.5 / 13)
    else:
        assert torch.softmax(head.biases, dim=0).tolist() == [0, 1, 0]


def test_a_class_of_one_label_is_learned_and_a_class_of_none_is_never_predicted() -> None:
    part = labels(task("first"), values=[0] * 11 + [1])
    head = exact_head(part, own(part))
    outputs = own(part) @ head.weights.T + head.biases
    assert outputs.argmax(dim=1).tolist()[-1] == 1
    assert head.biases[2] == ABSENT
    assert all(np.isfinite(loss) for _, loss, _ in head.record.path)


def test_labels_of_one_group_take_the_default_ridge() -> None:
    part = replace(labels(task("first")), names=np.array(["one"] * 60))
    head = exact_head(part, own(part))
    assert (head.record.path, head.record.groups) == ([], 1)
    assert head.record.gradient < 1e-6


def test_auto_chooses_on_held_out_groups_and_says_by_how_much() -> None:
    parts = [labels(task("first")), labels(task("second", kind="regression"), seed=2)]
    found = solved(parts)
    for record in found.records:
        assert record.gain is not None
        assert record.low <= record.gain <= record.high  # type: ignore[operator]
        assert (record.kind == "shared") == (record.gain > 0) == (record.task in found.shared)


def test_few_images_are_not_compared() -> None:
    parts = [labels(task("first")), labels(task("second", kind="regression"), seed=2)]
    assert [record.gain for record in solve_heads(RECIPE, parts, features()).records] == [None, None]


def test_a_task_alone_has_nobody_to_share_with() -> None:
    (record,) = solved([labels(task("first"))]).records
    assert (record.kind, record.gain) == ("exact", None)


def test_a_shared_layer_serves_every_task() -> None:
    parts = [labels(task("first")), labels(task("second", kind="binary"), seed=2)]
    found = solved(parts, heads="shared")
    assert set(found.shared) == {"first", "second"}
    assert [record.kind for record in found.records] == ["shared", "shared"]


def test_a_shared_layer_is_the_same_every_time_and_depends_on_its_seed() -> None:
    parts = [labels(task("first"))]
    table = table_of(parts)
    inputs = features()[torch.from_numpy(table.rows)]
    first, second, other = (
        train_shared(replace(RECIPE, seed=seed), [parts[0].task], table, inputs)[-1] for seed in (0, 0, 1)
    )
    assert torch.equal(first.hidden, second.hidden)
    assert torch.equal(first.heads, second.heads)
    assert not torch.equal(first.heads, other.heads)


def test_importance_acts_on_a_shared_layer() -> None:
    heads = []
    for importance in (0.5, 0.1):
        parts = [labels(task("first")), labels(task("second", importance=importance), seed=2)]
        table = table_of(parts)
        inputs = features()[torch.from_numpy(table.rows)]
        heads.append(train_shared(RECIPE, [part.task for part in parts], table, inputs)[-1].hidden)
    assert not torch.equal(*heads)


def test_examples() -> None:
    assert doctest.testmod(alarms).failed == 0


@pytest.mark.parametrize(
    ("losses", "says"),
    [([1.0, 0.5], ""), ([0.4, 0.6], "rose from 0.40"), ([1.0, 0.97], "learned nothing"), ([1.0, np.nan], "infinite")],
)
def test_alarms_of_a_drawn_training(losses: list[float], says: str) -> None:
    curve = [{"Draws": 64.0 * place, "first": loss} for place, loss in enumerate(losses)]
    found = alarms.drawn_alarms([task("first")], curve, {})
    assert len(found) == bool(says)
    assert all(says in line and "\n" not in line for line in found)


@pytest.mark.parametrize("points", [10, 60, 75])
@pytest.mark.parametrize(("end", "least", "most"), [(0.35, 0, 1), (1.1, 90, 100)])
def test_noise_is_no_rise(points: int, end: float, least: int, most: int) -> None:
    """Losses of single batches, 15% off their trend, of 100 trainings: those that fall raise no alarm, of those that
    rise in their last third nearly all do."""
    found, turn = 0, 2 * points // 3
    for seed in range(100):
        trend = np.concatenate([np.linspace(1.0, 0.4, turn), np.linspace(0.4, end, points - turn)])
        losses = trend * np.random.default_rng(seed).lognormal(0.0, 0.15, points)
        curve = [{"Draws": 64.0 * place, "first": loss} for place, loss in enumerate(losses)]
        found += any("rose" in line for line in alarms.drawn_alarms([task("first")], curve, {}))
    assert least <= found <= most


def starts_of(found: SolvedHeads) -> dict[str, Start]:
    """Where the next run begins, as `training.loop.solving` reads it from the network."""
    none = torch.zeros(1)
    return {
        record.task: Start(record=record, weights=found.exact[record.task].weights,
                           biases=found.exact[record.task].biases)
        if record.kind == "exact" else Start(record=record, weights=none, biases=none)
        for record in found.records
    }  # fmt: skip


def test_a_head_of_unchanged_labels_is_taken_as_it_is() -> None:
    parts = [labels(task("first")), labels(task("other", kind="regression"), seed=2)]
    before = solved(parts, heads="exact")
    grown = [parts[0], labels(task("other", kind="regression"), seed=2, count=70)]
    after = solve_heads(replace(RECIPE, heads="exact"), grown, features(), starts=starts_of(before), fewest_images=1)
    assert after.exact["first"] is not before.exact["first"]
    assert torch.equal(after.exact["first"].weights, before.exact["first"].weights)
    assert after.records[0] == before.records[0]
    assert not torch.equal(after.exact["other"].weights, before.exact["other"].weights)


@pytest.mark.parametrize("what", ["value", "weight", "seed"])
def test_a_head_is_solved_again_when_anything_that_it_follows_from_changed(what: str) -> None:
    part = labels(task("first"))
    before = exact_head(part, own(part))
    start = Start(record=before.record, weights=before.weights + 1, biases=before.biases)
    values, weights = part.values.copy(), part.weights.copy()
    values[0], weights[0] = (values[0] + 1) % 3 if what == "value" else values[0], weights[0] * (1 + (what == "weight"))
    changed = replace(part, values=values, weights=weights / weights.sum())
    assert torch.equal(exact_head(part, own(part), start=start).weights, start.weights)
    after = exact_head(changed, own(part), seed=int(what == "seed"), start=start)
    assert float((after.weights - start.weights).abs().max()) > 0.5


@pytest.mark.parametrize(("count", "kept"), [(60, True), (75, True), (76, False)])
def test_the_choice_is_kept_until_the_labels_grew_by_a_quarter(count: int, kept: bool) -> None:
    before = solved([labels(task("first")), labels(task("other", kind="binary"), seed=2)], heads="auto")
    assert [record.compared for record in before.records] == [60, 60]
    parts = [labels(task("first"), count=count), labels(task("other", kind="binary"), seed=2)]
    after = solve_heads(replace(RECIPE, heads="auto"), parts, features(), starts=starts_of(before), fewest_images=1)
    assert after.records[0].labels == count
    assert after.records[0].compared == (60 if kept else count)
    if kept:
        assert [(record.kind, record.gain) for record in after.records] == [
            (record.kind, record.gain) for record in before.records
        ]
        assert set(after.shared) == set(before.shared)


def test_a_class_without_a_label_before_is_learned_from_a_warm_start() -> None:
    part = labels(task("first"))
    few = labels(task("first"), values=np.where(part.values == 2, 1, part.values))
    before = exact_head(few, own(part))
    warm = exact_head(part, own(part), start=Start(record=before.record, weights=before.weights, biases=before.biases))
    assert warm.record.gradient < 1e-6
    cold = exact_head(part, own(part))
    assert warm.record.iterations < 1.1 * cold.record.iterations  # 1.8 times from the bias of an absent class


def test_a_head_is_the_solution_over_its_temperature() -> None:
    part = labels(task("first"), count=30)
    head = exact_head(part, own(part))
    assert head.record.temperature != 1
    solution = (own(part) @ head.weights.T + head.biases) * head.record.temperature
    slopes = (solution.softmax(dim=1) - torch.nn.functional.one_hot(torch.from_numpy(part.values).long(), 3)) / 30
    centred = own(part) - own(part).mean(dim=0)
    ridge = head.record.ridge * float((centred**2).sum(dim=1).mean())
    gradient = slopes.T @ centred + ridge * head.weights * head.record.temperature
    assert float(gradient.abs().max()) < 1e-6
