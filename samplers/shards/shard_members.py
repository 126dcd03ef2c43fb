"""The members of a shard: images, and the headers and json sidecars between them, built for a whole shard at once."""

from json.encoder import encode_basestring_ascii as quoted

import numpy as np
import pyarrow as pa

from samplers.shards import tar
from samplers.shards.shard_writer import ShardEntry

__all__ = ["extension", "shard_entries", "sidecar_texts"]

_EXTENSIONS = {"JPEG": "jpg", "JPEG2000": "jp2"}


def shard_entries(images: pa.Table) -> tuple[bytes, list[ShardEntry]]:
    """The bytes before the first image of a shard, and its entries, as `write_blocks` takes them; `images` has the
    columns of `ShardJobs.images`."""
    head, *between = _between(images)
    columns = (images[name].to_pylist() for name in ("key", "location", "sha256", "size"))
    return head, list(zip(*columns, between, strict=True))


def sidecar_texts(images: pa.Table | pa.RecordBatch) -> list[bytes]:
    """The json sidecar of each image, exactly as `json.dumps` writes it: shard offsets follow from its length."""
    columns = (images[name].to_pylist() for name in ("key", "width", "height", "sha256"))
    return [
        f'{{"key": {quoted(key)}, "width": {width}, "height": {height}, "sha256": "{sha256}"}}'.encode()
        for key, width, height, sha256 in zip(*columns, strict=True)
    ]


def extension(format: str) -> str:
    """The file extension of an image format in a shard: jpg for JPEG, otherwise the format in lower case."""
    return _EXTENSIONS.get(format, format.lower())


def _between(images: pa.Table) -> list[bytes]:
    """n + 1 pieces: the bytes before the first of n images, between consecutive images, and after the last."""
    stems = list(map(tar.member_name, images["key"].to_pylist()))
    names = [f"{stem}.{extension(kind)}" for stem, kind in zip(stems, images["format"].to_pylist(), strict=True)]
    sizes, texts = np.asarray(images["size"], np.int64), sidecar_texts(images)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    before = memoryview(tar.headers(names, sizes).tobytes())
    sidecar_headers = memoryview(tar.headers([f"{stem}.json" for stem in stems], lengths).tobytes())
    pieces = [bytes(before[: tar.BLOCK])]
    for number, (size, text) in enumerate(zip(sizes.tolist(), texts, strict=True)):
        at = number * tar.BLOCK
        following = before[at + tar.BLOCK : at + 2 * tar.BLOCK] or tar.END
        header = sidecar_headers[at : at + tar.BLOCK]
        pieces.append(b"".join((tar.padding(size), header, text, tar.padding(len(text)), following)))
    return pieces
