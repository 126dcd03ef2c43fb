"""Images as files hold them: decoded in full, turned upright and measured, or refused with a reason.

Accepted: JPEG, PNG, WebP, BMP, TIFF, AVIF, JPEG 2000, PPM, PCX, QOI, SGI, Sun raster and one-frame GIF; grey, palette,
CMYK, alpha, 16 bits. All become RGB of 8 bits: grey is repeated, alpha is composited on black, CMYK is converted
without a colour profile (values are inverted where Adobe stored them so), 16-bit grey is scaled by 255/65535, and the
EXIF orientation is applied.
Refused: empty, cut off, damaged, text, over `MAX_PIXELS`, more than one frame, pixels without a known range.
"""

import hashlib
import io
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from curation.errors import BadInput
from curation.files.locations import read_bytes

__all__ = ["MAX_PIXELS", "BadImage", "ImageFacts", "Quarantined", "inspect", "inspect_all", "load_rgb", "sizes"]

MAX_PIXELS = 100_000_000
"""An image whose header announces more is refused before anything is decoded."""

Pixels = npt.NDArray[np.uint8]

_HEADER = 1 << 18  # bytes that hold the size of nearly every image, EXIF thumbnail included
_CHUNK = 16  # images a thread takes at a time: one by one, small images spend long on the hand-over
_BLOCK = 64  # chunks in flight: enough to keep all threads busy, few enough to stop soon
_ORIENTATION = 0x0112
# formats with a signature in their first bytes, whose decoders run no other program and have no layers
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "PCX", "QOI", "SGI", "SUN", "DIB")
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
_JPEG_MODES = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "L"}
_CONVERTIBLE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LA", "La", "PA", "RGBA", "RGBa"}
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}
_bomb_check = threading.Lock()


class BadImage(BadInput):
    """A file that is no image we can use: what is wrong with it, and the mend."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What one image file holds.

    `width` and `height` are those of the upright image in pixels; `format` ("JPEG", "PNG", ...) and `mode`
    ("RGB", "L", "CMYK", ...) are the file's own as Pillow names them; `size` is in bytes; `sha256` is the
    file's, in hex; `phash` is the 64-bit perceptual hash of the upright RGB image, as an unsigned number.
    """

    sha256: str
    width: int
    height: int
    format: str
    mode: str
    phash: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A file that was refused; `reason` is what follows the location in the message of `BadImage`."""

    path: Path | str
    reason: str


def inspect(path: Path | str) -> ImageFacts:
    """Decode an image in full and measure it; raises `BadImage` for whatever cannot be read or used.

    `path` may be any location that `curation.files.locations` reads: a file, a URL, a member of a tar.
    """
    try:
        return _facts(_read(path))
    except BadImage as error:
        raise BadImage(f"{path}: {error}") from error


def inspect_all(
    paths: Sequence[Path | str],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[ImageFacts | Quarantined]:
    """Inspect many files on `workers` threads (default: one a core); results come in the order of `paths`.

    `progress(done, total)` is called before each result is handed out.
    """
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, outcome in enumerate(_outcomes(pool, paths), start=1):
            if progress is not None:
                progress(done, len(paths))
            yield outcome


def load_rgb(data: bytes) -> Pixels:
    """The upright image in a file's bytes, uint8 [H, W, 3] in RGB; raises `BadImage` (naming no path)."""
    return _decode(data)[0]


def sizes(locations: Sequence[str], workers: int | None = None) -> list[tuple[int, int] | None]:
    """Width and height in pixels of upright images, from their headers; None for what cannot be read."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(_size, locations, chunksize=_CHUNK))


def _size(location: str) -> tuple[int, int] | None:
    for count in (_HEADER, None):
        try:
            with _open(read_bytes(location, count)) as image:
                turned = _orientation(image) >= 5
                return (image.height, image.width) if turned else image.size
        except BadInput:  # a header that goes on behind the first bytes, or no image: `inspect` says which
            continue
    return None


def _outcomes(pool: ThreadPoolExecutor, paths: Sequence[Path | str]) -> Iterator[ImageFacts | Quarantined]:
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    for start in range(0, len(chunks), _BLOCK):
        for outcomes in pool.map(_inspect_chunk, chunks[start : start + _BLOCK]):
            yield from outcomes


def _inspect_chunk(paths: Sequence[Path | str]) -> list[ImageFacts | Quarantined]:
    return [_outcome(path) for path in paths]


def _outcome(path: Path | str) -> ImageFacts | Quarantined:
    try:
        return _facts(_read(path))
    except BadImage as error:
        return Quarantined(path=path, reason=str(error))


def _facts(data: bytes) -> ImageFacts:
    pixels, kind, mode = _decode(data)
    bits = imagehash.phash(Image.fromarray(pixels)).hash
    return ImageFacts(
        sha256=hashlib.sha256(data).hexdigest(),
        width=pixels.shape[1],
        height=pixels.shape[0],
        format=kind,
        mode=mode,
        phash=int.from_bytes(np.packbits(bits).tobytes(), "big"),
        size=len(data),
    )


def _read(path: Path | str) -> bytes:
    try:
        return read_bytes(str(path))
    except BadInput as error:
        raise BadImage(str(error)) from error


def _decode(data: bytes) -> tuple[Pixels, str, str]:
    """Upright pixels, format and mode."""
    if not data:
        raise BadImage("is empty; copy it again or leave it out")
    return _decode_jpeg(data) or _decode_any(data)


def _decode_jpeg(data: bytes) -> tuple[Pixels, str, str] | None:
    """The fast path; None where Pillow has to read the file, or to say what is wrong with it."""
    if not data.startswith(b"\xff\xd8"):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if space not in _JPEG_MODES:
        return None
    _check_size(width, height)
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        # Stray bytes before a marker are common and harmless: Pillow decides those, and all that is unknown.
        if "extraneous" in str(error) or not re.search("Premature|Corrupt", str(error)):
            return None
        raise _damaged(error) from error
    return _upright(pixels, _jpeg_orientation(data)), "JPEG", _JPEG_MODES[space]


def _jpeg_orientation(data: bytes) -> int:
    if b"Exif\0\0" not in data and b"tiff:Orientation" not in data:
        return 1
    with _open(data) as image:
        return _orientation(image)


def _decode_any(data: bytes) -> tuple[Pixels, str, str]:
    with _open(data) as image:
        kind, mode = str(image.format).replace("MPO", "JPEG"), image.mode
        try:
            _check_frames(image)
            image.load()
            _check_end(image, data)
            return _upright(_rgb(image), _orientation(image)), kind, mode
        except BadImage:
            raise
        except Exception as error:  # a decoder may raise anything on hostile bytes
            raise _damaged(error) from error


def _open(data: bytes) -> Image.Image:
    """Read the header only. Pillow's own size check would warn below our limit, so it is off meanwhile."""
    with _bomb_check:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        except UnidentifiedImageError as error:
            raise BadImage(_why_unknown(data)) from error
        except Exception as error:  # as above
            raise _damaged(error) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    _check_size(*image.size)
    return image


def _why_unknown(data: bytes) -> str:
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        _check_size(*struct.unpack(">II", data[16:24]))
    if data.startswith(_MAGIC):
        return "its header is cut off, damaged or says zero pixels; copy it again or leave it out"
    if _is_text(data[:1024]):
        return "is text, not an image; leave it out"
    return "is not JPEG, PNG, WebP, BMP, TIFF, GIF or another format that is read; convert it or leave it out"


def _is_text(data: bytes) -> bool:
    """Whether bytes are UTF-8 without control characters; the last character may be cut off."""
    try:
        text = data.decode(errors="strict")
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:
            return False
        text = data[: error.start].decode()
    return not re.search(r"[\x00-\x08\x0e-\x1f]", text)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise BadImage(f"{width} x {height} pixels, at least one is needed; copy it again or leave it out")
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels, at most {MAX_PIXELS} are read; shrink it or leave it out")


def _check_frames(image: Image.Image) -> None:
    """A multi-picture JPEG is a photo with previews behind it; elsewhere, which frame is meant is open."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise BadImage(f"holds {frames} frames, one is expected; save the frame that you mean by itself")


def _check_end(image: Image.Image, data: bytes) -> None:
    """Pillow is content with a PNG or GIF whose last bytes are lost."""
    if (image.format == "PNG" and b"IEND\xaeB`\x82" not in data) or (image.format == "GIF" and b";" not in data[-9:]):
        raise _damaged(EOFError("its end is missing"))


def _damaged(error: Exception) -> BadImage:
    detail = " ".join(str(error).split()) or type(error).__name__
    return BadImage(f"is cut off or damaged ({detail}); copy it again or leave it out")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF that cannot be read turns nothing, and the pixels are sound
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        return _scale_16_bits(np.asarray(image), image.info.get("transparency"))
    if image.mode not in _CONVERTIBLE:
        raise BadImage(f"pixels of mode {image.mode} have no agreed range; save it with 8 bits a channel")
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _scale_16_bits(grey: npt.NDArray[np.uint16], transparent: int | None) -> Pixels:
    scaled = ((grey.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if transparent is not None:
        scaled[grey == transparent] = 0
    return np.repeat(scaled[:, :, None], 3, axis=2)
