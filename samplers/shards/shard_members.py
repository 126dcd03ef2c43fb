"""What a shard is made of: the images, and between them headers and notes, made for all images of a shard at once."""

from json.encoder import encode_basestring_ascii as quoted

import numpy as np
import pyarrow as pa

from samplers.shards import tar
from samplers.shards.shard_writer import Line

__all__ = ["extension", "lines_of", "notes"]

_EXTENSIONS = {"JPEG": "jpg", "JPEG2000": "jp2"}


def lines_of(images: pa.Table) -> tuple[bytes, list[Line]]:
    """What stands before the first image of a shard, and its images with the columns of `Work.images`, as
    `write_blocks` takes them."""
    head, *between = _between(images)
    columns = (images[name].to_pylist() for name in ("key", "location", "sha256", "size"))
    return head, list(zip(*columns, between, strict=True))


def notes(images: pa.Table | pa.RecordBatch) -> list[bytes]:
    """What the json beside each image says, as `json.dumps` would write it; offsets are computed from its length."""
    columns = (images[name].to_pylist() for name in ("key", "width", "height", "sha256"))
    return [
        f'{{"key": {quoted(key)}, "width": {width}, "height": {height}, "sha256": "{sha256}"}}'.encode()
        for key, width, height, sha256 in zip(*columns, strict=True)
    ]


def extension(format: str) -> str:
    """Of a file in a shard: jpg, or the format's own name in lower case."""
    return _EXTENSIONS.get(format, format.lower())


def _between(images: pa.Table) -> list[bytes]:
    """n + 1 pieces: what stands before the first of n images, between each and the next, and behind the last."""
    stems = list(map(tar.member_name, images["key"].to_pylist()))
    names = [f"{stem}.{extension(kind)}" for stem, kind in zip(stems, images["format"].to_pylist(), strict=True)]
    sizes, texts = np.asarray(images["size"], np.int64), notes(images)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    before = memoryview(tar.headers(names, sizes).tobytes())
    behind = memoryview(tar.headers([f"{stem}.json" for stem in stems], lengths).tobytes())
    pieces = [bytes(before[: tar.BLOCK])]
    for number, (size, text) in enumerate(zip(sizes.tolist(), texts, strict=True)):
        at = number * tar.BLOCK
        following = before[at + tar.BLOCK : at + 2 * tar.BLOCK] or tar.END
        note = behind[at : at + tar.BLOCK]
        pieces.append(b"".join((tar.padding(size), note, text, tar.padding(len(text)), following)))
    return pieces
