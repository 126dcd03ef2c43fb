"""Verbs of tasks: tasks, tasks redefine, tasks instructions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from amber.completion import TASK
from amber.terminal import plain, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import author, grouped, has_verb, maybe_author, text_of, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.people import NO_INSTRUCTIONS
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.toml_files import parse

__all__ = ["tasks_group"]

COLUMNS = ["name", "kind", "classes", "unit", "metric", "owner"]


@click.group("tasks", invoke_without_command=True)
@workspace
@click.pass_context
def tasks_group(context: click.Context, home: str, as_json: bool) -> None:
    """List tasks: kind, classes, metric and owner; `redefine` changes one, `instructions` what people are told."""
    if has_verb(context):
        return
    with Catalog.open(home).read() as now:
        rows = [task.model_dump(mode="json") for task in now.tasks().values()]
    show(rows, as_json, lambda: table("Tasks", COLUMNS, [[plain(row[name]) for name in COLUMNS] for row in rows]))


@dataclass(frozen=True, kw_only=True)
class NewDefinition:
    """What `tasks redefine` changes; None and empty leave a field unchanged."""

    classes: tuple[str, ...]
    became: tuple[str, ...]
    metric: str | None
    decide: tuple[str, ...]
    owner: str | None
    tolerance: float | None
    applies: str | None
    sided: bool | None
    attribute: tuple[str, ...]
    gap: float | None

    def task(self, old: Task) -> Task:
        """The new definition; BadInput names the field that breaks a rule."""
        fields = {
            "classes": tuple(_classes(self.classes, old)) or None, "metric": self.metric,
            "decide": _decide(self.decide), "owner": self.owner, "tolerance": self.tolerance, "applies": self.applies,
            "sided": self.sided, "attributes": _attributes(self.attribute, old),
        }  # fmt: skip
        if self.gap is not None:
            fields |= {"inputs": 2 if self.gap else 1, "gap": self.gap}
        if fields["classes"] and not old.classes:
            raise BadInput(f"task {old.name}: is a {old.kind} task, which has no classes; leave them out")
        changed = {name: value for name, value in fields.items() if value is not None}
        return parse(Task, {**old.model_dump(), **changed}, where=f"task {old.name}")

    def moved(self) -> dict[str, str | None]:
        """The new class of each old one; None where its labels become unknown."""
        wrong = [pair for pair in self.became if "=" not in pair]
        if wrong:
            raise BadInput(f"--became {wrong[0]!r}: must be OLD=NEW, or OLD= for unknown; correct it")
        return {old: new or None for old, _, new in (pair.partition("=") for pair in self.became)}


def _classes(words: tuple[str, ...], old: Task) -> Iterator[str]:
    """Class names from arguments; one with commas is a list, unless it is a class of the task."""
    for word in words:
        if word in old.classes or "," not in word:
            yield word
            continue
        names = [name.strip() for name in word.split(",")]
        if not all(names):
            raise BadInput(f"classes {word!r}: an empty name between commas; write red,yellow,green")
        yield from names


def _attributes(given: tuple[str, ...], old: Task) -> dict[str, Any] | None:
    """The attributes of boxes with those of the command line changed, added or, without a value, removed."""
    if not given:
        return None
    found: dict[str, Any] = dict(old.attributes)
    for pair in given:
        name, equals, says = pair.partition("=")
        if not equals:
            raise BadInput(f"--attribute {pair!r}: must be NAME=CLASS,CLASS, NAME=UNIT, or NAME= for none; correct it")
        words = [word.strip() for word in says.split(",")]
        found[name] = words if len(words) > 1 else says
    return {name: says for name, says in found.items() if says}


def _decide(rules: tuple[str, ...]) -> str | dict[str, float] | None:
    """The `decide` of a task from the options of the command line; None without any, "" for the default."""
    if len(rules) == 1 and "=" not in rules[0]:
        return "" if rules[0] == "default" else rules[0]
    try:
        pairs = {name: float(threshold) for name, _, threshold in (rule.rpartition("=") for rule in rules)}
    except ValueError:
        raise BadInput(f"--decide {' '.join(rules)}: must be one rule, or CLASS=THRESHOLD each; correct it") from None
    return pairs or None


new_definition = grouped(
    "new", NewDefinition,
    click.argument("classes", nargs=-1),
    click.option(
        "--became", multiple=True, metavar="OLD=NEW",
        help="New class for labels of the class OLD; an empty NEW makes them unknown.",
    ),
    click.option("--metric", help="Figure by which the task is judged."),
    click.option(
        "--decide", multiple=True, metavar="RULE",
        help="How probabilities become a class: likeliest, balanced, CLASS=THRESHOLD (repeatable) or default.",
    ),
    click.option("--owner", help="Owner of the task."),
    click.option("--tolerance", type=float, help="Numbers of several people agree within this."),
    click.option(
        "--applies", metavar="PREDICATE",
        help="Where the task applies, by attributes and other tasks' labels; '' is everywhere.",
    ),
    click.option(
        "--sided/--not-sided", default=None,
        help="Whether labels depend on left and right; no image with a label of such a task is mirrored in training.",
    ),
    click.option(
        "--attribute", multiple=True, metavar="NAME=CLASS,CLASS",
        help="Attribute of each box: its classes, or NAME=UNIT for a number; an empty value removes it. Repeatable.",
    ),
    click.option("--gap", type=float, help="Read the frame before too, at most so many seconds older; 0: one frame."),
)  # fmt: skip


@tasks_group.command("redefine")
@click.argument("name", type=TASK)
@new_definition
@author
@token_option
@workspace
def redefine_task(name: str, new: NewDefinition, author: str, token: str, home: str, as_json: bool) -> None:
    """Give the task NAME the classes CLASSES, separated by spaces or commas (default: unchanged), from now on.

    Labels and slices keep their class. For a class that is not among CLASSES, --became names the new one. Older commits
    are unchanged. Where the owner has members (`amber owners`), only they change owner, classes and metric.
    """
    moved, catalog = new.moved(), Catalog.open(home)
    by = identity(catalog.home, token)
    with catalog.commit(author=author, message=f"redefine {name}") as change:
        task = new.task(change.now.task(name))
        change.redefine_task(task, moved, by=by)
    show(task.model_dump(mode="json"), as_json, lambda: f"task {name}: {plain(task.classes) or task.unit}")


@tasks_group.command("instructions")
@click.argument("name", type=TASK)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@maybe_author
@token_option
@workspace
def instructions_command(name: str, file: Path | None, author: str, token: str, home: str, as_json: bool) -> None:
    """Set what people are told about the task NAME to the text in FILE, or without FILE show it.

    Each text has a version, which is kept with every label that people give under it: `instructions.NAME < 2` is the
    slice of those given under an older one. The next push sends unanswered items again with the new text.

    Example: amber tasks instructions light_color light.md
    """
    catalog = Catalog.open(home)
    if file is None:
        with catalog.read() as now:
            found = now.people.instructions().get(now.task(name).name, NO_INSTRUCTIONS)
    else:
        text, by = text_of(file), identity(catalog.home, token)
        with catalog.commit(author=author, message=f"instructions of {name}") as change:
            found = change.people.set_instructions(name, text, by=by)
    told = found.text if file is None else f"from the next `amber label push` on; slices: instructions.{name}"
    show({"task": name, **vars(found)}, as_json, lambda: f"{name}: version {found.version}\n{told}".rstrip())
