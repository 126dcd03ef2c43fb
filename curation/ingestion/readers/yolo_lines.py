"""Lines of YOLO's text files: boxes, polygons, oriented boxes and key points, distinguished over a whole data set."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from curation.errors import BadInput
from curation.ingestion.readers.findings import BadEntry

__all__ = ["Line", "LineForm", "line_form", "parse_line"]

Corner = tuple[float, float, float, float]
Meaning = Literal["polygons", "key_points"]

_WRITE = "write: class x y width height"
_AROUND = 0.02  # of the image: key points may lie outside their box by this much


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: its class and the numbers after it, in fractions of the image."""

    origin: str
    code: int
    numbers: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LineForm:
    """The meaning of the lines with more than 5 numbers; `points` are the numbers of a line's key points, if known."""

    meaning: Meaning
    points: int = 0

    def box_of(self, line: Line) -> tuple[Corner, dict[str, float]]:
        """Left, top, width and height in fractions, and further attributes; BadEntry for a line of another form."""
        numbers, count = line.numbers, len(line.numbers)
        if count in (4, 5):
            return _centered(numbers[:4]), dict(zip(["confidence"], numbers[4:], strict=False))
        if self.meaning == "key_points":
            if self.points and count not in (4 + self.points, 5 + self.points):
                rule = f"kpt_shape of data.yaml makes {4 + self.points}"
                raise BadEntry(line.origin, f"{count} numbers after the class:", rule, "correct the line or kpt_shape")
            more = numbers[4 + self.points :] if self.points else ()
            return _centered(numbers[:4]), dict(zip(["confidence"], more, strict=False))
        if count < 6 or count % 2:
            raise BadEntry(line.origin, f"{count} numbers after the class", "make no box", _WRITE)
        xs, ys = numbers[::2], numbers[1::2]
        return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), {}


def line_form(lines: Iterable[Line], declared: str, kpt_shape: Sequence[int] | None, file: str) -> LineForm:
    """The form of the lines of a data set: as declared, by kpt_shape, or by the columns of all files.

    Lines with different numbers of columns are polygons. Lines with the same number are key points only if every line
    has its points inside its box and the number or the visibility flags (0, 1, 2) fit; where both readings fit,
    BadInput asks for kpt_shape or `lines`.
    """
    if declared == "polygons":
        return LineForm(meaning="polygons")
    if kpt_shape:
        return LineForm(meaning="key_points", points=kpt_shape[0] * kpt_shape[1])
    long = [line for line in lines if len(line.numbers) > 5]
    counts = Counter(len(line.numbers) for line in long)
    if declared == "key_points":
        return LineForm(meaning="key_points", points=next(iter(counts)) - 4 if len(counts) == 1 else 0)
    if len(counts) != 1 or not all(_may_be_key_points(line.numbers) for line in long):
        return LineForm(meaning="polygons")
    (count,) = counts
    if count % 2:  # a polygon has an even number
        return LineForm(meaning="key_points", points=count - 4)
    raise BadInput(
        f"{long[0].origin}: all {len(long):,} lines with more than 5 numbers have {count}, which are polygons or a box "
        f'and its key points; write kpt_shape into {file}, or set lines = "polygons" or "key_points" in [reader]'
    )


def parse_line(text: str, origin: str) -> Line:
    """The class and numbers of a line; BadEntry names a line of another form."""
    try:
        code, *numbers = [float(word) for word in text.split()]
        if code != int(code):
            raise ValueError
    except (ValueError, OverflowError):
        fix = f"separate the numbers by spaces, and {_WRITE}" if "," in text else _WRITE
        raise BadEntry(origin, repr(text[:60]), "is not a class and numbers", fix) from None
    if len(numbers) < 4:
        raise BadEntry(origin, f"{len(numbers)} numbers after the class", "make no box", _WRITE)
    return Line(origin=origin, code=int(code), numbers=tuple(numbers))


def _centered(numbers: Sequence[float]) -> Corner:
    x, y, w, h = numbers
    return x - w / 2, y - h / 2, w, h


def _may_be_key_points(numbers: Sequence[float]) -> bool:
    """Whether a line reads as a box inside the image and points in or near the box."""
    left, top, w, h = _centered(numbers[:4])
    if w <= 0 or h <= 0 or min(left, top) < -_AROUND or max(left + w, top + h) > 1 + _AROUND:
        return False
    rest = numbers[4:]
    flagged = len(rest) % 3 == 0 and all(flag in (0, 1, 2) for flag in rest[2::3])
    return any(
        _inside(list(zip(rest[::step], rest[1::step], strict=False)), left, top, w, h)
        for step in ((3,) if len(rest) % 2 else (2, 3) if flagged else (2,))
        if len(rest) % step == 0 and (step == 2 or flagged)
    )


def _inside(points: Sequence[tuple[float, float]], left: float, top: float, w: float, h: float) -> bool:
    """Whether points are in or near a box; (0, 0) is a key point that is not labelled."""
    return all(
        (x, y) == (0, 0) or (left - _AROUND <= x <= left + w + _AROUND and top - _AROUND <= y <= top + h + _AROUND)
        for x, y in points
    )
