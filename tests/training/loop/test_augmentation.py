"""Augmentation as a function of (seed, position): mirrored, moved, scaled, brighter."""

import numpy as np
import pytest
import torch
from torch import Tensor

from curation import BadInput
from training.loop.augmentation import augmented
from training.recipe import Augmentation, Recipe

POSITIONS = np.arange(32)
NONE = np.zeros(32, np.bool_)
WAYS = {
    "the default": True, "all of it": Augmentation(shift=6, scale=0.3, brightness=0.4),
    "moves alone": Augmentation(flip=False, scale=0.0, brightness=0.0),
}  # fmt: skip


def recipe(augment: bool | Augmentation, seed: int = 3) -> Recipe:
    return Recipe.of("small", size=(32, 48), augment=augment, global_batch=32, seed=seed)


def images() -> Tensor:
    return torch.rand(32, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_ranks_of_a_batch_get_the_same_bits(way: bool | Augmentation) -> None:
    whole = augmented(images(), POSITIONS, NONE, recipe(way))
    parts = [augmented(images()[at], POSITIONS[at], NONE[at], recipe(way)) for at in (slice(16), slice(16, 32))]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, images())
    assert not torch.equal(whole, augmented(images(), POSITIONS + 32, NONE, recipe(way)))
    assert torch.equal(whole, augmented(images(), POSITIONS, NONE, recipe(way)))
    assert float(whole.abs().max()) <= 1


@pytest.mark.parametrize("way", [True, Augmentation(shift=0, scale=0.0, brightness=0.0)], ids=["default", "flip"])
def test_images_with_a_label_that_depends_on_sides_are_not_mirrored(way: bool | Augmentation) -> None:
    free = augmented(images(), POSITIONS, NONE, recipe(way))
    held = augmented(images(), POSITIONS, POSITIONS % 2 == 0, recipe(way))
    unmirrored = augmented(images(), POSITIONS, ~NONE, recipe(way))
    same = torch.tensor([torch.equal(a, b) for a, b in zip(free, unmirrored, strict=True)])
    assert 5 < int((~same).sum()) < 27  # those that are mirrored where they may be
    assert torch.equal(held[::2], unmirrored[::2])
    assert torch.equal(held[1::2], free[1::2])


def test_nothing_asked_for_changes_nothing() -> None:
    nothing = Augmentation(flip=False, shift=0, scale=0.0, brightness=0.0)
    assert torch.allclose(augmented(images(), POSITIONS, NONE, recipe(nothing)), images(), atol=1e-5)
    assert torch.equal(augmented(images(), POSITIONS, NONE, recipe(False)), images())


def test_images_move_by_at_most_the_shift() -> None:
    dots = torch.full((32, 3, 32, 48), -1.0)
    dots[:, :, 16, 24] = 1.0
    moved = augmented(dots, POSITIONS, NONE, recipe(Augmentation(flip=False, shift=5, scale=0.0, brightness=0.0)))
    at = torch.tensor([(part[0] == part[0].max()).nonzero()[0].tolist() for part in moved])
    apart = (at - torch.tensor([16, 24])).abs()
    assert int(apart.max()) == 5
    assert len(np.unique(at.numpy(), axis=0)) > 10


def test_a_recipe_names_its_augmentation() -> None:
    made = Recipe.parse({"trunk": "small", "augment": {"shift": 2, "flip": False}})
    assert made.augment == Augmentation(shift=2, flip=False)
    assert Recipe.parse(made.words) == made
    assert made.plain
    for wrong in ({"shift": -1}, {"scale": -0.1}, {"brightness": 2}, {"turn": 1}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Recipe.parse({"trunk": "small", "augment": wrong})
    with pytest.raises(BadInput, match="compile = True is for a trunk that learns"):
        Recipe.parse({"compile": True})
