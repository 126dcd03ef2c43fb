"""Verbs of what people label: Label Studio, what is asked there, and what comes back."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from amber.service.signed_urls import SERVICE, url_for
from amber.terminal import Screen, output, show, table
from amber.verbs.options import workspace
from amber.wait_for_labels import DAY, follow_up
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.label_config import card_sections
from curation.labelstudio.local_server import running, start, stop
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.labelstudio.session import open_session
from curation.labelstudio.status import people, progress

__all__ = ["card_option", "connect", "days_option", "label_group", "notes_of", "studio", "third_option"]

LONGEST = 10_000
"""Days or hours that anything may last."""

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


def _seconds(context: click.Context, parameter: click.Parameter, days: float) -> float:
    if not 0 < days <= LONGEST:
        raise BadInput(f"days {days}: must be above 0 and at most {LONGEST:,}; correct it")
    return days * DAY


def _hours(context: click.Context, parameter: click.Parameter, third: float) -> timedelta:
    if not 0 <= third <= LONGEST:
        raise BadInput(f"third {third}: must lie in [0, {LONGEST:,}] hours; correct it")
    return timedelta(hours=third)


card_option = click.option(
    "--card", type=click.Path(path_type=Path), help="Data set card (Markdown); its sections named as tasks."
)
days_option = click.option(
    "--days", "lasting", default=30.0, show_default=True, callback=_seconds, help="How long the URLs of images hold."
)
third_option = click.option(
    "--third", default=24.0, show_default=True, callback=_hours,
    help="Hours to wait for a third person where two differ.",
)  # fmt: skip


def studio(command: Any) -> Any:
    """Options that say which Label Studio."""
    options = (
        click.option("--url", default="", envvar="LABEL_STUDIO_URL",
                     help="Label Studio (LABEL_STUDIO_URL); default: what `amber label start` started."),
        click.option("--token", default="", envvar="LABEL_STUDIO_API_KEY",
                     help="A token of its account page (LABEL_STUDIO_API_KEY)."),
        click.option("--any-version", is_flag=True, help="Take a version that Amber does not know."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def connect(
    home: Path, url: str, token: str, *, any_version: bool = False, patience: float = 10.0
) -> LabelStudioClient:
    """The Label Studio at `url`, or the workspace's own."""
    if url:
        if not token:
            raise BadInput(f"{url}: needs a token; pass --token, or set LABEL_STUDIO_API_KEY")
        return LabelStudioClient(url, token, any_version=any_version, patience=patience)
    local = running(home)
    if local is None:
        raise BadInput(
            f"{home}: no Label Studio runs for it; `amber label start` starts one, or pass --url and --token"
        )
    return LabelStudioClient(local.url, local.token, name="local", patience=patience)


def notes_of(catalog: Catalog, card: Path | None) -> dict[str, str]:
    """What a data set card tells annotators of each task; BadInput when it has no section for any."""
    if card is None:
        return {}
    if not card.is_file():
        raise BadInput(f"{card}: no such file; give the README.md of the data set")
    with catalog.read() as now:
        tasks = now.tasks()
    notes = {name: text for name, text in card_sections(card.read_text(encoding="utf-8")).items() if name in tasks}
    if not notes:
        raise BadInput(
            f"{card}: no section has the name of a task; write one, such as `## {next(iter(tasks), 'TASK')}`"
        )
    return notes


@click.group("label")
def label_group() -> None:
    """Have people label, in Label Studio: start it, push what is asked, pull what was answered."""


@label_group.command("start")
@click.option("--port", default=0, help="Port on this machine; default: a free one.")
@workspace
def start_command(port: int, home: str, as_json: bool) -> None:
    """Start a Label Studio for this workspace, on this machine alone; or say where it runs.

    It is installed into an environment of its own on first use.
    """
    screen = Screen(quiet=as_json)
    local = start(Catalog.open(home).home, port=port, say=screen.say)
    show(vars(local), as_json, lambda: f"{local.url}  user {local.user}  password {local.password}  pid {local.pid}")


@label_group.command("stop")
@workspace
def stop_command(home: str, as_json: bool) -> None:
    """Stop the Label Studio of this workspace; what is in it stays."""
    ended = stop(Catalog.open(home).home)
    show({"stopped": ended}, as_json, lambda: "stopped" if ended else "none runs")


@label_group.command("push")
@click.option("--task", "tasks", multiple=True, help="Only this task; may be given again.")
@click.option("--overlap", default=1, show_default=True, help="People who are asked for each label.")
@click.option("--overlap-share", default=1.0, show_default=True, help="Part of the items for which that holds.")
@click.option("--gold", default=0.0, show_default=True, help="Part of the queue of which the answer is known.")
@click.option("--blind", is_flag=True, help="Do not show the model's view beside the question.")
@click.option("--prefill", is_flag=True, help="Fill the model's view in as the answer; that biases people.")
@card_option
@click.option("--images", default=SERVICE, show_default=True, help="Where `amber serve` is reached.")
@days_option
@studio
@workspace
def push_command(
    tasks: tuple[str, ...], overlap: int, overlap_share: float, gold: float, blind: bool, prefill: bool,
    card: Path | None, images: str, lasting: float, url: str, token: str, any_version: bool, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Put the open label requests before people; run again, it sends what is not there yet."""
    catalog = Catalog.open(home)
    asking = Asking(
        tasks=tasks, overlap=overlap, overlap_share=overlap_share, gold=gold, notes=notes_of(catalog, card),
        model_view=not blind, prefill=prefill,
    )  # fmt: skip
    place = url_for(catalog.home, images, seconds=lasting)
    screen = Screen(quiet=as_json)
    with connect(catalog.home, url, token, any_version=any_version) as server, screen.stages():
        done = push(catalog, server, asking, url_for=place, lasting=lasting, progress=screen.tell)
    show(
        vars(done), as_json,
        lambda: f"{done.requests:,} requests in {done.items:,} items, {done.gold:,} gold; "
        f"{done.renewed:,} others with a new URL; {', '.join(done.projects)}",
    )  # fmt: skip
    for name in done.undescribed:
        screen.say(f"task {name}: annotators see only its name; describe it in a section `## {name}` of --card")


@label_group.command("pull")
@click.option("--follow", is_flag=True, help="Go on until people are done with every open request.")
@click.option("--every", default=5.0, show_default=True, help="Seconds between two looks, with --follow.")
@third_option
@studio
@workspace
def pull_command(
    follow: bool, every: float, third: timedelta, url: str, token: str, any_version: bool, home: str, as_json: bool
) -> None:
    """Take in what people answered since the last pull."""
    if not 0 < every <= DAY:
        raise BadInput(f"every {every}: must be above 0 and at most {DAY:,} seconds; correct it")
    catalog = Catalog.open(home)
    with connect(catalog.home, url, token, any_version=any_version) as server:
        done = pull(catalog, server, third=third)
        if follow and done.waiting:
            done = follow_up(catalog, server, done, every=every, third=third)
    show(
        vars(done), as_json,
        lambda: f"{done.labels:,} labels, {done.retracted:,} taken back, {done.skipped:,} skips, {done.unfit:,} unfit\n"
        f"{done.closed:,} requests done, {done.disputed:,} sent to a third person, {done.waiting:,} wait",
    )  # fmt: skip
    if done.unfit:
        raise click.exceptions.Exit(2)


@label_group.command("status")
@studio
@workspace
def status_command(url: str, token: str, any_version: bool, home: str, as_json: bool) -> None:
    """Say how far people are: by task and slice, and by person."""
    catalog = Catalog.open(home)
    with connect(catalog.home, url, token, any_version=any_version) as server, open_session(catalog, server) as session:
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
