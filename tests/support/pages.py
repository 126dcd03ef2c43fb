"""The addresses of all pages and forms, what a page could run, and what people do in a browser: sign in, type, choose,
and send forms."""

import json
import re
from urllib.parse import parse_qs, unquote, urlsplit

from fastapi.routing import APIRoute
from support.chromium import Chromium
from support.visitors import elements

from amber.service.pages.picked import ACTS
from amber.service.pages.shown import ROUTERS

__all__ = [
    "ACTIONS", "FORMS", "PAGES", "choose", "fill", "press", "runs_foreign_code", "send_form", "sign_in", "visit",
]  # fmt: skip

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
PAGES = [
    route.path for route in ROUTES if "GET" in (route.methods or ()) and "{" not in route.path
    and not route.path.startswith(("/sign-in", "/events"))
]  # fmt: skip
"""Every address of a page without a part that must be filled in."""

POSTS = [route for route in ROUTES if "POST" in (route.methods or ())]
FORMS = [re.sub(r"\{[^}]*\}", "1", route.path) for route in POSTS if route.path != "/sign-in"]
"""Every address that takes a form, with something in the place of what must be filled in."""

PICTURES = ("/image/{key:path}", "/slices/{name}")
"""The forms with a button for each of `ACTS`."""

ACTIONS = [
    route.path + act for route in POSTS for act in ([f" {each}" for each in ACTS] if route.path in PICTURES else [""])
]
"""Everything that somebody does with a form: its route, and the button where it has several."""

IN_VIEW = """(element => {
    const box = element.getBoundingClientRect();
    return box.height > 0 && box.top >= 0 && box.top + Math.min(box.height, 20) <= innerHeight;
})"""

MARK = "window.before = true"
FRESH = "!window.before && document.readyState === 'complete'"
"""Whether this is another page than the one that was marked, and all of it is there."""

ON_TOP = """(element => {
    if (!element) return false;
    const box = element.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return !!top && (element.contains(top) || top.contains(element));
})"""
"""Whether a click in the middle of an element meets the element, and nothing that covers it."""


def sign_in(browser: Chromium, url: str, secret: str, *, to: str = "/", shows: str = ".tiles") -> None:
    """Sign in by typing the secret of a token into the form of the service at `url`, and wait for what `to` `shows`."""
    visit(browser, f"{url}/sign-in?to={to}")
    fill(browser, "input[name=token]", secret)
    send_form(browser, "/sign-in", "form.box button", where=shows)
    assert browser.evaluate("location.pathname") == to


def visit(browser: Chromium, url: str) -> None:
    """Go to a page, and wait until all of it is there."""
    browser.evaluate(MARK)
    browser.open(url)
    browser.wait_for(FRESH)


def send_form(
    browser: Chromium, action: str, button: str = "", *, says: str | None = None, where: str = ".done"
) -> None:
    """Send a form by a click on its button (or, without one, by Enter in the focused field), and wait until the next
    page has the element `where`, which `says` something.

    AssertionError unless that sent this one of `ACTIONS` and no other; TimeoutError where the next page never says it,
    or says it where nobody sees it without scrolling.
    """
    sent = len(browser.posted)
    browser.evaluate(MARK)
    if button:
        press(browser, button)
    else:
        browser.strike("Enter")
    found = f"document.querySelector('{where}')"
    browser.wait_for(f"{FRESH} && !!{found} && ({found}.innerText ?? '').includes({json.dumps(says or '')})")
    assert [_action(*each) for each in browser.posted[sent:]] == [action]
    if says is not None:
        browser.wait_for(f"{IN_VIEW}({found})", seconds=10)


def press(browser: Chromium, selector: str) -> None:
    """Click on an element, after it was scrolled into view; TimeoutError where another one covers it."""
    found = f"document.querySelector('{selector}')"
    browser.wait_for(f"!!{found}")
    browser.evaluate(f"{found}.scrollIntoView({{block: 'center'}})")
    browser.wait_for(f"{ON_TOP}({found})", seconds=10)
    browser.press(found, settled=0.1)


def fill(browser: Chromium, selector: str, text: str) -> None:
    """Type a text into a field, in the place of what it holds."""
    press(browser, selector)
    browser.evaluate(f"document.querySelector('{selector}').select()")
    browser.write(text)


def choose(browser: Chromium, selector: str, text: str) -> None:
    """Choose an option of a list by its text, with the keys."""
    found = f"document.querySelector('{selector}')"
    browser.evaluate(f"{found}.focus()")
    for letter in text:
        browser.strike(letter)
    assert browser.evaluate(f"{found}.selectedOptions[0].text") == text


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


def _action(url: str, body: str) -> str:
    """The one of `ACTIONS` that a POST is."""
    path = unquote(urlsplit(url).path)
    route = next(route.path for route in POSTS if route.path_regex.match(path))
    act = parse_qs(body).get("act", [])
    return " ".join([route, *act])
