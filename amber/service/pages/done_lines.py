"""The line by which the next page says what a form did: sealed, so that no link can put words into a page."""

from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import Response

from amber.service.access import Workspace
from amber.service.pages.rendering import see

__all__ = ["DONE", "done_line", "see_done"]

DONE = "done"
"""The parameter that carries the sealed line, the purpose of the seal, and the id of the element that shows it."""


def see_done(request: Request, path: str, line: str) -> Response:
    """Go to another page, and there to the `line`: without that, a browser goes on to the part that the form named."""
    workspace: Workspace = request.app.state.workspace
    joined = f"{path}{'&' if '?' in path else '?'}{urlencode({DONE: workspace.signer.seal(DONE, line)})}#{DONE}"
    return see(request, joined)


def done_line(request: Request) -> str:
    """What the form before did; "" for no line, or one that was not sealed here."""
    workspace: Workspace = request.app.state.workspace
    try:
        return str(workspace.signer.unseal(DONE, request.query_params.get(DONE, "")))
    except ValueError:
        return ""
