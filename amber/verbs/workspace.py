"""The verbs `amber backup`, `amber restore` and `amber prune`: care of a whole workspace."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from amber.terminal import Screen, show, table
from amber.verbs.options import workspace
from curation.catalog.catalog import Catalog

if TYPE_CHECKING:
    from amber.backup import BackedUp

__all__ = ["backup_command", "prune_command", "restore_command"]


@click.command("backup")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--packs", default="", metavar="PLACE",
    help="Name the shards at PLACE (a URL or folder that `amber pack --to` filled) instead of copying them.",
)  # fmt: skip
@workspace
def backup_command(folder: Path, packs: str, home: str, as_json: bool) -> None:
    """Write the whole workspace into the new FOLDER: catalog, packs, plans, runs, features, held-back labels, tokens.

    It appears whole or not at all. The key that signs URLs, Label Studio's own database and the images themselves are
    not in it.
    """
    from amber.backup import back_up

    screen = Screen(quiet=as_json)
    with screen.stages():
        done = back_up(Catalog.open(home), folder, packs=packs, progress=screen.tell)
    _show(done, f"backed up to {folder}", as_json)


@click.command("restore")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--packs", default="", metavar="PLACE", help="Where the shards are now, if the backup only names them.")
@workspace
def restore_command(folder: Path, packs: str, home: str, as_json: bool) -> None:
    """Make a workspace, whose folder is missing or empty, from the backup in FOLDER; every file is checked.

    Backups of older schemas are read too.
    """
    from amber.backup import restore_workspace

    screen = Screen(quiet=as_json)
    with screen.stages():
        done = restore_workspace(Path(home), folder, packs=packs, progress=screen.tell)
    _show(done, f"restored into {home}", as_json)


@click.command("prune")
@click.option("--yes", is_flag=True, help="Remove it; without this nothing is removed.")
@click.option(
    "--older", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="DAYS",
    help="Only what has not changed for DAYS days.",
)  # fmt: skip
@click.option(
    "--checkpoints", is_flag=True,
    help="Also the weights of finished runs, except the newest, the latest loop's, and those that these continue.",
)  # fmt: skip
@workspace
def prune_command(yes: bool, older: float, checkpoints: bool, home: str, as_json: bool) -> None:
    """List plans, packs, shards, features, checkpoints and leftovers that nothing needs, with bytes and why.

    What a run, a sign-off, the policy in force or the latest loop refers to is kept. Nothing is removed while another
    process uses the workspace's packs, plans or features.
    """
    from amber.prune import DAY, prune, unneeded

    catalog = Catalog.open(home)
    found = (prune if yes else unneeded)(catalog, older=older * DAY, checkpoints=checkpoints)
    total = sum(part.bytes for part in found)
    what = f"{len(found):,} entries, {total:,} bytes"
    title = f"Removed {what}" if yes else f"Not needed: {what}. Nothing was removed; --yes removes it"
    shown = {"removed": yes, "bytes": total, "entries": [vars(part) for part in found]}
    rows = [[part.kind, part.path, part.bytes, part.why] for part in found]
    show(shown, as_json, lambda: table(title, ["kind", "path", "bytes", "why"], rows) if rows else "nothing to remove")


def _show(done: "BackedUp", what: str, as_json: bool) -> None:
    shards = f"{done.shards:,} shards" + (f" at {done.packs}" if done.packs else "")
    line = f"{what}: commit {done.commit}, {done.files:,} files, {done.bytes:,} bytes, {shards}"
    left = f"\nleft out: {', '.join(done.left_out)}" if done.left_out else ""
    show(vars(done), as_json, lambda: line + left)
