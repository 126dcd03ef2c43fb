"""Bytes of images in every kind of location: files, members of tars, HTTP and object storage."""

import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url
from PIL import Image
from support.buckets import serving_bucket
from support.pictures import picture

from curation.errors import BadInput
from curation.files import locations, remote_files
from curation.files.locations import member, read_bytes, spans
from curation.images.decoding import inspect, sizes

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:werkzeug", "ignore::DeprecationWarning:botocore")

ODD_KEYS = ["a b.jpg", "a%20b.jpg", "\u00fc/a+b.jpg", "a#b.jpg", "a?b=c.jpg"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with serving_bucket("images") as url:
        yield url


@pytest.fixture
def image(tmp_path: Path) -> Path:
    picture(3).save(tmp_path / "a b.jpg")
    return tmp_path / "a b.jpg"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def packed(image: Path, mode: str = "w") -> Path:
    tar = image.with_name("shard.tar")
    with tarfile.open(tar, mode) as archive:
        archive.add(image, "drive/0001.jpg")
    return tar


def test_every_kind_of_location_gives_the_same_bytes(image: Path, site: str, bucket: str) -> None:
    put(bucket, "a.jpg", image.read_bytes())
    places = [
        str(image),
        f"{site}/a%20b.jpg",
        f"{site}/a%20b.jpg?signature=x",
        f"{bucket}/a.jpg",
        f"{bucket.replace('s3:', 's3a:')}/a.jpg",
        f"file://{image}",
        member("drive/0001.jpg", str(packed(image))),
    ]
    assert {read_bytes(place) for place in places} == {image.read_bytes()}
    assert {inspect(place) for place in places} == {inspect(image)}
    assert set(sizes(places)) == {(32, 24)}


def put(bucket: str, key: str, data: bytes) -> None:
    obstore.put(from_url(bucket, client_options={"allow_http": True}), key, data)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_the_key_of_an_object_is_taken_as_it_is(key: str, bucket: str) -> None:
    put(bucket, key, key.encode())
    assert read_bytes(f"{bucket}/{key}") == key.encode()


def test_the_first_bytes_of_an_object(bucket: str) -> None:
    put(bucket, "long", b"0123456789")
    put(bucket, "empty", b"")
    assert [read_bytes(f"{bucket}/long", count) for count in (3, 10, 99)] == [b"012", b"0123456789", b"0123456789"]
    assert read_bytes(f"{bucket}/empty", 99) == read_bytes(f"{bucket}/empty") == b""


def test_objects_over_the_limit_are_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, "long", b"0123456789")
    monkeypatch.setattr(locations, "MAX_BYTES", 9)
    with pytest.raises(BadInput, match="10 bytes, at most 9"):
        read_bytes(f"{bucket}/long")


@pytest.mark.parametrize(
    ("place", "why"),
    [("s3://images/none.jpg", "is missing"), ("s3://nothing/a.jpg", "is missing"), ("s3://images/a//b", "empty path")],
)
def test_objects_that_cannot_be_read(place: str, why: str, bucket: str) -> None:
    with pytest.raises(BadInput, match=rf"^cannot be read \([^\n]*{why}[^\n]*\); check the URL[^\n]*$"):
        read_bytes(place)


def test_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "BACKOFF", replace(remote_files.BACKOFF, first=0.001))
    for name, value in (("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_REGION", "x")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(BadInput, match=r"^cannot be read \(not reached in 6 tries \([^\n]*\); check the URL[^\n]*$"):
        read_bytes("s3://images/a.jpg")


def test_a_changed_tar_is_indexed_again(image: Path) -> None:
    tar = packed(image)
    assert set(spans(str(tar))) == {"drive/0001.jpg"}
    with tarfile.open(tar, "a") as archive:
        archive.add(image, "drive/0002.jpg")
    assert read_bytes(member("drive/0002.jpg", str(tar))) == image.read_bytes()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("nowhere.jpg", "No such file"),
        (".", "is a folder"),
        ("a\0b.jpg", "null"),
        ("tar://drive/0009.jpg::shard.tar", "no such member"),
        ("tar://drive/0001.jpg", "tar://MEMBER::PATH"),
        ("tar://a::https://example.org/a.tar", "on this machine"),
        ("tar://a::nowhere.tar", "No such file"),
        ("tar://a::a b.jpg", "not a plain tar"),
        ("hf://bucket/a.jpg", "hf"),
        ("nosuch://bucket/a.jpg", "nosuch"),
        ("http://127.0.0.1:1/a.jpg", "refused"),
    ],
)
def test_unreadable_locations_are_refused_in_one_line(
    place: str, why: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(image)
    monkeypatch.chdir(image.parent)
    with pytest.raises(BadInput, match=rf"^[^\n]*{why}[^\n]*; [^\n]*$"):
        read_bytes(place)


def test_a_missing_page(site: str) -> None:
    with pytest.raises(BadInput, match="404"):
        read_bytes(f"{site}/nothing.jpg")


def test_a_compressed_tar_has_no_offsets(image: Path) -> None:
    with pytest.raises(BadInput, match="not a plain tar"):
        spans(str(packed(image, "w:gz")))


def test_sizes_are_those_of_upright_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "text.jpg").write_text("no image")
    places = [str(tmp_path / name) for name in ("turned.jpg", "text.jpg", "nowhere.jpg")]
    assert sizes(places) == [(24, 32), None, None]
    assert sizes(places[:1]) == [(inspect(places[0]).width, inspect(places[0]).height)]
