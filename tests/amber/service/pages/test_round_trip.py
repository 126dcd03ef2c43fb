"""Once round in the browser: the worst slice, its images, three labels asked for, answered in a real Label Studio, a
new run whose figures and trend the pages show."""

import time
from pathlib import Path

import pytest
from support.chromium import Chromium
from support.homes import make_home, work_in
from support.pages import press, send_form, sign_in
from support.served import served
from support.studio import Studio

from amber.cli import run
from amber.service.tokens import Tokens
from benchmarks.annotators import Annotator, Scripted, working
from curation.catalog.catalog import Catalog
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push

TRAIN = ["train", "--heads", "exact", "--size", "64", "64"]


def known(catalog: Catalog) -> int:
    """How many images have a label of color that people gave."""
    with catalog.read() as now:
        return sum(row["statements"] for row in now.labels.statements().to_pylist() if row["source"] == "human")


def answered(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, person: Annotator, url: str
) -> None:  # fmt: skip
    """Push the open requests, let a person answer each, and pull until all are closed."""
    push(catalog, server, Asking(), url_for=lambda sample: f"{url}/nothing")
    with catalog.read() as now:
        says = Scripted(now.tasks(), lambda key, task: "yellow", error=0, unsure=0)
    with working(catalog, studio.local, [(person, says)]):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            pull(catalog, server)
            with catalog.read() as now:
                if not len(now.requests("open")):
                    return
            time.sleep(0.5)
    raise AssertionError("the requests were not answered")


def test_from_the_worst_slice_to_a_new_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: LabelStudioClient, studio: Studio,
    people: dict[str, Annotator],
) -> None:  # fmt: skip
    work_in(tmp_path, monkeypatch)
    catalog = make_home(tmp_path)
    assert run(["plan", "--draws", "320"]) == 0
    assert run(TRAIN) == 0
    secret = Tokens(catalog.home).add("cleo", "label")
    with served(catalog.home) as service, Chromium() as browser:
        sign_in(browser, service.url, secret)
        browser.wait_for("!!document.querySelector('#worst + .scroll tbody th a')")
        worst = browser.evaluate("document.querySelector('#worst + .scroll tbody th a').textContent")
        press(browser, "#worst + .scroll tbody th a")
        browser.wait_for(f"location.pathname === '/slices/{worst}' && !!document.querySelector('.filters')")
        for name, value in (("task", "color"), ("state", "unknown")):
            browser.evaluate(f"document.querySelector('.filters select[name={name}]').value = '{value}'")
        press(browser, ".filters button")
        browser.wait_for("location.search.includes('state=unknown') && !!document.querySelector('input[name=keys]')")
        for place in (1, 2, 3):
            press(browser, f".gallery li:nth-child({place}) input[name=keys]")
        press(browser, ".act details:nth-of-type(1) summary")
        browser.evaluate("for (const box of document.querySelectorAll('.act input[name=tasks]'))"
                         " box.checked = box.value === 'color'")  # fmt: skip
        send_form(browser, "/slices/{name} request", ".act button[value=request]", says="Asked for 3 labels")
        with catalog.read() as now:
            asked = now.requests("open").to_pylist()
        assert [row["task"] for row in asked] == ["color"] * 3

        answered(catalog, server, studio, people["ann"], service.url)
        assert known(catalog) == 3
        assert run(["plan", "--draws", "320"]) == 0
        assert run(TRAIN) == 0
        with catalog.read() as now:
            runs = now.runs()["run"].to_pylist()
        assert len(set(runs)) == 2

        browser.open(f"{service.url}/slices/{worst}?task=color")
        browser.wait_for("document.querySelectorAll('#figures thead a[href^=\"/runs/\"]').length === 2")
        assert browser.evaluate("[...document.querySelectorAll('#figures thead a')].map(a => a.pathname)") == [
            f"/runs/{name}" for name in reversed(runs)
        ]
        browser.wait_for("document.querySelector('#figures .spark')?.getAttribute('aria-label').includes('2 runs')")
        browser.open(f"{service.url}/tasks/color")
        rows = "[...document.querySelectorAll('tbody tr')].map(row => row.innerText)"
        browser.wait_for(f"{rows}.some(text => /ann@people.test\\s+human\\s+3/.test(text))")
        browser.open(f"{service.url}/requests?state=answered")
        browser.wait_for("document.querySelectorAll('main tbody tr').length >= 3")
