"""Backups of a whole workspace: the catalog's history, and every file that could not be made again from it.

    catalog/      the catalog, as `amber catalog export` writes it
    files/        plans, runs, studies, embeddings, packs, smaller copies, held-back labels, tokens,
                  proposals that wait for a sign-off, at their paths
    backup.json   the digest of every file; written last: a folder with backup.json is complete

Left out: `service.key` (whoever has it can sign URLs for every image of the workspace, and a backup lies where others
may read; a restored workspace makes a new one, and URLs signed before are void), `service.forgotten` (hashed with
that key), `labeling/` (the item cache is read again from Label Studio, whose own database is backed up with its own
means), `notices/` (addresses of people and secrets of receivers; and a restored copy must not send what the workspace
itself sends), locks, unfinished files, and copies that migrations kept.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Final

from curation.catalog.admin import backup as catalog_backup
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Damaged, Failed, NotFound
from curation.files.atomic import remove_leftovers, whole
from curation.files.locations import is_url
from curation.files.locks import in_use
from curation.files.progress import StageProgress
from curation.files.read_back import read_json
from samplers.pack.pack_writer import complete_packs

__all__ = ["BackedUp", "back_up", "restore_workspace"]

FORMAT: Final = 1
MANIFEST: Final = "backup.json"
CHUNK: Final = 1 << 20
KEPT: Final = (
    "oracle.parquet", "service.json", "retraining.json", "packs/reduced.json", "packs/*/manifest.json",
    "packs/*/index.parquet", "packs/*/moved.json", "plans/*/*", "runs/**/*", "embeddings/*/*", "reduced/**/*",
    "releases/**/*", "waiting/*.json",
    "studies/*/study.json", "studies/*/journal.log", "studies/*/fresh/*",
)  # fmt: skip
"""Patterns of the files that a backup holds; shards are those of complete packs."""
SILENT: Final = (
    "catalog.*",
    "*.lock",
    "*.part",
    "shards",
    "packs",
    "plans",
    "runs",
    "embeddings",
    "reduced",
    "releases",
    "studies",
    "waiting",
    *KEPT[:3],
)
"""Patterns of what is in a backup in some form, or needs no word; the rest of a workspace is reported as left out."""


@dataclass(frozen=True, kw_only=True)
class BackedUp:
    """Newest commit and digest of the catalog; number and bytes of files; shards, and where they are ("" when they are
    in the backup); and the entries of the workspace that were left out."""

    commit: int
    digest: str
    files: int
    bytes: int
    shards: int
    packs: str
    left_out: tuple[str, ...] = ()


def back_up(catalog: Catalog, folder: Path, *, packs: str = "", progress: StageProgress | None = None) -> BackedUp:
    """Write a workspace into the new `folder`, as a whole or not at all; nothing is pruned meanwhile.

    `packs` is a folder or URL with a copy of the shards (`amber pack --to`): they are then named, not copied. BadInput
    when `folder` exists or lies in the workspace; NotFound for a shard that `packs` lacks; Damaged for a shard that is
    not what was packed; Failed when the disk is full, or the workspace changes so that its files no longer match.
    """
    home, tell = catalog.home, progress or (lambda stage, done, total: None)
    if folder.exists():
        raise BadInput(f"{folder}: already exists; name a new folder")
    if folder.resolve().is_relative_to(home):
        raise BadInput(f"{folder}: lies in the workspace that it would hold; name a folder elsewhere")
    remove_leftovers(folder.parent.glob(f"{escape(folder.name)}.*.part"))
    with in_use(home), whole(folder) as part:
        part.mkdir()
        made = catalog_backup.export(catalog, part / "catalog", progress=progress)
        shards = {shard.name: shard.size for pack in complete_packs(home) for shard in pack.shards}
        names = [*_files(home), *(() if packs else (f"shards/{name}" for name in sorted(shards)))]
        files = _copied(home, part / "files", names, tell)
        _check_predictions(catalog, made.commit, files)
        if packs:
            _check_place(packs, shards)
        manifest = {"format": FORMAT, "commit": made.commit, "digest": made.digest, "packs": packs, "shards": shards,
                    "files": files}  # fmt: skip
        (part / MANIFEST).write_text(json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1))
    return _summary(manifest, tuple(_left_out(home)))


def restore_workspace(home: Path, folder: Path, *, packs: str = "", progress: StageProgress | None = None) -> BackedUp:
    """Make the workspace `home`, which must be missing or empty, from a backup; as a whole or not at all.

    Every file is checked by its digest while it is copied. `packs` is where the shards are now, if the backup only
    names them and they have moved. NotFound or BadInput for what is no backup, or one of a newer Amber; Damaged for a
    file or shard that is missing or not what was written; Failed when the disk is full.
    """
    home, tell = home.resolve(), progress or (lambda stage, done, total: None)
    manifest = _manifest(folder)
    _refuse_full(home)
    if packs and not manifest["packs"]:
        raise BadInput(f"--packs {packs}: this backup holds its shards; leave it out")
    remove_leftovers(home.parent.glob(f"{escape(home.name)}.*.part"))
    with whole(home) as part:
        part.mkdir()
        restored = catalog_backup.restore(part, folder / "catalog", progress=progress)
        if (restored.commit, restored.digest) != (manifest["commit"], manifest["digest"]):
            raise Damaged(f"{folder / 'catalog'}: is of another backup than {folder / MANIFEST}; use another backup")
        _restored_files(folder, part, manifest["files"], tell)
        if manifest["packs"]:
            _fetched(packs or manifest["packs"], part / "shards", manifest["shards"], tell)
        _refuse_full(home)
    return _summary(manifest)


def _summary(manifest: dict[str, Any], left_out: tuple[str, ...] = ()) -> BackedUp:
    return BackedUp(
        commit=manifest["commit"], digest=manifest["digest"], files=len(manifest["files"]), packs=manifest["packs"],
        bytes=sum(part["bytes"] for part in manifest["files"].values()), shards=len(manifest["shards"]),
        left_out=left_out,
    )  # fmt: skip


def _files(home: Path) -> Iterator[str]:
    """Paths of the files of a workspace that a backup holds, without shards."""
    for pattern in KEPT:
        for path in sorted(home.glob(pattern)):
            name = path.relative_to(home)
            if path.is_file() and not any(word.endswith(".part") or word.startswith(".") for word in name.parts):
                yield str(name)


def _left_out(home: Path) -> Iterator[str]:
    for path in sorted(home.iterdir()):
        if not any(path.match(pattern) for pattern in SILENT):
            yield path.name + "/" * path.is_dir()


def _copied(home: Path, target: Path, names: list[str], tell: StageProgress) -> dict[str, dict[str, Any]]:
    """Copy files of a workspace; sha256 and bytes of each. Shards must have the sha256 that is their name."""
    found: dict[str, dict[str, Any]] = {}
    for done, name in enumerate(names, 1):
        try:
            found[name] = _copy(home / name, target / name)
        except FileNotFoundError as error:
            if name.startswith("shards/"):
                raise Damaged(f"{home / name}: this shard of a pack is missing; restore it, or pack again") from error
            raise Failed(f"{home / name}: went away during the backup; run the same again") from error
        if name.startswith("shards/") and found[name]["sha256"] != Path(name).stem:
            raise Damaged(f"{home / name}: is not what was packed; delete the shard, then pack again")
        tell("copy", done, len(names))
    return found


def _copy(source: Path, target: Path) -> dict[str, Any]:
    """Copy a file with its permissions, and flush it to disk; its sha256, bytes, and time of change in nanoseconds."""
    with source.open("rb") as read:
        target.parent.mkdir(parents=True, exist_ok=True)
        sha256, size = hashlib.sha256(), 0
        with target.open("wb") as write:
            facts = os.fstat(read.fileno())
            os.fchmod(write.fileno(), facts.st_mode & 0o777)
            while data := read.read(CHUNK):
                sha256.update(data)
                size += write.write(data)
            write.flush()
            os.fsync(write.fileno())
    return {"sha256": sha256.hexdigest(), "bytes": size, "changed": facts.st_mtime_ns}


def _check_predictions(catalog: Catalog, commit: int, files: dict[str, dict[str, Any]]) -> None:
    """Failed where the copied predictions of a run are not those that the exported catalog names."""
    with catalog.read(commit) as then:
        newest = {row["run"]: row for row in then.runs().to_pylist()}
    for run, row in newest.items():
        if row["predictions"] not in files:
            raise Damaged(f"{catalog.home / row['predictions']}: is missing; evaluate run {run} again")
        if files[row["predictions"]]["sha256"] != row["sha256"]:
            raise Failed(
                f"{catalog.home / row['predictions']}: is not what run {run} was judged by; if it was just "
                "evaluated, run the same again, otherwise evaluate it again"
            )


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / catalog_backup.MANIFEST).is_file():
            raise BadInput(f"{folder}: is a backup of a catalog alone; use `amber catalog import`")
        raise NotFound(f"{folder}: is not a backup, since it has no {MANIFEST}; name the folder of `amber backup`")
    manifest = read_json(path, "use another backup", dict[str, Any])
    if isinstance(manifest.get("format"), int) and manifest["format"] > FORMAT:
        raise BadInput(f"{path}: its format is {manifest['format']}, this Amber knows {FORMAT}; use a newer Amber")
    if manifest.pop("sha256", "") != _digest(manifest) or "files" not in manifest:
        raise Damaged(f"{path}: differs from what was written; use another backup")
    return manifest


def _refuse_full(home: Path) -> None:
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise BadInput(f"{home}: is not empty; name a new folder with --home")


def _restored_files(folder: Path, part: Path, files: dict[str, dict[str, Any]], tell: StageProgress) -> None:
    for done, (name, kept) in enumerate(files.items(), 1):
        source = folder / "files" / name
        if not (part / name).resolve().is_relative_to(part.resolve()):
            raise Damaged(f"{folder / MANIFEST}: {name} lies outside the workspace; use another backup")
        if not source.is_file():
            raise Damaged(f"{source}: is missing from the backup; use another backup")
        if _copy(source, part / name)["sha256"] != kept["sha256"]:
            raise Damaged(f"{source}: differs from what was written (its sha256 is another); use another backup")
        os.utime(part / name, ns=(kept["changed"], kept["changed"]))  # the newest plan is the one changed last
        tell("restore", done, len(files))


def _check_place(place: str, shards: dict[str, int]) -> None:
    """NotFound for the first shard that `place`, a folder or a URL, does not have in its size."""
    for name, size in shards.items():
        if _size_at(place, f"shards/{name}") != size:
            raise NotFound(f"{place}: has no shard {name} of {size} bytes; copy the pack there with `amber pack --to`")


def _size_at(place: str, path: str) -> int | None:
    if is_url(place):
        from curation.files.remote_files import RemoteFiles

        return RemoteFiles(place).size(path)
    return (Path(place) / path).stat().st_size if (Path(place) / path).is_file() else None


def _fetched(place: str, target: Path, shards: dict[str, int], tell: StageProgress) -> None:
    """Copy shards from a folder or a URL; Damaged when one is missing there, or is not what was packed."""
    target.mkdir(exist_ok=True)
    for done, name in enumerate(sorted(shards), 1):
        if is_url(place):
            from curation.files.remote_files import RemoteFiles

            data = RemoteFiles(place).get(f"shards/{name}")
            (target / name).write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
        else:
            source = Path(place) / "shards" / name
            if not source.is_file():
                raise Damaged(f"{source}: this shard is missing; restore it, or name another place with --packs")
            sha256 = _copy(source, target / name)["sha256"]
        if sha256 != Path(name).stem:
            raise Damaged(f"{place}/shards/{name}: is not what was packed; restore it, or name another place (--packs)")
        tell("shards", done, len(shards))
