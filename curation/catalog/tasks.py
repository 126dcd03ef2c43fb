"""Learning tasks as their owners declare them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

__all__ = ["Decide", "Kind", "Metric", "Name", "Task"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name that is safe in SQL, in a file name and in a URL."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow: label configs and VOC files could not hold such a class."""

Kind = Literal["binary", "categorical", "multilabel", "regression", "detection"]
Metric = Literal["accuracy", "balanced_accuracy", "mae"]

DECISIONS = ("likeliest", "balanced")


def _decide(value: object) -> object:
    """Thresholds as pairs, which can be hashed; ValueError for what is no decision rule."""
    if isinstance(value, tuple):
        value = dict(value)
    if value in ("", *DECISIONS):
        return value
    thresholds = value if isinstance(value, Mapping) else {}
    if not thresholds or not all(isinstance(part, float) and 0 < part < 1 for part in thresholds.values()):
        raise ValueError('must be "likeliest", "balanced" or {class = threshold} with thresholds between 0 and 1')
    return tuple(sorted(thresholds.items()))


Decide = Annotated[
    Literal["", "likeliest", "balanced"] | tuple[tuple[str, float], ...],
    BeforeValidator(_decide),
    PlainSerializer(lambda value: dict(value) if isinstance(value, tuple) else value),
]
"""How class probabilities become a prediction; thresholds are written `{class = threshold}` and kept as pairs."""


def _attributes(value: object) -> object:
    """Attributes as pairs, which can be hashed; ValueError for what declares none."""
    if isinstance(value, tuple):
        value = dict(value)
    if not isinstance(value, Mapping):
        raise ValueError('must be a table such as {colour = ["red", "green"], height = "m"}')
    for name, says in value.items():
        if not _NAME.fullmatch(str(name)) or name == "state":
            raise ValueError(f"{name!r} is no name of an attribute; take lower-case letters, digits and _, not state")
        if isinstance(says, str):
            if not says:
                raise ValueError(f"{name} has an empty unit; give one, or list its classes")
        elif not isinstance(says, list | tuple) or len(set(says)) < max(2, len(says)):
            raise ValueError(f"{name} = {says!r} must be the unit of a number, or two or more classes that differ")
        elif wrong := next((each for each in says if not isinstance(each, str) or _NO_XML.search(each)), None):
            raise ValueError(f"{name}: {wrong!r} is no class; write it as text that XML allows")
    return tuple((name, says if isinstance(says, str) else tuple(says)) for name, says in value.items())


Attributes = Annotated[
    tuple[tuple[str, str | tuple[str, ...]], ...],
    BeforeValidator(_attributes),
    PlainSerializer(lambda value: {name: says if isinstance(says, str) else list(says) for name, says in value}),
]
"""What is known of each box beside its class: names with their classes, or with the unit of a number."""

_ADDED: dict[str, object] = {"attributes": {}, "decide": "", "applies": "", "sided": False, "inputs": 1, "gap": 0.0}
"""Fields of after the first catalogs, with the values that say nothing."""


class Task(BaseModel):
    """One learning task: what is asked about an image, and the metric of its answers.

    Class codes are indices into `classes`. A binary task has the classes `false` and `true`; a regression task has a
    `unit` and no classes; a label of a multilabel task holds any number of its classes, including none; a detection
    task names the classes of its boxes.

    `decide` says how class probabilities become a prediction. "likeliest": the class with the highest natural
    probability. "balanced": the likeliest if all classes were equally common. `{class = threshold}`: a named class is
    predicted where its natural probability is at least its threshold, else the likeliest class without a threshold;
    of a multilabel task each class is predicted from its threshold on, by default 0.5.
    Empty, the default: "balanced" for the metric `balanced_accuracy`, else "likeliest".

    A task with `applies` is asked only of samples for which the predicate can hold: by labels where they are known, by
    predictions otherwise. Where it does not hold, a label may be "inapplicable": never in a loss, never a negative.

    The boxes of a detection task may have `attributes`: of each box one of the classes that are listed, or a number in
    a unit. A box without one is unknown there: nobody said that it is not. Attributes that are not declared are kept
    as they are.

    A task with `inputs` 2 is answered from an image and the frame before it: the last earlier one of its group, by
    `captured_at`, if it is at most `gap` seconds older. Where there is none, the network reads zeros and is told so.

    >>> Task(name="night", kind="binary", owner="ada").classes
    ('false', 'true')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="name in the catalog, unique")
    kind: Kind = Field(description="what a label is: a flag, one class, several classes, a number, or boxes")
    classes: tuple[str, ...] = Field(default=(), description="names of the classes; not of binary and regression tasks")
    unit: str = Field(default="", description="unit of a regression task, such as km/h")
    metric: Metric = Field(default="accuracy", description='figure by which the task is judged; "mae" for regression')
    decide: Decide = Field(default="", description="how probabilities become a class; empty: by the metric")
    owner: str = Field(min_length=1, description="who decides about the task")
    tolerance: float = Field(default=0.0, ge=0, description="numbers of several people agree within this")
    description: str = Field(default="", description="question for the people who label")
    applies: str = Field(
        default="", description="slice predicate over attributes and other tasks' labels: where the task applies"
    )
    sided: bool = Field(
        default=False, description="labels depend on left and right: no image is mirrored while it is learned"
    )
    attributes: Attributes = Field(
        default=(), description='of each box: classes, or the unit of a number, such as {colour = ["red", "green"]}'
    )
    inputs: Literal[1, 2] = Field(
        default=1, description="2: the network also reads the frame before, of the same group"
    )
    gap: float = Field(
        default=0.0, ge=0, le=86_400, description="with inputs = 2: how many seconds before, by captured_at, at most"
    )

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
        if self.attributes and self.kind != "detection":
            raise ValueError(f"attributes: are of boxes, and a {self.kind} task has none; leave them out")
        if (self.inputs == 2) != (self.gap > 0):
            raise ValueError("inputs = 2 needs a gap in seconds above 0, and only that has one; state both or neither")
        self._check_decide()
        return self

    def _check_decide(self) -> None:
        if self.kind == "multilabel" and self.decide in DECISIONS:
            raise ValueError("decide: each class of a multilabel task is decided alone; write {class = threshold}")
        if self.decide and self.kind not in ("binary", "categorical", "multilabel"):
            raise ValueError(f"decide: a {self.kind} task does not decide between classes; leave it out")
        named = [name for name, _ in self.decide] if isinstance(self.decide, tuple) else []
        if strange := sorted(set(named) - set(self.classes)):
            raise ValueError(f"decide: {strange[0]!r} is no class of it; the classes are {', '.join(self.classes)}")
        if named and len(named) == len(self.classes) and self.kind != "multilabel":
            raise ValueError("decide: leave one class without a threshold: it is predicted where no threshold is met")

    @model_serializer(mode="wrap")
    def _without_empty_additions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is empty of later fields: definitions of before these fields keep their text and digests."""
        data: dict[str, Any] = handler(self)
        return {name: value for name, value in data.items() if value != _ADDED.get(name, ...)}

    @property
    def decision(self) -> Decide:
        """How class probabilities become a prediction, with the default filled in."""
        return self.decide or ("balanced" if self.metric == "balanced_accuracy" else "likeliest")

    @property
    def outputs(self) -> int:
        """Number of logits or values in the linear head of this task; 0 for kinds without one, such as boxes."""
        if self.kind == "detection":
            return 0
        return len(self.classes) if self.kind in ("categorical", "multilabel") else 1

    @property
    def single(self) -> bool:
        """Whether a head answers with one class or one number for an image."""
        return self.kind in ("binary", "categorical", "regression")

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The columns of `Snapshot.labels` that hold the value of a label of this task."""
        by_kind = {"regression": ("number",), "multilabel": ("codes", "looked"), "detection": ("boxes",)}
        return by_kind.get(self.kind, ("code",))
