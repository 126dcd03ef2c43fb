"""What a route depends on: the workspace of the app, and a token of the right scope."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request

from amber.service.images.known_images import KnownImages
from amber.service.images.signed_urls import Signer
from amber.service.tokens import Scope, Token, Tokens
from curation.catalog.catalog import Catalog

__all__ = [
    "Admin", "AnyLabeler", "Labeler", "Lead", "Owner", "ReadOrLabel", "Reader", "Served", "Workspace", "batch_of",
    "is_lead",
]  # fmt: skip

IMAGE_SECONDS = 3_600
"""Seconds for which the image URLs in the JSON API are valid."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The workspace that an app serves; kept in `app.state.workspace`."""

    catalog: Catalog
    signer: Signer
    tokens: Tokens
    images: KnownImages = field(default_factory=KnownImages)

    def image_path(self, sample: Mapping[str, Any]) -> str:
        """The signed path of the image of `sample`, a row of `Snapshot.samples`."""
        return f"/images/{self.signer.sign(sample['location'], seconds=IMAGE_SECONDS)}"


def batch_of(token: Token, batch: str) -> str:
    """The catalog's batch id for the `batch` of a client: each token has a namespace of its own, apart from that of
    Amber's own steps, so no client can take the id of a loop's step or of another client."""
    return f"service:{quote(token.name, safe='')}:{batch}"


async def served_workspace(request: Request) -> Workspace:
    """The workspace of the app that answers `request`."""
    return cast(Workspace, request.app.state.workspace)


def token_of_scope(*scopes: Scope) -> Callable[[Request], Token]:
    """A dependency that returns the caller's token: 401 without a valid one, 403 when its scope is not in `scopes`.

    The token comes as Bearer, or as the password of Basic.
    """

    def check(request: Request) -> Token:
        token = request.app.state.workspace.tokens.holder(_secret(request.headers.get("authorization", "")))
        if token is None:
            challenge = {"WWW-Authenticate": 'Basic realm="amber", charset="UTF-8"'}
            raise HTTPException(
                401, "token: missing or expired; create one with `amber serve tokens add` and send it as Bearer",
                challenge,
            )  # fmt: skip
        request.state.token = token.name
        if token.scope not in scopes:
            raise HTTPException(
                403, f"token scope {token.scope}: must be {' or '.join(scopes)} here; use a token of that scope"
            )
        return cast(Token, token)

    return check


def is_lead(workspace: Workspace, token: Token) -> bool:
    """Whether a token leads: its scope is admin, or its name is one that has settled disputes in the catalog."""
    if token.scope in ("read", "admin"):
        return token.scope == "admin"
    with workspace.catalog.read() as now:
        return token.name in now.people.leads()


def _secret(header: str) -> str:
    kind, _, rest = header.partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[2] if kind.lower() == "basic" else ""
    except ValueError:
        return ""


Served = Annotated[Workspace, Depends(served_workspace)]
Reader = Annotated[Token, Depends(token_of_scope("read", "owner"))]
Labeler = Annotated[Token, Depends(token_of_scope("label", "owner"))]
AnyLabeler = Annotated[Token, Depends(token_of_scope("label", "owner", "admin"))]
ReadOrLabel = Annotated[Token, Depends(token_of_scope("read", "label", "owner"))]
Owner = Annotated[Token, Depends(token_of_scope("owner"))]
Admin = Annotated[Token, Depends(token_of_scope("admin"))]


def leading(token: AnyLabeler, request: Request) -> Token:
    """A dependency that returns the token of a lead: 403 for any other."""
    if not is_lead(request.app.state.workspace, token):
        raise HTTPException(
            403, f"token {token.name}: its scope is {token.scope} and it is no lead of the catalog; use one of the "
            "scope admin, or of somebody who settles disputes",
        )  # fmt: skip
    return token


Lead = Annotated[Token, Depends(leading)]
