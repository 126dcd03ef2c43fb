"""Who acts on the command line: the user of the operating system, or the holder of a token of the service."""

from pathlib import Path

import click

from curation.catalog.ownership import Identity, os_user
from curation.errors import BadInput

__all__ = ["identity", "token_option"]

token_option = click.option(
    "--token", default="", envvar="AMBER_TOKEN", help="Act as the holder of this token (AMBER_TOKEN); default: you."
)


def identity(home: Path, token: str) -> Identity:
    """The holder of `token`, or without one the operating system's user; BadInput for a token that is not valid."""
    if not token:
        return os_user()
    from amber.service.tokens import Tokens

    found = Tokens(home).holder(token)
    if found is None:
        raise BadInput("--token: missing or expired here; create one with `amber serve tokens add`")
    return Identity(name=found.name, via="token")
