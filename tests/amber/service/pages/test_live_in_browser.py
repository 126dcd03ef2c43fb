"""A training that a child process runs, watched in a real browser until its figures appear; then compared and judged by
a gate, and a commit reverted, all by clicks."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.chains import SMALL
from support.chromium import Chromium
from support.homes import label, labels
from support.pages import press, send_form, sign_in
from support.planted_runs import noisy, plant_run, planted_home
from support.served import served

from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.files.toml_files import toml_text
from samplers.pack.pack import Pack
from samplers.plan.build import make_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.live_run import NAME

KEY = "pictures/00001"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan]:
    """A workspace with one evaluated run, a plan of a few seconds of training, and a label to take back."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("watched"))
    plant_run(catalog, plan, "planted", lambda task: noisy(catalog, task, signal=3.0))
    with catalog.commit(author="bob", message="a mistake") as change:
        change.add_labels(labels([label(KEY, "color", "green", annotator="bob")]), source="human")
    with catalog.read() as now:
        policy = Policy.even([now.task("color"), now.task("car")])
    return catalog, make_plan(catalog, policy, Pack.open(catalog.home, plan.pack_hash), draws=8_000)


@contextmanager
def training(catalog: Catalog, plan: Plan, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`amber train` in a process of its own."""
    recipe = folder / "small.toml"
    recipe.write_text(toml_text(SMALL))
    words = [sys.executable, "-m", "amber", "train", "--plan", plan.hash, "--recipe", str(recipe), "--author", "tia"]
    child = subprocess.Popen([*words, "--home", str(catalog.home), "--json"], stdout=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def link(text: str) -> str:
    """The link or button of the page with this text, as an expression."""
    return f"[...document.querySelectorAll('main a, main button')].find(each => each.innerText.trim() == '{text}')"


def test_a_training_is_watched_compared_and_a_commit_reverted(made: tuple[Catalog, Plan], tmp_path: Path) -> None:
    catalog, plan = made
    secret = Tokens(catalog.home).add("lead", "admin")
    with served(catalog.home) as service, Chromium() as browser:
        sign_in(browser, service.url, secret)
        with training(catalog, plan, tmp_path) as child:
            while not (notes := list(catalog.home.glob(f"runs/*/{NAME}"))) and child.poll() is None:
                time.sleep(0.05)
            run = notes[0].parent.name
            browser.open(f"{service.url}/runs")
            browser.wait_for("document.querySelector('.training .progress')?.ariaValueNow > 0")
            browser.press("document.querySelector('.training a')")
            first = float(
                browser.wait_for("(now => now > 0 && now)(document.querySelector('#live .progress')?.ariaValueNow)")
            )
            browser.wait_for(f"document.querySelector('#live .progress')?.ariaValueNow > {first}")
            assert "images/s" in browser.wait_for("document.querySelector('#live')?.innerText")
            assert any(address.endswith(f"/events/runs/{run}") for address in browser.requested)
            caption = "document.querySelector('main .figures caption')?.innerText.includes('on test')"
            browser.wait_for(caption, seconds=120)
            assert child.wait(60) == 0
        assert browser.evaluate("location.pathname") == f"/runs/{run}"
        assert "by tia in" in browser.evaluate("document.querySelector('main').innerText")
        assert browser.evaluate("document.querySelectorAll('main').length") == 1
        browser.press(link("Compare"))
        browser.wait_for("document.querySelector('main')?.innerText.includes('no difference shown') || "
                         "document.querySelector('main')?.innerText.includes('worse')")  # fmt: skip
        assert browser.evaluate("document.querySelector('select[name=a]').value") == "planted"
        send_form(browser, "/compare/gate", "#gate form button", says="", where="#gate .verdict")
        _revert(browser)
    with catalog.read() as now:
        row = now.log.commit(now.commit)
        assert (row["author"], row["message"]) == ("lead", "revert commit 4")
        (gate,) = [act for act in now.ownership.acts().to_pylist() if act["act"] == "gate"]
        assert (gate["subject"], gate["before"], gate["member"]) == (run, "planted", "lead")
        own = now.labels.by_annotator("color")
        assert "bob" not in own["annotator"].to_pylist()


def _revert(browser: Chromium) -> None:
    """Revert bob's commit, by clicks from the log on."""
    press(browser, '.top nav a[href="/log"]')
    browser.wait_for("document.querySelector('h1')?.innerText == 'Log'")
    browser.press("[...document.querySelectorAll('tbody tr')].find(row => row.innerText.includes('a mistake'))"
                  ".querySelector('a')")  # fmt: skip
    browser.wait_for("document.querySelector('h1')?.innerText == 'Commit 4'")
    browser.press(link("Revert it"))
    send_form(browser, "/log/{commit}/revert", 'form[action="/log/4/revert"] button', says="undoes commit 4")
