"""An HTML page of pictures in rows, in one file that opens anywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import repeat
from pathlib import Path

from PIL import Image

from curation.errors import AmberError
from curation.files.atomic import whole
from curation.files.locations import read_bytes
from curation.images.crops import Corners, crop_of
from curation.images.decoding import load_rgb
from curation.images.thumbnails import data_uri, shrunk

__all__ = ["PictureRow", "write_pictures"]

STYLE = (
    "body{font:14px sans-serif}figure{display:inline-block;margin:4px;width:170px;overflow-wrap:anywhere;"
    "vertical-align:top}"
)


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """A heading over pictures: the location of each, and the lines below it; with `parts`, what is shown of each."""

    title: str
    pictures: Sequence[tuple[str, Sequence[str]]]
    parts: Sequence[Corners] = ()


def write_pictures(path: Path, title: str, rows: Iterable[PictureRow]) -> None:
    """Write an HTML file of rows of pictures, each at most 160 pixels wide and high; a missing one is named."""
    body = "".join(
        f"<h2>{escape(row.title)}</h2>"
        + "".join(
            _figure(location, lines, part)
            for (location, lines), part in zip(row.pictures, row.parts or repeat(None), strict=False)
        )
        for row in rows
    )
    with whole(path) as made:
        made.write_text(
            f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
            f"<h1>{escape(title)}</h1>{body}",
            encoding="utf-8",
        )


def _figure(location: str, lines: Sequence[str], part: Corners | None) -> str:
    caption = f"<figcaption>{'<br>'.join(map(escape, lines))}</figcaption>"
    try:
        pixels = load_rgb(read_bytes(location))
        image = Image.fromarray(crop_of(pixels, part) if part else pixels)
    except (OSError, AmberError):  # a missing image must not prevent the page
        return f"<figure>(missing){caption}</figure>"
    return f'<figure><img src="{data_uri(shrunk(image))}">{caption}</figure>'
