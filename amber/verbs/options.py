"""Options that several verbs share, and `grouped`, which hands a command its options as one object."""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from amber.completion import RUN
from curation.errors import BadInput
from curation.files.locks import in_use

__all__ = [
    "SEED",
    "against_option",
    "author",
    "grouped",
    "has_verb",
    "heads_option",
    "like_option",
    "maybe_author",
    "seeded",
    "size_option",
    "split_option",
    "text_of",
    "trigger_names",
    "triggers_option",
    "trunk_option",
    "using_files",
    "workspace",
]

SEED = click.IntRange(min=0)

Command = TypeVar("Command", bound=Callable[..., Any])


def workspace(command: Command) -> Command:
    """Add the options --home and --json, which every verb has."""
    home = click.option(
        "--home", default="./amber-home", envvar="AMBER_HOME", show_default=True, callback=_not_empty,
        help="Workspace folder (AMBER_HOME).",
    )  # fmt: skip
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return home(as_json(command))


def using_files(command: Command) -> Command:
    """Let nothing be pruned from the workspace while the command runs. Put it below `workspace`."""

    @wraps(command)
    def held(*arguments: Any, **values: Any) -> Any:
        with in_use(Path(values["home"])):
            return command(*arguments, **values)

    return cast(Command, held)


def grouped(name: str, group: type[Any], *options: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Any]:
    """Add `options` to a command, which gets their values as one `group` in the argument `name`.

    `group` is a dataclass with one field for each option.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Size:
    ...     height: int
    ...     width: int
    >>> @click.command()
    ... @grouped("size", Size, click.option("--height", default=8), click.option("--width", default=16))
    ... def area(size: Size) -> None:
    ...     click.echo(size.height * size.width)
    >>> area.main(["--height", "3"], standalone_mode=False)
    48
    """
    names = [field.name for field in fields(group)]

    def decorate(command: Callable[..., Any]) -> Any:
        @wraps(command)
        def with_group(*arguments: Any, **values: Any) -> Any:
            part = group(**{field: values.pop(field) for field in names})
            return command(*arguments, **values, **{name: part})

        decorated: Any = with_group
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _not_empty(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse an empty home, which would mean the current folder, or an empty author, before any work is done."""
    if not value.strip() and not context.resilient_parsing:  # a shell that completes calls nothing
        name = str(parameter.name)
        raise BadInput(f"{name} {value!r}: must not be empty; pass --{name} or set AMBER_{name.upper()}")
    return value


author = click.option(
    "--author", default="", envvar="AMBER_AUTHOR", callback=_not_empty, help="Author of the commit (AMBER_AUTHOR)."
)
maybe_author = click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the commit (AMBER_AUTHOR).")
"""For a verb that commits in some of its forms."""
seeded = click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of all random choices.")
like_option = click.option(
    "--like", default="", metavar="KEY",
    help="A sample, or an image file, that shows what is wanted while no label of it is known.",
)  # fmt: skip
split_option = click.option(
    "--split", default="", type=click.Choice(["", "train", "validation", "test"]), metavar="[train|validation|test]",
    help="Images of this split alone.",
)  # fmt: skip
trunk_option = click.option(
    "--trunk", default="efficientnet_lite0", show_default=True, type=click.Choice(["efficientnet_lite0", "small"]),
    help="Pretrained and frozen, or a small one trained from scratch.",
)  # fmt: skip
size_option = click.option(
    "--size", type=(int, int), metavar="HEIGHT WIDTH",
    help="Height and width in pixels; default: the median shape of the images (trunk small: 80 128).",
)  # fmt: skip
heads_option = click.option(
    "--heads", type=click.Choice(["auto", "exact", "shared", "drawn"]),
    help="How heads learn on a frozen trunk: each solved exactly, all on one hidden layer, the better of the two by "
    "cross-validation (auto, the default), or by the plan's draws.",
)  # fmt: skip


against_option = click.option(
    "--against", default="", metavar="RUN", type=RUN, help="The run that triggers compare with (`disagree`)."
)
triggers_option = click.option(
    "--triggers", default="", metavar="NAME[,NAME]",
    help="Triggers of the run that share the budget with mining, by what each found before.",
)  # fmt: skip


def trigger_names(triggers: str, against: str) -> tuple[str, ...]:
    """The names in `--triggers`; BadInput where it names none, or `--against` stands alone."""
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in triggers.split(",")))))
    if triggers and not names:
        raise BadInput(f"--triggers {triggers!r}: names no trigger; name one, or leave --triggers out")
    if against and not names:
        raise BadInput(f"--against {against}: is read by triggers alone; name some with --triggers")
    return names


def text_of(file: Path) -> str:
    """The text of a file; BadInput where it is missing or no UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise BadInput(f"{file}: cannot be read ({why}); pass a text file") from None


def has_verb(context: click.Context) -> bool:
    """Whether a subcommand follows the group; then the options belong behind it."""
    verb = context.invoked_subcommand
    if verb and any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
        raise click.UsageError(f"Options go behind '{verb}'", context)
    return bool(verb)
