"""Options that the verbs share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from curation.errors import BadInput

__all__ = ["SEED", "author", "has_verb", "heads_option", "seeded", "size_option", "trunk_option", "workspace"]

SEED = click.IntRange(min=0)

Command = TypeVar("Command", bound=Callable[..., Any])


def workspace(command: Command) -> Command:
    """Options that every verb has."""
    home = click.option(
        "--home", default="./amber-home", envvar="AMBER_HOME", show_default=True, callback=_named,
        help="Workspace folder (AMBER_HOME).",
    )  # fmt: skip
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return home(as_json(command))


def _named(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse an empty home, which would be the current folder, and an empty author, before any work is done."""
    if not value.strip():
        name = str(parameter.name)
        raise BadInput(f"{name} {value!r}: must not be empty; pass --{name} or set AMBER_{name.upper()}")
    return value


author = click.option(
    "--author", default="", envvar="AMBER_AUTHOR", callback=_named, help="Who commits (AMBER_AUTHOR)."
)
seeded = click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of whatever is drawn.")
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


def has_verb(context: click.Context) -> bool:
    """Whether a verb follows the group, which then takes the options itself."""
    verb = context.invoked_subcommand
    if verb and any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
        raise click.UsageError(f"Options go behind '{verb}'", context)
    return bool(verb)
