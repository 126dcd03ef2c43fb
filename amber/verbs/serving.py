"""Verbs of the service: serve, serve tokens."""

import ipaddress
import logging
import sys
import warnings
from pathlib import Path

import click

from amber.extras import need_extra
from amber.service.tokens import SCOPES, Tokens
from amber.terminal import show, table
from amber.verbs.options import has_verb, workspace
from curation.catalog.catalog import Catalog
from curation.errors import BadInput

__all__ = ["serve_group"]

PATIENCE = 10
"""Seconds that running requests get to finish when the service stops."""


@click.group("serve", invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8460, show_default=True, help="Port to listen on.")
@click.option("--name", "names", multiple=True, help="Another host name under which clients reach it; may be repeated.")
@click.option(
    "--user-header",
    default="",
    metavar="NAME",
    help="Header by which a proxy names who has signed in there, as the name of a token; the proxy must take it away "
    "from what comes from outside. Default: no header is trusted.",
)
@workspace
@click.pass_context
def serve_group(
    context: click.Context, host: str, port: int, names: tuple[str, ...], user_header: str, home: str, as_json: bool
) -> None:
    """Serve the team's pages, images under signed URLs, and the catalog as a JSON API, until it is stopped.

    Sign in to the pages with a token: `amber serve tokens add NAME SCOPE` prints one. Any address but 127.0.0.1 needs a
    reverse proxy with TLS in front of it.
    """
    if has_verb(context):
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise BadInput(f"host {host!r}: must be an address such as 127.0.0.1; pass its names with --name") from None
    need_extra("service")
    import uvicorn
    from PIL import Image

    from amber.service.app import make_app
    from amber.service.connections import limited_protocol

    app = make_app(Path(home), hosts=("127.0.0.1", "localhost", host, *names), user_header=user_header)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # pictures.py has a limit of its own
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    show({"url": f"http://{host}:{port}"}, as_json, lambda: f"http://{host}:{port}")
    sys.stdout.flush()
    uvicorn.run(
        app, host=host, port=port, http=limited_protocol(app.state.metrics), access_log=False, log_level="warning",
        server_header=False, timeout_graceful_shutdown=PATIENCE,
    )  # fmt: skip


@serve_group.group("tokens", invoke_without_command=True)
@workspace
@click.pass_context
def tokens_group(context: click.Context, home: str, as_json: bool) -> None:
    """List the tokens of the service; their secrets are not stored."""
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
    """Create the token NAME, which may read, label, act for owners, or administer; its secret is shown only now."""
    until = expires.isoformat() if hasattr(expires, "isoformat") else ""
    secret = Tokens(Catalog.open(home).home).add(name, scope, expires=until)  # type: ignore[arg-type]
    show({"name": name, "scope": scope, "secret": secret}, as_json, lambda: secret)


@tokens_group.command("remove")
@click.argument("name")
@workspace
def remove_token(name: str, home: str, as_json: bool) -> None:
    """End the token NAME."""
    Tokens(Catalog.open(home).home).remove(name)
    show({"removed": name}, as_json, lambda: f"token {name} is removed")
