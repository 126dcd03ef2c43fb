"""Learning tasks as their owners declare them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = ["Kind", "Metric", "Name", "Task"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name that is safe in SQL, in a file name and in a URL."""

Kind = Literal["binary", "categorical", "multilabel", "regression", "detection"]
Metric = Literal["accuracy", "balanced_accuracy", "mae"]


class Task(BaseModel):
    """One learning task: what is asked about an image, and the metric of its answers.

    Class codes are indices into `classes`. A binary task has the classes `false` and `true`; a regression task has a
    `unit` and no classes; a label of a multilabel task holds any number of its classes, including none; a detection
    task names the classes of its boxes.

    >>> Task(name="night", kind="binary", owner="ada").classes
    ('false', 'true')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    kind: Kind
    classes: tuple[str, ...] = ()
    unit: str = ""
    metric: Metric = "accuracy"
    owner: str = Field(min_length=1)
    tolerance: float = Field(default=0.0, ge=0, description="numbers of several people agree within this")
    description: str = ""

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
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from each other")
        if self.kind == "regression" and (self.classes or not self.unit or self.metric != "mae"):
            raise ValueError('a regression task has a unit, the metric "mae" and no classes')
        if self.kind != "regression" and self.metric == "mae":
            raise ValueError('only a regression task has the metric "mae"')
        return self

    @property
    def outputs(self) -> int:
        """Number of logits or values in the head of this task; 0 for kinds without a head yet."""
        return {"binary": 1, "categorical": len(self.classes), "regression": 1}.get(self.kind, 0)
