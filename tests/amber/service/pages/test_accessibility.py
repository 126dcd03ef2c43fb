"""Every page in a real browser, wide and narrow, light and dark: axe-core finds nothing serious, nothing is foreign,
and the Tab key reaches every control.

AMBER_SHOTS=FOLDER keeps a picture of each.
"""

import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from support.chromium import Chromium
from support.pages import PAGES, sign_in, visit
from support.planted_runs import noisy, plant_run, planted_home
from support.served import Served, served

from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.requests.proposals import Proposal, propose

VIEWS = [(1400, False), (1400, True), (400, False), (400, True)]
SERIOUS = ("serious", "critical")
AT_REST = "!document.querySelector('[hx-trigger^=\"load delay\"], .htmx-request')"
WATCH = """(() => {
    for (const part of document.querySelectorAll("main details")) part.open = true;
    const all = "main button, main input:not([type=hidden]), main select, main textarea, main summary";
    const shown = [...document.querySelectorAll(all)].filter(each => each.checkVisibility() && !each.disabled);
    window.unreached = new Set(shown);
    document.addEventListener("focusin", event => window.unreached.delete(event.target));
    return document.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]").length + 30;
})()"""
"""Opens what is closed, and notes the controls of a page that were never focused; how often to strike Tab at most."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Two runs, a plan, slices, and open requests."""
    made, plan = planted_home(tmp_path_factory.mktemp("pages"))
    for seed, name in enumerate(("old", "new")):
        plant_run(made, plan, name, lambda task, seed=seed: noisy(made, task, signal=3.0, seed=seed))  # type: ignore[misc]
    propose(made, Proposal(budget=30, seed=0, random_share=0.5, run="new"), author="ada", batch="asked")
    return made


@pytest.fixture(scope="module")
def service(catalog: Catalog) -> Iterator[Served]:
    with served(catalog.home) as running:
        yield running


@pytest.fixture(scope="module")
def browser(catalog: Catalog, service: Served) -> Iterator[Chromium]:
    with Chromium() as chromium:
        sign_in(chromium, service.url, Tokens(catalog.home).add("lead", "admin"))
        chromium.evaluate("1")
        yield chromium


def paths(catalog: Catalog) -> list[str]:
    """An address of every kind of page."""
    with catalog.read() as now:
        key = now.samples("key")["key"][0].as_py()
    plan = next((catalog.home / "plans").iterdir()).name
    return [
        *PAGES, "/tasks/color", "/slices/yellow", f"/image/{key}", f"/plans/{plan}", "/runs/new", "/runs/new/release",
        "/compare?a=old&b=new", "/log/1", "/log/1/revert",
    ]  # fmt: skip


def test_every_page_is_accessible_and_fits(catalog: Catalog, service: Served, browser: Chromium) -> None:
    script = resources.files("axe_core_python").joinpath("axe.min.js").read_text()
    shots, problems = os.environ.get("AMBER_SHOTS"), []
    for path in dict.fromkeys(paths(catalog)):
        browser.look(width=1400)
        visit(browser, service.url + path)
        browser.wait_for(AT_REST)
        browser.evaluate(script + "; 1")
        for width, dark in VIEWS:
            browser.look(width=width, dark=dark)
            found = json.loads(browser.evaluate("axe.run().then(found => JSON.stringify(found.violations))"))
            problems += [
                f"{path} at {width}{' dark' if dark else ''}: {each['id']}: {node['html'][:160]}"
                for each in found if each["impact"] in SERIOUS for node in each["nodes"][:3]
            ]  # fmt: skip
            if browser.evaluate("document.documentElement.scrollWidth") > width:
                problems.append(f"{path} at {width}: is wider than the window")
            if shots:
                name = path.strip("/").replace("/", "-").replace("?", "-") or "home"
                browser.screenshot(Path(shots) / f"{name}-{width}{'-dark' if dark else ''}.png")
    assert "\n".join(problems) == ""
    assert [url for url in browser.requested if not url.startswith((service.url, "data:", "about:"))] == []


def test_the_tab_key_reaches_every_control(catalog: Catalog, service: Served, browser: Chromium) -> None:
    browser.look(width=400)
    for path in dict.fromkeys(paths(catalog)):
        visit(browser, service.url + path)
        browser.wait_for(AT_REST)
        for _ in range(browser.evaluate(WATCH)):
            browser.strike("Tab")
        missed = browser.evaluate("[...window.unreached].map(each => each.outerHTML.slice(0, 160))")
        assert missed == [], path
