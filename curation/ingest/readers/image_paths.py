"""Names, locations and keys of images: files below a folder, and names in the files of other programs."""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from curation.errors import BadInput
from curation.files.locations import is_url

__all__ = ["EXTENSIONS", "SPLITS", "images_in", "key_of", "located", "plain"]

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Extensions of image files, in lower case."""

SPLITS = {
    "training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test",
}  # fmt: skip
"""Other words for our splits."""


def images_in(folder: Path, depth: int) -> Iterator[PurePosixPath]:
    """Paths of images relative to `folder`, at most `depth` folders deep; links are followed, hidden files are not."""
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = PurePosixPath(Path(root).relative_to(folder).as_posix())
        deeper = [name for name in folders if not name.startswith(".") and not _is_cycle(root, name)]
        folders[:] = sorted(deeper) if len(here.parts) < depth else []
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith("."):
                yield _checked(here / name)


def located(folder: Path | str, name: str, origin: str) -> str:
    """The location of the image `name`: a URL or an absolute path unchanged, any other name below `folder`.

    Backslashes are read as the separators of Windows. BadInput, with `origin`, if a path leaves `folder` or names a
    drive.
    """
    if is_url(name):
        return name
    path = posixpath.normpath(name.replace("\\", "/")) if name.strip() else ""
    if re.match("[A-Za-z]:", path):
        raise BadInput(f"{origin}: {name!r} is a path of a Windows machine; write it relative to the images' folder")
    if not path or path == ".." or path.startswith("../"):
        raise BadInput(
            f"{origin}: {name!r} lies outside the images' folder {folder}; correct it, or write an absolute path"
        )
    return path if path.startswith("/") else f"{str(folder).rstrip('/')}/{path}"


def key_of(dataset: str, name: str) -> str:
    """The key of an image: the data set and the image's name without extension, in plain characters.

    Every other byte of UTF-8 becomes - and its two hexadecimal digits. The scheme of a URL is dropped.
    """
    name = re.sub(r"^[A-Za-z0-9+.-]+://", "", name.replace("\\", "/")).lstrip("/")
    root, extension = os.path.splitext(name)
    return plain(f"{dataset}/{root if extension.lower() in EXTENSIONS else name}")


def plain(name: str) -> str:
    """`name` with every byte of UTF-8 except letters, digits, _, / and - written as - and two hexadecimal digits.

    >>> plain("front/a b.v2")
    'front/a-20b-2Ev2'
    """
    return re.sub(rb"[^A-Za-z0-9_/-]", lambda byte: b"-%02X" % byte[0][0], name.encode()).decode()


def _is_cycle(root: str, name: str) -> bool:
    """Whether a folder is a link to one of its own parents."""
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
