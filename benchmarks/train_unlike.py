"""Whether images of another kind get high ranks among the training images, and new groups of the same kind do not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter

from benchmarks.table import Row
from benchmarks.train_data import evenly_planned, size_of, streets
from samplers.pack.pack import Pack
from training import Recipe, train
from training.deployment.prediction import Comparison
from training.deployment.unlikeness import UNLIKE
from training.evaluation.features import fitted_images

__all__ = ["unlike_rows"]

Images = npt.NDArray[np.uint8]

IMAGES = 1600
MOST = 200


def unlike_rows(folder: Path) -> list[Row]:
    """Held-out groups of `streets`, then the same images changed in ways that no training image was."""
    catalog = streets(folder, 0, IMAGES, features=True)
    recipe = Recipe.of("efficientnet_lite0", size=size_of(catalog), threads=1, heads="exact")
    plan = evenly_planned(catalog, 10)
    run = train(recipe, plan, catalog)
    known = Comparison(run, catalog, torch.device("cpu"), lambda stage, done, total: None)
    with catalog.read() as now:
        held = [row["key"] for row in now.samples().to_pylist() if row["split"] in ("validation", "test")]
    pack = Pack.open(catalog.home, plan.pack_hash)
    images = np.concatenate([part.copy() for _, part in fitted_images(pack, recipe, pack.rows(held).astype(np.int32))])
    usual, ranks = known.of(torch.from_numpy(images))
    above = float(np.mean(ranks > UNLIKE))
    rows = [Row(what=f"{len(images)} images of held-out groups above {UNLIKE:g}", value=above, asked="<= 0.05",
                met=above <= 0.05, peers={"mean rank": float(ranks.mean())})]  # fmt: skip
    for name, change in SHIFTS.items():
        distances, ranks = known.of(torch.from_numpy(np.ascontiguousarray(change(images[:MOST]))))
        found = {"above 0.95": float(np.mean(ranks > UNLIKE))}
        rows.append(
            Row(what=f"{name}: AUROC beside them", value=_auroc(usual, distances), asked="printed", peers=found)
        )
    return rows


def _blurred(radius: float) -> Callable[[Images], Images]:
    def change(images: Images) -> Images:
        blur = ImageFilter.GaussianBlur(radius)
        return np.stack(
            [np.asarray(Image.fromarray(each.transpose(1, 2, 0)).filter(blur)) for each in images]
        ).transpose(0, 3, 1, 2)

    return change


def _noisy(images: Images) -> Images:
    noise = np.random.default_rng(0).normal(0, 25, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def _swapped(images: Images) -> Images:
    """The lower half above the upper one."""
    return np.roll(images, images.shape[2] // 2, axis=2)


SHIFTS: dict[str, Callable[[Images], Images]] = {
    "random pixels": lambda images: np.random.default_rng(0).integers(0, 256, images.shape, np.uint8),
    "negative": lambda images: 255 - images, "upside down": lambda images: images[:, :, ::-1],
    "halves swapped": _swapped, "noise of 25 grey levels": _noisy, "blur of 2 pixels": _blurred(2),
    "blur of 4 pixels": _blurred(4), "a quarter as bright": lambda images: images // 4,
    "red and blue swapped": lambda images: images[:, [2, 1, 0]],
}  # fmt: skip
"""Changes that no image of streets has."""


def _auroc(usual: npt.NDArray[np.float64], strange: npt.NDArray[np.float64]) -> float:
    """The chance that a strange image is further away than a usual one."""
    below = np.searchsorted(np.sort(usual), strange, side="left") + np.searchsorted(np.sort(usual), strange, "right")
    return float(below.mean() / 2 / len(usual))
