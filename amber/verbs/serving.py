"""Verbs of the service."""

import ipaddress
import logging
import sys
from pathlib import Path

import click

from amber.service.tokens import SCOPES, Tokens
from amber.terminal import show, table
from amber.verbs.options import has_verb, workspace
from curation.catalog.catalog import Catalog
from curation.errors import BadInput

__all__ = ["serve_group"]

PATIENCE = 10
"""Seconds in which requests under way may end when the service is stopped."""


@click.group("serve", invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8460, show_default=True, help="Port to listen on.")
@click.option("--name", "names", multiple=True, help="Another host name by which it is called; may be given again.")
@workspace
@click.pass_context
def serve_group(context: click.Context, host: str, port: int, names: tuple[str, ...], home: str, as_json: bool) -> None:
    """Serve images under signed URLs, and what the catalog knows as JSON, until it is stopped.

    Anything but 127.0.0.1 belongs behind a reverse proxy that speaks TLS.
    """
    if has_verb(context):
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise BadInput(f"host {host!r}: must be an address such as 127.0.0.1; put its names into --name") from None
    import uvicorn

    from amber.service.app import make_app

    app = make_app(Path(home), hosts=("127.0.0.1", "localhost", host, *names))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    show({"url": f"http://{host}:{port}"}, as_json, lambda: f"http://{host}:{port}")
    sys.stdout.flush()
    uvicorn.run(
        app, host=host, port=port, http="httptools", access_log=False, log_level="warning", server_header=False,
        timeout_graceful_shutdown=PATIENCE,
    )  # fmt: skip


@serve_group.group("tokens", invoke_without_command=True)
@workspace
@click.pass_context
def tokens_group(context: click.Context, home: str, as_json: bool) -> None:
    """List the service's tokens; their secrets are not kept."""
    if has_verb(context):
        return
    rows = [
        {"name": token.name, "scope": token.scope, "made": token.made, "expires": token.expires}
        for token in Tokens(Catalog.open(home).home).all().values()
    ]
    show(rows, as_json, lambda: table("Tokens", ["name", "scope", "made", "expires"], [list(r.values()) for r in rows]))


@tokens_group.command("add")
@click.argument("name")
@click.argument("scope", type=click.Choice(SCOPES))
@click.option("--expires", type=click.DateTime(), help="When it ends, in UTC; default: never.")
@workspace
def add_token(name: str, scope: str, expires: object, home: str, as_json: bool) -> None:
    """Make a token NAME that may read, label, or administer; its secret is shown this once."""
    until = expires.isoformat() if hasattr(expires, "isoformat") else ""
    secret = Tokens(Catalog.open(home).home).add(name, scope, expires=until)  # type: ignore[arg-type]
    show({"name": name, "scope": scope, "secret": secret}, as_json, lambda: secret)


@tokens_group.command("remove")
@click.argument("name")
@workspace
def remove_token(name: str, home: str, as_json: bool) -> None:
    """End the token NAME."""
    Tokens(Catalog.open(home).home).remove(name)
    show({"removed": name}, as_json, lambda: f"token {name} is gone")
