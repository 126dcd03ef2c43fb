"""The App in a real browser, started in its own process as a user starts it."""

import os
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from support.app import FORM, app, button, mongod, select
from support.chromium import Chromium
from support.homes import copy_home, label, labels, make_home, sample_rows
from support.served import free_port, served

from amber.cli import run
from amber.service.tokens import Tokens
from amber.verbs import browse
from curation.catalog.admin.verification import verify
from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import hold_back
from curation.errors import BadInput
from curation.files.locations import member
from curation.requests.oracle import answer

pytestmark = pytest.mark.filterwarnings("ignore")  # of FiftyOne itself


REQUESTED = "[...document.querySelectorAll('[data-cy=looker]')].filter(e => e.innerText.includes('speed open')).length"
"""How many images of the grid show a request."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("app"), samples=60)


@pytest.fixture
def catalog(pictures: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(pictures, tmp_path)


def test_it_shows_the_catalog(tmp_path: Path) -> None:
    """One image file is missing: the App shows an error for it alone."""
    catalog = make_home(tmp_path, samples=60)
    (tmp_path / "images" / "00003.jpg").unlink()
    with app(catalog) as shown, Chromium() as page:
        shown.open(page, 60)
        page.wait_for("document.body?.innerText.includes('label_color')")
        page.wait_for("document.querySelectorAll('[data-cy=looker-error-info]').length === 1")
        page.screenshot(tmp_path / "grid.png")
        assert (tmp_path / "grid.png").stat().st_size > 10_000
        elsewhere = {url for url in page.requested if not url.startswith((shown.url, "data:", "blob:"))}
        assert {url for url in elsewhere if not url.startswith("https://fonts.googleapis.com/")} == set()
        assert shown.stop() == 130


def test_ask_for_labels_of_three_selected_images(catalog: Catalog) -> None:
    secret = Tokens(catalog.home).add("eve", "label")
    with served(catalog.home) as service:
        words = {"AMBER_SERVICE": service.url, "AMBER_TOKEN": secret}
        with app(catalog, **words) as shown, Chromium() as page:
            shown.open(page, 60)
            page.press("document.querySelector('[data-cy=checkbox-requests]')")
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
            page.wait_for(f"{REQUESTED} === 3")
    keys = [f"pictures/{number:05d}" for number in (4, 5, 6)]
    with catalog.read() as now:
        rows = now.requests("open").to_pylist()
        assert [(row["key"], row["task"], row["reason"]) for row in rows] == [(k, "speed", "looks odd") for k in keys]
        assert now.log()["author"][0].as_py() == "eve"
    hold_back(catalog.home, labels([label(key, "speed", 30.0, "oracle") for key in keys]))
    assert answer(catalog, batch="round") == 3  # the loop answers them


def test_the_app_mongod_and_the_mirror_may_be_killed(catalog: Catalog, tmp_path: Path) -> None:
    """After SIGKILL of each, and after its files are deleted, `amber browse` shows the same; the catalog is intact."""
    port, screen = free_port(), free_port()
    where = {"FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}/"}
    with catalog.read() as now:
        before = now.digest
    folder = tmp_path / "mongo"
    with mongod(folder, port) as server, app(catalog, port=screen, **where) as shown:
        shown.process.kill()
        server.kill()
    with mongod(folder, port) as server:
        words = [sys.executable, "-m", "amber", "browse", "--no-app", "--home", str(catalog.home)]
        done = subprocess.run(words, env=os.environ | where, capture_output=True, text=True, check=True)
        assert "updated from commit 1, 0 written" in done.stdout
        server.kill()
    shutil.rmtree(folder)
    with mongod(folder, port), app(catalog, port=screen, **where) as shown:
        assert "built, 60 written" in shown.output
        assert httpx.get(shown.url, timeout=60).status_code == 200
    with catalog.read() as now:
        assert now.digest == before
    assert all(check.fault == "" for check in verify(catalog))


def test_a_port_in_use_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "LET_GO", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port}: is taken .*; choose another --port"):
            browse._await_free(port)


def test_remote_images_are_shown_under_signed_urls(catalog: Catalog, database: Any, tmp_path: Path) -> None:
    with catalog.read() as now:
        picture = Path(now.samples()["location"][0].as_py())
    with tarfile.open(tmp_path / "more.tar", "w") as tar:
        tar.add(picture, "far.jpg")
    rows = sample_rows(["far"], [picture])
    where = pa.array([member("far.jpg", str(tmp_path / "more.tar"))])
    with catalog.commit(author="ada", message="remote") as change:
        change.add_samples(rows.set_column(rows.column_names.index("location"), "location", where), dataset="far")
    with served(catalog.home) as service:
        assert run(["browse", "--no-app", "--home", str(catalog.home), "--service", service.url]) == 0
        dataset = database.load_dataset(browse._name(catalog))
        assert dataset.app_config.grid_media_field == "url"
        urls = dict(zip(*dataset.values(["key", "url"]), strict=True))
        assert httpx.get(urls["far"]).content == httpx.get(urls["pictures/00000"]).content == picture.read_bytes()
