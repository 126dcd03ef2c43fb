"""Charts, as inline SVG."""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock
from typing import Any, Final

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from curation.arrays import Floats
from training.report.formatting import edges_of

__all__ = ["Line", "Mark", "chart_of", "line_of", "unit_chart"]

Row = Mapping[str, Any]


INKS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "series-0": "#040404",
    "series-1": "#050505",
    "series-2": "#060606",
    "series-3": "#070707",
}
"""Colours that charts are drawn in; the page replaces them by its variables, so that they follow light and dark."""
MARKERS, DASHES = "osD^", ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


POINTS = 200
"""Points of a curve that are drawn at most."""

DRAWING: Final = RLock()
"""Held while a figure is drawn: the service draws in several threads, and matplotlib's settings are global."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points of a curve and the edges of its band."""

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point to stand out on a curve; `form` 0 is a disc, 1 a square."""

    x: float
    y: float
    form: int


def line_of(x: Sequence[float], rows: Sequence[Row]) -> Line:
    edges = [edges_of(row) for row in rows]
    return Line(
        x=list(x), y=[row["value"] for row in rows], low=[low for low, _ in edges], high=[high for _, high in edges]
    )


def chart_of(
    alt: str,
    lines: Sequence[Line],
    *,
    span: tuple[float, float],
    across: str,
    reference: float | None = None,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Lines with their bands, and marks on them, as inline SVG; one unit is a pixel at its natural width of 340."""
    figure, axes = _empty(196)
    if reference is not None:
        axes.axhline(reference, color=INKS["muted"], linewidth=1, linestyle=(0, (3, 3)))
    for code, line in enumerate(lines):
        color, form = INKS[f"series-{code % 4}"], code % 4
        marker = MARKERS[form] if len(line.x) <= 20 else ""
        if line.low != line.high:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.16, linewidth=0)
        drawn = axes.plot(
            line.x, line.y, color=color, linewidth=1.8, linestyle=DASHES[form], marker=marker, markersize=5
        )
        drawn[0].set_clip_on(not marker)
    _mark(axes, marks)
    axes.set_ylim(*span)
    ticks = sorted({x for line in lines for x in line.x})
    axes.xaxis.set_major_locator(FixedLocator(ticks) if len(ticks) <= 6 else MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x >= 10_000 else f"{x:,g}"))
    _style(axes, across)
    return _inline(figure, alt)


def unit_chart(
    alt: str,
    x: Floats,
    y: Floats,
    *,
    across: str,
    marks: Sequence[Mark] = (),
    band: tuple[Floats, Floats] | None = None,
    diagonal: bool = False,
) -> Markup:
    """A curve [n] in the unit square as inline SVG, with its band, marks on it, and the diagonal as reference."""
    with _unit_square() as (figure, axes):
        if diagonal:
            axes.plot([0, 1], [0, 1], color=INKS["muted"], linewidth=1, linestyle=(0, (3, 3)))
        if band is not None:
            axes.fill_between(x, *band, color=INKS["series-0"], alpha=0.16, linewidth=0)
        kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int)) if len(x) else []
        marker = "o" if band is not None else ""
        axes.plot(x[kept], y[kept], color=INKS["series-0"], linewidth=1.8, marker=marker, markersize=5, clip_on=False)
        _mark(axes, marks)
        axes.set_xlabel(across)
        return _inline(figure, alt)


@contextmanager
def _unit_square() -> Iterator[tuple[Figure, Axes]]:
    """The axes of the unit square, for one thread at a time; what the block draws on them is taken off at its end."""
    with DRAWING:
        figure, axes = _empty_square()
        try:
            yield figure, axes
        finally:
            for artist in (*axes.lines, *axes.collections):
                artist.remove()


@lru_cache(maxsize=1)
def _empty_square() -> tuple[Figure, Axes]:
    """Axes of the unit square without a curve: to make them takes as long as to draw a curve."""
    figure, axes = _empty(240)
    axes.set_xlim(0, 1.0)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _style(axes, "")
    return figure, axes


def _mark(axes: Axes, marks: Sequence[Mark]) -> None:
    for mark in marks:
        form, color = MARKERS[mark.form], INKS["ink"] if mark.form == 0 else INKS["series-1"]
        axes.plot([mark.x], [mark.y], color=color, marker=form, markersize=9, linestyle="none", clip_on=False)


def _empty(height: int) -> tuple[Figure, Axes]:
    """A figure 340 wide, in units of a pixel, and its axes."""
    figure = Figure(figsize=(340 / 72, height / 72))
    bottom = 39 / height
    return figure, figure.add_axes((0.115, bottom, 0.86, 0.95 - bottom))


def _style(axes: Axes, across: str) -> None:
    axes.set_xlabel(across, fontsize=11, color=INKS["muted"], labelpad=3)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(labelsize=11, labelcolor=INKS["muted"], color=INKS["line"], length=3)
    axes.grid(axis="y", color=INKS["line"], linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(INKS["line"])


def _inline(figure: Figure, alt: str) -> Markup:
    """A figure as the SVG element of an HTML page: its own ids, the page's colours and fonts, no namespace."""
    ident = "c" + hashlib.sha256(alt.encode()).hexdigest()[:8]
    text = io.StringIO()
    with DRAWING, matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": ident}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    inner = svg[svg.index("</defs>") + len("</defs>") : svg.rindex("</svg>")]
    inner = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{ident}-", inner).replace("xlink:href", "href")
    inner = re.sub(r"font-family: [^;\"]*;? ?", "", inner)
    for name, ink in INKS.items():
        inner = inner.replace(ink, f"var(--{name})")
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">{inner}</svg>'
    )
