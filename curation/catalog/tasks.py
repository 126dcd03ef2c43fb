"""Learning tasks, as their owners declare them."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = ["Kind", "Metric", "Name", "Task"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name that is safe in SQL, in a file name and in a URL."""

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow: label configs and VOC files could not hold such a class."""

Kind = Literal["binary", "categorical", "multilabel", "regression", "detection"]
Metric = Literal["accuracy", "balanced_accuracy", "mae"]


class Task(BaseModel):
    """One learning task: what is asked of an image, and by which figure the answers are judged.

    Class codes are positions in `classes`. A binary task has the classes `false` and `true`; a regression task has
    none, but a `unit`; a multilabel task has any number of its classes on an image, none included; a detection task
    names the classes of its boxes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="name in the catalog, unique")
    kind: Kind = Field(description="what a label is: a flag, one class, several classes, a number, or boxes")
    classes: tuple[str, ...] = Field(default=(), description="names of the classes; not of binary and regression tasks")
    unit: str = Field(default="", description="unit of a regression task, such as km/h")
    metric: Metric = Field(default="accuracy", description='figure by which the task is judged; "mae" for regression')
    owner: str = Field(min_length=1, description="who decides about the task")
    tolerance: float = Field(default=0.0, ge=0, description="numbers of several people agree within this")
    description: str = Field(default="", description="question for the people who label")

    @model_validator(mode="before")
    @classmethod
    def _binary_classes(cls, data: dict[str, object]) -> dict[str, object]:
        return {**data, "classes": ("false", "true")} if data.get("kind") == "binary" else data

    @model_validator(mode="after")
    def _consistent(self) -> "Task":
        if self.kind in ("categorical", "multilabel", "detection") and len(self.classes) < 1 + (
            self.kind == "categorical"
        ):
            raise ValueError(f"a {self.kind} task names its classes")
        if wrong := next((name for name in self.classes if _NO_XML.search(name)), None):
            raise ValueError(f"the class {wrong!r} holds a character that XML does not allow; rename it")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from each other")
        if self.kind == "regression" and (self.classes or not self.unit or self.metric != "mae"):
            raise ValueError('a regression task has a unit, the metric "mae" and no classes')
        if self.kind != "regression" and self.metric == "mae":
            raise ValueError('only a regression task has the metric "mae"')
        return self

    @property
    def outputs(self) -> int:
        """Number of logits or values that a head of this task gives; 0 for kinds without a head yet."""
        return {"binary": 1, "categorical": len(self.classes), "regression": 1}.get(self.kind, 0)
