"""One task in a plan: what its draws and its loss are made of."""

from dataclasses import dataclass
from typing import Any, Self

from curation.catalog.tasks import Task
from samplers.plan.box_attributes import BoxAttribute

__all__ = ["PlanTask"]


@dataclass(frozen=True, kw_only=True)
class PlanTask:
    """One task in a plan: its definition, its share and importance, and the constants of its loss.

    `share` is in units of 2^-22. `constant_loss` divides the task's loss; `mean` and `deviation` standardise a
    regression target; `labelled` is the number of labels per class (mined labels count their weight); `class_factor` is
    c(y), None if the rates do not factor. `attributes` of boxes are those that are learned.
    """

    task: Task
    owner: str
    share: int
    importance: float
    rule: str
    constant_loss: float
    mean: float
    deviation: float
    labelled: tuple[float, ...]
    class_factor: tuple[float, ...] | None
    strata: tuple[str, ...]
    attributes: tuple[BoxAttribute, ...] = ()

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @classmethod
    def of_words(cls, part: dict[str, Any]) -> Self:
        """The task as it stands in the header of a plan."""
        factor, attributes = part["class_factor"], tuple(map(BoxAttribute.of_words, part.get("attributes", ())))
        typed = {"task": Task.model_validate(part["task"]), "strata": tuple(part["strata"]), "attributes": attributes}
        counts = {"labelled": tuple(part["labelled"]), "class_factor": None if factor is None else tuple(factor)}
        return cls(**{**part, **typed, **counts})
