"""Copying or moving a catalog to another backend: from a file to DuckLake, for several machines, and back."""

from dataclasses import dataclass
from pathlib import Path

from curation.catalog.admin.copying import copy
from curation.catalog.backends.backend import Backend
from curation.catalog.backends.duckdb_file import DuckDBFile
from curation.catalog.backends.ducklake import DuckLake
from curation.catalog.catalog import ADDRESS, Catalog, address_of, keep_address, new_tables
from curation.errors import BadInput
from curation.files.progress import StageProgress

__all__ = ["Moved", "copy_to"]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Names of both backends, and the newest commit and digest, which are the same in both."""

    source: str
    target: str
    commit: int
    digest: str


def copy_to(catalog: Catalog, target: str, *, move: bool = False, progress: StageProgress | None = None) -> Moved:
    """Copy all commits to `target`, a URL or a workspace folder without commits; no commit can land meanwhile.

    With `move` the workspace uses the copy from then on: its `catalog.toml` names it before another commit can land,
    and the old file is kept as `catalog.moved.duckdb`. Processes that opened the old file get NotFound.
    """
    backend = _backend(catalog, target, move=move)
    if backend.name == catalog.backend.name:
        raise BadInput(f"{target}: the catalog is already stored there; name another target")
    backend.create(new_tables)
    with copy(catalog.backend, backend, progress=progress) as now:
        done = Moved(source=catalog.backend.name, target=backend.name, commit=now.commit, digest=now.digest)
        if move:
            _switch(catalog, backend)
    return done


def _backend(catalog: Catalog, target: str, *, move: bool) -> Backend:
    if "://" in target:
        return DuckLake(target, patience=catalog.backend.patience)
    folder = Path(target).resolve()
    if move and folder != catalog.home:
        raise BadInput(f"{target}: --move goes to a URL, or back into the workspace {catalog.home}; name one of these")
    if folder != catalog.home and address_of(folder):
        raise BadInput(f"{target}: has its catalog at {address_of(folder)}; name that URL")
    folder.mkdir(parents=True, exist_ok=True)
    return DuckDBFile(folder, patience=catalog.backend.patience)


def _switch(catalog: Catalog, backend: Backend) -> None:
    if isinstance(backend, DuckLake):
        keep_address(catalog.home, backend.name)
        if isinstance(catalog.backend, DuckDBFile):
            catalog.file.rename(catalog.home / "catalog.moved.duckdb")
    else:
        (catalog.home / ADDRESS).unlink()
