"""The verb `amber forget`."""

import click

from amber.terminal import show
from amber.verbs.options import author, workspace
from curation.catalog.catalog import Catalog
from curation.errors import BadInput

__all__ = ["forget_command"]


@click.command("forget")
@click.argument("sample")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@author
@workspace
def forget_command(sample: str, yes: bool, author: str, home: str, as_json: bool) -> None:
    """Remove SAMPLE (a key) and everything known about it, at every commit, from catalog, shards, plans and runs.

    Plans and runs that used it are withdrawn. Only the fact that a sample was forgotten is kept, with hashes of its key
    and image, so that neither comes back. There is no undo.
    """
    from amber.forget import forget

    if not yes and not click.confirm(f"forget {sample} in {home}, at every commit?", err=True):
        raise BadInput(f"{sample}: not forgotten, because nobody confirmed it; answer y, or pass --yes")
    gone = forget(Catalog.open(home), sample, author=author)
    left = [gone.location, *gone.pictures, *gone.backups]
    copies = f"\nthe same image is also {', '.join(gone.copies)}: forget it there too" if gone.copies else ""
    pushed = "".join(f"\n{server} shows it until `amber label pull` there" for server in gone.servers)
    show(
        vars(gone), as_json,
        lambda: f"commit {gone.commit}: forgotten; {len(gone.packs)} packs rewritten, {len(gone.plans)} plans and "
        f"{len(gone.runs)} runs withdrawn\nleft for you to delete, as they contain or may contain it: "
        f"{', '.join(left)}{copies}{pushed}",
    )  # fmt: skip
