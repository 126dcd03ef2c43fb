"""What images are called and where they lie: files below a folder, names that foreign files give, and keys."""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from curation.errors import BadInput
from curation.files.locations import is_url

__all__ = ["EXTENSIONS", "SPLITS", "images_in", "key_of", "located", "plain"]

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Of files that are taken for images, in lower case."""

SPLITS = {
    "training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test",
}  # fmt: skip
"""Other words for our splits."""


def images_in(folder: Path, depth: int) -> Iterator[PurePosixPath]:
    """Paths of images relative to `folder`, at most `depth` folders down, links followed, hidden ones passed over."""
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = PurePosixPath(Path(root).relative_to(folder).as_posix())
        deeper = [name for name in folders if not name.startswith(".") and not _circles(root, name)]
        folders[:] = sorted(deeper) if len(here.parts) < depth else []
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith("."):
                yield _checked(here / name)


def located(folder: Path | str, name: str, origin: str) -> str:
    """The location of the image that a file calls `name`: a URL or absolute path itself, or else below `folder`.

    Backslashes are taken for the slashes of Windows. BadInput, which names `origin`, for a path that leaves `folder`
    and for one with a drive.
    """
    if is_url(name):
        return name
    path = posixpath.normpath(name.replace("\\", "/")) if name.strip() else ""
    if re.match("[A-Za-z]:", path):
        raise BadInput(f"{origin}: {name!r} is a path of a Windows machine; write it relative to the images' folder")
    if not path or path == ".." or path.startswith("../"):
        raise BadInput(
            f"{origin}: {name!r} lies outside the images' folder {folder}; mend it, or write an absolute path"
        )
    return path if path.startswith("/") else f"{str(folder).rstrip('/')}/{path}"


def key_of(dataset: str, name: str) -> str:
    """The key of an image: the data set and the image's name without extension, in plain characters.

    Every other byte of UTF-8 becomes - and its two hexadecimal digits. Of a URL the scheme does not count.
    """
    name = re.sub(r"^[A-Za-z0-9+.-]+://", "", name.replace("\\", "/")).lstrip("/")
    root, extension = os.path.splitext(name)
    return plain(f"{dataset}/{root if extension.lower() in EXTENSIONS else name}")


def plain(name: str) -> str:
    """`name` with every byte of UTF-8 but letters, digits, _, / and - written as - and two hexadecimal digits."""
    return re.sub(rb"[^A-Za-z0-9_/-]", lambda byte: b"-%02X" % byte[0][0], name.encode()).decode()


def _circles(root: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in."""
    path = Path(root, name)
    return path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())


def _refuse(error: OSError) -> None:
    raise BadInput(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error


def _checked(path: PurePosixPath) -> PurePosixPath:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{str(path)!a}: a file name must be UTF-8; rename it") from error
    return path
