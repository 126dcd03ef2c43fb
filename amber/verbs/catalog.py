"""`amber catalog`: copies, backups, checks and migrations of the catalog."""

from pathlib import Path
from typing import Any

import click

from amber.terminal import Screen, show, table
from amber.verbs.options import workspace
from curation.catalog.admin import backup, moving
from curation.catalog.admin.migrations import migrate
from curation.catalog.admin.verification import verify
from curation.catalog.catalog import Catalog
from curation.errors import Damaged

__all__ = ["catalog_group"]


@click.group("catalog")
def catalog_group() -> None:
    """Copies, backups, checks and migrations of the catalog."""


@catalog_group.command("copy")
@click.argument("target")
@click.option("--move", is_flag=True, help="Make the workspace use the copy from now on.")
@workspace
def copy_command(target: str, move: bool, home: str, as_json: bool) -> None:
    """Copy all commits to TARGET: a URL (postgresql://USER@HOST/DB?data=FOLDER), or another workspace folder.

    With --move, TARGET may be the workspace itself; then its catalog moves from its URL back into a file.
    """
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = moving.copy_to(Catalog.open(home), target, move=move, progress=screen.tell)
    summary = f"commit {done.commit}, digest {done.digest[:12]}: {done.source} -> {done.target}"
    show(vars(done), as_json, lambda: f"{'moved' if move else 'copied'} {summary}")


@catalog_group.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@workspace
def export_command(folder: Path, home: str, as_json: bool) -> None:
    """Write a backup into the new FOLDER: one Parquet file per table, with checksums."""
    screen = Screen(quiet=as_json)
    with screen.stages():
        made = backup.export(Catalog.open(home), folder, progress=screen.tell)
    _show_manifest(made, f"exported to {folder}", as_json)


@catalog_group.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@workspace
def import_command(folder: Path, home: str, as_json: bool) -> None:
    """Restore the backup in FOLDER into the workspace, whose catalog must be empty; checksums are verified first."""
    screen = Screen(quiet=as_json)
    with screen.stages():
        made = backup.restore(home, folder, progress=screen.tell)
    _show_manifest(made, f"imported from {folder}", as_json)


@catalog_group.command("verify")
@workspace
def verify_command(home: str, as_json: bool) -> None:
    """Check the chain of commits, all references, the intervals against the events, and the files of the workspace.

    These are packs (without their images: `amber pack --verify`), plans, embeddings, runs and held-back labels.
    """
    from amber.verification import verify_files

    screen = Screen(quiet=as_json)
    with screen.stages():
        catalog = Catalog.open(home)
        checks = [*verify(catalog, progress=screen.tell), *verify_files(catalog.home)]
    faults = [f"{check.name}: {check.fault}" for check in checks if check.fault]
    show(
        [vars(check) for check in checks],
        as_json,
        lambda: table("Catalog", ["check", "found"], [[check.name, check.fault or "sound"] for check in checks]),
    )
    if faults:
        raise Damaged(f"{home}: {faults[0]}; restore a backup (`amber catalog import`)")


@catalog_group.command("compact")
@workspace
def compact_command(home: str, as_json: bool) -> None:
    """Merge recent commits into the sorted tables, and free the space of deleted rows."""
    catalog = Catalog.open(home)
    before = catalog.backend.size()
    catalog.compact()
    after = catalog.backend.size()
    show({"before": before, "after": after}, as_json, lambda: f"{before:,} bytes before, {after:,} after")


@catalog_group.command("migrate")
@workspace
def migrate_command(home: str, as_json: bool) -> None:
    """Update a catalog from an older Amber to the current schema; a backup is kept beside it."""
    done = migrate(home)
    summary = (
        f"schema {done.before} -> {done.after}, backup {done.backup}"
        if done.backup
        else f"schema {done.after}: up to date"
    )
    show({**vars(done), "backup": str(done.backup or "")}, as_json, lambda: summary)


def _show_manifest(made: backup.Manifest, what: str, as_json: bool) -> None:
    size = sum(part.bytes for part in made.files.values())
    rows = sum(part.rows for part in made.files.values())
    shown: dict[str, Any] = made.model_dump(mode="json")
    show(shown, as_json, lambda: f"{what}: commit {made.commit}, {rows:,} rows, {size:,} bytes")
