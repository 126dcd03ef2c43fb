"""Somebody who signed in to the pages without a browser: what they see, and the forms that they send."""

import html
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from support.served import served

from amber.service.tokens import Scope, Tokens

__all__ = ["Visitor", "Visitors", "alerts", "elements", "form_word", "forms", "signed_in", "visiting", "words"]

Attributes = dict[str, str | None]

WAITING = re.compile(r"being (computed|made|decided)|>releasing<")


class Visitor:
    """A session of the token with this secret; `client` sends the token itself to the API."""

    def __init__(self, client: httpx.Client, app: FastAPI, secret: str) -> None:
        signed_in(client, secret)
        client.headers["authorization"] = f"Bearer {secret}"
        self.client, self.app, self.secret = client, app, secret

    def get(self, path: str) -> httpx.Response:
        """A page or a route of the API, once nothing on it is being made; redirections are not followed."""
        for _ in range(600):
            answer = self.client.get(path)
            if not WAITING.search(answer.text):
                break
            time.sleep(0.05)
        return answer

    def seen(self, path: str, text: str) -> httpx.Response:
        """A page once it holds `text`, which may be counted in the background."""
        for _ in range(200):
            answer = self.client.get(path)
            if text in html.unescape(answer.text):
                return answer
            time.sleep(0.05)
        raise AssertionError(f"{path} never showed {text!r}")

    def send(
        self, action: str, page: httpx.Response | str | None = None, *, files: Any = None, **typed: Any
    ) -> httpx.Response:
        """Send the form with this action that a page (a response, or its path) shows, with what it holds and what is
        typed; without a page, one that holds no more than the word of the session."""
        if page is None:
            fields: dict[str, Any] = {"form_word": form_word(self.client.get("/tasks").text)}
        else:
            shown = forms((self.client.get(page) if isinstance(page, str) else page).text)
            found = [held for target, held in shown if target.partition("#")[0] == action]
            assert found, (action, [target for target, _ in shown])
            fields = found[0]
        return self.client.post(action, data={**fields, **typed}, files=files)


class Visitors:
    """The service of a workspace, and a visitor for each token that `of` adds; use it in a `with` block."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._open = ExitStack()

    def __enter__(self) -> "Visitors":
        self._service = self._open.enter_context(served(self.home))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def of(self, name: str, scope: Scope) -> Visitor:
        """A visitor with a new token."""
        secret = Tokens(self.home).add(name, scope)
        client = self._open.enter_context(httpx.Client(base_url=self._service.url, timeout=60))
        return Visitor(client, self._service.app, secret)


@contextmanager
def visiting(home: Path, scope: Scope = "admin", name: str = "") -> Iterator[Visitor]:
    """A visitor with a new token of this scope, named as the scope unless `name` is given; removed at the end."""
    with Visitors(home) as visitors:
        yield visitors.of(name or scope, scope)
    Tokens(home).remove(name or scope)


def signed_in(client: httpx.Client, secret: str) -> None:
    """Sign a client in with the secret of a token."""
    assert client.post("/sign-in", data={"token": secret}, follow_redirects=False).status_code == 303


def form_word(page: str) -> str:
    """The word that the forms of a page carry."""
    return str(next(fields["form_word"] for _, fields in forms(page)))


def forms(page: str) -> list[tuple[str, dict[str, Any]]]:
    """The action and fields, with values, of every form that a page posts, and of buttons with their own action."""
    reader = _FormReader()
    reader.feed(page)
    return reader.found


def elements(page: str) -> list[tuple[str, Attributes]]:
    """Every element of a page with its attributes, as a browser would read them."""
    reader = _ElementReader()
    reader.feed(page)
    return reader.found


def alerts(page: httpx.Response) -> str:
    """What a page says is wrong, with single spaces."""
    found = re.findall(r'<(p|div)[^>]*role="alert">(.*?)</\1>', page.text, re.S)
    return " ".join(words(part) for _, part in found)


def words(page: str) -> str:
    """The text of a part of a page."""
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())


class _ElementReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, Attributes]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self._text, self._posts = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = dict(attrs)
        if tag == "form":
            self._posts = fields.get("method") == "post"
            if self._posts:
                self.found.append((fields.get("action") or "", {}))
        elif not self._posts:
            return
        elif tag == "button" and fields.get("formaction"):
            self.found.append((str(fields["formaction"]), self.found[-1][1]))
        elif tag == "input" and (fields.get("type") != "checkbox" or "checked" in fields):
            self._keep(fields.get("name") or "", fields.get("value") or "")
        elif tag == "textarea":
            self._text = fields.get("name") or ""

    def handle_data(self, data: str) -> None:
        if self._text:
            self._keep(self._text, data.removeprefix("\n"))

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._text = ""

    def _keep(self, name: str, value: str) -> None:
        fields = self.found[-1][1]
        if name == "chosen":
            fields.setdefault(name, []).append(value)
        elif name:
            fields[name] = value
