"""Images of the service: ranges, thumbnails, signed URLs, and what is no longer served."""

import asyncio
import base64
import io
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest
from PIL import Image
from support.homes import copy_home, make_home
from support.served import Served, served

from amber.forget import forget
from amber.service.client import Client
from amber.service.images.pictures import LARGEST, Pictures
from amber.service.images.signed_urls import Signer
from amber.service.secret_files import write_secret
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Damaged

Http = httpx.Client


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("images"), samples=40)


@pytest.fixture(scope="module")
def secrets(made: Catalog) -> dict[str, str]:
    return {"read": Tokens(made.home).add("read", "read")}


@pytest.fixture(scope="module")
def service(made: Catalog, secrets: dict[str, str]) -> Iterator[Served]:
    with served(made.home) as running:
        yield running


@pytest.fixture(scope="module")
def http(service: Served) -> Iterator[Http]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def reader(http: Http, secrets: dict[str, str]) -> Client:
    return Client("", secrets["read"], http=http)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}".strip()}


@pytest.fixture
def image(reader: Client) -> str:
    return reader.samples(limit=1)[0].image


def test_an_image_is_sent_whole_in_ranges_or_not_modified(http: Http, made: Catalog, image: str) -> None:
    with made.read() as now:
        data = Path(now.samples()["location"][0].as_py()).read_bytes()
    whole = http.get(image)
    assert (whole.content, whole.headers["content-type"]) == (data, "image/jpeg")
    assert whole.headers["access-control-allow-origin"] == "*"
    cases = {"bytes=0-9": data[:10], "bytes=5-": data[5:], "bytes=-7": data[-7:], "bytes=0-99999999": data}
    for asked, expected in cases.items():
        part = http.get(image, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"].endswith(f"/{len(data)}")
    for asked in ("bytes=9-5", "bytes=99999999-", "bytes=-0", "bytes=-", "pages=1-2", "bytes=a-b"):
        assert http.get(image, headers={"Range": asked}).status_code == 416
    assert http.get(image, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert http.get(image, headers={"Range": "bytes=0-9", "If-Range": '"old"'}).content == data
    assert http.head(image).headers["content-length"] == str(len(data))


def test_thumbnails_have_their_sizes(http: Http, image: str) -> None:
    small = http.get(image, params={"size": 64})
    assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
    assert small.headers["etag"] != http.get(image).headers["etag"]
    for size in ("63", "-64", "064", "64.0", "x"):
        assert http.get(image, params={"size": size}).status_code == 422
    assert http.post(image).status_code == 405


def test_signed_urls_expire_and_cannot_be_altered(made: Catalog, http: Http, image: str) -> None:
    word = image.removeprefix("/images/")
    signer = Signer.of(made.home)
    location = signer.read(word).location
    late = signer.sign(location, seconds=-1)
    other = Signer(made.home / "other.key").sign(location, seconds=60)
    body, mark = word.split(".")
    forged = base64.urlsafe_b64encode(json.dumps(["/etc/passwd", 2**40]).encode()).rstrip(b"=").decode()
    for wrong in (late, other, f"{forged}.{mark}", f"{body}.", body, f".{mark}", f"{body}.{mark}x", "%00", "a" * 5_000):
        assert http.get(f"/images/{wrong}").status_code == 403, wrong
    for at in range(0, len(word), 7):
        altered = word[:at] + ("A" if word[at] != "A" else "B") + word[at + 1 :]
        assert http.get(f"/images/{altered}").status_code == 403


@pytest.mark.parametrize(
    "path",
    ["/images/../service.key", "/images/..%2f..%2fetc%2fpasswd", "/images//etc/passwd", "/api/samples/../../etc/passwd",
     "/images/%2e%2e/%2e%2e/etc/passwd", "/../service.json", "/api/samples/..%2f..%2f..%2fetc%2fpasswd"],
)  # fmt: skip
def test_paths_reach_no_other_file(http: Http, secrets: dict[str, str], path: str) -> None:
    answer = http.get(path, headers=bearer(secrets["read"]))
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:1/x.jpg", "https://localhost/x", "ftp://h/x", "file:///etc/passwd",
     "simplecache::http://h/x", "/etc/passwd", "tar://x::http://h/y.tar", "memory://x", "/dev/zero", "/nosuch"],
)  # fmt: skip
def test_the_service_fetches_no_url_and_serves_only_images(made: Catalog, http: Http, location: str) -> None:
    answer = http.get(f"/images/{Signer.of(made.home).sign(location, seconds=60)}")
    assert (answer.status_code, "root:" in answer.text) == (404, False)


def test_the_cache_drops_the_least_recently_used(made: Catalog) -> None:
    with made.read() as now:
        locations = now.samples()["location"].to_pylist()
    size = len(Pictures().load(locations[0], 0).data)
    pictures = Pictures(room=3 * size)
    for location in locations[:6]:
        pictures.load(location, 0)
    assert pictures.kept(locations[0], 0) is None
    assert pictures.kept(locations[5], 0) is not None


# Thumbnails


def png(path: Path, width: int, height: int) -> Path:
    """A small PNG file of one colour whose header gives this size."""
    Image.new("L", (1, 1)).save(path, "PNG")
    data = path.read_bytes()
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
    path.write_bytes(data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:])
    return path


@pytest.mark.parametrize("size", [(10_000, 10_001), (100_000, 100_000), (30_000, 30_000)])
def test_more_pixels_than_the_limit_are_not_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="pixels"):
        Pictures().load(str(png(tmp_path / "bomb.png", *size)), 64)


def test_equal_requests_share_one_decode(made: Catalog, service: Served, http: Http, tmp_path: Path) -> None:
    Image.new("RGB", (6_000, 6_000)).save(tmp_path / "large.png")
    word = Signer.of(made.home).sign(str(tmp_path / "large.png"), seconds=60)
    before = service.app.state.pictures.decoded
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: http.get(f"/images/{word}?size=64"), range(12)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert service.app.state.pictures.decoded == before + 1


def test_at_most_two_images_are_decoded_at_once(made: Catalog) -> None:
    running, most = 0, 0
    with made.read() as now:
        locations = now.samples()["location"].to_pylist()[:12]

    async def fetch_all(pictures: Pictures) -> None:
        nonlocal running, most
        shrink = pictures._shrink

        def counted(*arguments: object) -> object:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                return shrink(*arguments)  # type: ignore[arg-type]
            finally:
                running -= 1

        with patch.object(pictures, "_shrink", counted):
            await asyncio.gather(*(pictures.fetch(location, 64) for location in locations))

    asyncio.run(fetch_all(Pictures()))
    assert 1 <= most <= 2


def test_a_file_over_the_limit_is_not_read_whole(tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(b"\xff\xd8\xff")
    os.truncate(large, 4 * LARGEST)
    with pytest.raises(BadInput, match="at most 64 MB"):
        Pictures().load(str(large), 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "I;16"])
def test_thumbnails_of_every_mode_are_upright(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "turned.tiff"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new(mode, (300, 100)).save(path, exif=exif)
    with Image.open(io.BytesIO(Pictures().load(str(path), 64).data)) as small:
        assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (21, 64))


# What is no longer served


def test_a_forgotten_image_is_not_served_from_memory_or_disk(made: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(made, tmp_path)
    secret = Tokens(catalog.home).add("reader", "read")
    with served(catalog.home) as service, Client(service.url, secret) as client:
        first, second = client.samples(limit=2)
        paths = [first.image, f"{first.image}?size=64", second.image]
        with httpx.Client(base_url=service.url) as http:
            assert [http.get(path).status_code for path in paths] == [200, 200, 200]
            gone = forget(catalog, first.key, author="ada")
            assert Path(gone.location).exists()
            assert [http.get(path).status_code for path in paths] == [404, 404, 200]


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"no image")])
def test_an_image_whose_file_changed_is_not_served_from_memory(
    made: Catalog, http: Http, tmp_path: Path, change: object
) -> None:
    path = tmp_path / "once.jpg"
    Image.new("RGB", (40, 40)).save(path)
    word = Signer.of(made.home).sign(str(path), seconds=60)
    urls = [f"/images/{word}", f"/images/{word}?size=64"]
    assert [http.get(url).status_code for url in urls] == [200, 200]
    change(path)  # type: ignore[operator]
    assert [http.get(url).status_code for url in urls] == [404, 404]


def test_a_deleted_key_ends_every_url_in_a_running_service(made: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(made, tmp_path)
    secret = Tokens(catalog.home).add("reader", "read")
    with served(catalog.home) as service, Client(service.url, secret) as client:
        old = client.samples(limit=1)[0]
        assert client.image(old)
        (catalog.home / "service.key").unlink()
        with pytest.raises(BadInput, match="not signed here"):
            client.image(old)
        assert client.image(client.samples(limit=1)[0])


@pytest.mark.parametrize("text", ["", "00", "00" * 31, "00" * 33, "xyz", "zz" * 32])
def test_a_key_of_another_length_signs_nothing(tmp_path: Path, text: str) -> None:
    signer = Signer.of(tmp_path)
    word = signer.sign("a.jpg", seconds=60)
    (tmp_path / "service.key").write_text(text)
    for use in (lambda: signer.sign("a.jpg", seconds=60), lambda: signer.read(word), lambda: Signer.of(tmp_path)):
        with pytest.raises(Damaged, match="64 hexadecimal digits"):
            use()


def test_keys_and_tokens_are_flushed_to_disk(tmp_path: Path) -> None:
    """The file, then its folder: after a power loss a removed token does not come back."""
    flushed: list[str] = []

    def note(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    with patch("os.fsync", note):
        Signer.of(tmp_path)
        Tokens(tmp_path).add("ann", "read")
        Tokens(tmp_path).remove("ann")
        write_secret(tmp_path / "other", "text")
    assert [Path(path).name.split(".")[0] for path in flushed] == [
        name for file in ("service", "service", "service", "other") for name in (file, tmp_path.name)
    ]
    assert len(bytes.fromhex((tmp_path / "service.key").read_text())) == 32
