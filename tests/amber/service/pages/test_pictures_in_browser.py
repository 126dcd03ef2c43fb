"""Slices and pictures by clicks and keys, in a window as narrow as a phone's, read back from the ledger."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from support.chromium import Chromium
from support.every_kind import EVIL, EVIL_KEY, every_kind
from support.pages import choose, fill, press, send_form, sign_in, visit
from support.served import Served, served

from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.catalog.schema import RETRACTED, UNSURE

ASK, TAG, DOUBT = (f".act details:nth-of-type({place}) summary" for place in (1, 2, 3))
UNSURE_BUTTON, RETRACT = (f".act button[value={act}]" for act in ("unsure", "retracted"))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return every_kind(tmp_path_factory.mktemp("clicked"))


@pytest.fixture(scope="module")
def service(catalog: Catalog) -> Iterator[Served]:
    with served(catalog.home) as running:
        yield running


@pytest.fixture(scope="module")
def browser(catalog: Catalog, service: Served) -> Iterator[Chromium]:
    """Signed in as ann, whose token may label."""
    with Chromium() as chromium:
        chromium.look(width=400, height=800)
        sign_in(chromium, service.url, Tokens(catalog.home).add("ann", "label"))
        yield chromium
        assert [url for url in chromium.requested if not url.startswith((service.url, "about:", "data:"))] == []


def choose_task(browser: Chromium) -> None:
    """Open the part about doubts, and choose speed there."""
    press(browser, DOUBT)
    choose(browser, ".act select[name=task]", "speed")


def tagged(catalog: Catalog, tag: str) -> list[str]:
    """The keys of the images with a tag."""
    with catalog.read() as now:
        ids = set(now.members(f"attr.tag_{tag}").tolist())
        return [row["key"] for row in now.samples().to_pylist() if row["sample_id"] in ids]


def newest(catalog: Catalog, key: str) -> tuple[str, str, str, int]:
    """Of the newest statement about an image: the author of its commit, task, annotator and state."""
    with catalog.read() as now:
        row = now.labels.statements_of(now.sample(key)["sample_id"]).to_pylist()[0]
        (task,) = [name for name, id_ in now.task_ids().items() if id_ == row["task_id"]]
    return row["author"], task, row["annotator"], row["state"]


def test_an_image_is_asked_for_tagged_and_doubted(catalog: Catalog, service: Served, browser: Chromium) -> None:
    visit(browser, f"{service.url}/image/{quote(EVIL_KEY)}")
    press(browser, ASK)
    for task in ("wet", "signs"):
        press(browser, f".act input[name=tasks][value={task}]")
    fill(browser, ".act input[name=reason]", EVIL)
    send_form(browser, "/image/{key:path} request", ".act button[value=request]", says="Asked for 2 labels")
    with catalog.read() as now:
        asked = now.requests("open").to_pylist()
        assert [(row["key"], row["task"], row["arm"], row["reason"]) for row in asked] == [
            (EVIL_KEY, task, "picked", EVIL) for task in ("wet", "signs")
        ]
        assert now.log()["author"][0].as_py() == "ann"
    press(browser, TAG)
    fill(browser, ".act input[name=tag]", "odd")
    send_form(browser, "/image/{key:path} tag", ".act button[value=tag]", says="Tagged 1 picture odd")
    assert tagged(catalog, "odd") == [EVIL_KEY]
    press(browser, TAG)
    fill(browser, ".act input[name=tag]", "odd")
    send_form(browser, "/image/{key:path} untag", ".act button[value=untag]", says="Took the tag odd from 1 picture")
    assert tagged(catalog, "odd") == []
    choose_task(browser)
    send_form(browser, "/image/{key:path} unsure", UNSURE_BUTTON, says="Marked 1 picture as unsure in speed")
    assert newest(catalog, EVIL_KEY) == ("ann", "speed", "ann", UNSURE)
    choose_task(browser)
    send_form(browser, "/image/{key:path} retracted", RETRACT, says="Retracted your labels of speed on 1 picture")
    assert newest(catalog, EVIL_KEY) == ("ann", "speed", "ann", RETRACTED)


def test_a_slice_is_typed_counted_declared_and_its_pictures_tagged_and_doubted(
    catalog: Catalog, service: Served, browser: Chromium
) -> None:
    visit(browser, f"{service.url}/slices")
    fill(browser, "textarea[name=predicate]", "attr.drak")
    browser.wait_for("document.querySelector('#preview [role=alert]')?.textContent.includes('did you mean')")
    fill(browser, "textarea[name=predicate]", "attr.dark AND label.wet")
    browser.wait_for("document.querySelector('#preview')?.textContent.includes('of 80 images')")
    fill(browser, "input[name=name]", "dark_wet")
    send_form(browser, "/slices", "form.box.wide button", says="is declared")
    with catalog.read() as now:
        assert now.slice("dark_wet").predicate == '(attr.dark AND "label".wet)'
    press(browser, "[data-choose=keys]")
    shown = browser.evaluate("[...document.querySelectorAll('input[name=keys]:checked')].map(box => box.value)")
    assert len(shown) > 5
    press(browser, TAG)
    fill(browser, ".act input[name=tag]", "seen")
    send_form(browser, "/slices/{name} tag", ".act button[value=tag]", says=f"Tagged {len(shown)} pictures seen")
    assert tagged(catalog, "seen") == sorted(shown)
    press(browser, ".act input[name=every]")
    press(browser, TAG)
    fill(browser, ".act input[name=tag]", "seen")
    send_form(browser, "/slices/{name} untag", ".act button[value=untag]", says="Took the tag seen from")
    assert tagged(catalog, "seen") == []
    _doubt(catalog, browser)


def _doubt(catalog: Catalog, browser: Chromium) -> None:
    """Mark the first picture as unsure in speed, then retract that."""
    first = "input[name=keys]"
    key = browser.evaluate(f"document.querySelector('{first}').value")
    press(browser, first)
    choose_task(browser)
    send_form(browser, "/slices/{name} unsure", UNSURE_BUTTON, says="Marked 1 picture as unsure in speed")
    assert newest(catalog, key) == ("ann", "speed", "ann", UNSURE)
    press(browser, first)
    choose_task(browser)
    send_form(browser, "/slices/{name} retracted", RETRACT, says="Retracted your labels of speed on 1 picture")
    assert newest(catalog, key) == ("ann", "speed", "ann", RETRACTED)


def test_enter_in_a_field_does_what_the_button_beside_it_does(
    catalog: Catalog, service: Served, browser: Chromium
) -> None:
    visit(browser, f"{service.url}/slices/dark?task=light")
    key = browser.evaluate("document.querySelector('input[name=keys]').value")
    press(browser, "input[name=keys]")
    press(browser, TAG)
    fill(browser, ".act input[name=tag]", "entered")
    send_form(browser, "/slices/{name} tag", says="Tagged 1 picture entered")
    assert tagged(catalog, "entered") == [key]


def test_enter_on_a_box_does_nothing_and_a_wrong_tag_stops_no_other_button(
    catalog: Catalog, service: Served, browser: Chromium
) -> None:
    visit(browser, f"{service.url}/slices/dark?task=light")
    with catalog.read() as now:
        before = now.commit
    shown = "[...document.querySelectorAll('.act button')].filter(each => each.checkVisibility())"
    assert browser.evaluate(f"{shown}.map(each => each.innerText)") == ["Choose all on this page"]
    press(browser, "input[name=keys]")
    browser.strike("Enter")
    browser.wait_for("document.querySelector('.alarm')?.innerText.includes('press one of its buttons')")
    with catalog.read() as now:
        assert now.commit == before
    press(browser, TAG)
    fill(browser, ".act input[name=tag]", "Not a tag")
    press(browser, TAG)  # closed, where no browser can show why the form is not sent
    press(browser, ASK)
    send_form(browser, "/slices/{name} request", ".act button[value=request]", says="Asked for 1 label")
