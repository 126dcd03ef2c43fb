"""The losses of attributes of boxes: unknown adds exactly 0, and the rest equals a plain loop over boxes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.described_boxes import PLATES

from samplers.plan.box_attributes import BoxAttribute
from samplers.plan.plan import PlanTask
from training.network.attribute_rows import take_attributes
from training.network.box_attributes import attribute_answers, attribute_losses
from training.network.detection import EXTRA, BoxHead, box_losses, boxes_of
from training.network.losses import Layout, TaskLosses
from training.network.objects import Objects

HEIGHT, WIDTH = 6, 9
MARK = BoxAttribute(
    name="mark", classes=("none", "dot", "bar"), constant_loss=0.7, mean=0.0, deviation=1.0, labelled=(1, 1, 1)
)
SHADE = BoxAttribute(name="shade", classes=(), constant_loss=0.3, mean=50.0, deviation=20.0, labelled=(3,))
BOTH = (MARK, SHADE)
NAN = math.nan


def plan_task(attributes: tuple[BoxAttribute, ...] = BOTH) -> PlanTask:
    return PlanTask(
        task=PLATES, owner="ada", share=1, importance=1.0, rule="natural", constant_loss=2.0, mean=0.0, deviation=1.0,
        labelled=(1.0,), class_factor=None, strata=("plate",), attributes=attributes,
    )  # fmt: skip


def random_objects(seed: int, draws: int = 4) -> Objects:
    """Up to three boxes a draw, a quarter of them to be ignored, half of the attributes unknown."""
    generator = np.random.default_rng(seed)
    rows = np.repeat(np.arange(draws), generator.integers(0, 4, draws))
    low = generator.uniform(0, 0.7, (len(rows), 2))
    values = np.stack([generator.integers(0, 3, len(rows)), generator.normal(size=len(rows))], axis=1)
    values[generator.random(values.shape) < 0.5] = np.nan
    return Objects(
        draws=torch.from_numpy(rows), tasks=torch.zeros(len(rows), dtype=torch.int64),
        codes=torch.zeros(len(rows), dtype=torch.int64), ignored=torch.from_numpy(generator.random(len(rows)) < 0.25),
        corners=torch.from_numpy(np.concatenate([low, low + 0.2], axis=1)).float(),
        values=torch.from_numpy(values).float(),
    )  # fmt: skip


def plain_losses(maps: torch.Tensor, objects: Objects) -> list[float]:
    found = []
    for draw in range(len(maps)):
        total, boxes = 0.0, 0
        for row in range(len(objects.draws)):
            if int(objects.draws[row]) != draw or bool(objects.ignored[row]):
                continue
            boxes += 1
            left, top, right, bottom = objects.corners[row].tolist()
            x, y = int((left + right) / 2 * WIDTH), int((top + bottom) / 2 * HEIGHT)
            mark, shade = objects.values[row].tolist()
            cell = maps[draw, :, y, x].tolist()
            if not math.isnan(mark):
                total += (math.log(sum(math.exp(z) for z in cell[:3])) - cell[int(mark)]) / 0.7
            if not math.isnan(shade):
                total += 0.5 * (cell[3] - shade) ** 2 / 0.3
        found.append(total / max(boxes, 1))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_losses_equal_a_plain_loop_over_boxes(seed: int) -> None:
    maps, objects = torch.randn(4, 4, HEIGHT, WIDTH), random_objects(seed)
    assert attribute_losses(maps, objects, BOTH).tolist() == pytest.approx(plain_losses(maps, objects), rel=1e-4)


def test_unknown_and_ignored_add_exactly_nothing() -> None:
    objects = random_objects(1)
    values = objects.values.clone()
    values[~objects.ignored] = NAN
    objects = replace(objects, values=values)
    assert objects.ignored.any()
    maps = torch.randn(4, 4, HEIGHT, WIDTH, requires_grad=True)
    losses = attribute_losses(maps, objects, BOTH)
    losses.sum().backward()
    assert losses.tolist() == [0.0] * 4
    assert maps.grad is None or not maps.grad.any()


def test_only_centres_of_known_boxes_have_a_gradient() -> None:
    objects = random_objects(2)
    maps = torch.randn(4, 4, HEIGHT, WIDTH, requires_grad=True)
    attribute_losses(maps, objects, BOTH).sum().backward()
    assert maps.grad is not None
    known = (~objects.values.isnan() & ~objects.ignored[:, None]).any(dim=1)
    assert int(maps.grad.any(dim=1).sum()) == len(
        {(int(objects.draws[row]), *centre(objects, row)) for row in torch.nonzero(known).flatten().tolist()}
    )


def centre(objects: Objects, row: int) -> tuple[int, int]:
    left, top, right, bottom = objects.corners[row].tolist()
    return int((left + right) / 2 * WIDTH), int((top + bottom) / 2 * HEIGHT)


def test_the_loss_of_a_task_is_the_mean_of_its_boxes_and_its_attributes() -> None:
    objects, shape = random_objects(3), (1 + EXTRA + 4, HEIGHT, WIDTH)
    losses = TaskLosses([plan_task()], Layout([plan_task()], [], {0: shape}))
    outputs = torch.randn(4, losses.layout.outputs)
    maps = losses.maps_of(outputs, 0)
    (value,) = losses(outputs, torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool), torch.ones(4, 1), objects=objects)
    boxes = box_losses(maps[:, : 1 + EXTRA], objects) / 2.0
    wanted = (boxes + attribute_losses(maps[:, 1 + EXTRA :], objects, BOTH)) / 3
    assert float(value) == pytest.approx(float(wanted.mean()), rel=1e-5)


def test_without_attributes_the_head_and_its_loss_are_the_same_bits() -> None:
    heads = []
    for outputs in (0, 4):
        torch.manual_seed(0)
        heads.append(BoxHead([3], 1, 8, outputs))
    seen = torch.randn(2, 3, HEIGHT, WIDTH)
    alone, both = (head([seen]) for head in heads)
    assert torch.equal(alone, both[:, : 1 + EXTRA])
    assert heads[0].state_dict().keys() == {n for n in heads[1].state_dict() if not n.startswith("attributes.")}
    assert torch.equal(boxes_of(alone, 5), boxes_of(both, 5, BOTH)[:, :, :6])


def test_a_box_says_what_its_own_cell_says() -> None:
    maps = torch.zeros(1, 1 + EXTRA + 4, HEIGHT, WIDTH)
    maps[:, 0] = -9
    maps[0, 0, 2, 3], maps[0, 0, 4, 7] = 3.0, 2.0
    maps[0, 1 + EXTRA :, 2, 3] = torch.tensor([0.0, 5.0, 0.0, -1.0])
    maps[0, 1 + EXTRA :, 4, 7] = torch.tensor([4.0, 0.0, 0.0, 2.0])
    first, second = boxes_of(maps, 2, BOTH)[0]
    assert (int(first[6:9].argmax()), float(first[9])) == (1, 30.0)
    assert (int(second[6:9].argmax()), float(second[9])) == (0, 90.0)
    assert torch.allclose(first[6:9].sum(), torch.tensor(1.0))
    assert torch.equal(first[6:], attribute_answers(maps[0, 1 + EXTRA :, 2, 3], BOTH))


def test_attributes_and_classes_are_taken_over_by_name() -> None:
    size = replace(SHADE, name="size")
    old = plan_task((MARK, SHADE))
    new = plan_task(
        (size, replace(SHADE, mean=40.0, deviation=10.0), replace(MARK, classes=("bar", "none", "ring")))
    )  # fmt: skip
    before, now = BoxHead([3], 1, 8, 4), BoxHead([3], 1, 8, 5)
    assert before.attributes is not None
    torch.nn.init.normal_(before.attributes[-1].weight)
    lines = take_attributes((now, before), new, old)
    assert lines == [
        "plates: attribute size starts from scratch",
        "plates: class ring of attribute mark starts from scratch",
        "plates: class dot of attribute mark of before is left out",
    ]
    seen = torch.randn(2, 3, HEIGHT, WIDTH)
    for part in ("laterals", "smooth"):
        getattr(now, part).load_state_dict(getattr(before, part).state_dict())
    theirs, mine = (head([seen])[:, 1 + EXTRA :].permute(0, 2, 3, 1) for head in (before, now))
    assert torch.allclose(mine[..., 2:4], theirs[..., [2, 0]], atol=1e-5)
    assert torch.allclose(mine[..., 1] * 10 + 40, theirs[..., 3] * 20 + 50, atol=1e-3)
    assert take_attributes((BoxHead([3], 1, 8), before), plan_task(()), old) == [
        "plates: attribute mark of before is left out", "plates: attribute shade of before is left out"
    ]  # fmt: skip
