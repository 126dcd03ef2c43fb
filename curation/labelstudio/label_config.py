"""Label configs: the Label Studio page on which people answer for one or more tasks.

Every answer is explicit. A class, "none of these", "there is none", "does not apply" and "can't tell" are each a
choice, so a page without an answer gives no label: unknown is never a negative."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final
from xml.etree.ElementTree import Element, ParseError, SubElement, canonicalize, tostring

from curation.catalog.tasks import Task
from curation.errors import BadInput

__all__ = [
    "ASSIGNED",
    "BEFORE",
    "BOXED",
    "EMPTY",
    "FLAGS",
    "IMAGE",
    "INAPPLICABLE",
    "KEY",
    "MODEL",
    "NONE",
    "UNSURE",
    "LabelConfig",
    "attribute_of",
    "card_sections",
    "same_config",
    "state_of",
]

UNSURE: Final = "can't tell"
INAPPLICABLE: Final = "does not apply"
"""A choice of the tasks that declare to which samples they apply."""
NONE: Final = "none of these"
BOXED: Final = "all are boxed"
EMPTY: Final = "there is none"
FLAGS: Final = {"true": "yes", "false": "no"}
"""The choices shown for the classes of a binary task."""

IMAGE: Final = "image"
"""The field of an item's data that holds the image URL; also the name of the image tag."""
BEFORE: Final = "before"
"""The field of an item's data that shows the frame before, as HTML, where a task reads two frames; also the name of its
tag."""
KEY: Final = "amber"
"""The field of an item's data that holds our key."""

ASSIGNED: Final = "assigned"
"""The field of an item's data that names the people who are asked, each in angle brackets; "" for everybody."""

MODEL: Final = "model_"
"""The prefix of the fields of an item's data that hold the model's view, before the name of the task."""

VIEW_STYLE: Final = "font-size: 14px; font-weight: normal"
"""The model's view is smaller than the question."""

COLOURS: Final = ("#d1495b", "#00798c", "#edae49", "#30638e", "#7a9e7e", "#9b5de5", "#f15bb5", "#f3722c")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """The labelling page for `tasks`; `notes` (by task) adds to the description of a task.

    >>> from curation.catalog.tasks import Task
    >>> page = LabelConfig(tasks=(Task(name="car", kind="binary", owner="ada", description="Is a car visible?"),))
    >>> print(page.instructions)
    car: Is a car visible?
    <BLANKLINE>
    Say "can't tell" rather than guess.
    """

    tasks: tuple[Task, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for task in self.tasks:
            ours = {UNSURE, NONE, *_inapplicable(task), *(FLAGS.values() if task.kind == "binary" else ())}
            taken = sorted(ours.intersection(task.classes))
            if taken:
                raise BadInput(f"task {task.name}: the page uses {taken[0]!r} as a choice; rename that class")

    @cached_property
    def xml(self) -> str:
        """The labelling config as XML: the image, and below it a question for each task.

        The frame before stands beside the image, where a task reads two frames. The model's view of a task, a field of
        the item's data, is shown as text above the choices.
        """
        view = Element("View")
        for task in self.tasks:
            if task.kind == "detection":
                rectangles = SubElement(view, "RectangleLabels", name=task.name, toName=IMAGE)
                for number, name in enumerate(task.classes):
                    colour = COLOURS[number % len(COLOURS)]
                    SubElement(rectangles, "Label", value=name, background=colour)
        place = _beside_frame_before(view) if any(task.inputs == 2 for task in self.tasks) else view
        SubElement(place, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true", zoomControl="true")
        for task in self.tasks:
            SubElement(view, "Header", value=_heading(task), size="5")
            SubElement(view, "Header", value=f"${MODEL}{task.name}", size="6", style=VIEW_STYLE)
            _add_question(view, task)
        return tostring(view, encoding="unicode")

    @property
    def instructions(self) -> str:
        """The instructions for annotators: the description and notes of each task."""
        parts = [
            "\n".join(filter(None, [": ".join(filter(None, [task.name, task.description])), self.notes.get(task.name)]))
            for task in self.tasks
        ]
        return "\n\n".join([*parts, f'Say "{UNSURE}" rather than guess.'])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(task.name for task in self.tasks)

    @property
    def undescribed(self) -> tuple[str, ...]:
        """The tasks that annotators know only by name: they have neither a description nor notes."""
        return tuple(task.name for task in self.tasks if not (task.description or self.notes.get(task.name)))

    @property
    def hash(self) -> str:
        """Equal pages have equal hashes."""
        return hashlib.sha256(f"{self.xml}\n{self.instructions}".encode()).hexdigest()[:12]


def state_of(task: Task) -> str:
    """The name of the choices tag that holds "can't tell" and "does not apply" for a task whose value has a tag of
    another type."""
    return f"{task.name}-state"


def attribute_of(task: Task, attribute: str) -> str:
    """The name of the tag that takes an attribute of the selected box."""
    return f"{task.name}-{attribute}"


def same_config(one: str, other: str) -> bool:
    """Whether two labelling configs are the same XML, apart from white space and notation."""
    try:
        return canonicalize(one, strip_text=True) == canonicalize(other, strip_text=True)
    except ParseError:
        return False


def card_sections(card: str) -> dict[str, str]:
    """The sections of a data set card (Markdown) by heading.

    >>> card_sections("# Lights\\n\\n## light_color\\nSay which lamp is lit.\\n")
    {'Lights': '', 'light_color': 'Say which lamp is lit.'}
    """
    parts = re.split(r"^#+ +(.+?) *$", card, flags=re.MULTILINE)
    return {name.strip("`"): text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _heading(task: Task) -> str:
    unit = f" ({task.unit})" if task.unit else ""
    return f"{task.name}{unit}: {task.description}" if task.description else f"{task.name}{unit}"


def _beside_frame_before(view: Element) -> Element:
    """Append the frame before, and a place for the image to the right of it, which is returned."""
    row = SubElement(view, "View", style="display: flex; gap: 12px")
    left, right = (SubElement(row, "View", style="flex: 1; min-width: 0") for _ in range(2))
    for place, title in ((left, "The frame before"), (right, "The image")):
        SubElement(place, "Header", value=title, size="6", style=VIEW_STYLE)
    SubElement(left, "HyperText", name=BEFORE, value=f"${BEFORE}", inline="true")
    return right


def _add_question(view: Element, task: Task) -> None:
    """Append the tags that take the answer for a task."""
    match task.kind:
        case "regression":
            SubElement(view, "Number", name=task.name, toName=IMAGE)
            _choices(view, state_of(task), [*_inapplicable(task), UNSURE], required=False)
        case "detection":
            _choices(view, state_of(task), [BOXED, EMPTY, *_inapplicable(task), UNSURE])
            for name, says in task.attributes:
                _add_attribute(view, task, name, says)
        case "multilabel":
            _choices(view, task.name, [*task.classes, NONE, *_inapplicable(task), UNSURE], choice="multiple")
        case "binary":
            _choices(view, task.name, [*FLAGS.values(), *_inapplicable(task), UNSURE])
        case _:
            _choices(view, task.name, [*task.classes, *_inapplicable(task), UNSURE])


def _add_attribute(view: Element, task: Task, name: str, says: str | tuple[str, ...]) -> None:
    """Append the question about each box, shown while the box is selected; no answer leaves the attribute unknown."""
    unit = f" ({says})" if isinstance(says, str) else ""
    SubElement(view, "Header", value=f"{task.name}: {name}{unit} of the selected box", size="6")
    where = {"name": attribute_of(task, name), "toName": IMAGE, "perRegion": "true", "whenTagName": task.name}
    if isinstance(says, str):
        SubElement(view, "Number", where)
        return
    tag = SubElement(view, "Choices", where | {"choice": "single", "showInline": "true"})
    for value in says:
        SubElement(tag, "Choice", value=value)


def _inapplicable(task: Task) -> tuple[str, ...]:
    return (INAPPLICABLE,) if task.applies else ()


def _choices(view: Element, name: str, values: list[str], *, choice: str = "single", required: bool = True) -> None:
    attributes = {"name": name, "toName": IMAGE, "choice": choice, "showInline": "true"}
    if required:
        attributes |= {"required": "true", "requiredMessage": f"{name}: choose one, or {UNSURE}"}
    tag = SubElement(view, "Choices", attributes)
    for value in values:
        SubElement(tag, "Choice", value=value)
