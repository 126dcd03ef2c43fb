"""Signing in to the pages, and what an attacker may try: other sites, scripts, frames, scopes, hostile names."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.homes import make_home
from support.pages import FORMS, PAGES, runs_foreign_code
from support.served import Served, served
from support.visitors import form_word, signed_in

from amber.service.tokens import SCOPES, Tokens
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task

HOSTILE = "<img src=x onerror=alert(1)>\"'&"

OTHER_SITES = [
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil.example"},
    {"origin": "http://127.0.0.1:1"}, {"origin": "null"},
]  # fmt: skip
"""What browsers send with a form of another site; without TLS, Origin alone."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    made = make_home(tmp_path_factory.mktemp("pages"), samples=40)
    with made.commit(author=HOSTILE, message=f"declare {HOSTILE}") as change:
        change.add_tasks([Task(name="hostile", kind="binary", owner=HOSTILE, description=HOSTILE)])
    return made


@pytest.fixture(scope="module")
def secrets(catalog: Catalog) -> dict[str, str]:
    return {scope: Tokens(catalog.home).add(scope, scope) for scope in SCOPES}


@pytest.fixture(scope="module")
def service(catalog: Catalog) -> Iterator[Served]:
    with served(catalog.home) as running:
        yield running


@pytest.fixture
def visitor(service: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, follow_redirects=True, timeout=60) as client:
        yield client


def test_pages_ask_whoever_is_not_signed_in_for_a_token(service: Served, visitor: httpx.Client) -> None:
    assert len(PAGES) >= 2
    for path in PAGES:
        answer = visitor.get(path)
        assert "<h1>Sign in</h1>" in answer.text, path
        assert f'name="to" value="{path}"' in answer.text


@pytest.mark.parametrize("scope", SCOPES)
def test_every_page_is_shown_to_every_token(
    service: Served, visitor: httpx.Client, secrets: dict[str, str], scope: str
) -> None:
    signed_in(visitor, secrets[scope])
    for path in PAGES:
        answer = visitor.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert scope in answer.text


def test_everything_counted_in_the_background_is_counted(visitor: httpx.Client, secrets: dict[str, str]) -> None:
    signed_in(visitor, secrets["read"])
    for path in [*PAGES, "/tasks/color"]:
        deadline = time.monotonic() + 60
        while 'hx-trigger="load delay' in (text := visitor.get(path).text) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "load delay" not in text, path
        assert "Error: " not in text, path


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    service: Served, visitor: httpx.Client, secrets: dict[str, str]
) -> None:
    answer = visitor.post("/sign-in", data={"token": secrets["read"]}, follow_redirects=False)
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 303
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    through = visitor.post(
        "/sign-in", data={"token": secrets["read"]}, headers={"X-Forwarded-Proto": "https"}, follow_redirects=False
    )
    assert "; secure" in through.headers["set-cookie"].lower()


@pytest.mark.parametrize("word", ["", "nonsense", "W10.AAAA", "amber_guessed"])
def test_another_cookie_or_token_signs_nobody_in(service: Served, visitor: httpx.Client, word: str) -> None:
    assert "not one of this workspace" in visitor.post("/sign-in", data={"token": word or "x"}).text
    visitor.cookies.set("amber_session", word)
    assert "<h1>Sign in</h1>" in visitor.get("/").text


def test_a_removed_token_and_one_of_the_same_name_end_the_session(
    service: Served, visitor: httpx.Client, catalog: Catalog
) -> None:
    signed_in(visitor, Tokens(catalog.home).add("temp", "read"))
    assert "temp" in visitor.get("/").text
    Tokens(catalog.home).remove("temp")
    assert "<h1>Sign in</h1>" in visitor.get("/").text
    Tokens(catalog.home).add("temp", "admin")
    assert "<h1>Sign in</h1>" in visitor.get("/").text


def test_a_form_of_another_site_or_session_is_refused(
    service: Served, visitor: httpx.Client, secrets: dict[str, str]
) -> None:
    signed_in(visitor, secrets["admin"])
    mine = form_word(visitor.get("/").text)
    with httpx.Client(base_url=service.url, follow_redirects=True) as other:
        signed_in(other, secrets["admin"])
        theirs = form_word(other.get("/").text)
    assert mine != theirs
    for path in FORMS:
        for word in ("", theirs):
            answer = visitor.post(path, data={"form_word": word}, headers={"sec-fetch-site": "same-origin"})
            assert answer.status_code == 403, (path, word)
            assert "was not made for this session" in answer.text
        for site in OTHER_SITES:
            answer = visitor.post(path, data={"form_word": mine}, headers=site)
            assert answer.status_code == 403, (path, site)
            assert "by a page of another site" in answer.text


@pytest.mark.parametrize("site", OTHER_SITES, ids=str)
def test_no_other_site_signs_anybody_in_or_has_its_form_kept(
    service: Served, visitor: httpx.Client, secrets: dict[str, str], site: dict[str, str]
) -> None:
    for path, data in (("/sign-in", {"token": secrets["admin"]}), ("/slices", {"predicate": "planted"})):
        answer = visitor.post(path, data=data, headers=site)
        assert answer.status_code == 403
        assert "planted" not in answer.text
        assert not visitor.cookies


def test_a_browser_at_the_service_and_what_is_no_browser_sign_in(
    service: Served, visitor: httpx.Client, secrets: dict[str, str]
) -> None:
    for here in ({}, {"origin": service.url}, {"sec-fetch-site": "same-origin", "origin": "null"}):
        visitor.cookies.clear()
        visitor.post("/sign-in", data={"token": secrets["read"]}, headers=here)
        assert visitor.cookies, here
    assert visitor.get("/").headers["referrer-policy"] == "same-origin"  # for any other, Origin is null


def test_a_token_to_read_changes_nothing(service: Served, visitor: httpx.Client, secrets: dict[str, str]) -> None:
    signed_in(visitor, secrets["read"])
    word = form_word(visitor.get("/").text)
    for path in FORMS:
        if path not in ("/sign-out", "/plans/policy/check"):  # which change nothing
            answer = visitor.post(path, data={"form_word": word})
            assert answer.status_code == 403, path
            assert "its scope is read" in answer.text


def test_pages_allow_no_inline_script_no_frame_and_no_other_site(
    service: Served, visitor: httpx.Client, secrets: dict[str, str]
) -> None:
    signed_in(visitor, secrets["read"])
    for path in PAGES:
        answer = visitor.get(path)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert runs_foreign_code(answer.text) == []


def test_hostile_names_are_shown_and_not_run(service: Served, visitor: httpx.Client, secrets: dict[str, str]) -> None:
    signed_in(visitor, secrets["read"])
    seen = 0
    for path in [*PAGES, "/tasks/hostile"]:
        text = visitor.get(path).text
        assert "<img src=x" not in text
        seen += "&lt;img src=x onerror" in text
    assert seen >= 2


def test_nothing_typed_is_lost_when_the_session_has_ended(
    service: Served, visitor: httpx.Client, secrets: dict[str, str]
) -> None:
    typed = {"predicate": "attr.night AND \"x\" < '<'", "name": "two\nlines"}
    asked = visitor.post("/sign-out", data=typed)
    assert asked.status_code == 401
    kept = dict(re.findall(r'name="kept:(\w+)" value="([^"]*)"', asked.text))
    assert set(kept) == set(typed)
    data = {f"kept:{name}": text for name, text in typed.items()}
    again = visitor.post("/sign-in", data={"token": secrets["admin"], "to": "/sign-out", **data})
    assert "attr.night AND &#34;x&#34; &lt; &#39;&lt;&#39;</textarea>" in again.text
    assert form_word(again.text) == form_word(visitor.get("/").text)


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example/", "javascript:alert(1)", "/\\evil.example", "x"]
)
def test_signing_in_leads_to_no_other_site(
    service: Served, visitor: httpx.Client, secrets: dict[str, str], to: str
) -> None:
    answer = visitor.post("/sign-in", data={"token": secrets["read"], "to": to}, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_a_proxy_may_say_who_it_is_only_where_it_was_told_so(catalog: Catalog, secrets: dict[str, str]) -> None:
    def asked(header: str) -> str:
        with served(catalog.home, user_header=header) as proxied:
            return httpx.get(proxied.url, headers={"X-User": "owner"}).text

    assert "<h1>Sign in</h1>" in asked("")
    assert "owner" in asked("X-User")
    assert "<h1>Sign in</h1>" in asked("X-Other")


def test_files_of_the_pages(service: Served, visitor: httpx.Client) -> None:
    assert visitor.get("/static/report.css").headers["content-type"].startswith("text/css")
    assert "htmx" in visitor.get("/static/htmx.min.js").text
    for name in ("..%2fapp.py", "nothing.js", "templates", "htmx", "%00.js"):
        assert visitor.get(f"/static/{name}").status_code == 404


def test_htmx_is_whole(service: Served, visitor: httpx.Client) -> None:
    licence = Path("amber/service/pages/static/htmx.LICENSE")
    assert "Zero-Clause BSD" in licence.read_text()
