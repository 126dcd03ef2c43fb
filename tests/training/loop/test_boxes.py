"""Tasks of boxes from a plan to figures: they learn beside others, resume at the same bits, and are taken over."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from support.drawn_boxes import SIGNS, boxes_catalog, boxes_plan

from curation import BadInput, Catalog
from samplers import Plan, stream
from samplers.pack.pack import Pack
from samplers.plan.plan import PlanTask
from samplers.streaming.materialize import materialize
from training import Recipe, Run, evaluate, train
from training.evaluation.figures import slice_errors
from training.evaluation.predicted_boxes import found_boxes
from training.evaluation.predictions import box_table, schema_of, write_predictions
from training.evaluation.unseen import unseen_in_test
from training.loop.drawing import Drawing
from training.loop.inputs import Inputs, Source
from training.loop.ranks import Ranks
from training.loop.shard_feed import Shards
from training.network.model import build_tree, load_any
from training.network.take_over import take_over
from training.network.tree_network import TreeNetwork
from training.recipe import BoxRecipe

RECIPE = Recipe.of(
    "small", size=(64, 96), global_batch=32, hidden=16, threads=1, seed=1, boxes=BoxRecipe(width=32),
)  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return boxes_catalog(tmp_path_factory.mktemp("boxes"), images=200, known=0.8)


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return boxes_plan(catalog, draws=1920, signs=0.8, dark=0.2)[0]


@pytest.fixture(scope="module")
def short(catalog: Catalog) -> Plan:
    return boxes_plan(catalog, draws=256, signs=0.5, dark=0.5)[0]


@pytest.fixture(scope="module")
def trained(catalog: Catalog, plan: Plan) -> Run:
    return train(RECIPE, plan, catalog)


def test_boxes_are_learned_beside_another_task_and_beat_the_mean_box(
    catalog: Catalog, trained: Run, tmp_path: Path
) -> None:
    figures = {
        (row["task"], row["metric"]): row
        for row in evaluate(trained, catalog, author="ada").to_pylist()
        if (row["slice"], row["split"]) == ("", "test")
    }
    found = figures["signs", "ap50"]
    assert found["low"] > 0.5
    assert figures["dark", "accuracy"]["value"] > 0.9
    with catalog.read() as now:
        labels = now.labels("signs").filter(pc.is_in(now.labels("signs")["sample_id"], pa.array(now.training_ids())))
        boxes = labels["boxes"].combine_chunks().flatten()
        mean = {side: float(np.mean(pc.struct_field(boxes, side))) for side in "xywh"}
        keys = now.samples()["key"].combine_chunks()
        always = [[{"code": code, **mean, "score": 0.5} for code in range(2)]] * len(keys)
        table = box_table("signs", keys, pa.array(always))
        write_predictions(tmp_path / "mean.parquet", [table], schema_of([SIGNS]))
        rows = slice_errors(now, "mean", [SIGNS], tmp_path / "mean.parquet").to_pylist()
    (baseline,) = [row["value"] for row in rows if (row["split"], row["metric"]) == ("test", "ap50")]
    assert found["low"] > baseline


def test_predictions_are_pixels_of_the_images(catalog: Catalog, trained: Run) -> None:
    evaluate(trained, catalog, author="ada")
    table = pq.read_table(catalog.home / "runs" / trained.id / "predictions.parquet")
    mine = table.filter(pc.equal(table["task"], "signs"))
    for boxes in mine["boxes"].to_pylist():
        assert len(boxes) <= 100
        assert [box["score"] for box in boxes] == sorted((box["score"] for box in boxes), reverse=True)
        assert all(0 <= box["x"] <= box["x"] + box["w"] <= 96 + 1e-3 for box in boxes)
        assert all(0 <= box["y"] <= box["y"] + box["h"] <= 64 + 1e-3 for box in boxes)


def test_the_draws_are_those_that_the_plan_asked_for(catalog: Catalog, plan: Plan, trained: Run) -> None:
    assert trained.recipe.boxes == BoxRecipe(width=32)
    assert trained.alarm == ""
    drawn = {row["name"]: row["drawn"] for row in trained.exposure(catalog.home) if row["kind"] == "task"}
    assert drawn == {"signs": 1536, "dark": 384}


class Killed(BaseException):
    """Ends a training in the middle of a step, as SIGKILL would."""


STOPPING = Recipe.parse({**RECIPE.words, "stopping": {"every": 2, "patience": 1, "floor": 0.5}, "accumulate": 2})


def weights_of(catalog: Catalog, run: Run) -> str:
    return hashlib.sha256((catalog.home / "runs" / run.id / "checkpoints" / "last.pt").read_bytes()).hexdigest()


def test_killed_and_stopped_by_task_it_ends_at_the_same_bits(catalog: Catalog, short: Plan) -> None:
    full = train(STOPPING, short, catalog)
    wanted = weights_of(catalog, full)
    assert {row["task"] for row in full.states} == {"signs", "dark"}
    assert all(np.isfinite(row["loss"]) for row in full.states)
    for path in sorted((catalog.home / "runs" / full.id).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    for last in (1, 3, 5):
        drawing = Drawing(STOPPING, short, catalog, catalog.home / "runs" / full.id)

        def told(done: int, total: int, loss: float, last: int = last) -> None:
            if done // 32 > last:
                raise Killed

        with pytest.raises(Killed):
            drawing.run(told, every=1)
    again = train(STOPPING, short, catalog)
    assert weights_of(catalog, again) == wanted
    assert replace(again, seconds=0.0) == replace(full, seconds=0.0)


def test_parts_of_a_batch_and_ranks_sum_to_its_loss(catalog: Catalog, short: Plan) -> None:
    network = build_tree(RECIPE, short.tasks, None)
    whole, parts = [], []
    for ranks, found in ((Ranks(), whole), (Ranks(rank=0, world=2), parts), (Ranks(rank=1, world=2), parts)):
        drawing = Drawing(RECIPE, short, catalog, catalog.home / "none", ranks=Ranks())
        inputs = Inputs(RECIPE, short, catalog.home, Source(), ranks)
        pixels, batch = next(iter(inputs.draws(drawing.course.now, 0)))
        objects = inputs.objects(drawing.course.now, batch)
        labels = [torch.from_numpy(part) for part in (batch.values, batch.known, batch.weights)]
        with torch.no_grad():
            found.append(network.losses(network(pixels), *labels, total=32, objects=objects))
    assert torch.allclose(whole[0], parts[0] + parts[1], rtol=1e-5)


def gradients(network: TreeNetwork, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    named = [(name, part) for name, part in network.named_parameters() if part.requires_grad]
    found = torch.autograd.grad(loss, [part for _, part in named], allow_unused=True, retain_graph=True)
    return {name: part for (name, _), part in zip(named, found, strict=True) if part is not None}


def test_another_task_has_the_same_loss_and_gradient_beside_boxes(catalog: Catalog, short: Plan) -> None:
    names = [task.name for task in short.tasks]
    dark = [task for task in short.tasks if task.name == "dark"]
    both, alone = build_tree(RECIPE, short.tasks, None), build_tree(RECIPE, dark, None)
    drawing = Drawing(RECIPE, short, catalog, catalog.home / "none")
    pixels, batch = next(iter(drawing.inputs.draws(drawing.course.now, 0)))
    labels = [torch.from_numpy(part) for part in (batch.values, batch.known, batch.weights)]
    objects = drawing.inputs.objects(drawing.course.now, batch)
    code = names.index("dark")
    here = both.losses(both(pixels), *labels, objects=objects)
    there = alone.losses(alone(pixels), *(part[:, [code]] for part in labels))
    assert torch.equal(here[code], there[0])
    one, other = gradients(both, here[code]), gradients(alone, there[0])
    for name, part in other.items():
        assert torch.equal(one[name], part), name
    signs = gradients(both, here[names.index("signs")])
    moved = {name for name, part in signs.items() if part.any()}
    assert not any(name.startswith(("branches", "heads")) for name in moved)
    assert any(name.startswith("boxes") for name in moved)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves shards to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_from_shards_come_the_same_boxes_and_weights(catalog: Catalog, short: Plan, tmp_path: Path) -> None:
    pack = Pack.open(catalog.home, short.pack_hash)
    folder = tmp_path / "draws"
    materialize(short, pack, folder, shard_bytes=100_000)
    shards = Shards(folder=folder)
    with stream(short, pack, 32, size=(64, 96), copy=True) as streamed:
        for one, other in zip(shards.batches(short, 32, (64, 96)), streamed, strict=True):
            assert one.boxes is not None
            assert other.boxes is not None
            for name, value in vars(one.boxes).items():
                assert np.array_equal(value, getattr(other.boxes, name)), name
    first = train(RECIPE, short, catalog, shards=shards)
    wanted = weights_of(catalog, first)
    (catalog.home / "runs" / first.id / "run.json").unlink()
    assert weights_of(catalog, train(RECIPE, short, catalog)) == wanted


def test_a_fenced_task_learns_and_boxes_do_not_move(catalog: Catalog, short: Plan, trained: Run) -> None:
    for name in ("dark", "signs"):
        run = train(replace(trained.recipe, only=(name,)), short, catalog, parent=trained.id)
        assert run.parent == trained.id  # `Fence.check` compared the outputs of the other task bit by bit


def changed(task: PlanTask, classes: tuple[str, ...]) -> PlanTask:
    return replace(task, task=task.task.model_copy(update={"classes": classes}))


def test_classes_in_another_order_are_taken_over_by_name(catalog: Catalog, plan: Plan, trained: Run) -> None:
    tasks = [
        changed(task, ("give_way", "yield", "stop")) if task.name == "signs" else task for task in plan.tasks
    ]  # fmt: skip
    network = build_tree(RECIPE, tasks, None)
    assert take_over(network, tasks, trained, catalog.home) == ["signs: class yield starts from scratch"]
    old = load_any(trained, plan.tasks, catalog.home)
    pixels = torch.rand(2, 3, 64, 96)
    code = [task.name for task in tasks].index("signs")
    with torch.no_grad():
        mine, before = (each.eval().losses.maps_of(each(pixels), code) for each in (network, old))
    assert torch.allclose(mine[:, [2, 0]], before[:, :2], atol=1e-5)
    assert torch.allclose(mine[:, 3:], before[:, 2:], atol=1e-5)


def test_boxes_that_are_no_numbers_are_one_line_with_the_image() -> None:
    found, sizes = np.zeros((2, 1, 6)), np.array([[96, 64], [96, 64]])
    found[1, 0, 3] = np.nan
    with pytest.raises(BadInput, match="run r: task signs predicts boxes that are no finite numbers on b; train again"):
        found_boxes("signs", pa.array(["a", "b"]), found, sizes, "r")


def test_a_class_without_a_box_in_training_is_one_line(catalog: Catalog, plan: Plan) -> None:
    code = [task.name for task in plan.tasks].index("signs")
    tasks = list(plan.tasks)
    tasks[code] = replace(tasks[code], labelled=(12.0, 0.0))
    without = Plan(plan.folder)
    without.__dict__["tasks"] = tuple(tasks)
    with catalog.read() as now:
        (line,) = unseen_in_test(now, without)
    assert line.startswith("signs: class 'give_way' has ")
    assert "boxes in test and none in training, so its recall is 0 by construction" in line


def test_maps_of_a_frozen_trunk_stay_frozen(catalog: Catalog, short: Plan) -> None:
    recipe = Recipe.of("efficientnet_lite0", learn_from="head", size=(64, 96), global_batch=32, threads=1)
    run = train(recipe, boxes_plan(catalog, draws=64)[0], catalog)
    assert run.recipe.boxes == BoxRecipe()
    network = load_any(run, [task for task in short.tasks if task.name == "signs"], catalog.home)
    untouched = build_tree(run.recipe, [task for task in short.tasks if task.name == "signs"], None)
    before = untouched.trunk.state_dict()
    assert all(torch.equal(part, before[name]) for name, part in network.trunk.state_dict().items())
