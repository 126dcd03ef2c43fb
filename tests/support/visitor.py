"""Somebody who looks at the pages of a workspace, signed in with a token, without a browser."""

import html
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from support.pages import signed_in
from support.served import served

from amber.service.tokens import Scope, Tokens

__all__ = ["Visitor", "alert", "visiting"]

WAITING = re.compile(r"being (computed|made|decided)|>releasing<")


class Visitor:
    """A session; `send` fills in the hidden word of forms."""

    def __init__(self, client: httpx.Client, app: FastAPI, secret: str) -> None:
        self.client, self.app = client, app
        signed_in(client, secret)
        self.word = ""

    def get(self, path: str) -> httpx.Response:
        """A page, once nothing on it is being made."""
        for _ in range(600):
            answer = self.client.get(path)
            if not WAITING.search(answer.text):
                break
            time.sleep(0.05)
        self._keep(answer)
        return answer

    def send(self, path: str, *, files: Any = None, **fields: str) -> httpx.Response:
        """Send a form."""
        if not self.word:
            self.get("/tasks")
        return self.client.post(path, data={"form_word": self.word, **fields}, files=files)

    def _keep(self, answer: httpx.Response) -> None:
        found = re.search(r'name="form_word" value="([^"]+)"', answer.text)
        self.word = html.unescape(found[1]) if found else self.word


def alert(answer: httpx.Response) -> str:
    """The line of a page that says what is wrong."""
    found = re.search(r'role="alert">(.*?)</p>', answer.text, re.S)
    return html.unescape(re.sub("<[^>]+>", "", found[1])).strip() if found else ""


@contextmanager
def visiting(home: Path, scope: Scope = "admin", name: str = "") -> Iterator[Visitor]:
    """A visitor with a new token of this scope, named as the scope unless `name` is given."""
    secret = Tokens(home).add(name or scope, scope)
    with served(home) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        yield Visitor(client, service.app, secret)
    Tokens(home).remove(name or scope)
