"""Declarations of readers: the `[reader]` table of a `dataset.toml`."""

import glob
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from curation.catalog.tasks import Kind, Name
from curation.files.locations import is_url
from curation.ingestion.readers.declared_base import ANY, DETECTION, NAMED, BoxRules, Entries, ReaderBase, Splits, later
from curation.ingestion.readers.declared_tables import Tables

__all__ = [
    "ClassFolders",
    "Coco",
    "FiftyOne",
    "ImageFolder",
    "LabelStudio",
    "Reader",
    "Scalabel",
    "Streets",
    "Voc",
    "WebDataset",
    "Yolo",
]

_FRACTIONS = "boxes are in fractions of the image; default: pixels, and boxes that look like fractions are refused"


class ClassFolders(ReaderBase):
    """Images in folders that are named after their class; `pattern` gives each part of a path its meaning."""

    kind: Literal["class_folders"]
    pattern: str = Field(description='such as "{attr:published_split}/{label}/{name}"')
    task: Name = Field(description="task whose class a folder names")
    folder: str = Field(
        default="", description="folder of the images, relative to dataset.toml, unless they are fetched"
    )
    held_back: bool = Field(
        default=False, description="labels of train go to the oracle, which reveals them on request"
    )

    group: tuple[str, ...] = later((), 'placeholders whose values form the group, such as ["label", "drive"]')

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return {self.task: ("binary", "categorical")}


class Streets(ReaderBase):
    """Road scenes rendered by Amber."""

    kind: Literal["streets"]
    images: int = Field(default=20_000, ge=1, description="how many images, 400 to 200,000")
    seed: int = Field(default=0, ge=0, description="seed of the scenes")
    signs: bool = later(False, "scenes with 32 signs, moving road users and frames that show the speed")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """None: the renderer has its own tasks."""
        return {}


class ImageFolder(ReaderBase):
    """All images below a folder, without labels; a `pattern` selects images and gives them attributes."""

    kind: Literal["image_folder"]
    folder: str = Field(default="", description="folder of the images, relative to dataset.toml")
    pattern: str = Field(default="", description='such as "{attr:camera}/{attr:drive}/{name}"')
    group: Literal["", "folder"] | tuple[str, ...] = Field(
        default="", description='"folder" makes each folder a group; or placeholders, such as ["camera", "drive"]'
    )

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """None: the images have no labels."""
        return {}


class _Boxes(Entries):
    """Boxes of one detection task."""

    task: Name = Field(description="detection task of the boxes")
    rename: dict[str, str] = Field(
        default_factory=dict, description="classes of the source, with the task's name for each"
    )
    leave_out: tuple[str, ...] = Field(default=(), description="classes of the source that are not read")
    missing: Literal["unknown", "none"] = Field(
        default="unknown", description='meaning of an image without an entry: "unknown", or "none" for no boxes'
    )

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return {self.task: DETECTION}


class _Files(_Boxes):
    """Boxes in one file, or in one file for each split."""

    file: str | Splits = Field(description="relative to dataset.toml; or one for each split")
    images: str | Splits = Field(default="", description="folder or URL that the names of images are relative to")
    fractions: bool | None = later(None, _FRACTIONS)

    @model_validator(mode="after")
    def _matching(self) -> "_Files":
        if not isinstance(self.images, str) and (isinstance(self.file, str) or set(self.images) != set(self.file)):
            raise ValueError("images names a folder for each split that file names, or one for all")
        return self

    def parts(self, folder: Path) -> Iterator[tuple[str, str, str | None]]:
        """File, folder of its images and split of each part; a file name may be a pattern or a folder of JSON files."""
        files = {None: self.file} if isinstance(self.file, str) else self.file
        for split, file in files.items():
            images = self.images if isinstance(self.images, str) else self.images[split]  # type: ignore[index]
            pattern = f"{file.rstrip('/')}/*.json" if file and (folder / file).is_dir() else file
            exists = (folder / file).is_file() or not glob.has_magic(pattern)
            names = [file] if exists else sorted(glob.glob(pattern, root_dir=folder, recursive=True)) or [file]
            yield from ((name, images, split) for name in names)

    def key_name(self, images: str, name: str) -> str:
        """The name that gives an image its key: with its folder, if the splits have folders of their own."""
        several = not isinstance(self.images, str) and len(set(self.images.values())) > 1
        if not several or is_url(name) or name.replace("\\", "/").startswith("/"):
            return name
        folder = images if is_url(images) else posixpath.normpath(images.replace("\\", "/")).lstrip("./")
        return f"{folder.rstrip('/')}/{name}"

    def box_rules(self) -> BoxRules:
        """How boxes at the edge of an image are read."""
        named = [self.file] if isinstance(self.file, str) else self.file.values()
        return BoxRules(
            clip=self.outside == "clip", suspect=self.fractions is None,
            per_file=not any(glob.has_magic(file) or not file.endswith(".json") for file in named),
        )  # fmt: skip


class Coco(_Files):
    """Boxes of a COCO file."""

    kind: Literal["coco"]
    times: bool = Field(default=True, description="read date_captured as captured_at")
    missing: Literal["unknown", "none"] = Field(
        default="none", description='meaning of an image without annotations: "unknown", or "none" for no boxes'
    )


class Scalabel(_Files):
    """Boxes, image attributes and videos of a Scalabel or BDD100K file."""

    kind: Literal["scalabel"]
    tasks: dict[str, Name] = Field(
        default_factory=dict, description="image attributes that are labels, each with its task"
    )
    inclusive: bool = Field(default=True, description="x2 and y2 are the last pixel of a box, as Scalabel defines them")
    lines: Literal["", "polygons"] = later(
        "", 'labels without a box2d: passed over, or "polygons" for the box around each closed poly2d'
    )

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return super().kinds() | dict.fromkeys(self.tasks.values(), NAMED)

    def box_rules(self) -> BoxRules:
        """How boxes at the edge of an image are read: the last pixel of a box may be a fraction of a pixel."""
        return replace(super().box_rules(), far_slack=1.0 if self.inclusive else 0.1)


class Voc(_Boxes):
    """Boxes in the XML files of Pascal VOC, one for each image."""

    kind: Literal["voc"]
    annotations: str = Field(default="Annotations", description="folder of the XML files, relative to dataset.toml")
    images: str = Field(default="JPEGImages", description="folder or URL of the images")
    splits: Splits = Field(
        default_factory=dict, description='list of image names for each split, such as "ImageSets/Main/train.txt"'
    )
    first_pixel: Literal[0, 1] = Field(
        default=1, description="1: pixels are counted from 1 and xmax is the last pixel (VOC); 0: edges from 0"
    )
    fractions: bool | None = later(None, _FRACTIONS)

    def box_rules(self) -> BoxRules:
        """How boxes at the edge of an image are read."""
        return BoxRules(clip=self.outside == "clip", suspect=self.fractions is None, per_file=False)


class Yolo(_Boxes):
    """Boxes in text files beside the images, the training format of YOLO."""

    kind: Literal["yolo"]
    file: str = Field(default="data.yaml", description="relative to dataset.toml")
    lines: Literal["", "polygons", "key_points"] = later(
        "", "meaning of lines with more than 5 numbers; default: by kpt_shape of data.yaml and the lines of all files"
    )


class WebDataset(Entries):
    """Images in plain tars, with their labels and fields in files of the same name."""

    kind: Literal["webdataset"]
    shards: str = Field(description='relative to dataset.toml, such as "shards/*.tar"')
    members: dict[str, Name] = Field(default_factory=dict, description='members that are labels: { cls = "color" }')
    fields: dict[str, Name] = Field(default_factory=dict, description="fields of the json that are labels")
    image: str = later("", 'extension of the image where a sample has several, such as "left.jpg"')
    fractions: bool | None = later(None, _FRACTIONS)

    def box_rules(self) -> BoxRules:
        """How boxes at the edge of an image are read."""
        return BoxRules(clip=self.outside == "clip", suspect=self.fractions is None)

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return dict.fromkeys([*self.members.values(), *self.fields.values()], ANY)


class FiftyOne(Entries):
    """A data set in FiftyOne's export format (FiftyOneDataset)."""

    kind: Literal["fiftyone"]
    folder: str = Field(default="", description="folder with samples.json, relative to dataset.toml")
    images: str = Field(default="", description="folder or URL of relative paths; default: the export's folder")
    fields: dict[str, Name] = Field(min_length=1, description="fields that are labels, each with its task")
    rename: dict[str, str] = Field(default_factory=dict, description="classes of boxes, with the task's name for each")
    leave_out: tuple[str, ...] = Field(default=(), description="classes of boxes that are not read")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return dict.fromkeys(self.fields.values(), ANY)


class LabelStudio(Entries):
    """A project in Label Studio's JSON export."""

    kind: Literal["label_studio"]
    said_by: Literal["human", "import", "model"] = Field(default="human", description="source of the labels")
    file: str = Field(description="relative to dataset.toml")
    image: str = Field(default="image", description="field of an item's data with the image")
    images: str = Field(default="", description="folder or URL of local files and uploads")
    key: str = Field(default="", description="field of an item's data with the key of a sample in the catalog")
    tags: dict[str, Name] = Field(
        min_length=1, description="control tags (from_name) of the project, each with its task"
    )
    skipped: Literal["unsure", "unknown"] = Field(default="unsure", description="label of a skipped item")
    missing: Literal["unknown", "none"] = Field(
        default="unknown", description='meaning of a submitted item without boxes: "unknown", or "none" for no boxes'
    )
    rename: dict[str, str] = Field(default_factory=dict, description="classes of boxes, with the task's name for each")
    leave_out: tuple[str, ...] = Field(default=(), description="classes of boxes that are not read")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return dict.fromkeys(self.tags.values(), ANY)


Reader = Annotated[
    ClassFolders | Streets | ImageFolder | Tables | Coco | Scalabel | Voc | Yolo | WebDataset | FiftyOne | LabelStudio,
    Field(discriminator="kind"),
]
"""Every reader, distinguished by its `kind`."""
