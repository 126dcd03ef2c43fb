"""The pages people see, in a real browser: the labelling page, and the service's own description."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.compute as pc
import pytest
from support.chromium import Chromium
from support.frames import make_frames
from support.homes import make_home
from support.label_requests import ask, human_labels, mine, states, unlabelled
from support.served import served
from support.studio import Studio

from amber.service.images.signed_urls import url_for
from amber.service.tokens import Tokens
from benchmarks.annotators import PASSWORD, Annotator
from curation.catalog.catalog import Catalog
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, PushResult, push


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


def log_in(page: Chromium, url: str, email: str) -> None:
    page.open(f"{url}/user/login/")
    page.wait_for("!!document.querySelector('input[name=password]')")
    for name, text in (("email", email), ("password", PASSWORD)):
        page.evaluate(f"document.querySelector('input[name={name}]').value = {json.dumps(text)}")
    page.evaluate("document.querySelector('input[name=password]').form.submit()")
    page.wait_for("!location.pathname.startsWith('/user/login') && document.readyState === 'complete'")


def press(page: Chromium, found: str) -> None:
    """Click in the middle of the element that a JavaScript expression finds, once it exists."""
    page.wait_for(f"!!({found})")
    box = page.evaluate(f"{found}.getBoundingClientRect().toJSON()")
    page.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def begin(page: Chromium, studio: Studio, person: Annotator, made: PushResult) -> None:
    """Log in and open the first item of the first project that was pushed to."""
    log_in(page, studio.local.url, person.email)
    page.open(f"{made.projects[0]}/data?labeling=1")
    press(page, "document.querySelector('[aria-label=\"Close modal\"]')")


def texts(selector: str, text: str) -> str:
    return f"[...document.querySelectorAll('{selector}')].find(one => one.innerText.trim().startsWith('{text}'))"


def hosts(page: Chromium) -> set[str]:
    """The hosts that the page requested anything from."""
    return {urlsplit(url).netloc.rpartition("@")[2] for url in page.requested if url.startswith("http")}


def test_an_answer_given_on_the_page(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: dict[str, Annotator], tmp_path: Path
) -> None:
    ask(catalog, (1, "color"))
    with served(catalog.home) as service, Chromium() as page:
        made = push(catalog, server, Asking(), url_for=url_for(catalog.home, service.url, seconds=600))
        begin(page, studio, people["ann"], made)
        page.wait_for("[...document.images].some(image => image.src.startsWith('blob:') && image.naturalWidth === 48)")
        press(page, texts("label", "green"))
        page.wait_for("!!document.querySelector('input[name=green]:checked')")
        page.screenshot(tmp_path / "page.png")
        press(page, texts("button", "Submit"))
        page.wait_for("document.body.innerText.includes('No More Tasks')")
        assert hosts(page) == {urlsplit(studio.local.url).netloc, urlsplit(service.url).netloc}
    assert (pull(catalog, server).closed, states(catalog)) == (1, ["answered"])
    assert human_labels(catalog, "color") == [(1, "ann", 1, 2)]
    with catalog.read() as now:
        assert now.requests.answers()["seconds"][0].as_py() > 0


def test_the_models_view_is_beside_the_question(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: dict[str, Annotator], tmp_path: Path
) -> None:
    """As text: no choice is made beforehand."""
    mine(catalog, (unlabelled(catalog)[0], 1))
    with served(catalog.home) as service, Chromium() as page:
        made = push(catalog, server, Asking(), url_for=url_for(catalog.home, service.url, seconds=600))
        begin(page, studio, people["ann"], made)
        page.wait_for("document.body.innerText.includes('model: yellow (confidence 83%)')")
        page.wait_for("!!document.querySelector('input[name=yellow]')")
        assert page.evaluate("document.querySelectorAll('input:checked[name=yellow]').length") == 0
        page.screenshot(tmp_path / "view.png")


def test_a_task_of_two_frames_shows_the_frame_before(
    server: LabelStudioClient, studio: Studio, people: dict[str, Annotator], tmp_path: Path
) -> None:
    catalog = make_frames(tmp_path, labelled=0)
    with catalog.read() as now:
        second = now.samples().filter(pc.equal(now.samples()["key"], "frames/00-1"))["sample_id"][0].as_py()
    ask(catalog, (second, "change"))
    with served(catalog.home) as service, Chromium() as page:
        made = push(catalog, server, Asking(), url_for=url_for(catalog.home, service.url, seconds=600))
        begin(page, studio, people["ann"], made)
        page.wait_for("[...document.images].some(image => image.src.startsWith('blob:') && image.naturalWidth === 48)")
        page.wait_for("document.querySelector('img[alt=\"the frame before\"]')?.naturalWidth === 48")
        page.screenshot(tmp_path / "pair.png")
        assert hosts(page) == {urlsplit(studio.local.url).netloc, urlsplit(service.url).netloc}


def test_the_service_describes_itself_to_a_browser(catalog: Catalog, tmp_path: Path) -> None:
    secret = Tokens(catalog.home).add("ada", "read")
    with served(catalog.home) as service, Chromium() as page:
        address = urlsplit(service.url).netloc
        page.open(f"http://any:{secret}@{address}/docs")
        page.wait_for("document.body?.innerText.includes('/api/samples')")
        assert page.evaluate("document.body.innerText.includes('annotator, batch, labels')")
        page.screenshot(tmp_path / "docs.png")
        assert page.evaluate("document.scripts.length") == 0
        assert hosts(page) == {address}
