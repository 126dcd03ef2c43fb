"""The addresses of all pages and forms, what a page could run, and signing in by clicks."""

import re

from fastapi.routing import APIRoute
from support.chromium import Chromium
from support.visitors import elements

from amber.service.pages.shown import ROUTERS

__all__ = ["FORMS", "PAGES", "press", "runs_foreign_code", "sign_in"]

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


def sign_in(browser: Chromium, url: str, secret: str, *, to: str = "/", shows: str = ".tiles") -> None:
    """Sign in by typing the secret of a token into the form of the service at `url`, and wait for what `to` `shows`."""
    browser.open(f"{url}/sign-in?to={to}")
    browser.wait_for("!!document.querySelector('input[name=token]')")
    browser.press("document.querySelector('input[name=token]')")
    browser.write(secret)
    browser.press("document.querySelector('form.box button')")
    browser.wait_for(f"location.pathname === '{to}' && !!document.querySelector('{shows}')")


def runs_foreign_code(text: str) -> list[str]:
    """What a page could run, or load, that is not a file of the service: inline scripts, handlers, other sites."""
    found = []
    for tag, attributes in elements(text):
        held = {name: value or "" for name, value in attributes.items()}
        if tag == "script" and not held.get("src", "").startswith("/static/"):
            found.append(tag)
        found += [name for name in held if name.startswith("on")]
        loads = [
            held.get(name, "").strip().lower() for name in ("src", "href", "action", "formaction", "hx-get", "hx-post")
        ]
        found += [url for url in loads if url.startswith(("javascript:", "//")) or (tag != "a" and "://" in url)]
    return found


def press(browser: Chromium, selector: str) -> None:
    """Click on an element, after it was scrolled into view."""
    browser.evaluate(f"document.querySelector('{selector}')?.scrollIntoView({{block: 'center'}})")
    browser.press(f"document.querySelector('{selector}')")
