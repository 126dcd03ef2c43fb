"""Names, locations and keys of images: files below a folder, and names in the files of other programs."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from curation.errors import BadInput
from curation.files.locations import is_url
from curation.ingestion.readers.findings import BadEntry, Findings

__all__ = ["EXTENSIONS", "NAMELESS", "SPLITS", "images_in", "key_of", "located", "passed_over", "plain", "unsigned"]

EXTENSIONS = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx",
    ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".ras", ".sgi", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Extensions of image files that are read, in lower case."""

NAMELESS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Extensions that a key drops; others stay in it, so that a.jpg and a.gif have two keys."""

_UNREAD = {
    ".heic", ".heif", ".jxl", ".psd", ".svg", ".eps", ".ico", ".icns", ".tga", ".exr", ".hdr", ".dng", ".cr2", ".cr3",
    ".nef", ".arw", ".raw", ".orf", ".rw2", ".xcf", ".wmf", ".fits", ".dcm",
}  # fmt: skip
"""Extensions of images that are not read."""

SPLITS = {
    "training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test",
}  # fmt: skip
"""Other words for our splits."""

_SIGNATURE = re.compile(
    r"(x-(amz|goog|oss|cos|obs)-.*|signature|sig|expires|(aws|oss)?accesskeyid|googleaccessid|key-pair-id|policy|token"
    r"|security-token|se|sp|sv|sr|st|spr|skoid|sktid|skt|ske|sks|skv"
    r"|q-(sign-.*|ak|key-time|header-list|url-param-list|signature))",
    re.IGNORECASE,
)
"""Names of query parameters that sign a URL (AWS, Google, Azure, CloudFront, Alibaba, Tencent, Huawei)."""

_ACCOUNT = ("ss", "srt", "si", "sip", "ses", "sdd", "saoid", "suoid", "scid")
"""Further parameters of Azure, where `sig` is one too."""


def images_in(
    folder: Path, depth: int, passed: "Counter[str] | None" = None, findings: Findings | None = None
) -> Iterator[PurePosixPath]:
    """Paths of images relative to `folder`, at most `depth` folders deep; links are followed, hidden files are not.

    `passed` counts the files that are no images, by reason. A name that is not UTF-8 is refused.
    """
    passed, findings = Counter() if passed is None else passed, findings or Findings()
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = PurePosixPath(Path(root).relative_to(folder).as_posix())
        deeper = [name for name in folders if not name.startswith(".") and not _is_cycle(root, name)]
        folders[:] = sorted(deeper) if len(here.parts) < depth else []
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith("."):
                with findings.entry():
                    yield _checked(here / name)
            else:
                passed[passed_over(name)] += 1


def passed_over(name: str) -> str:
    """The reason why a file is not read as an image.

    >>> passed_over("a.heic"), passed_over(".DS_Store"), passed_over("notes")
    ('.heic (not read; convert to JPEG or PNG)', 'hidden', 'without extension')
    """
    extension = os.path.splitext(name)[1].lower()
    if name.startswith("."):
        return "hidden"
    if extension in _UNREAD:
        return f"{extension} (not read; convert to JPEG or PNG)"
    return f"{extension!a} (no image)".replace("'", "") if extension else "without extension"


def located(folder: Path | str, name: str, origin: str) -> str:
    """The location of the image `name`: a URL or an absolute path unchanged, any other name below `folder`.

    Backslashes are read as the separators of Windows. A name without extension becomes the image file of that name, if
    there is exactly one. BadInput, with `origin`, if a path leaves `folder` or names a drive.
    """
    if is_url(name):
        return name
    path = posixpath.normpath(name.replace("\\", "/")) if name.strip() else ""
    if re.match("[A-Za-z]:", path):
        raise BadEntry(origin, repr(name), "is a path of a Windows machine", "write it relative to the images' folder")
    if not path or path == ".." or path.startswith("../"):
        raise BadEntry(
            origin, repr(name), f"lies outside the images' folder {folder}", "correct it, or write an absolute path"
        )
    location = path if path.startswith("/") else f"{str(folder).rstrip('/')}/{path}"
    return location if os.path.splitext(path)[1].lower() in EXTENSIONS else _with_extension(location, origin)


def key_of(dataset: str, name: str, root: str = "") -> str:
    """The key of an image: the data set and the image's name without extension, in plain characters.

    Every other byte of UTF-8 becomes - and its two hexadecimal digits. Of extensions, only those in `NAMELESS` are
    dropped, and of a URL its scheme, its signature and its user. One file has one key: "./a.jpg", "b//../a.jpg" and an
    absolute path below `root` name the same image.

    >>> key_of("d", "./front//a b.jpg"), key_of("d", "/data/images/a.jpg", "/data/images")
    ('d/front/a-20b', 'd/a')
    """
    name = name.replace("\\", "/")
    if is_url(name):
        name = _address(unsigned(name))
    else:
        path = posixpath.normpath(name)
        below = path.startswith(f"{root.rstrip('/')}/") and root.strip("/") and not is_url(root)
        name = path[len(root.rstrip("/")) :] if below else path
    name = name.lstrip("/")
    stem, extension = os.path.splitext(name)
    return plain(f"{dataset}/{stem if extension.lower() in NAMELESS else name}")


def unsigned(url: str) -> str:
    """A URL without its signature; other parameters stay.

    >>> unsigned("https://host/a.jpg?id=5&X-Amz-Signature=0f&X-Amz-Expires=60")
    'https://host/a.jpg?id=5'
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket without a partner
        return url
    if not parts.query:
        return url
    names = [(part.partition("=")[0], part) for part in parts.query.split("&")]
    more = _ACCOUNT if "sig" in (name for name, _ in names) else ()
    kept = [part for name, part in names if not _SIGNATURE.fullmatch(name) and name not in more]
    return urlunsplit(parts._replace(query="&".join(kept)))


def _address(url: str) -> str:
    """A URL without its scheme; of the web also without user, usual port and fragment, its host in lower case.

    >>> _address("https://ann:secret@Host:443/x/../a.jpg#top"), _address("s3://bucket/a.jpg")
    ('host/a.jpg', 'bucket/a.jpg')
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("http", "https"):
        return rest
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket without a partner
        return rest
    host = re.sub(r":(80|443)$", "", parts.netloc.rpartition("@")[2].lower())
    path = posixpath.normpath(parts.path) if re.search(r"/\.\.?(/|$)", parts.path) else parts.path
    return f"{host}{path}" + (f"?{parts.query}" if parts.query else "")


def plain(name: str) -> str:
    """`name` with every byte of UTF-8 except letters, digits, _, / and - written as - and two hexadecimal digits.

    >>> plain("front/a b.v2")
    'front/a-20b-2Ev2'
    """
    return re.sub(rb"[^A-Za-z0-9_/-]", lambda byte: b"-%02X" % byte[0][0], name.encode()).decode()


def _with_extension(location: str, origin: str) -> str:
    if is_url(location) or os.path.lexists(location):
        return location
    found = [location + extension for extension in EXTENSIONS if os.path.exists(location + extension)]
    if len(found) > 1:
        names = " and ".join(os.path.basename(path) for path in found[:2])
        raise BadEntry(origin, repr(location), f"has no extension, and {names} exist", "write the extension")
    return found[0] if found else location


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
