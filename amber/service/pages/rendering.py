"""Pages from templates: the frame around each, the account, and what changes when htmx asks for a part."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import escape
from starlette.responses import Response

from amber.service.pages.accounts import Account

__all__ = ["ENVIRONMENT", "NAV", "SLOT", "Rendered", "message", "page", "see"]

NAV: Final = (
    ("Home", "/"), ("Tasks", "/tasks"), ("Slices", "/slices"), ("Requests", "/requests"), ("Plans", "/plans"),
    ("Runs", "/runs"), ("People", "/people"), ("Log", "/log"),
)  # fmt: skip
"""The pages that every page links to."""

OURS: Final = "pages/"
"""What the names of our own templates begin with; all others are those of reports."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""No script but ours, no request to anybody else, in no frame; `style` attributes place bars of charts."""


SLOTS: Final = {name: f"~{secrets.token_hex(16)}~" for name in ("form_word", "who", "once")}
"""What stands in a rendered page, unknown outside of this process, where each reader gets words of their own."""

SLOT: Final = re.compile("(" + "|".join(SLOTS.values()) + ")")


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A page without the words that no two readers share: the name of the account, the word that its forms carry, and
    the word by which a form is taken once."""

    pieces: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Rendered":
        """What was rendered with `SLOTS` in place of these words."""
        return cls(pieces=tuple(SLOT.split(text)))

    def response(self, account: Account | None, status: int = 200) -> HTMLResponse:
        """The page for one reader, with new words."""
        words = {SLOTS["once"]: secrets.token_urlsafe(16)}
        if account:
            words |= {SLOTS["form_word"]: account.form_word, SLOTS["who"]: str(escape(account.name))}
        headers = {"content-security-policy": POLICY, "cache-control": "no-store", "vary": "HX-Request, Cookie"}
        return HTMLResponse("".join(words.get(piece, piece) for piece in self.pieces), status, headers)


def page(
    request: Request, name: str, view: Mapping[str, Any], *, account: Account | None = None, status: int = 200
) -> HTMLResponse:
    """The page that the template `pages/NAME` makes of `view`, for `account`; None for whoever has not signed in.

    Templates know `account`, `form_word` (for forms), `nav`, `path` and `part`: whether htmx asked for a part of the
    page, which the template's block `main` alone answers.
    """
    part = request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"
    common = {
        "account": account, "form_word": SLOTS["form_word"] if account else "", "who": SLOTS["who"], "nav": NAV,
        "path": request.url.path, "part": part, "query": dict(request.query_params),
        "known_at": view["commit"] if isinstance(view.get("commit"), int) else None,
    }  # fmt: skip
    fresh = {"once": SLOTS["once"]} if request.method == "GET" and "once" in view else {}
    rendered = Rendered.of(ENVIRONMENT.get_template(f"pages/{name}").render({**common, **view, **fresh}))
    if request.method == "GET" and status == 200 and account:
        request.state.rendered = rendered
    return rendered.response(account, status)


def message(request: Request, text: str, *, account: Account | None = None, status: int = 409) -> HTMLResponse:
    """A page that says one line: why something could not be done."""
    return page(request, "message.html", {"title": "Not done", "text": text}, account=account, status=status)


def see(request: Request, path: str) -> Response:
    """Go to another page after a form was taken; by htmx too."""
    if request.headers.get("hx-request") == "true":
        return Response(status_code=204, headers={"HX-Redirect": path})
    return Response(status_code=303, headers={"Location": path})


def _ago(at: datetime) -> str:
    """How long ago a moment (UTC, without a zone) was, in words.

    >>> from datetime import timedelta
    >>> _ago(datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=3))
    '3 hours ago'
    """
    seconds = max(0, int((datetime.now(UTC).replace(tzinfo=None) - at).total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if number := seconds // size:
            return f"{number} {unit}{'s' if number != 1 else ''} ago"
    return "just now"


def _source(name: str) -> str:
    ours = name.startswith(OURS)
    room = resources.files("amber.service.pages").joinpath("templates") if ours else resources.files("training.report")
    return room.joinpath(name.removeprefix(OURS)).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    made.filters["ago"] = _ago
    return made


ENVIRONMENT: Final = _environment()
"""The templates of pages, and those of reports."""
