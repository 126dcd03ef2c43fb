"""Heads of boxes: targets, losses and boxes from maps, beside plain loops; and objects that move as pixels do."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.drawn_boxes import SIGNS

from curation import BadInput
from samplers.plan.boxes import DrawBoxes
from samplers.plan.plan import PlanTask
from training import Recipe
from training.loop.augmentation import augmented, moves_of
from training.network.detection import EXTRA, box_losses, boxes_of, heat_targets, stages_with_maps
from training.network.losses import Layout, TaskLosses
from training.network.model import build_tree
from training.network.objects import Objects
from training.network.trunks import SmallTrunk
from training.recipe import Augmentation, BoxRecipe

HEIGHT, WIDTH, CLASSES = 8, 12, 2


def objects_at(*boxes: tuple[int, int, float, float, float, float], ignored: tuple[int, ...] = ()) -> Objects:
    """Boxes as (draw, class, left, top, right, bottom), in cells of the map; all of task 0."""
    table = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 6)
    corners = table[:, 2:] / torch.tensor([WIDTH, HEIGHT] * 2)
    flags = torch.zeros(len(table), dtype=torch.bool)
    flags[list(ignored)] = True
    return Objects(
        draws=table[:, 0].long(), tasks=torch.zeros(len(table), dtype=torch.int64), codes=table[:, 1].long(),
        corners=corners.float(), ignored=flags, values=torch.zeros(len(table), 0),
    )  # fmt: skip


@st.composite
def scenes(draw: st.DrawFn) -> list[tuple[int, int, float, float, float, float]]:
    """Up to four boxes of two draws, whose centres are at least three cells apart."""
    found: list[tuple[int, int, float, float, float, float]] = []
    places = st.tuples(st.integers(0, WIDTH // 3 - 1), st.integers(0, HEIGHT // 3 - 1))
    for column, row in draw(st.lists(places, max_size=4, unique=True)):
        x, y = (3 * at + 1 + draw(st.floats(0.05, 0.95)) for at in (column, row))
        w, h = (draw(st.floats(0.5, 2.0)) for _ in range(2))
        w, h = min(w, 2 * x, 2 * (WIDTH - x)), min(h, 2 * y, 2 * (HEIGHT - y))
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        found.append((draw(st.integers(0, 1)), draw(st.integers(0, CLASSES - 1)), *box))
    return found


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_boxes_come_back_from_perfect_maps(scene: list[tuple[int, int, float, float, float, float]]) -> None:
    maps = torch.zeros(2, CLASSES + EXTRA, HEIGHT, WIDTH)
    heat, _ = heat_targets(objects_at(*scene), (2, CLASSES, HEIGHT, WIDTH))
    maps[:, :CLASSES] = torch.logit(heat, eps=1e-4)
    for draw, _, left, top, right, bottom in scene:
        x, y = (left + right) / 2, (top + bottom) / 2
        cell = draw, slice(CLASSES, None), int(y), int(x)
        maps[cell] = torch.tensor([math.log(right - left), math.log(bottom - top), x % 1, y % 1])
    scale = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    found = {
        (draw, int(box[0]), *(round(float(side), 2) for side in box[1:5] * scale))
        for draw, boxes in enumerate(boxes_of(maps, 20)) for box in boxes if box[5] > 0.99
    }  # fmt: skip
    wanted = {(d, c, round(x, 2), round(y, 2), round(r - x, 2), round(b - y, 2)) for d, c, x, y, r, b in scene}
    assert len(found) == len(wanted)
    assert np.allclose(sorted(found), sorted(wanted), atol=0.02)


@settings(max_examples=30, deadline=None)
@given(scenes(), st.integers(0, 1000))
def test_the_loss_is_that_of_plain_loops(scene: list[tuple[int, int, float, float, float, float]], seed: int) -> None:
    maps = torch.randn(2, CLASSES + EXTRA, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    heat, _ = heat_targets(objects_at(*scene), (2, CLASSES, HEIGHT, WIDTH))
    wanted = [0.0, 0.0]
    for draw in range(2):
        for code in range(CLASSES):
            for row in range(HEIGHT):
                for column in range(WIDTH):
                    p, y = float(torch.sigmoid(maps[draw, code, row, column])), float(heat[draw, code, row, column])
                    part = (1 - p) ** 2 * math.log(p) if y == 1 else (1 - y) ** 4 * p**2 * math.log(1 - p)
                    wanted[draw] -= part
        mine = [box for box in scene if box[0] == draw]
        for _, _, left, top, right, bottom in mine:
            x, y = (left + right) / 2, (top + bottom) / 2
            guess = maps[draw, CLASSES:, int(y), int(x)].tolist()
            target = [math.log(right - left), math.log(bottom - top), x % 1, y % 1]
            wanted[draw] += sum(abs(one - other) for one, other in zip(guess, target, strict=True))
        wanted[draw] /= max(1, len(mine))
    assert box_losses(maps, objects_at(*scene)).tolist() == pytest.approx(wanted, rel=1e-4)


def test_a_peak_is_as_wide_as_boxes_that_still_overlap() -> None:
    heat, _ = heat_targets(objects_at((0, 1, 1, 1, 9, 7)), (1, CLASSES, HEIGHT, WIDTH))
    assert heat[0, 1, 4, 5] == 1
    assert heat[0, 0].sum() == 0
    moved = int((heat[0, 1, 4] > 0).sum()) // 2  # cells to each side
    inside, union = (8 - moved) * (6 - moved), 2 * 48 - (8 - moved) * (6 - moved)
    assert moved >= 1
    assert inside / union >= 0.5 - 1e-9


def test_a_cell_in_an_ignored_region_counts_only_for_what_is_there() -> None:
    maps = torch.zeros(1, CLASSES + EXTRA, HEIGHT, WIDTH, requires_grad=True)
    crowd = (0, 0, 2.0, 2.0, 6.0, 6.0)
    box_losses(maps, objects_at(crowd, ignored=(0,))).sum().backward()
    assert maps.grad is not None
    assert maps.grad[0, 0, 2:6, 2:6].abs().sum() == 0
    assert maps.grad[0, 0, 0, 0] > 0  # no such object here: background
    assert maps.grad[0, 1, 3, 3] > 0  # the region is of another class
    assert maps.grad[0, CLASSES:].abs().sum() == 0
    alone = box_losses(maps, objects_at((0, 0, 3, 3, 5, 5), crowd, ignored=(1,)))
    inside = box_losses(maps, objects_at((0, 0, 3, 3, 5, 5)))
    assert alone < inside


def plan_task(**changed: object) -> PlanTask:
    words = {
        "task": SIGNS, "owner": "ada", "share": 1, "importance": 1.0, "rule": "natural", "constant_loss": 2.0,
        "mean": 0.0, "deviation": 1.0, "labelled": (1.0, 1.0), "class_factor": None, "strata": ("stop",),
    }  # fmt: skip
    return PlanTask(**{**words, **changed})  # type: ignore[arg-type]


def test_nobody_looked_trains_nothing_and_nothing_there_trains_the_background() -> None:
    losses = TaskLosses([plan_task()], Layout([plan_task()], [], {0: (CLASSES + EXTRA, HEIGHT, WIDTH)}))
    outputs = torch.zeros(2, losses.layout.outputs, requires_grad=True)
    known = torch.tensor([[True], [False]])
    loss = losses(outputs, torch.zeros(2, 1), known, torch.full((2, 1), 3.0), objects=objects_at((1, 0, 1, 1, 3, 3)))
    loss.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad[0].abs().sum() > 0
    assert outputs.grad[1].abs().sum() == 0
    heat = CLASSES * HEIGHT * WIDTH * 0.25 * math.log(2)
    assert loss.item() == pytest.approx(3.0 * heat / 2 / 2.0)


AUGMENTED = (
    True, False, Augmentation(flip=True, shift=8, scale=0.3), Augmentation(flip=False, shift=3, scale=0.0),
)  # fmt: skip


@pytest.mark.parametrize("augment", AUGMENTED, ids=str)
def test_boxes_move_as_pixels_do(augment: bool | Augmentation) -> None:
    recipe = Recipe.of("small", size=(48, 80), augment=augment, seed=3)
    count = 24
    generator = np.random.default_rng(0)
    left, top = generator.integers(16, 40, count), generator.integers(12, 22, count)
    w, h = generator.integers(8, 20, count), generator.integers(6, 12, count)
    pixels = torch.full((count, 3, 48, 80), -1.0)
    for place in range(count):
        pixels[place, :, top[place] : top[place] + h[place], left[place] : left[place] + w[place]] = 1.0
    positions, sided = np.arange(count), np.arange(count) % 5 == 0
    boxes = DrawBoxes(
        draws=positions, tasks=np.zeros(count, np.int64), codes=np.zeros(count, np.int64),
        corners=2.0 * np.stack([left, top, w, h], axis=1), ignored=np.zeros(count, np.bool_),
        values=np.zeros((count, 0)),
    )  # fmt: skip
    sizes = np.tile([160, 96], (count, 1))  # images of twice the size
    moved = Objects.of(boxes, sizes, moves_of(positions, sided, recipe))
    assert moved.draws.tolist() == positions.tolist()
    for place, image in enumerate(augmented(pixels, positions, sided, recipe)):
        rows, columns = (image[0] > 0).nonzero(as_tuple=True)
        seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert torch.allclose(moved.corners[place] * torch.tensor([80, 48, 80, 48]), seen, atol=1.01)


def test_what_leaves_the_view_is_cut_ignored_or_left_out() -> None:
    boxes = DrawBoxes(
        draws=np.arange(3), tasks=np.zeros(3, np.int64), codes=np.zeros(3, np.int64), ignored=np.zeros(3, np.bool_),
        values=np.zeros((3, 0)),
        corners=np.array([[0.0, 0.0, 50.0, 50.0], [0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 5.0, 5.0]]),
    )  # fmt: skip
    moves = np.tile([1.0, 1.0, -0.16, 0.0], (3, 1))
    found = Objects.of(boxes, np.tile([100, 100], (3, 1)), moves)
    assert found.draws.tolist() == [0, 1]
    assert found.ignored.tolist() == [False, True]
    assert found.corners[0].tolist() == pytest.approx([0.0, 0.0, 0.34, 0.5])


def test_parts_and_chosen_draws_count_from_zero() -> None:
    found = objects_at((0, 0, 1, 1, 2, 2), (1, 1, 1, 1, 2, 2), (2, 0, 1, 1, 2, 2))
    assert found.part(slice(1, 3)).draws.tolist() == [0, 1]
    chosen = found.rows(torch.tensor([2, 0]))
    assert (chosen.draws.tolist(), chosen.codes.tolist()) == ([0, 1], [0, 0])
    assert found.rows(torch.tensor([5])).draws.tolist() == []


def test_two_thousand_boxes_of_an_image_are_learned_and_the_best_are_kept() -> None:
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 5, (2000, 2))
    boxes = [(0, 0, x, y, x + 2, y + 2) for x, y in low.tolist()]
    maps = torch.zeros(1, CLASSES + EXTRA, HEIGHT, WIDTH, requires_grad=True)
    loss = box_losses(maps, objects_at(*boxes))
    loss.sum().backward()
    assert math.isfinite(loss.item())
    assert boxes_of(maps, 100).shape == (1, 100, 6)


@pytest.mark.parametrize(("stride", "stages"), [(8, ["stage3", "stage4"]), (4, ["stage2", "stage3", "stage4"])])
def test_a_head_reads_the_map_of_its_stride_and_the_coarser_ones(stride: int, stages: list[str]) -> None:
    found = stages_with_maps(SmallTrunk().stages, (64, 96), stride, "small")
    assert list(found) == stages
    assert found[stages[0]][1:] == (64 // stride, 96 // stride)


def test_a_trunk_without_such_a_map_is_one_line() -> None:
    recipe = Recipe.of("small", size=(64, 96), boxes=BoxRecipe(stride=32))
    with pytest.raises(BadInput, match=r"small: puts out no map of stride 32 for boxes \(its strides: 2, 4, 8, 16\)"):
        build_tree(recipe, [plan_task()], None)


def test_a_task_of_boxes_has_no_place_in_a_tree() -> None:
    recipe = Recipe.parse({"trunk": "small", "boxes": {}, "tree": {"tasks": ["signs"]}})
    with pytest.raises(BadInput, match="signs is a task of boxes, whose head reads the trunk's maps; leave it out"):
        build_tree(recipe, [plan_task()], None)


def test_boxes_on_features_are_one_line() -> None:
    with pytest.raises(BadInput, match="boxes are found on maps, and efficientnet_lite0 is read as features alone"):
        Recipe.of("efficientnet_lite0", boxes=BoxRecipe())
    with pytest.raises(BadInput, match=r"task signs \(detection\): boxes are found on the maps of a trunk that learns"):
        Recipe.of("efficientnet_lite0").with_boxes([SIGNS])
