"""Backups: the history of a catalog as one Parquet file per table, with a manifest of checksums."""

from collections.abc import Iterable, Iterator
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from curation.catalog import schema
from curation.catalog.admin.copying import KEPT, fill, history
from curation.catalog.admin.migrations import CONVERSIONS, convert, lacking
from curation.catalog.arrow_query import quoted
from curation.catalog.backends.backend import detach, first_line
from curation.catalog.backends.duckdb_file import DuckDBFile
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Damaged, NotFound
from curation.files.atomic import remove_leftovers, whole
from curation.files.progress import StageProgress
from curation.files.read_back import sha256_of

__all__ = ["Manifest", "export", "restore"]

MANIFEST: Final = "manifest.json"


class Part(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    rows: int
    bytes: int


class Manifest(BaseModel):
    """The content of a backup: commit and digest of its newest commit, and the checksum of every file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int
    commit: int
    digest: str
    counts: dict[str, int]
    files: dict[str, Part]

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read the manifest of a backup; BadInput when its schema is newer than this Amber's, or unknown."""
        path = folder / MANIFEST
        if not path.is_file():
            raise NotFound(f"{folder}: is not a backup, since it has no {MANIFEST}; name the folder of an export")
        try:
            manifest = cls.model_validate_json(path.read_bytes())
        except ValidationError:
            raise Damaged(f"{path}: is not the manifest of a backup; use another backup") from None
        if manifest.schema_version not in (*CONVERSIONS, schema.VERSION):
            raise BadInput(
                f"{path}: its schema is {manifest.schema_version}, this Amber knows {min(CONVERSIONS)} to "
                f"{schema.VERSION}; import it with the Amber that made it"
            )
        return manifest

    @property
    def tables(self) -> list[str]:
        """The tables in this backup: those that its schema has, and those that it may have and lists."""
        may_lack = lacking(self.schema_version)
        return [name for name in KEPT if name not in may_lack or _file_of(name) in self.files]

    def check(self, folder: Path, progress: StageProgress | None = None) -> None:
        """Damaged when a file is missing or differs from what was written."""
        total = sum(part.bytes for part in self.files.values())
        done = 0
        if missing := [name for name in map(_file_of, self.tables) if name not in self.files]:
            raise Damaged(f"{folder / MANIFEST}: does not list {missing[0]}; use another backup")
        for name, part in self.files.items():
            path = folder / name
            if not path.is_file():
                raise Damaged(f"{path}: is missing from the backup; use another backup")
            if sha256_of(path) != part.sha256:
                raise Damaged(f"{path}: differs from what was written (its sha256 is another); use another backup")
            done += part.bytes
            if progress:
                progress("check", done, total)


def export(catalog: Catalog, folder: Path, *, progress: StageProgress | None = None) -> Manifest:
    """Write the history of a catalog into a new folder, as a whole or not at all.

    BadInput when the folder exists; Failed when the disk refuses the write.
    """
    if folder.exists():
        raise BadInput(f"{folder}: already exists; name a new folder")
    remove_leftovers(folder.parent.glob(f"{escape(folder.name)}.*.part"))
    with catalog.backend.reading() as connection, whole(folder) as part:
        part.mkdir()
        now = Snapshot.at(connection, None)
        counts = now.counts()
        files = {
            _file_of(name): _write(rows, part / _file_of(name), name, counts.get(name, 0), progress)
            for name, rows in history(connection, now.commit)
        }
        manifest = Manifest(
            schema_version=schema.VERSION, commit=now.commit, digest=now.digest, counts=counts, files=files
        )
        (part / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return manifest


def restore(home: Path | str, folder: Path, *, progress: StageProgress | None = None) -> Manifest:
    """Read a backup into a workspace without commits, which is made if it is missing, after a check of all files.

    The new catalog has the digest and the row counts of the exported one. Damaged names the file that differs; after
    any error nothing of the backup is kept.
    """
    manifest = Manifest.load(folder)
    manifest.check(folder, progress)
    target = Catalog.create(home)
    if manifest.schema_version == schema.VERSION:
        fill(target.backend, _tables(folder, manifest.tables), manifest.counts, manifest.digest, progress=progress)
    else:
        _restore_older(target, folder, manifest, progress)
    return manifest


def _restore_older(target: Catalog, folder: Path, manifest: Manifest, progress: StageProgress | None) -> None:
    """Convert the tables of an older schema into a catalog of its own, and copy its history."""
    with TemporaryDirectory(prefix="restore-", dir=target.home) as converted:
        backend = DuckDBFile(Path(converted), patience=target.backend.patience)
        with backend.turn(exclusive=True), backend.rewritten() as connection:
            connection.execute("ATTACH ':memory:' AS old")
            for table in manifest.tables:  # as views, read while they are converted
                connection.execute(
                    f"CREATE VIEW old.{table} AS FROM read_parquet({quoted(str(folder / _file_of(table)))})"
                )
            convert(connection, manifest.schema_version, str(folder))
            detach(connection, "old")
        with backend.reading() as connection:
            now = Snapshot.at(connection, None)
            counts = {**now.counts(), **manifest.counts}
            fill(target.backend, history(connection, now.commit), counts, manifest.digest, progress=progress)


def _file_of(table: str) -> str:
    return f"{table}.parquet"


def _write(rows: pa.RecordBatchReader, path: Path, table: str, total: int, progress: StageProgress | None) -> Part:
    done = 0
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for batch in rows:
            writer.write_batch(batch)
            done += len(batch)
            if progress:
                progress(table, done, total)
    return Part(sha256=sha256_of(path), rows=done, bytes=path.stat().st_size)


def _tables(folder: Path, tables: Iterable[str]) -> Iterator[tuple[str, pa.RecordBatchReader]]:
    for table in tables:
        path = folder / _file_of(table)
        try:
            with pq.ParquetFile(path) as file:
                yield table, pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches())
        except pa.ArrowException as error:
            raise Damaged(f"{path}: is not valid Parquet ({first_line(error)}); use another backup") from error
