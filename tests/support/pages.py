"""Signing in to the pages of the service, in tests."""

import re
from html.parser import HTMLParser

import httpx
from fastapi.routing import APIRoute
from support.chromium import Chromium

from amber.service.pages.shown import ROUTERS

__all__ = ["FORMS", "PAGES", "form_word", "press", "runs_foreign_code", "sign_in", "signed_in"]

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
PAGES = [
    route.path for route in ROUTES if "GET" in (route.methods or ()) and "{" not in route.path
    and not route.path.startswith(("/sign-in", "/events"))
]  # fmt: skip
"""Every address of a page without a part that must be filled in."""

FORMS = [
    re.sub(r"\{[^}]*\}", "1", route.path) for route in ROUTES if "POST" in (route.methods or ())
    and route.path != "/sign-in"
]  # fmt: skip
"""Every address that takes a form, with something in the place of what must be filled in."""


def sign_in(browser: Chromium, url: str, secret: str) -> None:
    """Sign in by typing the secret of a token into the form of the service at `url`, and wait for the first page."""
    browser.open(f"{url}/sign-in")
    browser.wait_for("!!document.querySelector('input[name=token]')")
    browser.press("document.querySelector('input[name=token]')")
    browser.write(secret)
    browser.press("document.querySelector('form.box button')")
    browser.wait_for("location.pathname === '/' && !!document.querySelector('.tiles')")


def signed_in(visitor: httpx.Client, secret: str) -> None:
    """Sign a visitor in with the secret of a token."""
    assert visitor.post("/sign-in", data={"token": secret}, follow_redirects=False).status_code == 303


def form_word(text: str) -> str:
    """The word that the forms of a page carry."""
    found = re.search(r'name="form_word" value="([^"]+)"', text)
    assert found, text
    return found[1]


def runs_foreign_code(text: str) -> list[str]:
    """What a page could run, or load, that is not a file of the service."""
    parser = _Elements()
    parser.feed(text)
    return parser.found


class _Elements(HTMLParser):
    """Finds inline scripts, handlers, and addresses of other sites."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        said = {name: value or "" for name, value in attrs}
        if tag == "script" and not said.get("src", "").startswith("/static/"):
            self.found.append(tag)
        self.found += [name for name in said if name.startswith("on")]
        loads = [
            said.get(name, "").strip().lower() for name in ("src", "href", "action", "formaction", "hx-get", "hx-post")
        ]
        self.found += [url for url in loads if url.startswith(("javascript:", "//")) or (tag != "a" and "://" in url)]


def press(browser: Chromium, selector: str) -> None:
    """Click on an element, after it was scrolled into view."""
    browser.evaluate(f"document.querySelector('{selector}')?.scrollIntoView({{block: 'center'}})")
    browser.press(f"document.querySelector('{selector}')")
