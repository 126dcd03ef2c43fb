"""Somebody who signed in to the pages without a browser: what they see, and the forms that they send."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from support.served import served

from amber.service.tokens import Scope, Tokens

__all__ = ["Visitor", "elements", "visiting"]

HIDDEN = re.compile(r'<input type="hidden" name="(form_word|once)" value="([^"]*)"')


class Visitor:
    """A signed-in token of some scope; `name` is that of the token."""

    def __init__(self, client: httpx.Client, name: str, secret: str) -> None:
        self.client, self.name, self.secret = client, name, secret

    def see(self, path: str) -> httpx.Response:
        """A page."""
        return self.client.get(path, follow_redirects=False)

    def send(self, path: str, page: str = "", **fields: Any) -> httpx.Response:
        """The form of a page (default: the one at `path`), with what it holds hidden, sent without following."""
        hidden = dict(HIDDEN.findall(self.see(page or path).text)[-2:])
        return self.client.post(path, data={**hidden, **fields}, follow_redirects=False)

    def api(self, path: str, **asked: Any) -> httpx.Response:
        """A route of the API."""
        return self.client.get(path, params=asked, headers={"Authorization": f"Bearer {self.secret}"})


@contextmanager
def visiting(home: Path, name: str, scope: Scope) -> Iterator[Visitor]:
    """A new token of a workspace that signs in."""
    secret = Tokens(home).add(name, scope)
    with served(home) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        assert client.post("/sign-in", data={"token": secret}, follow_redirects=False).status_code == 303
        yield Visitor(client, name, secret)


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """Every element of a page with its attributes, as a browser would read them."""
    found: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Reader().feed(page)
    return found
