"""Declarations of tables: samples, labels or boxes in CSV, Parquet and Arrow files."""

from typing import Annotated, Literal

from pydantic import Field

from curation.catalog.tasks import Kind, Name
from curation.ingestion.readers.declared_base import ANY, DETECTION, BoxRules, Declared, Source, later

__all__ = ["BoxTable", "LabelTable", "SampleTable", "Tables"]


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
    inapplicable: tuple[str, ...] = later((), "cells where the task does not apply")
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
    group: str | tuple[str, ...] = later(
        "", 'column of the groups, or several columns whose values form the group; default: "group", if it exists'
    )


class LabelTable(_LabelledTable):
    """One row for each label: columns `task`, `value` (or text, number, names, boxes), and further facts of a label.

    A column `looked` lists the classes of a multilabel that somebody looked for; empty: all of them.
    """

    rows: Literal["labels"]
    task: str = Field(default="", description="the task of all rows, if no column names it")


class BoxTable(_Table):
    """One row for each box."""

    rows: Literal["boxes"]
    task: Name = Field(description="detection task of the boxes")
    label: str = Field(default="class", description="column with the class")
    box: tuple[str, str, str, str] = Field(default=("x", "y", "w", "h"), description="columns, in the order of `form`")
    form: Literal["size", "corners", "center"] = Field(
        default="size", description="x, y, w, h or x_min, y_min, x_max, y_max or x_center, y_center, w, h"
    )
    attributes: tuple[str, ...] = Field(default=(), description="columns that are attributes of the box")
    of_image: tuple[str, ...] = Field(default=(), description="columns that are attributes of the image")
    group: str | tuple[str, ...] = later(
        "", 'column of the groups, or several columns whose values form the group; default: "group", if it exists'
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="classes of the table, with the task's name for each"
    )
    leave_out: tuple[str, ...] = Field(default=(), description="classes of the table that are not read")
    missing: Literal["unknown", "none"] = Field(
        default="unknown",
        description='meaning of a sample of the other tables without a row: "unknown", or "none" for no boxes',
    )


class Tables(Source):
    """Tables of samples, labels and boxes, in CSV, Parquet or Arrow."""

    kind: Literal["tables"]
    images: str = Field(default="", description="folder or URL of relative paths")
    fractions: bool | None = later(
        None, "boxes are in fractions of the image; default: pixels, and boxes that look like fractions are refused"
    )
    table: tuple[Annotated[SampleTable | LabelTable | BoxTable, Field(discriminator="rows")], ...] = Field(
        min_length=1, description="tables, at least one"
    )

    def box_rules(self) -> BoxRules:
        """How boxes at the edge of an image are read."""
        return BoxRules(clip=self.outside == "clip", suspect=self.fractions is None)

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
