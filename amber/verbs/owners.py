"""Verbs of owners: owners, owners set."""

import click

from amber.terminal import plain, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import has_verb, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity

__all__ = ["owners_group"]


@click.group("owners", invoke_without_command=True)
@workspace
@click.pass_context
def owners_group(context: click.Context, home: str, as_json: bool) -> None:
    """List owners with their tasks and members; `set` maps an owner to users and tokens."""
    if has_verb(context):
        return
    with Catalog.open(home).read() as now:
        members, tasks = now.ownership.members(), now.tasks().values()
    rows = [
        {
            "owner": owner, "tasks": [task.name for task in tasks if task.owner == owner],
            "members": [str(member) for member in members.get(owner, ())],
        }
        for owner in sorted({*members, *(task.owner for task in tasks)})
    ]  # fmt: skip
    cells = [[row["owner"], plain(row["tasks"]), plain(row["members"]) or "anybody"] for row in rows]
    show(rows, as_json, lambda: table("Owners", ["owner", "tasks", "members"], cells))


@owners_group.command("set")
@click.argument("owner")
@click.argument("members", nargs=-1)
@token_option
@workspace
def set_owner(owner: str, members: tuple[str, ...], token: str, home: str, as_json: bool) -> None:
    """Map OWNER to MEMBERS: user:NAME (of the operating system) or token:NAME (of the service).

    From then on only they sign off for OWNER, redefine its tasks, and change its members.
    """
    catalog = Catalog.open(home)
    named = [Identity.parse(member) for member in members]
    by = identity(catalog.home, token)
    with catalog.commit(author=by.name, message=f"owner {owner}: {', '.join(map(str, named)) or 'nobody'}") as change:
        change.set_members(owner, named, by=by)
    shown = {"owner": owner, "members": [str(member) for member in named], "by": str(by)}
    show(shown, as_json, lambda: f"{owner}: {plain(shown['members']) or 'anybody'} (set by {by})")
