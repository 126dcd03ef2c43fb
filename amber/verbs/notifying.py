"""Verbs of notices: notices, notices choose, choices, drop, send, sent, test."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Group

from amber.notices.choices import Choice, Choices
from amber.notices.notice import KINDS, Notice
from amber.terminal import note, plain, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.moments import moment_of
from amber.verbs.options import has_verb, using_files, workspace
from amber.verbs.runs import shown_time
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError, BadInput, NotFound

if TYPE_CHECKING:
    from amber.notices.outbox import Delivery

__all__ = ["notices_group"]

DAYS: Final = 7

kind_option = click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only this kind; may be given several times."
)
everybody_option = click.option("--all", "everybody", is_flag=True, help="Those of everybody, not yours alone.")


@click.group("notices", invoke_without_command=True)
@click.option(
    "--since", default="", metavar="WHEN",
    help=f"After this commit, date, run or plan; default: {DAYS} days before the newest commit.",
)  # fmt: skip
@kind_option
@workspace
@using_files
@click.pass_context
def notices_group(context: click.Context, since: str, kinds: tuple[str, ...], home: str, as_json: bool) -> None:
    """List what happened that somebody may want to know; `choose` says who is sent what, `send` sends it.

    A run that got worse on a slice than the run before it in its line (regressed), a task that gets less from a plan
    than from the one before (share), a gate that blocks (blocked), a plan or a release that waits for an owner's
    sign-off (waiting), and a task whose queue of label requests ran dry (dry).
    """
    if has_verb(context):
        return
    from amber.notices.events import notices_since

    catalog = Catalog.open(home)
    with catalog.read() as now:
        commit = moment_of(catalog.home, now, since).commit if since else _days_ago(now)
        found, notes = notices_since(now, catalog.home, commit, kinds=kinds or KINDS)
    for line in () if as_json else notes:
        note(line)
    data = {"since": commit, "notices": [each.as_json() for each in found], "notes": notes}
    show(data, as_json, lambda: Group(_table(commit, found), *map(_lines, found)))


@notices_group.command("choose")
@click.option("--webhook", default="", metavar="URL", help="Post each notice there, signed.")
@click.option("--mail", default="", metavar="ADDRESS", help="Send mail to this address.")
@kind_option
@click.option("--task", "tasks", multiple=True, help="Only notices that concern this task; may be given several times.")
@click.option("--owner", "owners", multiple=True, help="Only those of this owner's tasks; may be given several times.")
@click.option("--mine", is_flag=True, help="Only those that concern an owner that you are a member of.")
@token_option
@workspace
def choose_command(
    webhook: str, mail: str, kinds: tuple[str, ...], tasks: tuple[str, ...], owners: tuple[str, ...], mine: bool,
    token: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Choose what you are sent from now on, and where: `amber notices choose --mail ann@example.org --mine`.

    You are the user of the operating system, or the holder of --token; each person chooses alone. The same target again
    replaces what you chose for it. A webhook gets a secret, by which its receiver checks who sent a notice.
    """
    if bool(webhook) == bool(mail):
        raise BadInput("notices choose: needs --webhook URL or --mail ADDRESS, one of the two")
    catalog = Catalog.open(home)
    person = str(identity(catalog.home, token))
    with catalog.read() as now:
        made = Choices(catalog.home).add(
            now, person, "webhook" if webhook else "mail", webhook or mail, kinds=kinds or KINDS, tasks=tasks,
            owners=owners, mine=mine,
        )  # fmt: skip
    shown = {**_row(made), "secret": made.secret}
    secret = f"\nsecret {made.secret}" if made.secret else ""
    show(shown, as_json, lambda: f"choice {made.id} of {person}: {plain(made.kinds)} to {made.target}{secret}")


@notices_group.command("choices")
@everybody_option
@token_option
@workspace
def choices_command(everybody: bool, token: str, home: str, as_json: bool) -> None:
    """List what you chose."""
    home_ = Catalog.open(home).home
    found = Choices(home_).all(None if everybody else str(identity(home_, token)))
    columns = ["id", "person", "channel", "target", "kinds", "tasks", "owners", "mine", "made"]
    rows = [_row(each) for each in found]
    show(rows, as_json, lambda: table("Choices", columns, [[_cell(row[name]) for name in columns] for row in rows]))


@notices_group.command("drop")
@click.argument("choice")
@token_option
@workspace
def drop_command(choice: str, token: str, home: str, as_json: bool) -> None:
    """End what you chose: CHOICE is its id."""
    home_ = Catalog.open(home).home
    gone = Choices(home_).remove(str(identity(home_, token)), choice)
    show({"dropped": gone.id}, as_json, lambda: f"choice {gone.id} has ended; nothing more goes to {gone.target}")


@notices_group.command("send")
@workspace
@using_files
def send_command(home: str, as_json: bool) -> None:
    """Send what is new, and what failed and is due again; for cron, or a timer of systemd.

    Exit code 1 where something was not sent; it is tried again by later calls, for three days.
    """
    from amber.notices.outbox import send

    done = send(Catalog.open(home))
    data = {"tried": [_delivery(each) for each in done.tried], "notes": list(done.notes), "error": done.error}
    for line in () if as_json else [*done.notes, *([done.error] if done.error else [])]:
        note(line)
    for each in () if as_json else done.failures:
        note(f"{each.notice.subject}: {each.error}")
    sent = len(done.tried) - len(done.failures)
    show(data, as_json, lambda: f"{sent:,} sent, {len(done.failures):,} not sent")
    if not done.well:
        raise click.exceptions.Exit(1)


@notices_group.command("sent")
@everybody_option
@token_option
@workspace
def sent_command(everybody: bool, token: str, home: str, as_json: bool) -> None:
    """List what was sent to you, what waits for its next try, and what failed for good."""
    from amber.notices.outbox import Outbox

    home_ = Catalog.open(home).home
    mine = {each.target for each in Choices(home_).all(None if everybody else str(identity(home_, token)))}
    rows = [_delivery(each) for each in Outbox(home_).all() if everybody or each.target in mine]
    columns = ["state", "queued", "kind", "subject", "target", "tries", "error"]
    show(rows, as_json, lambda: table("Deliveries", columns, [[_cell(row[name]) for name in columns] for row in rows]))


@notices_group.command("test")
@click.argument("choice", default="")
@token_option
@workspace
def test_command(choice: str, token: str, home: str, as_json: bool) -> None:
    """Send a test to where you chose: to all targets, or to that of CHOICE, an id. Exit code 1 where one fails."""
    from amber.notices.outbox import send_test

    catalog = Catalog.open(home)
    person = str(identity(catalog.home, token))
    found = [each for each in Choices(catalog.home).all(person) if choice in ("", each.id)]
    if not found:
        what = f"choice {choice!r}: {person} has no such choice" if choice else f"{person} has chosen nothing"
        raise NotFound(f"{what}; `amber notices choose` makes one")
    rows: list[dict[str, str]] = []
    for each in found:
        try:
            send_test(catalog, each)
            rows.append({"choice": each.id, "target": each.target, "error": ""})
        except AmberError as error:
            rows.append({"choice": each.id, "target": each.target, "error": str(error)})
    cells = [[row["choice"], row["target"], row["error"] or "sent"] for row in rows]
    show(rows, as_json, lambda: table("Test", ["choice", "target", "result"], cells))
    if any(row["error"] for row in rows):
        raise click.exceptions.Exit(1)


def _days_ago(now: Snapshot) -> int:
    """The newest commit that is `DAYS` days older than the newest one; 0 for none."""
    rows = [(row["committed_at"], row["id"]) for row in now.log().to_pylist()]
    return next((commit for at, commit in rows if rows[0][0] - at > timedelta(days=DAYS)), 0)


def _table(since: int, found: Sequence[Notice]) -> Any:
    cells = [[each.kind, shown_time(each.at), each.commit, each.subject, plain(each.owners) or "all"] for each in found]
    return table(f"Notices after commit {since}", ["kind", "date (UTC)", "commit", "what", "owners"], cells)


def _lines(each: Notice) -> str:
    more = "".join(f"\n  {line}" for line in each.text.splitlines())
    return f"{each.subject}:{more}\n  {each.command}"


def _row(choice: Choice) -> dict[str, Any]:
    """A choice without its secret."""
    return {**{name: value for name, value in vars(choice).items() if name != "secret"}, "made": str(choice.made)}


def _delivery(each: "Delivery") -> dict[str, Any]:
    """A delivery in short."""
    words = {name: getattr(each, name) for name in ("state", "channel", "target", "tries", "error")}
    times = {name: str(getattr(each, name).replace(microsecond=0)) for name in ("queued", "due")}
    return {"id": each.notice.id, "kind": each.notice.kind, "subject": each.notice.subject, **words, **times}


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (plain(value) or "all") if isinstance(value, tuple) else value
