"""Declarations of readers: the `[reader]` table of a `dataset.toml`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from curation.catalog.tasks import Kind, Name

__all__ = [
    "BoxTable",
    "ClassFolders",
    "Coco",
    "Declared",
    "FiftyOne",
    "ImageFolder",
    "LabelStudio",
    "LabelTable",
    "Reader",
    "SampleTable",
    "Scalabel",
    "Streets",
    "Tables",
    "WebDataset",
    "Yolo",
]

Splits = Mapping[Literal["train", "validation", "test"], str]
"""A file or folder for each split."""

DETECTION: tuple[Kind, ...] = ("detection",)
NAMED: tuple[Kind, ...] = ("binary", "categorical", "multilabel")
ANY: tuple[Kind, ...] = ("binary", "categorical", "multilabel", "regression", "detection")


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("is not a time zone; write one such as Europe/Berlin or UTC") from None
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]


class Declared(BaseModel):
    """Base of every declaration: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Reader(Declared):
    said_by: Literal["human", "import", "model"] = Field(
        default="import",
        description="source of the labels: human labels override imported ones, which override a model's",
    )


class ClassFolders(_Reader):
    """Images in folders that are named after their class; `pattern` gives each part of a path its meaning."""

    kind: Literal["class_folders"]
    pattern: str
    task: Name
    folder: str = Field(
        default="", description="folder of the images, relative to dataset.toml, unless they are fetched"
    )
    held_back: bool = Field(
        default=False, description="labels of train go to the oracle, which reveals them on request"
    )

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return {self.task: ("binary", "categorical")}


class Streets(_Reader):
    """Road scenes rendered by Amber."""

    kind: Literal["streets"]
    images: int = Field(default=20_000, ge=1)
    seed: int = Field(default=0, ge=0)

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """None: the renderer has its own tasks."""
        return {}


class ImageFolder(_Reader):
    """All images below a folder, without labels; a `pattern` selects images and gives them attributes."""

    kind: Literal["image_folder"]
    folder: str = Field(default="", description="folder of the images, relative to dataset.toml")
    pattern: str = Field(default="", description='such as "{attr:camera}/{attr:drive}/{name}"')
    group: Literal["", "folder"] = Field(default="", description='"folder": images of one folder are a group')

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """None: the images have no labels."""
        return {}


class _Source(_Reader):
    """A source with labels."""

    held_back: bool = Field(
        default=False, description="labels of train go to the oracle, which reveals them on request"
    )
    annotator: str = Field(default="import", min_length=1, description="author of the labels that name none")
    timezone: Zone = Field(default="UTC", description="time zone of times without an offset")


class _Boxes(_Source):
    """Boxes of one detection task."""

    task: Name
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

    @model_validator(mode="after")
    def _matching(self) -> "_Files":
        if not isinstance(self.images, str) and (isinstance(self.file, str) or set(self.images) != set(self.file)):
            raise ValueError("images names a folder for each split that file names, or one for all")
        return self

    def parts(self) -> Iterator[tuple[str, str, str | None]]:
        """File, folder of its images and split of each part."""
        files = {None: self.file} if isinstance(self.file, str) else self.file
        for split, file in files.items():
            yield file, self.images if isinstance(self.images, str) else self.images[split], split  # type: ignore[index]


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

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return super().kinds() | dict.fromkeys(self.tasks.values(), NAMED)


class Yolo(_Boxes):
    """Boxes in text files beside the images, the training format of YOLO."""

    kind: Literal["yolo"]
    file: str = Field(default="data.yaml", description="relative to dataset.toml")


class WebDataset(_Source):
    """Images in plain tars, with their labels and fields in files of the same name."""

    kind: Literal["webdataset"]
    shards: str = Field(description='relative to dataset.toml, such as "shards/*.tar"')
    members: dict[str, Name] = Field(default_factory=dict, description='members that are labels: { cls = "color" }')
    fields: dict[str, Name] = Field(default_factory=dict, description="fields of the json that are labels")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        return dict.fromkeys([*self.members.values(), *self.fields.values()], ANY)


class FiftyOne(_Source):
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


class LabelStudio(_Source):
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


class _Table(Declared):
    """A table in a file, with the columns that identify the image of a row."""

    file: str = Field(description="CSV, Parquet or Arrow, relative to dataset.toml")
    key: str = Field(default="", description='column with keys; default: "key", if it exists')
    location: str = Field(default="", description='column with paths or URLs; default: "location", "path", "file", ...')
    delimiter: str = Field(default="", description="between the values of a CSV; default: a comma, a tab in a .tsv")
    unknown: tuple[str, ...] = Field(default=("",), description="cells of a CSV that mean unknown")
    types: dict[str, Literal["text", "number", "flag", "time"]] = Field(
        default_factory=dict, description="types of attributes, where the text of a CSV suggests another"
    )


class _LabelledTable(_Table):
    """A table whose cells are labels."""

    unsure: tuple[str, ...] = Field(default=(), description="cells of a person who could not tell")
    separator: str = Field(default=";", min_length=1, description="between the classes of a multilabel")


class SampleTable(_LabelledTable):
    """One row for each sample: one column for each task; all other columns are attributes."""

    rows: Literal["samples"]
    tasks: dict[str, Name] = Field(
        default_factory=dict, description="columns that are labels; default: columns named like a task"
    )
    attributes: tuple[str, ...] | None = Field(default=None, description="columns that are attributes; default: all")
    leave_out: tuple[str, ...] = Field(default=(), description="columns that are not read")
    embeddings: dict[str, Name] = Field(default_factory=dict, description="columns of vectors, each with its model")


class LabelTable(_LabelledTable):
    """One row for each label: columns `task`, `value` (or text, number, names, boxes), and further facts of a label."""

    rows: Literal["labels"]
    task: str = Field(default="", description="the task of all rows, if no column names it")


class BoxTable(_Table):
    """One row for each box."""

    rows: Literal["boxes"]
    task: Name
    label: str = Field(default="class", description="column with the class")
    box: tuple[str, str, str, str] = Field(default=("x", "y", "w", "h"), description="columns, in the order of `form`")
    form: Literal["size", "corners"] = Field(default="size", description="x, y, w, h or x_min, y_min, x_max, y_max")
    attributes: tuple[str, ...] = Field(default=(), description="columns that are attributes of the box")
    of_image: tuple[str, ...] = Field(default=(), description="columns that are attributes of the image")
    rename: dict[str, str] = Field(
        default_factory=dict, description="classes of the table, with the task's name for each"
    )
    leave_out: tuple[str, ...] = Field(default=(), description="classes of the table that are not read")
    missing: Literal["unknown", "none"] = Field(
        default="unknown",
        description='meaning of a sample of the other tables without a row: "unknown", or "none" for no boxes',
    )


class Tables(_Source):
    """Tables of samples, labels and boxes, in CSV, Parquet or Arrow."""

    kind: Literal["tables"]
    images: str = Field(default="", description="folder or URL of relative paths")
    table: tuple[Annotated[SampleTable | LabelTable | BoxTable, Field(discriminator="rows")], ...] = Field(min_length=1)

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that this reader labels, each with the kinds that it can label."""
        found: dict[str, tuple[Kind, ...]] = {}
        for table in self.table:
            match table:
                case SampleTable():
                    found |= dict.fromkeys(table.tasks.values(), ANY)
                case LabelTable():
                    found |= {table.task: ANY} if table.task else {}
                case BoxTable():
                    found[table.task] = DETECTION
        return found


Reader = Annotated[
    ClassFolders | Streets | ImageFolder | Tables | Coco | Scalabel | Yolo | WebDataset | FiftyOne | LabelStudio,
    Field(discriminator="kind"),
]
"""Every reader, distinguished by its `kind`."""
