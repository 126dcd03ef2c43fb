"""The docs as a site: `make docs` builds it strictly, it asks no network for anything, and it shows what is public."""

import ast
import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from support.chromium import Chromium
from support.concept_pictures import FOLDER, pictures
from support.docs_site import NOTEBOOK
from support.docstring_examples import fenced

ROOT = Path(__file__).parents[1]
PACKAGES = ("curation", "samplers", "training")
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; the notebook runs for it."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Addresses(HTMLParser):
    """What a page loads: scripts, styles and images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of one element."""
        self.found += [value or "" for name, value in attrs if LOADED.get(tag) == name]


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    loaded = {(page.name, url) for page in pages for url in Addresses(page.read_text()).found}
    assert {(page, url) for page, url in loaded if re.match(r"(https?:)?//", url)} == set()
    assert not any(
        "http" in rule
        for path in site.rglob("*.css")
        for rule in re.findall(r"url\(.*?\)|@import.*", path.read_text())
        if "data:" not in rule and "w3.org" not in rule
    )


def test_every_page_of_the_docs_is_in_the_site(site: Path) -> None:
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in site.glob("*.html")}
    menu = (site / "index.html").read_text()
    for section in ("Start", "Concepts", "How to", "Reference", "Figures", "Log"):
        assert section in menu


def test_the_search_works_from_a_folder(site: Path) -> None:
    with Chromium() as browser:
        browser.open(f"{site.as_uri()}/index.html")
        browser.wait_for("!!document.querySelector('.md-search__input') && document.readyState == 'complete'")
        browser.evaluate("document.querySelector('.md-search__input').focus()")
        browser.write("propensity")
        pressed = "document.querySelector('.md-search__input').dispatchEvent(new Event('keyup'))"
        assert browser.wait_for(f"{pressed} && document.querySelectorAll('.md-search-result__item').length > 0")
        assert [url for url in browser.requested if not url.startswith(("file:", "data:"))] == []


def test_the_notebook_ran_and_is_committed_without_outputs(site: Path) -> None:
    cells = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT).cells
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    page = (site / "notebook.html").read_text()
    for shown in ("Catalog of", "draws for color", "Run ", "balanced accuracy on test"):
        assert shown in page
    assert "Traceback" not in page


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(package: str, site: Path) -> None:
    ids = set(re.findall(r'id="([\w.]+)"', (site / "python.html").read_text()))
    public = importlib.import_module(package)
    assert {name for name in public.__all__ if _home_of(public, name) not in ids} == set()


def _home_of(package: object, name: str) -> str:
    made = getattr(package, name)
    return f"{made.__module__}.{made.__qualname__}"


def test_the_examples_of_docstrings_are_code(site: Path) -> None:
    assert fenced("Adds.\n\n>>> 1 + 1\n2\n\nEnd.") == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nEnd."
    assert "<blockquote>" not in (site / "python.html").read_text()


def test_code_in_tables_has_no_backslash(site: Path) -> None:
    assert "[validation|test]" in (site / "cli.html").read_text()


def test_the_pictures_are_those_that_are_drawn() -> None:
    drawn = dict(pictures())
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(drawn)
    for name, text in drawn.items():
        assert (FOLDER / f"{name}.svg").read_text() == text, "run: python tests/support/concept_pictures.py"


def test_the_code_of_the_notebook_is_python() -> None:
    for cell in nbformat.read(NOTEBOOK, nbformat.NO_CONVERT).cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
