"""Pages of the JSON API: the cursor that a page hands to the next one.

A cursor is a sealed word: it holds the list, its parameters, the commit and the position of the last row. So all pages
of one list are of one commit, and a cursor that was altered, or that belongs to another list, is refused.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import Depends, Query, Request, Response

from amber.service.access import Workspace
from amber.service.images.signed_urls import Signer
from curation.catalog.pages import Page, Position
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput

__all__ = ["LINK", "Paged", "Paging", "seal_position"]

PURPOSE: Final = "page"

UNLISTED: Final = ("limit", "after", "done", "format")
"""Parameters that do not choose the rows of a list: how many, after which, in which form, and what a page says was
done."""

LINK: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "Link": {
                "description": 'the next page as <PATH>; rel="next"; absent at the end of the list',
                "schema": {"type": "string"},
            }
        }
    }
}
"""The header of every list in the OpenAPI document."""


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """Where a page begins: after `position`, at `commit`."""

    commit: int | None
    position: Position


class Paged:
    """One request for a page: its limit, and the cursor in `after`."""

    def __init__(
        self, request: Request, response: Response, limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        after: Annotated[str, Query(max_length=4_000, description="the cursor in the Link of the page before")] = "",
    ) -> None:  # fmt: skip
        self._request, self.response = request, response
        self._workspace: Workspace = request.app.state.workspace
        self.limit = limit
        self._cursor = self._read(after) if after else Cursor(commit=None, position=())

    @property
    def after(self) -> Position:
        """The position of the last row of the page before."""
        return self._cursor.position

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """The snapshot at the commit of the first page."""
        with self._workspace.catalog.read(self._cursor.commit) as now:
            yield now

    def link(self, page: Page, commit: int) -> None:
        """Put the address of the next page, if there is one, into the header Link."""
        self.link_to(page.next, commit)

    def link_to(self, position: Position | None, commit: int) -> None:
        """The same for the page after a position; None is the end of the list."""
        if position is not None:
            self.response.headers["Link"] = f'<{self.next_path(position, commit)}>; rel="next"'

    def next_path(self, position: Position, commit: int) -> str:
        """The address of the page after a position, with the same parameters."""
        path, asked = self._request.url.path, self._request.query_params
        word = seal_position(self._workspace.signer, path, asked, commit, position)
        kept = {name: text for name, text in asked.items() if name not in UNLISTED}
        return f"{quote(path)}?{urlencode({**kept, 'limit': str(self.limit), 'after': word})}"

    def _read(self, word: str) -> Cursor:
        try:
            listed, commit, position = self._workspace.signer.unseal(PURPOSE, word)
        except ValueError:
            listed, commit, position = None, None, []
        if listed != _list(self._request.url.path, self._request.query_params):
            raise BadInput("after: is not a cursor of this list; take the one in the Link of the page before")
        return Cursor(commit=commit, position=tuple(position))


def seal_position(signer: Signer, path: str, asked: Mapping[str, str], commit: int, position: Position) -> str:
    """The cursor of the list at `path` with the parameters `asked`, at a commit, after a position."""
    return signer.seal(PURPOSE, [_list(path, asked), commit, list(position)])


def _list(path: str, asked: Mapping[str, str]) -> list[str]:
    """A list: its path, and a hash of the parameters that choose its rows."""
    chosen = sorted((name, text) for name, text in asked.items() if name not in UNLISTED)
    return [path, hashlib.sha256(repr(chosen).encode()).hexdigest()[:16]]


Paging = Annotated[Paged, Depends()]
