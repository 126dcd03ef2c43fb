"""Verbs of the ledger: what goes in, what changed, what is undone, what comes out."""

from functools import partial
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from amber.forget import forget
from amber.terminal import Screen, plain, show, table
from amber.verbs.options import SEED, author, has_verb, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.differences import Difference, differences
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.toml_files import parse
from curation.ingest.dataset import Dataset
from curation.ingest.ingest import ingest
from curation.ingest.writers import WRITERS, write_asides, write_csv

__all__ = ["diff", "forget_command", "ingest_command", "init", "log", "revert_command", "tasks", "write_command"]


@click.command()
@click.option(
    "--catalog", "url", default="", help="Put the catalog on DuckLake: postgresql://USER@HOST/DB?data=FOLDER."
)
@workspace
def init(url: str, home: str, as_json: bool) -> None:
    """Make a workspace with an empty catalog (or open the one that is there)."""
    catalog = Catalog.create(home, url=url)
    where = f"workspace {catalog.home}" + (f", catalog {catalog.place.name}" if url else "")
    show({"home": str(catalog.home), "catalog": catalog.place.name}, as_json, lambda: where)


@click.command("ingest")
@click.argument("dataset")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the splits.")
@click.option("--images", type=int, help="How many images to render (data sets that Amber draws).")
@click.option("--image-seed", type=SEED, help="Seed of the rendered images.")
@click.option("--quarantine", is_flag=True, help="Quarantine unfit entries and labels; by default one stops all.")
@click.option("--aside", type=click.Path(path_type=Path), help="Write the quarantined entries to this CSV file.")
@author
@workspace
def ingest_command(
    dataset: str, seed: int, images: int | None, image_seed: int | None, quarantine: bool, aside: Path | None,
    author: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Take the data set declared in the folder DATASET into the catalog, as one commit."""
    declared = Dataset.load(dataset)
    changed = {name: value for name, value in (("images", images), ("seed", image_seed)) if value is not None}
    if changed and declared.reader.kind != "streets":
        raise BadInput(f"data set {declared.name}: {plain(list(changed))} is for images that Amber draws; leave it out")
    if changed:
        declared = declared.with_reader(changed)
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = ingest(
            Catalog.create(home), declared, author=author, seed=seed, quarantine=quarantine, progress=screen.tell
        )
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    for location, reason in done.quarantined:
        click.echo(f"quarantined {location}: {reason}", err=True)
    if aside is not None:
        write_asides(done.aside, aside)
    show(
        {**vars(done), "aside": [vars(part) for part in done.aside]},
        as_json,
        lambda: (
            f"{done.dataset}: {done.samples:,} samples ({done.new:,} new), {done.labels:,} labels, "
            f"{done.held_back:,} held back, {len(done.quarantined):,} quarantined, commit {done.commit}"
        ),
    )
    if done.quarantined:
        raise click.exceptions.Exit(2)


@click.group(invoke_without_command=True)
@workspace
@click.pass_context
def tasks(context: click.Context, home: str, as_json: bool) -> None:
    """List tasks: kind, classes, metric and owner; `redefine` changes one."""
    if has_verb(context):
        return
    with Catalog.open(home).read() as now:
        rows = [task.model_dump(mode="json") for task in now.tasks().values()]
    columns = ["name", "kind", "classes", "unit", "metric", "owner"]
    show(rows, as_json, lambda: table("Tasks", columns, [[plain(row[name]) for name in columns] for row in rows]))


@tasks.command("redefine")
@click.argument("name")
@click.argument("classes", nargs=-1)
@click.option(
    "--became",
    multiple=True,
    metavar="OLD=NEW",
    help="What labels of the class OLD become; an empty NEW makes them unknown.",
)
@click.option("--metric", help="Figure by which the task is judged.")
@click.option("--owner", help="Owner of the task.")
@click.option("--tolerance", type=float, help="Numbers of several people agree within this.")
@author
@workspace
def redefine_task(
    name: str, classes: tuple[str, ...], became: tuple[str, ...], metric: str | None, owner: str | None,
    tolerance: float | None, author: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Give the task NAME the classes CLASSES (default: those that it has) from now on.

    Labels and slices follow their class: of one that is not among CLASSES, --became says which it is by now. Older
    commits read as they did.
    """
    wrong = [pair for pair in became if "=" not in pair]
    if wrong:
        raise BadInput(f"--became {wrong[0]!r}: must be OLD=NEW, or OLD= for unknown; correct it")
    moved = {old: new or None for old, _, new in (pair.partition("=") for pair in became)}
    given = {"classes": classes or None, "metric": metric, "owner": owner, "tolerance": tolerance}
    with Catalog.open(home).commit(author=author, message=f"redefine {name}") as change:
        old = change.now.task(name)
        changed = {option: value for option, value in given.items() if value is not None}
        task = parse(Task, {**old.model_dump(), **changed}, where=f"task {name}")
        change.redefine_task(task, moved)
    show(task.model_dump(mode="json"), as_json, lambda: f"task {name}: {plain(task.classes) or task.unit}")


@click.command()
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(min=0), help="How many commits.")
@workspace
def log(count: int, home: str, as_json: bool) -> None:
    """List commits, newest first."""
    with Catalog.open(home).read() as now:
        rows = [
            {**row, "committed_at": row["committed_at"].isoformat(timespec="seconds")} for row in now.log().to_pylist()
        ]
    columns = ["id", "committed_at", "author", "message"]
    show(
        rows[:count],
        as_json,
        lambda: table("Commits", columns, [[row[name] for name in columns] for row in rows[:count]]),
    )


@click.command()
@click.argument("first", type=int)
@click.argument("last", type=int, required=False)
@workspace
def diff(first: int, last: int | None, home: str, as_json: bool) -> None:
    """Say what changed from commit FIRST to commit LAST (default: now), by task and slice."""
    catalog = Catalog.open(home)
    with catalog.read(last) as after:
        rows = [vars(row) for row in differences(after.earlier(first), after)]
        samples = len(after.samples()) - len(after.earlier(first).samples())
        span = f"commit {first} to {after.commit}: {samples:,} samples new"
    columns = list(Difference.__annotations__)
    show(
        {"first": first, "last": after.commit, "samples": samples, "labels": rows},
        as_json,
        lambda: table(f"Labels, {span}", columns, [list(row.values()) for row in rows]) if rows else span,
    )


@click.command("revert")
@click.argument("commit", type=int)
@author
@workspace
def revert_command(commit: int, author: str, home: str, as_json: bool) -> None:
    """Undo COMMIT by a new commit: what it said is said no longer, and what stood before stands again."""
    with Catalog.open(home).commit(author=author, message=f"revert commit {commit}") as change:
        moved = change.revert(commit)
        made = change.id
    undone = ", ".join(f"{count:,} {name}" for name, count in moved.items() if count and name != "kept") or "nothing"
    kept = f"; {moved['kept']:,} were replaced since, and stay" if moved["kept"] else ""
    show({"commit": made, **moved}, as_json, lambda: f"commit {made} undoes {undone}{kept}")


@click.command("forget")
@click.argument("sample")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@author
@workspace
def forget_command(sample: str, yes: bool, author: str, home: str, as_json: bool) -> None:
    """Remove SAMPLE (a key) and all that is known of it, at every commit, from ledger, shards, plans and runs.

    Plans and runs that used it are withdrawn. Only that a sample was forgotten is kept. Nothing brings it back.
    """
    if not yes and not click.confirm(f"forget {sample} in {home}, at every commit?", err=True):
        raise BadInput(f"{sample}: not forgotten, for nobody confirmed it; answer y, or pass --yes")
    gone = forget(Catalog.open(home), sample, author=author)
    left = [gone.location, *gone.pictures, *gone.backups]
    pushed = "".join(f"\n{server} shows it until `amber label pull` there" for server in gone.servers)
    show(
        vars(gone), as_json,
        lambda: f"commit {gone.commit}: forgotten; {len(gone.packs)} packs written anew, {len(gone.plans)} plans and "
        f"{len(gone.runs)} runs withdrawn\nyours to delete, for they hold it or may: {', '.join(left)}{pushed}",
    )  # fmt: skip


@click.command("write")
@click.argument("kind", metavar="FORMAT", type=click.Choice(sorted(WRITERS)))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--task", "tasks", multiple=True, help="Only this task; may be given again.")
@click.option("--slice", "slice_", default="", help="Only the samples of this slice.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Only the samples of this split.")
@click.option("--commit", type=int, help="As of this commit.")
@click.option("--formulas", is_flag=True, help="Keep text in a CSV that a spreadsheet would run as a formula.")
@workspace
def write_command(
    kind: str, out: Path, tasks: tuple[str, ...], slice_: str, split: str | None, commit: int | None, formulas: bool,
    home: str, as_json: bool,
) -> None:  # fmt: skip
    """Write what is known into the file OUT: a table (parquet, csv), boxes (coco), or each annotator's labels (labels).

    Unknown is an empty cell, or an image that is left out: never a negative.
    """
    if formulas and kind != "csv":
        raise BadInput(f"--formulas: only CSV is opened in spreadsheets, and {kind} is written; leave it out")
    write = partial(write_csv, formulas=True) if formulas else WRITERS[kind]
    with Catalog.open(home).read(commit) as now:
        count = write(now, out, ids=_members(now, slice_, split), tasks=tasks)
    show({"file": str(out), "rows": count}, as_json, lambda: f"{out}: {count:,} rows")


def _members(now: Snapshot, slice_: str, split: str | None) -> npt.NDArray[np.int64] | None:
    """Ids of the samples in a slice and a split; None for all."""
    if not slice_ and not split:
        return None
    samples = now.samples()
    inside = samples.filter(pc.equal(samples["split"], split)) if split else samples
    ids = np.asarray(inside["sample_id"].to_numpy(), np.int64)
    return np.intersect1d(ids, now.members(now.slice(slice_).predicate)) if slice_ else ids
