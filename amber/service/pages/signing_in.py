"""Signing in and out, the page's own files, and what happens to a form whose session has ended."""

import re
from importlib import resources
from typing import Annotated, Final

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from amber.service.pages.accounts import FIELD, Sends, begin_session, end_session
from amber.service.pages.rendering import page, see

__all__ = ["form_without_session", "router"]

router = APIRouter(include_in_schema=False)

KINDS: Final = {"css": "text/css", "js": "text/javascript", "LICENSE": "text/plain", "svg": "image/svg+xml"}

KEPT: Final = "kept:"
"""What the names of fields begin with that an ended session had typed."""


@router.get("/sign-in")
def ask(request: Request, to: str = "/") -> HTMLResponse:
    """The form for the token."""
    return page(request, "sign_in.html", {"title": "Sign in", "to": _inside(to), "kept": [], "wrong": False})


@router.post("/sign-in")
async def sign_in(request: Request, token: Annotated[str, Form()], to: Annotated[str, Form()] = "/") -> Response:
    """Begin a session; what was typed before the last one ended is shown again, to be sent once more."""
    form = await request.form()
    kept = [(name.removeprefix(KEPT), str(text)) for name, text in form.multi_items() if name.startswith(KEPT)]
    begun = begin_session(request, token)
    if begun is None:
        view = {"title": "Sign in", "to": _inside(to), "kept": kept, "wrong": True}
        return page(request, "sign_in.html", view, status=403)
    account, cookie = begun
    view = {"title": "Send what you typed", "to": _inside(to), "kept": kept}
    answer = page(request, "typed.html", view, account=account) if kept else see(request, _inside(to))
    answer.headers["set-cookie"] = cookie
    return answer


@router.post("/sign-out")
def sign_out(request: Request, account: Sends) -> Response:
    """End the session."""
    answer = see(request, "/sign-in")
    end_session(answer)
    return answer


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A file that pages load: our style and script, and htmx."""
    pages, report = resources.files("amber.service.pages"), resources.files("training.report")
    file = report.joinpath("style.html") if name == "report.css" else pages.joinpath("static", name)
    kind = KINDS.get(name.rsplit(".", 1)[-1])
    if kind is None or "/" in name or "\\" in name or not file.is_file():
        raise HTTPException(404, "static: no such file")
    return Response(file.read_bytes(), media_type=kind, headers={"cache-control": "max-age=3600"})


async def form_without_session(request: Request) -> Response:
    """The answer to whoever is not signed in: the form for the token, with everything that they had typed."""
    kept = await _typed(await request.form()) if request.method == "POST" else []
    to = request.url.path + (f"?{request.url.query}" if request.url.query and request.method == "GET" else "")
    view = {"title": "Sign in", "to": to, "kept": kept, "wrong": False}
    answer = page(request, "sign_in.html", view, status=401 if request.method == "POST" else 200)
    if request.headers.get("hx-request") == "true":
        answer.headers["HX-Retarget"], answer.headers["HX-Reswap"] = "body", "innerHTML"
        answer.status_code = 200  # htmx swaps nothing in for an error
    return answer


async def _typed(form: FormData) -> list[tuple[str, str]]:
    """What was typed into a form. The text of a file that was chosen takes the place of the rules, as in `rules_of`: a
    browser does not choose it again."""
    kept = [(name, text) for name, text in form.multi_items() if isinstance(text, str) and name != FIELD]
    file = form.get("file")
    if isinstance(file, UploadFile) and file.filename:
        rules = (await file.read()).decode(errors="replace")
        kept = [(name, rules if name == "rules" else text) for name, text in kept]
    return kept


def _inside(path: str) -> str:
    """`path` if it is one of this service, else its first page; browsers take a backslash for a slash."""
    return path if re.fullmatch(r"/(?![/\\])[^\\\s]*", path) else "/"
