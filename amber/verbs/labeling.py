"""Verbs of labeling by people in Label Studio: label start, stop, push, pull, status; `label_people` has the others."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click

from amber.completion import TASK
from amber.service.images.signed_urls import SERVICE, url_for
from amber.terminal import Screen, note, output, show, table
from amber.verbs.label_people import assign_command, disputes_command, people_command
from amber.verbs.label_server import ServerOptions, server_options
from amber.verbs.options import grouped, workspace
from amber.verbs.people_options import DAY, card_option, days_option, third_option
from amber.wait_for_labels import follow_up
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.labelstudio.label_config import card_sections
from curation.labelstudio.local_server import start, stop
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.labelstudio.session import open_session
from curation.labelstudio.status import people, progress

__all__ = ["label_group", "notes_of"]

SHOWN = [
    "task",
    "slice",
    "requests",
    "sent",
    "disputed",
    "answered",
    "unsure",
    "rate",
    "agreement",
    "spent",
    "open_cost",
    "hours",
]


def notes_of(catalog: Catalog, card: Path | None) -> dict[str, str]:
    """The section of a data set card for each task; BadInput when there is none for any task."""
    if card is None:
        return {}
    if not card.is_file():
        raise BadInput(f"{card}: no such file; pass the README.md of the data set")
    with catalog.read() as now:
        tasks = now.tasks()
    notes = {name: text for name, text in card_sections(card.read_text(encoding="utf-8")).items() if name in tasks}
    if not notes:
        raise BadInput(f"{card}: no section is named after a task; add one, such as `## {next(iter(tasks), 'TASK')}`")
    return notes


@click.group("label")
def label_group() -> None:
    """Have people label in Label Studio: start it, push requests, pull answers, see and assign people."""


for command in (assign_command, disputes_command, people_command):
    label_group.add_command(command)


@label_group.command("start")
@click.option("--port", default=0, help="Port on this machine; default: a free one.")
@workspace
def start_command(port: int, home: str, as_json: bool) -> None:
    """Start a Label Studio for this workspace, on this machine only, or print the address of the running one.

    The first start installs it into an environment of its own.
    """
    screen = Screen(quiet=as_json)
    local = start(Catalog.open(home).home, port=port, say=screen.say)
    show(vars(local), as_json, lambda: f"{local.url}  user {local.user}  password {local.password}  pid {local.pid}")


@label_group.command("stop")
@workspace
def stop_command(home: str, as_json: bool) -> None:
    """Stop the Label Studio of this workspace; its data is kept."""
    ended = stop(Catalog.open(home).home)
    show({"stopped": ended}, as_json, lambda: "stopped" if ended else "not running")


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Options for what to send, and to how many people."""

    tasks: tuple[str, ...]
    overlap: int
    overlap_share: float
    gold: float
    blind: bool
    prefill: bool
    card: Path | None
    images: str
    lasting: float

    def asking(self, catalog: Catalog) -> Asking:
        """These settings; BadInput names the one that breaks a rule."""
        return Asking(
            tasks=self.tasks, overlap=self.overlap, overlap_share=self.overlap_share, gold=self.gold,
            notes=notes_of(catalog, self.card), model_view=not self.blind, prefill=self.prefill,
        )  # fmt: skip


push_options = grouped(
    "options", PushOptions,
    click.option("--task", "tasks", multiple=True, type=TASK, help="Only this task; may be repeated."),
    click.option("--overlap", default=1, show_default=True, help="Annotators per label."),
    click.option("--overlap-share", default=1.0, show_default=True, help="Share of the items with that overlap."),
    click.option("--gold", default=0.0, show_default=True, help="Share of items whose answer is known, in [0, 1)."),
    click.option("--blind", is_flag=True, help="Do not show the model's view beside the question."),
    click.option("--prefill", is_flag=True, help="Fill in the model's view as the answer; that biases people."),
    card_option,
    click.option("--images", default=SERVICE, show_default=True, help="Address of `amber serve`."),
    days_option,
)  # fmt: skip


@label_group.command("push")
@push_options
@server_options
@workspace
def push_command(options: PushOptions, server: ServerOptions, home: str, as_json: bool) -> None:
    """Send the open label requests to Label Studio; run again, it sends only new ones."""
    catalog = Catalog.open(home)
    asking = options.asking(catalog)
    image_url = url_for(catalog.home, options.images, seconds=options.lasting)
    screen = Screen(quiet=as_json)
    with server.connect(catalog.home) as studio, screen.stages():
        done = push(catalog, studio, asking, url_for=image_url, lasting=options.lasting, progress=screen.tell)
    show(
        vars(done), as_json,
        lambda: f"{done.requests:,} requests in {done.items:,} items, {done.gold:,} gold; "
        f"{done.renewed:,} others with a new URL; {', '.join(done.projects)}",
    )  # fmt: skip
    if done.outdated:
        screen.say(f"{done.outdated:,} items without an answer were sent again with the new instructions")
    if done.reassigned:
        screen.say(f"{done.reassigned:,} items were reassigned: `amber label people` shows whose they are")
    if done.held:
        screen.say(f"{done.held:,} items wait until somebody has room: `amber label assign` sets the limits")
    for name in done.undescribed:
        screen.say(f"task {name}: annotators see only its name; describe it by `amber tasks instructions {name} FILE`")


@label_group.command("pull")
@click.option("--follow", is_flag=True, help="Keep pulling until every open request is answered.")
@click.option("--every", default=5.0, show_default=True, help="Seconds between two pulls, with --follow.")
@third_option
@server_options
@workspace
def pull_command(follow: bool, every: float, third: timedelta, server: ServerOptions, home: str, as_json: bool) -> None:
    """Fetch what people answered since the last pull, and commit it."""
    if not 0 < every <= DAY:
        raise BadInput(f"every {every}: must be above 0 and at most {DAY:,} seconds; correct it")
    catalog = Catalog.open(home)
    with server.connect(catalog.home) as studio:
        done = pull(catalog, studio, third=third)
        if follow and done.waiting:
            done = follow_up(catalog, studio, done, every=every, third=third)
    show(
        vars(done), as_json,
        lambda: f"{done.labels:,} labels, {done.retracted:,} retracted, {done.skipped:,} skips, {done.unfit:,} unfit\n"
        f"{done.closed:,} requests done, {done.disputed:,} sent to a third person, {done.waiting:,} waiting",
    )  # fmt: skip
    if done.by_others and not as_json:
        note(f"{done.by_others:,} answers are by people whom the item was not given to; they count like any")
    for key in done.forgotten:
        click.echo(f"left out {key}: was forgotten, its item is deleted", err=True)
    if done.unfit:
        raise click.exceptions.Exit(2)


@label_group.command("status")
@server_options
@workspace
def status_command(server: ServerOptions, home: str, as_json: bool) -> None:
    """Show the progress of labeling by task and slice, and by person."""
    catalog = Catalog.open(home)
    with server.connect(catalog.home) as studio, open_session(catalog, studio) as session:
        session.refresh()
        sent = {request for item in session.cache.items() for request in item.requests.values()}
    with catalog.read() as now:
        rows, who = [vars(row) for row in progress(now, sent)], [vars(row) for row in people(now)]

    def shown() -> None:
        cells = [[row["slice"] or "(all)" if name == "slice" else row[name] for name in SHOWN] for row in rows]
        output().print(table("Label requests (rate: answers an hour)", SHOWN, cells))
        if who:
            output().print(table("People", list(who[0]), [list(row.values()) for row in who]))

    show({"tasks": rows, "people": who}, as_json, shown)
