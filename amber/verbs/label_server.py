"""Options of verbs that call a Label Studio, and the connection to it."""

from dataclasses import dataclass
from pathlib import Path

import click

from amber.verbs.options import grouped
from curation.errors import BadInput
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.local_server import running

__all__ = ["ServerOptions", "connect", "server_options"]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Options that name a Label Studio."""

    url: str
    token: str
    any_version: bool

    def connect(self, home: Path) -> LabelStudioClient:
        """The named Label Studio, or by default the workspace's own."""
        return connect(home, self.url, self.token, any_version=self.any_version)


server_options = grouped(
    "server", ServerOptions,
        click.option("--url", default="", envvar="LABEL_STUDIO_URL",
                     help="Label Studio (LABEL_STUDIO_URL); default: what `amber label start` started."),
        click.option("--token", default="", envvar="LABEL_STUDIO_API_KEY",
                     help="A token from its account page (LABEL_STUDIO_API_KEY)."),
        click.option("--any-version", is_flag=True, help="Accept a version that Amber was not tested with."),
)  # fmt: skip


def connect(
    home: Path, url: str, token: str, *, any_version: bool = False, patience: float = 10.0
) -> LabelStudioClient:
    """The Label Studio at `url`, or by default the workspace's own."""
    if url:
        if not token:
            raise BadInput(f"{url}: needs a token; pass --token, or set LABEL_STUDIO_API_KEY")
        return LabelStudioClient(url, token, any_version=any_version, patience=patience)
    local = running(home)
    if local is None:
        raise BadInput(
            f"{home}: no Label Studio is running for it; start one with `amber label start`, or pass --url and --token"
        )
    return LabelStudioClient(local.url, local.token, name="local", patience=patience)
