"""Every kind of good, odd and bad image, made in the test."""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from curation.images.decoding import MAX_PIXELS, BadImage, ImageFacts, Quarantined, inspect, inspect_all, load_rgb

SCENE = Image.fromarray(
    np.add.outer(np.arange(0, 120, 5), np.arange(0, 126, 7)).astype(np.uint8)[:, :, None]
    * np.array([1, 0, 0], np.uint8)
    + np.array([0, 40, 90], np.uint8)
)
"""24 rows, 18 columns, a red slope: no two orientations are alike."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, body: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def patched_jpeg(height: int, width: int) -> bytes:
    data = bytearray(encoded(SCENE, "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def frames(kind: str) -> bytes:
    return encoded(SCENE, kind, save_all=True, append_images=[ImageOps.mirror(SCENE)])


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"not an image at all\n", "is text"),
    "bytes": (bytes(range(256)), "is not JPEG, PNG"),
    "cut": (encoded(SCENE, "JPEG")[:-40], "cut off or damaged"),
    "cut in the header": (encoded(SCENE, "JPEG")[:100], "cut off"),
    "cut png": (encoded(SCENE, "PNG")[:-20], "cut off or damaged"),
    "zero-filled": (encoded(SCENE, "JPEG")[:-60] + bytes(60), "cut off or damaged"),
    "huge png": (png(100_000, 100_000, b""), "100000 x 100000 pixels"),
    "huge png, header alone": (png(100_000, 100_000, b"")[:33], "100000 x 100000 pixels"),
    "huge jpeg": (patched_jpeg(65500, 65500), "65500 x 65500 pixels"),
    "no pixels": (png(0, 5, b""), "0 x 5 pixels"),
    "no rows": (patched_jpeg(0, 5), "zero pixels"),
    "animated gif": (frames("GIF"), "holds 2 frames"),
    "animated webp": (frames("WEBP"), "holds 2 frames"),
    "animated png": (frames("PNG"), "holds 2 frames"),
    "pages": (frames("TIFF"), "holds 2 frames"),
    "floats": (encoded(SCENE.convert("F"), "TIFF"), "mode F"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_image_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    data, wrong = BAD[name]
    path.write_bytes(data)
    with pytest.raises(BadImage) as refusal:
        inspect(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert wrong in message
    assert "; " in message
    assert "\n" not in message


@pytest.mark.parametrize("place", ["nowhere.jpg", "", "x" * 300])
def test_paths_without_a_file_are_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"cannot be read|is a folder"):
        inspect(tmp_path / place)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_every_prefix_is_refused(kind: str) -> None:
    data = encoded(SCENE, kind)
    for length in range(len(data)):
        with pytest.raises(BadImage):
            load_rgb(data[:length])


@given(st.binary(max_size=200), st.sampled_from([b"", *(encoded(SCENE, kind)[:60] for kind in FORMATS[:3])]))
def test_noise_is_refused(noise: bytes, start: bytes) -> None:
    with pytest.raises(BadImage):
        load_rgb(start + noise)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_as_pillow_does(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(SCENE, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_allclose(load_rgb(data), np.asarray(expected), atol=2)


def test_facts_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    SCENE.save(path, exif=exif)
    upright = Image.fromarray(load_rgb(path.read_bytes()))
    assert inspect(path) == ImageFacts(
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        width=24,
        height=18,
        format="JPEG",
        mode="RGB",
        phash=int(str(imagehash.phash(upright)), 16),
        size=path.stat().st_size,
    )


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True}], ids=str)
def test_fast_path_agrees_with_pillow(options: dict[str, object]) -> None:
    data = encoded(SCENE, "JPEG", **options)
    np.testing.assert_allclose(load_rgb(data), np.asarray(Image.open(io.BytesIO(data))), atol=2)


def test_unreadable_exif_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(SCENE, "JPEG", exif=exif).replace(b"Exif\0\0MM\0*", b"Exif\0\0XXXX")
    assert load_rgb(data).shape == (24, 18, 3)


def test_stray_bytes_before_a_marker_do_no_harm() -> None:
    data = encoded(SCENE, "JPEG")
    np.testing.assert_array_equal(load_rgb(data[:-2] + bytes(3) + data[-2:]), load_rgb(data))


def test_a_photo_with_previews_is_read() -> None:
    np.testing.assert_array_equal(load_rgb(frames("MPO")), load_rgb(encoded(SCENE, "JPEG")))


@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_are_writable_rgb(kind: str) -> None:
    pixels = load_rgb(encoded(SCENE, kind))
    assert (pixels.shape, pixels.dtype, pixels.flags.writeable) == ((24, 18, 3), np.uint8, True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey_is_repeated(kind: str) -> None:
    grey = SCENE.convert("L")
    np.testing.assert_allclose(load_rgb(encoded(grey, kind)), np.dstack([np.asarray(grey)] * 3), atol=3)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(kind: str) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40)).convert("CMYK")
    np.testing.assert_allclose(load_rgb(encoded(red, kind)), np.full((16, 16, 3), (200, 30, 40)), atol=4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(kind: str) -> None:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = load_rgb(encoded(Image.fromarray(grey), kind))
    np.testing.assert_array_equal(pixels[:, :, 1], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_composited_on_black(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (200, 200, 200, 128))
    image.putpixel((1, 0), (200, 200, 200, 0))
    pixels = load_rgb(encoded(image.convert(mode), "TIFF" if mode == "PA" else "PNG"))
    np.testing.assert_allclose(pixels, [[[100] * 3, [0] * 3]], atol=1)


def test_transparent_palette_colour_is_black() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    assert load_rgb(encoded(image, "PNG", transparency=0)).tolist() == [[[0, 0, 0], [0, 255, 0]]]


def test_largest_size_is_decoded_without_a_warning() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(BadImage, match="cut off or damaged"):  # decoded: its pixels are found to be missing
        load_rgb(png(10_000, MAX_PIXELS // 10_000, b""))
    assert before == Image.MAX_IMAGE_PIXELS


def test_one_row_more_is_refused_undecoded() -> None:
    with pytest.raises(BadImage, match="10000 x 10001 pixels"):
        load_rgb(png(10_000, MAX_PIXELS // 10_000 + 1, b""))


def test_all_are_inspected_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(SCENE.resize((number + 1, 3)), "PNG"))
    paths[7].write_bytes(b"")
    paths[30].unlink()
    seen: list[tuple[int, int]] = []
    outcomes = list(inspect_all(paths, workers=3, progress=lambda done, total: seen.append((done, total))))
    assert [(number, item.path) for number, item in enumerate(outcomes) if isinstance(item, Quarantined)] == [
        (7, paths[7]),
        (30, paths[30]),
    ]
    assert all(item.width == number + 1 for number, item in enumerate(outcomes) if isinstance(item, ImageFacts))
    assert seen == [(done, 40) for done in range(1, 41)]


def test_nothing_to_inspect() -> None:
    assert list(inspect_all([])) == []
