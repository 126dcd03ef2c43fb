"""Features of parts of images by a frozen trunk, kept beside those of whole images.

`embeddings/<model>/boxes/<task>/` holds the vectors of the boxes of a task in the form of `curation.images.embeddings`,
each under the name of its place (`curation.images.crops.crop_id`). So a box that was moved has another vector, and a
place that is embedded serves every commit. They are removed with the vectors of the images, where these are written
again.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from curation.arrays import Float32s, Pixels
from curation.catalog.labelled_crops import LabelledCrop
from curation.errors import BadInput
from curation.files.locations import read_bytes
from curation.files.progress import Progress
from curation.images.crops import Corners, crop_of
from curation.images.decoding import load_rgb
from curation.images.embeddings import Embeddings, writing_in
from samplers.shards.shard_writer import changed_image_error, unreadable_image_error
from training.evaluation.features import BATCH, fitted_crop, frozen_features, frozen_trunk
from training.recipe import Recipe

__all__ = ["embed_crops", "features_of_crop", "pixels_of"]


def features_of_crop(home: Path, pixels: Pixels, corners: Corners, recipe: Recipe) -> Float32s:
    """Features [D] of a part of an image [H, W, 3], as those of the images of `recipe`; BadInput where it is too
    small."""
    images = torch.from_numpy(fitted_crop(crop_of(pixels, corners), recipe)[None])
    found = frozen_features(frozen_trunk(home, recipe), images, mirrored=recipe.mirrored)
    return np.asarray(found[0].numpy(), np.float32)


def pixels_of(key: str, file: tuple[str, str]) -> Pixels:
    """The pixels [H, W, 3] of a sample, by the location and the sha256 of its file; NotFound where the file is missing,
    Damaged where it is another one."""
    location, sha256 = file
    try:
        data = read_bytes(location)
    except BadInput as error:
        raise unreadable_image_error(key, location, error) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise changed_image_error(key, location)
    return load_rgb(data)


def embed_crops(
    home: Path, recipe: Recipe, task: str, crops: Sequence[LabelledCrop], files: Mapping[str, tuple[str, str]], *,
    progress: Progress | None = None,
) -> Embeddings:  # fmt: skip
    """The vectors of these boxes of a task, of which no two are in one place; those that are missing are computed.

    `files` has location and sha256 of each image by key. NotFound or Damaged where an image cannot be read, or is not
    the file that was ingested; then nothing is written.
    """
    folder = home / "embeddings" / recipe.embeddings / "boxes" / task
    known = Embeddings(folder) if (folder / "embeddings.json").is_file() else None
    held = known.has([crop.id for crop in crops]) if known else np.zeros(len(crops), np.bool_)
    if known and held.all():
        return known
    old = [crop.id for crop, here in zip(crops, held, strict=True) if here]
    new = sorted((crop for crop, here in zip(crops, held, strict=True) if not here), key=lambda crop: crop.key)
    torch.set_num_threads(recipe.threads)
    trunk = frozen_trunk(home, recipe)
    with writing_in(folder, recipe.embeddings, [*old, *(crop.id for crop in new)], trunk.blocks) as vectors:
        if known and old:
            vectors[: len(old)] = known.of(old)
        for start, images in _batches(new, files, recipe):
            found = frozen_features(trunk, torch.from_numpy(images), mirrored=recipe.mirrored)
            vectors[len(old) + start : len(old) + start + len(images)] = found.numpy()
            if progress:
                progress(start + len(images), len(new))
    return Embeddings(folder)


def _batches(
    crops: Sequence[LabelledCrop], files: Mapping[str, tuple[str, str]], recipe: Recipe
) -> Iterator[tuple[int, Pixels]]:
    """Where a batch of crops starts, and its images uint8 [B, 3, H, W]; each image is decoded once."""
    key, pixels = "", np.asarray(np.empty((0, 0, 3)), np.uint8)
    for start in range(0, len(crops), BATCH):
        images = list[Pixels]()
        for crop in crops[start : start + BATCH]:
            if crop.key != key:
                key, pixels = crop.key, pixels_of(crop.key, files[crop.key])
            images.append(fitted_crop(crop_of(pixels, crop.corners), recipe))
        yield start, np.stack(images)
