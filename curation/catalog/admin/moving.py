"""A catalog that goes elsewhere: from a file to DuckLake when one machine is outgrown, and back."""

from dataclasses import dataclass
from pathlib import Path

from curation.catalog.admin.copying import Progress, copy
from curation.catalog.backends.backend import Backend
from curation.catalog.backends.duckdb_file import DuckDBFile
from curation.catalog.backends.ducklake import DuckLake
from curation.catalog.catalog import ADDRESS, Catalog, address_of, keep_address, new_tables
from curation.errors import BadInput

__all__ = ["Moved", "copy_to"]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What was copied: where from, where to, and the commit and digest of both heads."""

    source: str
    target: str
    commit: int
    digest: str


def copy_to(catalog: Catalog, target: str, *, move: bool = False, progress: Progress | None = None) -> Moved:
    """Copy all commits to `target`, a URL or a workspace folder without commits; nobody commits meanwhile.

    With `move` the workspace uses the copy from then on: its `catalog.toml` says so before the first one may commit
    again, and its own file is kept as `catalog.moved.duckdb`. Who had it open before is told that it is gone.
    """
    place = _place(catalog, target, move=move)
    if place.name == catalog.place.name:
        raise BadInput(f"{target}: is where the catalog lies already; name another place")
    place.create(new_tables)
    with copy(catalog.place, place, progress=progress) as now:
        done = Moved(source=catalog.place.name, target=place.name, commit=now.commit, digest=now.digest)
        if move:
            _switch(catalog, place)
    return done


def _place(catalog: Catalog, target: str, *, move: bool) -> Backend:
    if "://" in target:
        return DuckLake(target, patience=catalog.place.patience)
    folder = Path(target).resolve()
    if move and folder != catalog.home:
        raise BadInput(f"{target}: --move goes to a URL, or back into the workspace {catalog.home}; name one of these")
    if folder != catalog.home and address_of(folder):
        raise BadInput(f"{target}: has its catalog at {address_of(folder)}; name that")
    folder.mkdir(parents=True, exist_ok=True)
    return DuckDBFile(folder, patience=catalog.place.patience)


def _switch(catalog: Catalog, place: Backend) -> None:
    if isinstance(place, DuckLake):
        keep_address(catalog.home, place.name)
        if isinstance(catalog.place, DuckDBFile):
            catalog.file.rename(catalog.home / "catalog.moved.duckdb")
    else:
        (catalog.home / ADDRESS).unlink()
