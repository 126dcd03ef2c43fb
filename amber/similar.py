"""The search for similar images and crops: what a user names, as a vector, and the images or boxes nearest to it.

WHAT is, in this order: the key of a sample, KEY#TASK:N (box N of a task of boxes, from 1), KEY#X,Y,W,H (a part of the
image, in pixels), a file (an image, or a vector as FILE.npy), FILE#X,Y,W,H.
"""

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amber.extras import need_extra
from curation.arrays import Float32s
from curation.catalog.catalog import Catalog
from curation.catalog.labelled_crops import LabelledCrop, LabelledCrops, boxes_task
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.files.locations import read_bytes
from curation.files.progress import StageProgress
from curation.images.crops import Corners, crop_id, parsed_corners
from curation.images.decoding import BadImage, load_rgb
from curation.images.embeddings import Embeddings, is_imported, models_of
from curation.images.similar import SimilarImages
from curation.rows import tabled
from training.evaluation.image_size import fitted_size
from training.recipe import Recipe

__all__ = ["Found", "Search", "Wanted"]

NOTATION = "write KEY#TASK:N (box N of a task of boxes, from 1) or KEY#X,Y,W,H in pixels"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What images should be similar to (`what`), by which embeddings ("": the first), how many are wanted, of which
    split ("": any), and the task whose boxes are searched in place of whole images ("": none)."""

    what: str
    embeddings: str
    count: int
    split: str
    boxes: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """One image by its `key`, or one box of it, and the cosine (-1 to 1) of its vector with the wanted one."""

    key: str
    similarity: float
    box: LabelledCrop | None = None

    @property
    def name(self) -> str:
        """As `amber similar` takes it: KEY, or KEY#TASK:N."""
        return self.box.name if self.box else self.key

    def row(self) -> dict[str, Any]:
        """The fields that are printed as JSON; a box has its name, its class and its corners too."""
        if not self.box:
            return {"key": self.key, "similarity": self.similarity}
        sides = dict(zip("xywh", self.box.corners, strict=True))
        named = {"box": self.name, "class": self.box.label or None}
        return {"key": self.key, **named, **sides, "similarity": self.similarity}


@dataclass(frozen=True, kw_only=True)
class _Target:
    """What is wanted: an image of the catalog by its `key` or a file at `path`, and the part of it, if it is one."""

    key: str = ""
    path: Path | None = None
    corners: Corners | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search at a snapshot, which needs the catalog no more: `files` has location and sha256 of every image that may
    be found or is wanted, `kept` the keys that may be found, and `boxes` all boxes by place, where boxes are searched.

    `too_small` counts the boxes that are left out because less than 2 pixels a side of them lie in their image.
    """

    home: Path
    wanted: Wanted
    images: Embeddings
    target: _Target
    files: dict[str, tuple[str, str]]
    kept: set[str]
    boxes: dict[str, list[LabelledCrop]] = field(default_factory=dict)
    too_small: int = 0

    @classmethod
    def of(cls, catalog: Catalog, wanted: Wanted, progress: StageProgress) -> "Search":
        """The search for what is wanted; images are embedded where the workspace has no vectors of them.

        BadInput, NotFound or Damaged in one line for what cannot be searched.
        """
        with catalog.read() as now:
            rows = now.samples().select(["key", "location", "sha256", "split", "excluded"]).to_pylist()
            files = {row["key"]: (row["location"], row["sha256"]) for row in rows}
            target = _target(now, wanted.what, files)
            crops = LabelledCrops.at(now, wanted.boxes) if wanted.boxes else None
        images = _embedded(catalog, wanted.embeddings, progress)
        kept = {
            row["key"] for row in rows
            if not row["excluded"] and (not wanted.split or row["split"] == wanted.split)
        }  # fmt: skip
        boxes = crops.by_place(set(images.keys)) if crops else {}
        if crops and not boxes:
            raise BadInput(
                f"--boxes {wanted.boxes}: no box of it is known on images with vectors of {images.model}; name another"
            )
        too_small = int((~crops.usable & ~crops.ignored).sum()) if crops else 0
        return cls(
            home=catalog.home, wanted=wanted, images=images, target=target, files=files, kept=kept, boxes=boxes,
            too_small=too_small,
        )  # fmt: skip

    @tabled(Found)
    def nearest(self, progress: StageProgress) -> list[Found]:
        """The nearest, the nearest first; without what is wanted itself. Boxes are embedded where they are not yet."""
        target, count = self.target, self.wanted.count
        place = crop_id(target.key, target.corners) if target.key and target.corners else ""
        if not self.boxes:
            search = SimilarImages(self.images)
            without = np.array([key not in self.kept or key == target.key for key in self.images.keys], np.bool_)
            found = search.nearest(search.of_vector(self._vector()), count, without=without)
            return [Found(key=part.key, similarity=part.similarity) for part in found]
        vector = None if place in self.boxes else self._vector()  # before boxes are embedded: it may be refused
        crops = self._crops(progress)
        search = SimilarImages(crops)
        wanted = search.of_vector(np.asarray(crops.of([place])[0], np.float32) if vector is None else vector)
        here = {name for name, boxes in self.boxes.items() if boxes[0].key in self.kept and name != place}
        without = np.array([name not in here for name in crops.keys], np.bool_)
        return [
            Found(key=box.key, similarity=part.similarity, box=box)
            for part in search.nearest(wanted, count, without=without)
            for box in self.boxes[part.key]
        ][:count]

    def _crops(self, progress: StageProgress) -> Embeddings:
        recipe = self._recipe("the boxes cannot be embedded")
        from training.evaluation.crop_features import embed_crops

        return embed_crops(
            self.home, recipe, self.wanted.boxes, [boxes[0] for boxes in self.boxes.values()], self.files,
            progress=partial(progress, "boxes"),
        )  # fmt: skip

    def _vector(self) -> Float32s:
        """The vector [D] of what is wanted, as the trunk gives it; BadInput for one of another length."""
        target = self.target
        if target.key and not target.corners:
            return np.asarray(self.images.of([target.key])[0], np.float32)
        if target.path and target.path.suffix == ".npy" and not target.corners:
            vector = _saved(target.path)
            SimilarImages(self.images).of_vector(vector)
            return vector
        recipe = self._recipe("name a key, or a vector as FILE.npy")
        return _computed(self.home, self.wanted.what, target, self.files, recipe)

    def _recipe(self, otherwise: str) -> Recipe:
        """What computes vectors like those of the embeddings."""
        recipe = Recipe.of_embeddings(self.images.model)
        if recipe is None or is_imported(self.home, self.images.model):
            raise BadInput(
                f"embeddings {self.images.model}: are not of a trunk of Amber's, so {otherwise}; or name others"
            )
        need_extra("train")
        return recipe


def _embedded(catalog: Catalog, name: str, progress: StageProgress) -> Embeddings:
    """The embeddings of this name ("": the first of the workspace), computed where a frozen trunk of Amber's has them
    and the workspace does not; without any, those of the pretrained trunk."""
    name = name or next(iter(models_of(catalog.home)), "")
    recipe = Recipe.of_embeddings(name)
    if name and (recipe is None or name in models_of(catalog.home)):
        return Embeddings.open(catalog.home, name)
    if recipe is None:
        with catalog.read() as now:
            recipe = Recipe(size=fitted_size(now))
    need_extra("train")
    from samplers.pack.pack_writer import make_pack
    from training.evaluation.features import embed

    pack = make_pack(catalog, progress=partial(progress, "pack"))
    made = embed(catalog.home, pack, recipe, progress=partial(progress, "embed"))
    assert made
    return made


def _target(now: Snapshot, what: str, files: dict[str, tuple[str, str]]) -> _Target:
    """What a user names, by the keys of the catalog and then by files."""
    if what in files:
        return _Target(key=what)
    image, mark, part = what.rpartition("#")
    if mark and image in files:
        return _Target(key=image, corners=_corners(now, image, part))
    if Path(what).is_file():
        return _Target(path=Path(what))
    if mark and Path(image).is_file():
        if corners := parsed_corners(part):
            return _Target(path=Path(image), corners=corners)
        raise BadInput(f"{what!r}: names no part of the file; write FILE#X,Y,W,H in pixels")
    if now.forgotten([what, image]):
        raise BadInput(f"{what!r}: the image was forgotten (`amber forget`); name another")
    raise BadInput(f"{what!r}: is neither the key of a sample nor a file; correct it")


def _corners(now: Snapshot, key: str, part: str) -> Corners:
    if corners := parsed_corners(part):
        return corners
    named = re.fullmatch(r"([a-z][a-z0-9_]*):(\d{1,9})", part)
    if not named:
        raise BadInput(f"'{key}#{part}': names no part of an image; {NOTATION}")
    boxes_task(now, named[1])
    return LabelledCrops.at(now, named[1]).numbered(key, int(named[2])).corners


def _saved(path: Path) -> Float32s:
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    except (ValueError, OSError) as error:
        raise BadInput(f"'{path}': is no array of numbers ({error}); save it by numpy.save") from None


def _computed(home: Path, what: str, target: _Target, files: dict[str, tuple[str, str]], recipe: Recipe) -> Float32s:
    """The vector of an image file, or of a part of an image."""
    from training.evaluation.crop_features import features_of_crop, pixels_of
    from training.evaluation.features import features_of_file

    try:
        if target.path and not target.corners:
            return np.asarray(features_of_file(home, target.path, recipe), np.float32)
        pixels = load_rgb(read_bytes(str(target.path))) if target.path else pixels_of(target.key, files[target.key])
    except BadImage as error:
        raise BadInput(f"{what!r}: cannot be read as an image ({error}); name another") from None
    try:
        return features_of_crop(home, pixels, target.corners or (0.0, 0.0, 0.0, 0.0), recipe)
    except BadInput as error:
        raise BadInput(f"{what!r}: {error}") from None
