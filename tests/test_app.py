"""The App in a real browser, from a process of its own, as a user starts it."""

from pathlib import Path

import pytest
from app import FORM, app, button, select
from chromium import Chromium
from homes import copy_home, label, labels, make_home
from served import served

from amber.service.tokens import Tokens
from curation.ledger.catalog import Catalog
from curation.oracle import answer, hold_back

pytestmark = pytest.mark.filterwarnings("ignore")  # FiftyOne's own


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("app"), samples=60)


@pytest.fixture
def catalog(pictures: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(pictures, tmp_path)


def test_it_shows_the_catalog(catalog: Catalog, tmp_path: Path) -> None:
    with app(catalog) as shown, Chromium() as page:
        shown.open(page, 60)
        page.wait_for("document.body?.innerText.includes('label_color')")
        page.screenshot(tmp_path / "grid.png")
        assert (tmp_path / "grid.png").stat().st_size > 10_000
        elsewhere = {url for url in page.requested if not url.startswith((shown.url, "data:", "blob:"))}
        assert {url for url in elsewhere if not url.startswith("https://fonts.googleapis.com/")} == set()
        assert shown.stop() == 130


def test_asking_for_labels_of_three_selected_images(catalog: Catalog) -> None:
    secret = Tokens(catalog.home).add("eve", "label")
    with served(catalog.home) as service:
        words = {"AMBER_SERVICE": service.url, "AMBER_TOKEN": secret}
        with app(catalog, **words) as shown, Chromium() as page:
            shown.open(page, 60)
            page.press(button("rate_review"))
            page.wait_for(f"{FORM}?.innerText.includes('no image is selected')")
            assert page.evaluate(f"[...{FORM}.querySelectorAll('button')].at(-1).disabled")
            page.press(f"{FORM}.querySelector('button')")
            page.wait_for(f"!{FORM}")
            select(page, 4, 5, 6)
            page.press(button("rate_review"))
            page.press(f"{FORM}?.querySelector('[role=combobox]')")
            page.press("[...document.querySelectorAll('[role=option]')].find(e => e.innerText === 'speed')")
            page.press(f"{FORM}.querySelectorAll('input')[1]")
            page.write("looks odd")
            page.wait_for(f"{FORM}.innerText.includes('as eve: ask for 3 labels of speed')")
            with catalog.read() as now:
                assert len(now.requests()) == 0
            page.press(f"[...{FORM}.querySelectorAll('button')].at(-1)")
            page.wait_for("document.body.innerText.includes('as eve, commit 2: ask for 3 labels of speed')")
    keys = [f"pictures/{number:05d}" for number in (4, 5, 6)]
    with catalog.read() as now:
        rows = now.requests("open").to_pylist()
        assert [(row["key"], row["task"], row["reason"]) for row in rows] == [(k, "speed", "looks odd") for k in keys]
        assert now.log()["author"][0].as_py() == "eve"
    hold_back(catalog.home, labels([label(key, "speed", 30.0, "oracle") for key in keys]))
    assert answer(catalog, batch="round") == 3  # the loop sends them on
