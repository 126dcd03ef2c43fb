"""Readers as `[reader]` of a `dataset.toml` declares them."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

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
        raise ValueError("is no time zone; write one such as Europe/Berlin or UTC") from None
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]


class Declared(BaseModel):
    """Whatever a declaration holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Reader(Declared):
    said_by: Literal["human", "import", "model"] = Field(
        default="import", description="whose word the labels are: people's count before imported ones, then a model's"
    )


class ClassFolders(_Reader):
    """Images in folders that are named by their class; `pattern` says which part of a path means what."""

    kind: Literal["class_folders"]
    pattern: str
    task: Name
    folder: str = Field(default="", description="where the images lie, from dataset.toml, unless they are fetched")
    held_back: bool = Field(default=False, description="labels of train are for the oracle to reveal")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that it labels, with the kinds that each may be of."""
        return {self.task: ("binary", "categorical")}


class Streets(_Reader):
    """Road scenes drawn by Amber itself."""

    kind: Literal["streets"]
    images: int = Field(default=20_000, ge=1)
    seed: int = Field(default=0, ge=0)

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """None: its tasks are its own."""
        return {}


class ImageFolder(_Reader):
    """All images below a folder, without labels; with a `pattern`, those that it matches, and what it says of them."""

    kind: Literal["image_folder"]
    folder: str = Field(default="", description="where the images lie, from dataset.toml")
    pattern: str = Field(default="", description='such as "{attr:camera}/{attr:drive}/{name}"')
    group: Literal["", "folder"] = Field(default="", description='"folder": images of one folder are a group')

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """None: it has no labels."""
        return {}


class _Source(_Reader):
    """What somebody else labelled."""

    held_back: bool = Field(default=False, description="labels of train are for the oracle to reveal")
    annotator: str = Field(default="import", min_length=1, description="who gave the labels that name nobody")
    timezone: Zone = Field(default="UTC", description="of the clock that times without an offset were read from")


class _Boxes(_Source):
    """Boxes of one detection task."""

    task: Name
    rename: dict[str, str] = Field(default_factory=dict, description="classes of the source, with the task's own")
    leave_out: tuple[str, ...] = Field(default=(), description="classes of the source that the task is not about")
    missing: Literal["unknown", "none"] = Field(
        default="unknown", description='what an image says that nothing is said of: "none" is that there are no boxes'
    )

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that it labels, with the kinds that each may be of."""
        return {self.task: DETECTION}


class _Files(_Boxes):
    """Boxes in one file, or in one file for each split."""

    file: str | Splits = Field(description="from dataset.toml; or one for each split")
    images: str | Splits = Field(default="", description="folder or URL that the images' names begin at")

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
    times: bool = Field(default=True, description="take date_captured for captured_at")
    missing: Literal["unknown", "none"] = Field(
        default="none", description="what an image without annotations says: unknown, or that there are no boxes"
    )


class Scalabel(_Files):
    """Boxes, image attributes and videos of a Scalabel or BDD100K file."""

    kind: Literal["scalabel"]
    tasks: dict[str, Name] = Field(default_factory=dict, description="image attributes that are labels, with the task")
    inclusive: bool = Field(default=True, description="x2 and y2 are the last pixel of a box, as Scalabel defines them")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that it labels, with the kinds that each may be of."""
        return super().kinds() | dict.fromkeys(self.tasks.values(), NAMED)


class Yolo(_Boxes):
    """Boxes of text files beside the images, as YOLO trains on them."""

    kind: Literal["yolo"]
    file: str = Field(default="data.yaml", description="from dataset.toml")


class WebDataset(_Source):
    """Images in plain tars, with what is said of each under its name."""

    kind: Literal["webdataset"]
    shards: str = Field(description='from dataset.toml, such as "shards/*.tar"')
    members: dict[str, Name] = Field(default_factory=dict, description='members that are labels: { cls = "color" }')
    fields: dict[str, Name] = Field(default_factory=dict, description="fields of the json that are labels")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that it labels, with the kinds that each may be of."""
        return dict.fromkeys([*self.members.values(), *self.fields.values()], ANY)


class FiftyOne(_Source):
    """A data set as FiftyOne exports it (FiftyOneDataset)."""

    kind: Literal["fiftyone"]
    folder: str = Field(default="", description="with samples.json, from dataset.toml")
    images: str = Field(default="", description="folder or URL that relative paths begin at; default: the export's")
    fields: dict[str, Name] = Field(min_length=1, description="fields that are labels, with the task")
    rename: dict[str, str] = Field(default_factory=dict, description="classes of boxes, with the task's own")
    leave_out: tuple[str, ...] = Field(default=(), description="classes of boxes that no task is about")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that it labels, with the kinds that each may be of."""
        return dict.fromkeys(self.fields.values(), ANY)


class LabelStudio(_Source):
    """A project as Label Studio exports it (JSON)."""

    kind: Literal["label_studio"]
    said_by: Literal["human", "import", "model"] = Field(default="human", description="whose word the labels are")
    file: str = Field(description="from dataset.toml")
    image: str = Field(default="image", description="field of the data that holds the image")
    images: str = Field(default="", description="folder or URL that local files and uploads begin at")
    key: str = Field(default="", description="field of the data with the key of a sample that the catalog holds")
    tags: dict[str, Name] = Field(min_length=1, description="control tags (from_name) of the project, with the task")
    skipped: Literal["unsure", "unknown"] = Field(default="unsure", description="what a skipped item says")
    missing: Literal["unknown", "none"] = Field(
        default="unknown", description='what a submitted item without boxes says: "none" is that there are none'
    )
    rename: dict[str, str] = Field(default_factory=dict, description="classes of boxes, with the task's own")
    leave_out: tuple[str, ...] = Field(default=(), description="classes of boxes that no task is about")

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that it labels, with the kinds that each may be of."""
        return dict.fromkeys(self.tags.values(), ANY)


class _Table(Declared):
    """A table in a file, with the columns that say which image a row is about."""

    file: str = Field(description="CSV, Parquet or Arrow, from dataset.toml")
    key: str = Field(default="", description='column with keys; default: "key", if there is one')
    location: str = Field(default="", description='column with paths or URLs; default: "location", "path", "file", ...')
    delimiter: str = Field(default="", description="between the values of a CSV; default: a comma, a tab in a .tsv")
    unknown: tuple[str, ...] = Field(default=("",), description="what a CSV says where nothing is known")
    types: dict[str, Literal["text", "number", "flag", "time"]] = Field(
        default_factory=dict, description="of attributes, where the text of a CSV says it wrongly"
    )


class _Said(_Table):
    """A table whose cells are labels."""

    unsure: tuple[str, ...] = Field(default=(), description="what a cell says when a person could not tell")
    inapplicable: tuple[str, ...] = Field(default=(), description="what a cell says where the task does not apply")
    separator: str = Field(default=";", min_length=1, description="between the classes of a multilabel")

    @model_serializer(mode="wrap")
    def _without_empty_inapplicable(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an empty `inapplicable`: the batch ids of older declarations do not have it."""
        data: dict[str, Any] = serialise(self)
        return data if self.inapplicable else {name: value for name, value in data.items() if name != "inapplicable"}


class SampleTable(_Said):
    """A row a sample: its labels, a column a task; all other columns are attributes."""

    rows: Literal["samples"]
    tasks: dict[str, Name] = Field(
        default_factory=dict, description="columns that are labels; default: those of a name"
    )
    attributes: tuple[str, ...] | None = Field(default=None, description="columns that are attributes; default: all")
    leave_out: tuple[str, ...] = Field(default=(), description="columns that are nothing")
    embeddings: dict[str, Name] = Field(default_factory=dict, description="columns of vectors, with their model")


class LabelTable(_Said):
    """A row a label: columns `task`, `value` (or text, number, names, boxes), and what else a label has."""

    rows: Literal["labels"]
    task: str = Field(default="", description="the task of all rows, where no column says it")


class BoxTable(_Table):
    """A row a box."""

    rows: Literal["boxes"]
    task: Name
    label: str = Field(default="class", description="column with the class")
    box: tuple[str, str, str, str] = Field(default=("x", "y", "w", "h"), description="columns, in the order of `form`")
    form: Literal["size", "corners"] = Field(default="size", description="x, y, w, h or x_min, y_min, x_max, y_max")
    attributes: tuple[str, ...] = Field(default=(), description="columns that are attributes of the box")
    of_image: tuple[str, ...] = Field(default=(), description="columns that are attributes of the image")
    rename: dict[str, str] = Field(default_factory=dict, description="classes of the table, with the task's own")
    leave_out: tuple[str, ...] = Field(default=(), description="classes of the table that the task is not about")
    missing: Literal["unknown", "none"] = Field(
        default="unknown", description='what a sample of the other tables without a box says: "none" is none'
    )


class Tables(_Source):
    """Tables of samples, labels and boxes, in CSV, Parquet or Arrow."""

    kind: Literal["tables"]
    images: str = Field(default="", description="folder or URL that relative paths begin at")
    table: tuple[Annotated[SampleTable | LabelTable | BoxTable, Field(discriminator="rows")], ...] = Field(min_length=1)

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The tasks that it labels, with the kinds that each may be of."""
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
"""Every reader there is, told apart by its `kind`."""
