"""Sessions of people who signed in to the pages, and the forms that they send, without a browser."""

import html
import re
import time
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from support.served import served

from amber.service.tokens import Scope, Tokens

__all__ = ["Sessions", "alerts", "forms", "seen", "send", "words"]


class Sessions:
    """The service of a workspace, and a session of each token that `of` adds; use it in a `with` block."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._open = ExitStack()

    def __enter__(self) -> "Sessions":
        self._url = self._open.enter_context(served(self.home)).url
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def of(self, name: str, scope: Scope) -> httpx.Client:
        """A new token's session; to the API it sends the token itself."""
        secret = Tokens(self.home).add(name, scope)
        client = self._open.enter_context(httpx.Client(base_url=self._url, timeout=60))
        assert client.post("/sign-in", data={"token": secret}).status_code == 303
        client.headers["authorization"] = f"Bearer {secret}"
        return client


def send(client: httpx.Client, page: httpx.Response | str, action: str, **typed: Any) -> httpx.Response:
    """Send the form with this action of a page (a response, or its path), with what it holds and what is typed."""
    shown = client.get(page) if isinstance(page, str) else page
    found = [fields for target, fields in forms(shown.text) if target.partition("#")[0] == action]
    assert found, (action, [target for target, _ in forms(shown.text)])
    return client.post(action, data={**found[0], **typed})


def seen(client: httpx.Client, path: str, text: str) -> httpx.Response:
    """A page once it holds `text`, which may be counted in the background."""
    for _ in range(200):
        answer = client.get(path)
        if text in html.unescape(answer.text):
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{path} never showed {text!r}")


def forms(page: str) -> list[tuple[str, dict[str, Any]]]:
    """The action and fields, with values, of every form that a page posts, and of buttons with their own action."""
    reader = _Reader()
    reader.feed(page)
    return reader.found


def alerts(page: httpx.Response) -> str:
    """What a page says is wrong."""
    found = re.findall(r'<(p|div)[^>]*role="alert">(.*?)</\1>', page.text, re.S)
    return " ".join(words(part) for _, part in found)


def words(page: str) -> str:
    """The text of a part of a page."""
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())


class _Reader(HTMLParser):
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
        elif tag == "button" and fields.get("formaction") and self.found:
            self.found.append((str(fields["formaction"]), self.found[-1][1]))
        elif tag == "input" and self.found and (fields.get("type") != "checkbox" or "checked" in fields):
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
        if name in ("chosen",):
            fields.setdefault(name, []).append(value)
        elif name:
            fields[name] = value
