"""The verb `amber browse`: the FiftyOne App on a mirror of the catalog."""

import io
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import click
import numpy as np
import pyarrow as pa

from amber.completion import PLAN, RUN, SLICE
from amber.plugin.environment import offer_plugin
from amber.run_overlay import overlay_of
from amber.service.images.signed_urls import SERVICE, Signer
from amber.terminal import Screen, show, table
from amber.verbs.options import workspace
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Failed, NotFound
from curation.fiftyone_app.columns import Finding, Overlay
from curation.fiftyone_app.edits import Edits, commit_edits, edits_of
from curation.fiftyone_app.mirror import MirrorResult, UrlFor, mirror
from curation.fiftyone_app.mongod import companion, fiftyone, mirror_lock, prepare_database
from curation.fiftyone_app.panels import draw_map
from curation.files.locations import is_url
from curation.images.embeddings import models_of
from samplers.plan.plan import Plan
from training.report.worst_slices import worst_slices

__all__ = ["browse_command", "browse_findings"]

LET_GO = 15.0
"""Seconds in which an App that was killed releases its port."""

HOLD = 30 * 86_400.0
"""Seconds of a window: image URLs are valid for at least one, and are rewritten in the next."""

COMES_UP = 120.0
"""Seconds in which a started App must answer."""


@click.command("browse")
@click.argument("slice_name", metavar="[SLICE]", default="", type=SLICE)
@click.option("--run", "run_", default="", type=RUN, help="Show the predictions of this run, and what it gets wrong.")
@click.option("--against", default="", type=RUN, help="With --run: show where its predictions differ from this run.")
@click.option("--view", default="", help="Open this saved view of the App, such as 'flips light'.")
@click.option("--plan", "plan_", default="", type=PLAN, help="Show draw probabilities and weights of this plan.")
@click.option("--commit", type=int, help="Show the catalog at this commit; default: now.")
@click.option(
    "--port", default=5151, show_default=True, type=click.IntRange(1024, 65535), help="Port of the App on 127.0.0.1."
)
@click.option("--import", "home_come", is_flag=True, help="Commit the labels and tags that were edited in the App.")
@click.option("--dry-run", is_flag=True, help="With --import: only show what would be committed.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the commit (AMBER_AUTHOR).")
@click.option("--service", default=SERVICE, show_default=True, envvar="AMBER_SERVICE", help="Address of `amber serve`.")
@click.option(
    "--token", default="", envvar="AMBER_TOKEN", help="Token of the scope label for the App's buttons (AMBER_TOKEN)."
)
@click.option("--no-app", is_flag=True, help="Update the mirror, and do not open the App.")
@workspace
def browse_command(
    slice_name: str, run_: str, against: str, view: str, plan_: str, commit: int | None, port: int, home_come: bool,
    dry_run: bool, author: str, service: str, token: str, no_app: bool, home: str, as_json: bool,
    findings: tuple[Finding, ...] = (),
) -> None:  # fmt: skip
    """Show the catalog, or one SLICE of it, in the FiftyOne App. Edits there count only after --import."""
    catalog = Catalog.open(home)
    prepare_database(catalog.home)
    offer_plugin(catalog.home, service=service, token=token, plan=plan_)
    fiftyone()  # takes seconds, so it comes before the catalog is opened
    screen, name = Screen(quiet=as_json), _name(catalog)
    with mirror_lock(catalog.home):
        scene = replace(_checked_scene(catalog, commit, slice_name, run_, against, plan_), findings=findings)
        before = datetime.now(UTC) if home_come else None
        if home_come:
            with catalog.read(commit) as now:
                found = edits_of(_dataset(name), now, scene)
            _import_edits(catalog, found, author=author, dry_run=dry_run, as_json=as_json)
            if dry_run:
                return
        done = _mirrored(catalog, commit, name, scene, service, before, screen)
    if home_come:
        return
    if no_app:
        show(vars(done), as_json, lambda: _summary(done))
        return
    screen.say(_summary(done))
    if not done.samples:  # the empty App explains how to add samples, which would bypass the catalog
        raise NotFound(f"{catalog.home}: the catalog has no sample at that commit; add some with `amber ingest`")
    _open_app(name, view or (f"slice {slice_name}" if slice_name else ""), port, screen)


def browse_findings(
    context: click.Context, findings: Sequence[Finding], *, run: str, against: str = "", home: str, as_json: bool
) -> None:
    """Open the App at the first finding about a run. BadInput where nothing was found."""
    shown = tuple(finding for finding in findings if finding.keys)
    if not shown:
        raise BadInput("--app: nothing was found, so there is no image to show; leave it out")
    context.invoke(
        browse_command, run_=run, against=against, view=shown[0].name, findings=shown, home=home, as_json=as_json
    )


def _checked_scene(
    catalog: Catalog, commit: int | None, slice_name: str, run_: str, against: str, plan_: str
) -> Overlay:
    """The predictions, plan and slice to show; an error when there is nothing to show."""
    with catalog.read(commit) as now:
        scene = _scene(catalog, now, run_, against, plan_)
        if slice_name:
            _refuse_empty(now, slice_name, scene)
    return replace(scene, pinned=commit is not None)


def _mirrored(
    catalog: Catalog, commit: int | None, name: str, scene: Overlay, service: str, before: datetime | None,
    screen: Screen,
) -> MirrorResult:  # fmt: skip
    """Update the mirror to the commit, with a map of each model's embeddings."""
    with catalog.read(commit) as now, screen.stages():
        urls = _urls(catalog, now, service)
        scene = replace(scene, urls=f"{service} {_window()}" if urls else "")
        url_for = urls or (lambda key, location: None)
        done = mirror(now, name, scene=scene, url_for=url_for, progress=_progress(screen), at=before)
    if done.since is None:
        for model in models_of(catalog.home):
            draw_map(_dataset(name), catalog.home, model)
    return done


def _window() -> int:
    """Number of windows of `HOLD` seconds since 1970."""
    return int(time.time() // HOLD)


def _urls(catalog: Catalog, now: Snapshot, service: str) -> UrlFor | None:
    """A function from an image to its URL, valid until the end of the next window; None when all are local files.

    FiftyOne serves local files by itself. Images with an http URL keep it; the others come from the service.
    """
    if not any(map(is_url, now.samples()["location"].to_pylist())):
        return None
    signer, expires = Signer.of(catalog.home), (_window() + 2) * HOLD

    def url_for(key: str, location: str) -> str:
        own = location.startswith(("http://", "https://"))
        return location if own else f"{service.rstrip('/')}/images/{signer.sign(location, seconds=expires, now=0)}"

    return url_for


def _name(catalog: Catalog) -> str:
    from amber.service.facts.elsewhere import dataset_name

    return dataset_name(catalog.home)


def _dataset(name: str) -> Any:
    package = fiftyone()
    if not package.dataset_exists(name):
        raise NotFound(f"mirror {name}: does not exist, so nothing was edited in it; create it with `amber browse`")
    return package.load_dataset(name)


def _scene(catalog: Catalog, now: Snapshot, run_: str, against: str, plan_: str) -> Overlay:
    scene = overlay_of(catalog.home, now, run_, against)
    worst = worst_slices(now, scene.run, Path(scene.predictions)) if scene.predictions else []
    return replace(scene, worst=tuple(worst), extra=_drawn(Plan.open(catalog.home, plan_)) if plan_ else None)


def _drawn(plan: Plan) -> pa.Table:
    """The draw probability of each sample of a plan, and the weight of each task's label on it."""
    _, known, weights = plan.labels(np.arange(len(plan.keys), dtype=np.int32))
    columns = {
        f"weight_{task.name}": pa.array(weights[:, code].astype(np.float64), mask=~known[:, code])
        for code, task in enumerate(plan.tasks)
    }
    return pa.table({"key": plan.keys, "plan_p": plan.probabilities(), **columns})


def _refuse_empty(now: Snapshot, name: str, scene: Overlay) -> None:
    part = now.slice(name)
    if part.reads_predictions and not scene.predictions:
        raise BadInput(f"slice {name!r}: reads predictions; name a run with --run")
    if not len(now.members(part.predicate, predictions=scene.predictions)):
        raise NotFound(f"slice {name!r}: has no sample at commit {now.commit}; choose another, or an older commit")


def _import_edits(catalog: Catalog, found: Edits, *, author: str, dry_run: bool, as_json: bool) -> None:
    rows = [[row["key"], row["task"], row["state"], _value(row)] for row in found.labels]
    rows += [[row["key"], f"tag {row['tag']}", "on" if row["on"] else "off", ""] for row in found.tags]
    for line in found.passed_over:
        click.echo(f"passed over {line}", err=True)
    done = None
    if not dry_run:
        done = commit_edits(catalog, found, author=author)
    shown = {"labels": found.labels, "tags": found.tags, "passed_over": found.passed_over, "commit": done}
    title = f"{len(rows)} edits since commit {found.commit}" + (f", committed as {done}" if done is not None else "")
    show(shown, as_json, lambda: table(title, ["sample", "what", "state", "value"], rows))


def _value(row: dict[str, Any]) -> str:
    for name in ("text", "number", "names"):
        if row.get(name) is not None:
            return str(row[name])
    return f"{len(row['boxes'])} boxes" if row.get("boxes") is not None else ""


def _progress(screen: Screen) -> Callable[[int, int], None]:
    return lambda done, total: screen.tell("mirror", done, total)


def _summary(done: MirrorResult) -> str:
    how = "built" if done.since is None else f"updated from commit {done.since}"
    return f"mirror {done.name}: {done.samples:,} samples, {how}, {done.written:,} written"


def _open_app(name: str, view: str, port: int, screen: Screen) -> None:
    """Serve the App, at a saved view if one is named, until it is interrupted, and print its address."""
    package = fiftyone()
    dataset = package.load_dataset(name)
    if view and not dataset.has_saved_view(view):
        known = ", ".join(dataset.list_saved_views())
        raise NotFound(f"view {view!r}: the mirror has no such view; choose one of {known}")
    shown = dataset.load_saved_view(view) if view else dataset
    _await_free(port)
    try:
        with redirect_stdout(io.StringIO()):  # hides advice on tunnels and advertisements
            session = package.launch_app(shown, remote=True, address="127.0.0.1", port=port)
    except companion("fiftyone.core.service").ServiceException as error:
        raise Failed(f"the App: did not come up on port {port} ({error}); try again") from error
    try:
        _await_answer(port)
        screen.say(f"the App: http://127.0.0.1:{port}/ (stop it with Ctrl-C)")
        session.wait(-1)
    finally:
        session.close()


def _await_free(port: int) -> None:
    """Wait until an App that was just killed has released its port; BadInput when another program holds it.

    FiftyOne itself would show what is served there, with the plugins and the token of the user who started it.
    """
    end = time.monotonic() + LET_GO
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise BadInput(f"port {port}: is taken ({error.strerror}); choose another --port") from None
        time.sleep(0.2)


def _await_answer(port: int) -> None:
    """Wait until the App answers, which is some seconds after it binds its port."""
    end = time.monotonic() + COMES_UP
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/", timeout=COMES_UP):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise Failed(f"the App: does not answer on port {port} ({error}); try again") from error
        time.sleep(0.5)
