"""Verbs of leads: label people, assign, disputes."""

from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from amber.completion import TASK
from amber.terminal import interval, note, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.label_server import ServerOptions, server_options
from amber.verbs.options import author, workspace
from curation.analysis.disputes import Dispute, disputes, settle
from curation.analysis.known_people import known_people, person_named
from curation.analysis.work_of_people import work_of_people
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import os_user
from curation.errors import BadInput
from curation.labelstudio.session import open_session

if TYPE_CHECKING:
    from amber.people import ItemCounts, PersonFigures

__all__ = ["assign_command", "disputes_command", "people_command"]

FIGURES = ["answers", "seconds", "gold right", "agreement"]


@click.command("people")
@click.option("--weeks", is_flag=True, help="A row for each person and week.")
@click.option("--left", metavar="PERSON", default="", help="Record that PERSON left: open items go to others.")
@click.option("--back", metavar="PERSON", default="", help="Record that PERSON came back.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of --left and --back (AMBER_AUTHOR).")
@server_options
@workspace
def people_command(
    weeks: bool, left: str, back: str, author: str, server: ServerOptions, home: str, as_json: bool
) -> None:
    """Show each person's items, seconds, gold questions and agreement with others, with 95% intervals.

    --left PERSON needs no server. The labels of a person who left stay; the next push gives the open items to others,
    and nothing can be assigned to that person.

    Example: amber label people --weeks
    """
    from amber.people import figures_of_people, item_counts  # loads what judges runs

    catalog = Catalog.open(home)
    if left or back:
        _mark(catalog, left, back, author, as_json=as_json)
        return
    with server.connect(catalog.home) as studio, open_session(catalog, studio) as session:
        session.refresh()
        names, items = studio.people(), list(session.cache.items())
    with catalog.read() as now:
        samples = now.samples().select(["sample_id", "group"])
        groups = dict(zip(*samples.to_pydict().values(), strict=True))
        rows = figures_of_people(work_of_people(now), groups, by_week=weeks)
        counts, gone = item_counts(items, now.people.assignments(), names), now.people.left()
    if weeks:
        data = [asdict(row) for row in rows]
        columns = ["person", "week", *FIGURES]
        cells = [[row["person"], row["week"], *_figures(row)] for row in data]
        show(data, as_json, lambda: table("People by week, which begin on Mondays", columns, cells))
        return
    data = _joined(rows, counts, gone)
    columns = ["person", "gets", "given", "open", "answered", "of others", *FIGURES]
    show(data, as_json, lambda: table("People, and their items", columns, [_people_cells(row) for row in data]))


@click.command("assign")
@click.option("--task", required=True, type=TASK, help="The task whose items are given.")
@click.option("--to", "person", required=True, metavar="PERSON", help="An e-mail address of Label Studio, or its name.")
@click.option("--limit", type=int, metavar="N", help="At most N open items at a time; 0: no more. Default: any number.")
@author
@server_options
@workspace
def assign_command(
    task: str, person: str, limit: int | None, author: str, server: ServerOptions, home: str, as_json: bool
) -> None:
    """Give the items of a task to a person, from the next push on; several people share them.

    Each person has a view with their name in every project: "Label All Tasks" there serves only their items, the most
    urgent first. Label Studio lets everybody open every item, so an answer of somebody else counts too; `amber label
    pull` and `amber label people` report it.

    Example: amber label assign --task light_color --to ann@example.org --limit 50
    """
    catalog = Catalog.open(home)
    with server.connect(catalog.home) as studio:
        users = sorted(studio.people().values())
    with catalog.commit(author=author, message=f"assign {task} to {person}") as change:
        name = person_named(person, {*users, *change.now.people.left()})
        change.people.assign(task, name, most=limit, by=os_user())
    most = {None: "any number of", 0: "no more"}.get(limit, f"at most {limit}")
    data = {"task": task, "person": name, "limit": limit}
    show(data, as_json, lambda: f"{name}: {most} open items of {task}, from the next `amber label push` on")


@click.command("disputes")
@click.option("--task", default="", type=TASK, help="Only disputes about this task.")
@click.option("--settle", type=(str, str), metavar="KEY VALUE", help="Settle the dispute about the sample KEY.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Who settles: author and annotator (AMBER_AUTHOR).")
@token_option
@workspace
def disputes_command(
    task: str, settle: tuple[str, str] | None, author: str, token: str, home: str, as_json: bool
) -> None:
    """List the labels on which people disagree so that none holds, or settle one.

    VALUE is a class, a number, classes separated by commas, "inapplicable", or a person whose statement holds. Your
    label overrides those of others, which stay; `amber revert` opens the dispute again.

    Example: amber label disputes --settle drive-3/00017 yellow
    """
    catalog = Catalog.open(home)
    if settle:
        _settle(catalog, task, settle, author, token, as_json=as_json)
        return
    with catalog.read() as now:
        found = disputes(now, [task] if task else ())
    if not found and not as_json:
        note("nothing is disputed")
    columns = ["task", "sample", "statements", "reason", "third asked"]
    cells = [[part.task, part.key, _statements(part), part.reason, "yes" if part.open else ""] for part in found]
    show([_plain(part) for part in found], as_json, lambda: table("Disputes", columns, cells))


def _mark(catalog: Catalog, left: str, back: str, author: str, *, as_json: bool) -> None:
    """Record that a person left or came back."""
    if left and back:
        raise BadInput(f"--left {left} --back {back}: name one of them")
    with catalog.commit(author=author, message=f"{left or back} {'left' if left else 'is back'}") as change:
        name = person_named(left or back, known_people(change.now))
        change.people.mark_left(name, left=bool(left))
    say = "left; the next `amber label push` gives the open items to others" if left else "is back"
    show({"person": name, "left": bool(left)}, as_json, lambda: f"{name}: {say}")


def _settle(catalog: Catalog, task: str, settled: tuple[str, str], author: str, token: str, *, as_json: bool) -> None:
    if not author.strip():
        raise BadInput("author '': every label has one; pass --author NAME or set AMBER_AUTHOR")
    key, value = settled
    by = identity(catalog.home, token)
    with catalog.commit(author=author, message="settle a dispute") as change:
        dispute = settle(change, key, value, task=task, annotator=author, by=by)
        made = change.id
    data = {**_plain(dispute), "value": value, "commit": made}
    show(data, as_json, lambda: f"{dispute.task} of {key}: {value}, by {author}; commit {made}")


def _joined(
    rows: "list[PersonFigures]", counts: "dict[str, ItemCounts]", gone: Collection[str]
) -> list[dict[str, Any]]:
    """A row for each person who answered, was assigned to, or left."""
    from amber.people import ItemCounts, PersonFigures

    figures = {row.person: row for row in rows}
    found = []
    for person in sorted({*figures, *counts, *gone}):
        mine = figures.get(person, PersonFigures.of_nobody(person))
        items = asdict(counts.get(person, ItemCounts()))
        found.append(
            {**asdict(mine), "left": person in gone, **{f"items_{name}": each for name, each in items.items()}}
        )
    return found


def _people_cells(row: dict[str, Any]) -> list[Any]:
    limits = [task if most is None else f"{task} (at most {most})" for task, most in row["items_tasks"].items()]
    items = [row[f"items_{name}"] for name in ("given", "open", "answered", "others")]
    return [row["person"], "left" if row["left"] else ", ".join(limits), *items, *_figures(row)]


def _figures(row: dict[str, Any]) -> list[Any]:
    shares = [interval({"metric": "share", **row[name]}) for name in ("gold", "agreement")]
    return [row["answers"], row["seconds"], *shares]


def _statements(part: Dispute) -> str:
    return "\n".join(f"{each.annotator}: {each.value}" for each in part.statements)


def _plain(part: Dispute) -> dict[str, Any]:
    """A dispute as plain values."""
    statements = [{**asdict(each), "at": each.at.isoformat()} for each in part.statements]
    return {**asdict(part), "statements": statements}
