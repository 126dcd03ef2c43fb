"""The verb of people who look: the FiftyOne App on a mirror of the catalog."""

import hashlib
import io
import socket
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import click
import numpy as np
import pyarrow as pa

from amber.plugin.environment import offer_plugin
from amber.run_overlay import scene_of
from amber.service.signed_urls import SERVICE, Signer
from amber.terminal import Screen, show, table
from amber.verbs.options import workspace
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Failed, NotFound
from curation.fiftyone_app.columns import Scene
from curation.fiftyone_app.edits import Edits, commit_edits, edits_of
from curation.fiftyone_app.mirror import Mirrored, UrlFor, mirror
from curation.fiftyone_app.mongod import companion, fiftyone, prepare_database, turn
from curation.fiftyone_app.panels import draw_map
from curation.files.locations import is_url
from samplers.plan.plan import Plan
from training.report.worst_slices import worst_slices

__all__ = ["browse_command"]

LET_GO = 15.0
"""Seconds in which an App that was killed lets go of its port."""

HOLD = 30 * 86_400.0
"""Seconds of a window: URLs of images hold for one at least, and are written anew with the next."""

COMES_UP = 120.0
"""Seconds in which an App that was started answers."""


@click.command("browse")
@click.argument("slice_name", metavar="[SLICE]", default="")
@click.option("--run", "run_", default="", help="Show the predictions of this run, and what it gets wrong.")
@click.option("--against", default="", help="With --run: show where it says something else than this run.")
@click.option("--plan", "plan_", default="", help="Show p and the weights of this plan.")
@click.option("--commit", type=int, help="Show what was known at this commit; default: now.")
@click.option(
    "--port", default=5151, show_default=True, type=click.IntRange(1024, 65535), help="Of the App, on 127.0.0.1."
)
@click.option("--import", "home_come", is_flag=True, help="Commit the labels and tags that were edited in the App.")
@click.option("--dry-run", is_flag=True, help="With --import: only show what would be committed.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Who commits (AMBER_AUTHOR).")
@click.option("--service", default=SERVICE, show_default=True, envvar="AMBER_SERVICE", help="Where `amber serve` is.")
@click.option(
    "--token", default="", envvar="AMBER_TOKEN", help="Of the scope label: who acts in the App (AMBER_TOKEN)."
)
@click.option("--no-app", is_flag=True, help="Bring the mirror up, and do not open the App.")
@workspace
def browse_command(
    slice_name: str, run_: str, against: str, plan_: str, commit: int | None, port: int, home_come: bool,
    dry_run: bool, author: str, service: str, token: str, no_app: bool, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Look at the catalog, or at one SLICE of it, in the FiftyOne App; the catalog stays the truth."""
    catalog = Catalog.open(home)
    prepare_database(catalog.home)
    offer_plugin(catalog.home, service=service, token=token, plan=plan_)
    fiftyone()  # which takes seconds, before the catalog is opened
    screen, name = Screen(quiet=as_json), _name(catalog)
    with turn(catalog.home):
        scene = _looked_at(catalog, commit, slice_name, run_, against, plan_)
        before = datetime.now(UTC) if home_come else None
        if home_come:
            with catalog.read(commit) as now:
                found = edits_of(_dataset(name), now, scene)
            _bring_home(catalog, found, author=author, dry_run=dry_run, as_json=as_json)
            if dry_run:
                return
        done = _mirrored(catalog, commit, name, scene, service, before, screen)
    if home_come:
        return
    if no_app:
        show(vars(done), as_json, lambda: _said(done))
        return
    screen.say(_said(done))
    if not done.samples:  # the App would teach how to add some behind the catalog's back
        raise NotFound(f"{catalog.home}: no sample is known at that commit; `amber ingest` brings some")
    _open_app(name, slice_name, port, screen)


def _looked_at(catalog: Catalog, commit: int | None, slice_name: str, run_: str, against: str, plan_: str) -> Scene:
    """What is shown besides what is known, unless there is nothing to show of it."""
    with catalog.read(commit) as now:
        scene = _scene(catalog, now, run_, against, plan_)
        if slice_name:
            _refuse_empty(now, slice_name, scene)
    return replace(scene, pinned=commit is not None)


def _mirrored(
    catalog: Catalog, commit: int | None, name: str, scene: Scene, service: str, before: datetime | None, screen: Screen
) -> Mirrored:  # fmt: skip
    """The mirror, brought to the commit, with a map of each model's embeddings."""
    with catalog.read(commit) as now, screen.stages():
        urls = _urls(catalog, now, service)
        scene = replace(scene, urls=f"{service} {_window()}" if urls else "")
        url_for = urls or (lambda key, location: None)
        done = mirror(now, name, scene=scene, url_for=url_for, progress=_told(screen), at=before)
    if done.since is None:
        for folder in sorted((catalog.home / "embeddings").glob("*/embeddings.json")):
            draw_map(_dataset(name), catalog.home, folder.parent.name)
    return done


def _window() -> int:
    """Number of the days of `HOLD` since 1970."""
    return int(time.time() // HOLD)


def _urls(catalog: Catalog, now: Snapshot, service: str) -> UrlFor | None:
    """Where a browser finds images that are not all local files: at their own http URL, else at the service, under
    URLs that hold until the end of the next window. None where all are local, which FiftyOne serves by itself."""
    if not any(map(is_url, now.samples()["location"].to_pylist())):
        return None
    signer, expires = Signer.of(catalog.home), (_window() + 2) * HOLD

    def url_for(key: str, location: str) -> str:
        own = location.startswith(("http://", "https://"))
        return location if own else f"{service.rstrip('/')}/images/{signer.sign(location, seconds=expires, now=0)}"

    return url_for


def _name(catalog: Catalog) -> str:
    """The data set's name: the workspace's, told apart from others of that name by its path."""
    return f"amber-{catalog.home.name}-{hashlib.sha256(str(catalog.home).encode()).hexdigest()[:6]}"


def _dataset(name: str) -> Any:
    package = fiftyone()
    if not package.dataset_exists(name):
        raise NotFound(f"mirror {name}: is not there, so nothing was edited in it; `amber browse` makes it")
    return package.load_dataset(name)


def _scene(catalog: Catalog, now: Snapshot, run_: str, against: str, plan_: str) -> Scene:
    scene = scene_of(catalog.home, now, run_, against)
    worst = worst_slices(now, run_, Path(scene.predictions)) if scene.predictions else []
    return replace(scene, worst=tuple(worst), extra=_drawn(Plan.open(catalog.home, plan_)) if plan_ else None)


def _drawn(plan: Plan) -> pa.Table:
    """p of each sample of a plan, and the weight that each task's label has on it."""
    _, known, weights = plan.labels(np.arange(len(plan.keys), dtype=np.int32))
    columns = {
        f"weight_{task.name}": pa.array(weights[:, code].astype(np.float64), mask=~known[:, code])
        for code, task in enumerate(plan.tasks)
    }
    return pa.table({"key": plan.keys, "plan_p": plan.probabilities(), **columns})


def _refuse_empty(now: Snapshot, name: str, scene: Scene) -> None:
    part = now.slice(name)
    if part.reads_predictions and not scene.predictions:
        raise BadInput(f"slice {name!r}: reads predictions; name a run with --run")
    if not len(now.members(part.predicate, predictions=scene.predictions)):
        raise NotFound(
            f"slice {name!r}: holds no sample at commit {now.commit}; look at another, or at an older commit"
        )


def _bring_home(catalog: Catalog, found: Edits, *, author: str, dry_run: bool, as_json: bool) -> None:
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


def _told(screen: Screen) -> Callable[[int, int], None]:
    return lambda done, total: screen.tell("mirror", done, total)


def _said(done: Mirrored) -> str:
    how = "built" if done.since is None else f"brought up from commit {done.since}"
    return f"mirror {done.name}: {done.samples:,} samples, {how}, {done.written:,} written"


def _open_app(name: str, slice_name: str, port: int, screen: Screen) -> None:
    """Serve the App until it is interrupted; a browser finds it under the address that is told."""
    package = fiftyone()
    dataset = package.load_dataset(name)
    shown = dataset.load_saved_view(f"slice {slice_name}") if slice_name else dataset
    _await_free(port)
    try:
        with redirect_stdout(io.StringIO()):  # advice on tunnels, and advertisement
            session = package.launch_app(shown, remote=True, address="127.0.0.1", port=port)
    except companion("fiftyone.core.service").ServiceException as error:
        raise Failed(f"the App: did not come up on port {port} ({error}); try again") from error
    try:
        _await_answer(port)
        screen.say(f"the App: http://127.0.0.1:{port}/ (end it with Ctrl-C)")
        session.wait(-1)
    finally:
        session.close()


def _await_free(port: int) -> None:
    """Wait for an App that was killed a moment ago to let go of its port; BadInput where something else holds it.

    FiftyOne itself would show what is served there, with the plugins and the token of whoever started it.
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
    """Wait until the App can be opened, which is some seconds after its port is bound."""
    end = time.monotonic() + COMES_UP
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/", timeout=COMES_UP):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise Failed(f"the App: does not answer on port {port} ({error}); try again") from error
        time.sleep(0.5)
