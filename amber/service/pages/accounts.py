"""Who looks at a page: somebody who signed in with a token, in a sealed cookie, and what they may change.

The cookie holds the token's name, the beginning of its hash, when the session ends, and a random word. Scripts cannot
read it, other sites cannot send it, and it ends with its token. Every form carries a second word, sealed from the
cookie's random one: a page of another site knows neither. No form of another site is read, that for signing in
included, which has no session yet: `from_here` is a dependency of every page.
"""

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from amber.service.access import Workspace, is_lead
from amber.service.tokens import SCOPES, Scope, Token
from curation.catalog.ownership import Identity

__all__ = [
    "FIELD", "Account", "Labels", "Leads", "LeadsPeople", "Looks", "NotSignedIn", "Owns", "Sends", "begin_session",
    "end_session", "from_here", "looking",
]  # fmt: skip

COOKIE: Final = "amber_session"
SESSION: Final = "session"
FORM: Final = "form"
"""The purposes of the two sealed words."""

SECONDS: Final = 7 * 86_400
"""Seconds after which one signs in again."""

FIELD: Final = "form_word"
"""The name of the hidden field, and (as `X-Form-Word`) of the header of requests by htmx."""


class NotSignedIn(Exception):
    """A request for a page without a session that is valid."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The token that somebody signed in with, and the word that their forms carry."""

    token: Token
    form_word: str

    @property
    def name(self) -> str:
        """The name of the token, which is the author of what is changed here."""
        return self.token.name

    @property
    def identity(self) -> Identity:
        """Who acts."""
        return Identity(name=self.token.name, via="token")

    def may(self, *scopes: Scope) -> bool:
        """Whether the token has one of these scopes."""
        return self.token.scope in scopes


def begin_session(request: Request, secret: str) -> tuple[Account, str] | None:
    """The account and the `Set-Cookie` header of a new session; None unless `secret` is that of a valid token."""
    workspace: Workspace = request.app.state.workspace
    token = workspace.tokens.holder(secret.strip())
    if token is None:
        return None
    nonce = secrets.token_urlsafe(16)
    word = workspace.signer.seal(SESSION, [token.name, token.sha256[:16], int(time.time()) + SECONDS, nonce])
    answer = Response()
    answer.set_cookie(
        COOKIE, word, max_age=SECONDS, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return Account(token=token, form_word=workspace.signer.seal(FORM, nonce)), answer.headers["set-cookie"]


def end_session(response: Response) -> None:
    """Take the cookie away."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


async def from_here(request: Request) -> None:
    """A dependency of all pages: 403 for a form that a browser sends from a page of another site.

    Browsers say so in Sec-Fetch-Site, and without TLS in Origin alone, whose host must be that of the request; what
    sends neither is no browser. This is the algorithm of Go's `http.CrossOriginProtection`.
    """
    if request.method != "POST":
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        here = site in ("same-origin", "none")
    else:
        here = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not here:
        raise HTTPException(403, "form: was sent by a page of another site; open the page here and send it from there")


async def looking(request: Request) -> Account:
    """The account of whoever asks for a page; NotSignedIn without a valid session."""
    workspace: Workspace = request.app.state.workspace
    name, part, nonce = _named(request, workspace)
    token = workspace.tokens.all().get(name)
    if token is None or not token.valid or part not in ("", token.sha256[:16]):
        raise NotSignedIn
    request.state.token = token.name
    request.state.account = Account(token=token, form_word=workspace.signer.seal(FORM, nonce))
    return cast(Account, request.state.account)


def changing(*scopes: Scope) -> Callable[..., Any]:
    """A dependency that returns the account of whoever sends a form: 403 when the form was not made for this session,
    or needs another scope."""

    async def check(request: Request, account: Annotated[Account, Depends(looking)]) -> Account:
        word = request.headers.get("x-form-word") or (await request.form()).get(FIELD) or ""
        if not hmac.compare_digest(str(word).encode(), account.form_word.encode()):
            raise HTTPException(403, "form: was not made for this session; open the page again and send it from there")
        if not account.may(*scopes):
            raise HTTPException(
                403, f"token {account.name}: its scope is {account.token.scope}, and this needs {' or '.join(scopes)}"
            )
        return account

    return check


def _named(request: Request, workspace: Workspace) -> tuple[str, str, str]:
    """The name of the token, the beginning of its hash, and the random word of a session."""
    header = request.app.state.user_header
    if header:  # a proxy has signed them in, and removes this header from what comes from outside
        name = request.headers.get(header, "")
        return name, "", name
    try:
        name, part, ends, nonce = workspace.signer.unseal(SESSION, request.cookies.get(COOKIE, ""))
    except (ValueError, TypeError):
        raise NotSignedIn from None
    if ends < time.time():
        raise NotSignedIn
    return name, part, nonce


Looks = Annotated[Account, Depends(looking)]
"""Anybody who signed in."""
Labels = Annotated[Account, Depends(changing("label", "owner", "admin"))]
"""Somebody who may ask for labels, give them, tag, and withdraw requests."""
Owns = Annotated[Account, Depends(changing("owner"))]
"""Somebody who acts for owners of tasks; which of them, the catalog decides."""
Sends = Annotated[Account, Depends(changing(*SCOPES))]
"""Anybody who signed in, by a form that changes nothing of the catalog."""
Leads = Annotated[Account, Depends(changing("admin"))]
"""Somebody who leads: assigns people, settles disputes, reverts, releases."""


async def leading(request: Request, account: Labels) -> Account:
    """A dependency that returns the account of a lead: 403 for any other."""
    if not await run_in_threadpool(is_lead, request.app.state.workspace, account.token):
        raise HTTPException(
            403, f"token {account.name}: its scope is {account.token.scope} and it is no lead of the catalog; sign in "
            "with one of the scope admin, or of somebody who settles disputes",
        )  # fmt: skip
    return account


LeadsPeople = Annotated[Account, Depends(leading)]
"""Somebody who leads people: of the scope admin, or a lead of the catalog."""
