"""An HTML page of near-duplicates: one row of images per group, with keys and splits."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from curation.files.atomic import whole
from curation.images.decoding import load_rgb
from curation.images.thumbnails import data_uri, shrunk
from curation.ingestion.leaks import NearDuplicates

__all__ = ["write_sheet"]

ROWS = 200
PICTURES = 8
STYLE = "body{font:14px sans-serif}figure{display:inline-block;margin:4px;width:170px;overflow-wrap:anywhere}"


def write_sheet(found: Sequence[NearDuplicates], samples: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write an HTML file of the first 200 groups, 8 images each; `samples` maps keys to location and split."""
    rows = "".join(_row(part, samples) for part in found[:ROWS])
    with whole(path) as made:
        made.write_text(
            f"<!doctype html><meta charset=utf-8><title>Near-duplicates</title><style>{STYLE}</style>"
            f"<h1>{len(found):,} groups of near-duplicates</h1>{rows}",
            encoding="utf-8",
        )


def _row(part: NearDuplicates, samples: Mapping[str, Mapping[str, Any]]) -> str:
    title = f"{len(part.keys)} images{', across splits' if part.across else ''}"
    return f"<h2>{title}</h2>" + "".join(_figure(key, samples[key]) for key in part.keys[:PICTURES])


def _figure(key: str, sample: Mapping[str, Any]) -> str:
    caption = f"<figcaption>{escape(key)}<br>{escape(sample['split'] or 'no split')}</figcaption>"
    try:
        image = Image.fromarray(load_rgb(Path(sample["location"]).read_bytes()))
    except OSError:  # a missing image must not prevent the page
        return f"<figure>(missing){caption}</figure>"
    return f'<figure><img src="{data_uri(shrunk(image))}">{caption}</figure>'
