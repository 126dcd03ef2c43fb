"""Base of the declarations of readers: which labels they give, who gave them, and how their boxes are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from curation.catalog.tasks import Kind

__all__ = ["ANY", "DETECTION", "NAMED", "BoxRules", "Declared", "Entries", "ReaderBase", "Source", "Splits", "later"]

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


def later(default: Any, description: str) -> Any:
    """A field that older declarations lack: at its default it is not dumped, so the hash of a declaration stays."""
    return Field(default=default, description=description, json_schema_extra={"later": True})


class Declared(BaseModel):
    """Base of every declaration: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = dump(self)
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and "later" in extra and getattr(self, name) == field.default:
                data.pop(name, None)
        return data


@dataclass(frozen=True, kw_only=True)
class BoxRules:
    """How boxes at the edge of an image are read.

    Edges outside by at most `slack` pixels on the left and top, and `far_slack` on the right and bottom, are rounding
    and moved onto the edge. With `clip`, edges outside by at most 2 pixels are moved too. `suspect` refuses a file
    whose boxes all look like fractions; `per_file` is false where each file describes one image.
    """

    clip: bool = False
    slack: float = 0.1
    far_slack: float = 0.1
    suspect: bool = False
    per_file: bool = True


class ReaderBase(Declared):
    """Base of every reader."""

    said_by: Literal["human", "import", "model"] = Field(
        default="import",
        description="source of the labels: human labels override imported ones, which override a model's",
    )

    def box_rules(self) -> BoxRules:
        """How boxes at the edge of an image are read."""
        return BoxRules()


class Source(ReaderBase):
    """A source with labels."""

    held_back: bool = Field(
        default=False, description="labels of train go to the oracle, which reveals them on request"
    )
    annotator: str = Field(default="import", min_length=1, description="author of the labels that name none")
    timezone: Zone = Field(default="UTC", description="time zone of times without an offset")
    outside: Literal["refuse", "clip"] = later(
        "refuse", 'boxes up to 2 pixels outside the image: "refuse", or "clip" moves their edges onto the image'
    )

    def box_rules(self) -> BoxRules:
        """How boxes at the edge of an image are read."""
        return BoxRules(clip=self.outside == "clip")


class Entries(Source):
    """A source that is read entry by entry."""

    unknown: tuple[str, ...] = later((), 'labels and attributes with these values are unknown, such as ["undefined"]')
