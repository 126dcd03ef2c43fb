"""Forms: the page on which people answer for some tasks at once, as Label Studio's labelling config.

Every answer is explicit. A class, "none of these", "there is none" and "can't tell" are each a choice, so that a page
on which nothing was said says nothing: unknown is never a negative.
"""

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
    "BOXED",
    "EMPTY",
    "FLAGS",
    "IMAGE",
    "KEY",
    "NONE",
    "UNSURE",
    "Form",
    "card_sections",
    "same_config",
    "state_of",
]

UNSURE: Final = "can't tell"
NONE: Final = "none of these"
BOXED: Final = "all are boxed"
EMPTY: Final = "there is none"
FLAGS: Final = {"true": "yes", "false": "no"}
"""What people read for the classes of a binary task."""

IMAGE: Final = "image"
"""The field of an item's data that holds the URL of the image; also the name of its tag."""
KEY: Final = "amber"
"""The field of an item's data that holds our key of it."""

COLOURS: Final = ("#d1495b", "#00798c", "#edae49", "#30638e", "#7a9e7e", "#9b5de5", "#f15bb5", "#f3722c")


@dataclass(frozen=True, kw_only=True)
class Form:
    """A page that asks for `tasks`; `notes` adds to what each task's description tells the annotator."""

    tasks: tuple[Task, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for task in self.tasks:
            ours = {UNSURE, NONE, *(FLAGS.values() if task.kind == "binary" else ())}
            taken = sorted(ours.intersection(task.classes))
            if taken:
                raise BadInput(f"task {task.name}: the class {taken[0]!r} is a word of the page; rename that class")

    @cached_property
    def config(self) -> str:
        """The labelling config, as XML: the image, and below it a question for each task."""
        view = Element("View")
        for task in self.tasks:
            if task.kind == "detection":
                rectangles = SubElement(view, "RectangleLabels", name=task.name, toName=IMAGE)
                for number, name in enumerate(task.classes):
                    colour = COLOURS[number % len(COLOURS)]
                    SubElement(rectangles, "Label", value=name, background=colour)
        SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true", zoomControl="true")
        for task in self.tasks:
            SubElement(view, "Header", value=_question(task), size="5")
            _ask(view, task)
        return tostring(view, encoding="unicode")

    @property
    def instructions(self) -> str:
        """What annotators read first: of each task its description and notes."""
        parts = [
            "\n".join(filter(None, [": ".join(filter(None, [task.name, task.description])), self.notes.get(task.name)]))
            for task in self.tasks
        ]
        return "\n\n".join([*parts, f'Say "{UNSURE}" rather than guess.'])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its tasks."""
        return tuple(task.name for task in self.tasks)

    @property
    def hash(self) -> str:
        """The same page has the same hash."""
        return hashlib.sha256(f"{self.config}\n{self.instructions}".encode()).hexdigest()[:12]


def state_of(task: Task) -> str:
    """The name of the tag on which people say that they cannot tell, where the value has a tag of another type."""
    return f"{task.name}-state"


def same_config(one: str, other: str) -> bool:
    """Whether two labelling configs ask the same, however they are written."""
    try:
        return canonicalize(one, strip_text=True) == canonicalize(other, strip_text=True)
    except ParseError:
        return False


def card_sections(card: str) -> dict[str, str]:
    """The sections of a data set's card (Markdown), by their headings: what stands under `## light_color`."""
    parts = re.split(r"^#+ +(.+?) *$", card, flags=re.MULTILINE)
    return {name.strip("`"): text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _question(task: Task) -> str:
    unit = f" ({task.unit})" if task.unit else ""
    return f"{task.name}{unit}: {task.description}" if task.description else f"{task.name}{unit}"


def _ask(view: Element, task: Task) -> None:
    """Append the tags on which people answer for a task."""
    match task.kind:
        case "regression":
            SubElement(view, "Number", name=task.name, toName=IMAGE)
            _choices(view, state_of(task), [UNSURE], required=False)
        case "detection":
            _choices(view, state_of(task), [BOXED, EMPTY, UNSURE])
        case "multilabel":
            _choices(view, task.name, [*task.classes, NONE, UNSURE], choice="multiple")
        case "binary":
            _choices(view, task.name, [*FLAGS.values(), UNSURE])
        case _:
            _choices(view, task.name, [*task.classes, UNSURE])


def _choices(view: Element, name: str, values: list[str], *, choice: str = "single", required: bool = True) -> None:
    said = {"name": name, "toName": IMAGE, "choice": choice, "showInline": "true"}
    if required:
        said |= {"required": "true", "requiredMessage": f"{name}: choose one, or {UNSURE}"}
    tag = SubElement(view, "Choices", said)
    for value in values:
        SubElement(tag, "Choice", value=value)
