"""Take the screenshots of docs/browsing.md: `python tests/support/screens.py docs/images` (minutes)."""

import io
import os
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from support.app import app
from support.chromium import Chromium

from amber.loop import Loop, run_loop
from curation.catalog.catalog import Catalog
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from training.recipe import Recipe

STREETS = Path(__file__).parents[2] / "datasets" / "streets"
IMAGES = 400
WIDTH, QUALITY = 1200, 80


def main(folder: Path) -> None:
    """Render scenes, train once, and take screenshots of the grid, the embeddings and an evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="amber-screens-") as name:
        os.environ["AMBER_CACHE"] = str(Path(name) / "images")
        catalog = Catalog.create(Path(name) / "streets")
        ingest(catalog, Dataset.load(STREETS).with_reader({"images": IMAGES}), author="docs")
        recipe = Recipe.of("efficientnet_lite0")
        loop = Loop(rounds=1, start=0, budget=100, recipe=recipe, first_draws=3_200, draws=3_200)
        run = list(run_loop(catalog, loop, author="docs"))[-1].run
        take_all(catalog, run, folder)


def take_all(catalog: Catalog, run: str, folder: Path) -> None:
    """Take the screenshots of one run."""
    with app(catalog, "--run", run) as shown, Chromium() as page:
        shown.open(page, IMAGES)
        take(page, folder / "grid.jpg")
        model = next((catalog.home / "embeddings").iterdir()).name
        here = page.evaluate("location.href")
        page.open(f"{here}?workspace=map-{model.replace('_', '-')}")
        page.press(leaf("embeddings_"))
        page.wait_for(f"document.body?.innerText.includes('{IMAGES} points')", seconds=180)
        take(page, folder / "embeddings.jpg")
        page.open(f"{here}?workspace=evaluation")
        page.wait_for("document.body?.innerText.includes('Model Evaluations')", seconds=180)
        page.press(leaf("eval_light_color"))
        page.wait_for("document.body?.innerText.includes('Accuracy')", seconds=180)
        take(page, folder / "evaluation.jpg")


def leaf(text: str) -> str:
    """The last innermost element whose text starts with `text`."""
    return f"[...document.querySelectorAll('*')].findLast(e => e.innerText?.startsWith('{text}') && !e.children.length)"


def take(page: Chromium, path: Path) -> None:
    """Take a screenshot of the page once it no longer changes."""
    before = b""
    while (png := page.png()) != before:
        before = png
        time.sleep(3)
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.resize((WIDTH, image.height * WIDTH // image.width), Image.Resampling.LANCZOS).save(path, quality=QUALITY)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
