"""Learning tasks as their owners declare them."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

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

    A task with `applies` is asked only of samples for which the predicate can hold: by labels where they are known, by
    predictions otherwise. Where it does not hold, a label may be "inapplicable": never in a loss, never a negative.

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
    applies: str = Field(
        default="", description="slice predicate over attributes and other tasks' labels: where the task applies"
    )

    @model_serializer(mode="wrap")
    def _without_empty_applies(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an empty `applies`: the definitions of older commits, and their digests, do not have it."""
        data: dict[str, Any] = serialise(self)
        return data if self.applies else {name: value for name, value in data.items() if name != "applies"}

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
