"""Verbs of the catalog's commits: init, ingest, log, diff, revert."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Group

from amber.terminal import Screen, interval, note, plain, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import SEED, author, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.differences import Difference, definition_changes, differences, slice_changes
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput

__all__ = ["diff", "ingest_command", "init", "log", "revert_command"]


@click.command()
@click.option(
    "--catalog", "url", default="", help="Put the catalog on DuckLake: postgresql://USER@HOST/DB?data=FOLDER."
)
@workspace
def init(url: str, home: str, as_json: bool) -> None:
    """Create a workspace with an empty catalog, or open an existing one."""
    catalog = Catalog.create(home, url=url)
    where = f"workspace {catalog.home}" + (f", catalog {catalog.backend.name}" if url else "")
    show({"home": str(catalog.home), "catalog": catalog.backend.name}, as_json, lambda: where)


@click.command("ingest")
@click.argument("dataset")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the splits.")
@click.option("--images", type=int, help="Images to render (only data sets that Amber renders).")
@click.option("--image-seed", type=SEED, help="Seed of the rendered images.")
@click.option("--quarantine", is_flag=True, help="Quarantine unfit entries and labels; by default one stops all.")
@click.option("--aside", type=click.Path(path_type=Path), help="Write the quarantined entries to this CSV file.")
@author
@workspace
def ingest_command(
    dataset: str, seed: int, images: int | None, image_seed: int | None, quarantine: bool, aside: Path | None,
    author: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Add the data set declared in the folder DATASET to the catalog, as one commit."""
    from curation.ingestion.dataset import Dataset
    from curation.ingestion.ingest import ingest
    from curation.ingestion.writers import write_asides

    declared = Dataset.load(dataset)
    changed = {name: value for name, value in (("images", images), ("seed", image_seed)) if value is not None}
    if changed and declared.reader.kind != "streets":
        raise BadInput(f"data set {declared.name}: {plain(list(changed))} is only for rendered images; leave it out")
    if changed:
        declared = declared.with_reader(changed)
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = ingest(
            Catalog.create(home), declared, author=author, seed=seed, quarantine=quarantine, progress=screen.tell
        )
    for line in done.notes:
        note(line)
    for location, reason in done.quarantined:
        click.echo(f"quarantined {location}: {reason}", err=True)
    if aside is not None:
        write_asides(done.aside, aside)
    for key in () if as_json else done.forgotten:
        click.echo(f"left out {key}: was forgotten", err=True)
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


@click.command()
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(min=0), help="Number of commits.")
@workspace
def log(count: int, home: str, as_json: bool) -> None:
    """List commits, newest first."""
    with Catalog.open(home).read() as now:
        acts: dict[int, list[str]] = {}
        for act in now.ownership.acts().to_pylist():
            acts.setdefault(act["commit_id"], []).append(act_text(act))
        rows = [
            {
                **row, "committed_at": row["committed_at"].isoformat(timespec="seconds"),
                "acts": ", ".join(acts.get(row["id"], ())),
            }
            for row in now.log().to_pylist()
        ]  # fmt: skip
    columns = ["id", "committed_at", "author", "message", *(["acts"] if acts else [])]
    show(
        rows[:count],
        as_json,
        lambda: table("Commits", columns, [[row[name] for name in columns] for row in rows[:count]]),
    )


def act_text(act: dict[str, Any]) -> str:
    """An act in words: what, for which owner, by whom."""
    owner = f" for {act['owner']}" if act["owner"] else ""
    return f"{act['act']}{owner} by {act['via']}:{act['member']}"


@click.command()
@click.argument("first")
@click.argument("last", required=False)
@workspace
def diff(first: str, last: str | None, home: str, as_json: bool) -> None:
    """Show what changed from FIRST to LAST (default: now): labels by task and slice, definitions, slices and acts.

    FIRST and LAST are commits, dates (2026-05-31, its end; 2026-05-31T18:00; UTC), or the beginning of a run's id or
    a plan's hash, for the labels that it was made of. Two runs are also compared by their figures on test.
    """
    from amber.verbs.moments import Moment, moment_of  # loads plans and runs

    catalog = Catalog.open(home)
    with catalog.read() as now:
        ends = [moment_of(catalog.home, now, text) if text else Moment(commit=now.commit) for text in (first, last)]
        figures = _figures(now, *(end.run for end in ends))
    begin, end = (part.commit for part in ends)
    with catalog.read(end) as after:
        before = after.earlier(begin)
        rows = [vars(row) for row in differences(before, after)]
        changed = {"definitions": definition_changes(before, after), "slices": slice_changes(before, after)}
        acts = after.ownership.acts(begin).to_pylist()
        samples = len(after.samples()) - len(before.samples())
    span = f"commit {begin} to {end}: {samples:,} new samples"
    data = {"first": begin, "last": end, "samples": samples, "labels": rows, **changed, "acts": acts}
    columns = list(Difference.__annotations__)
    labels = table(f"Labels, {span}", columns, [list(row.values()) for row in rows]) if rows else span
    show({**data, "figures": figures}, as_json, lambda: Group(labels, *_tables(changed, acts, figures)))


def _figures(now: Snapshot, before: str, after: str) -> list[dict[str, Any]]:
    """Figures of two runs on test, for each (task, slice) that both have; none unless both are named."""
    if not before or not after:
        return []
    sides = [now.runs.slice_errors(run).to_pylist() for run in (before, after)]
    first, second = (
        {(row["task"], row["slice"], row["metric"]): row for row in rows if row["split"] == "test"} for rows in sides
    )
    return [
        {"task": cell[0], "slice": cell[1], "metric": cell[2], "before": interval(row), "after": interval(second[cell])}
        for cell, row in first.items() if row["n"] and cell in second
    ]  # fmt: skip


def _tables(
    changed: Mapping[str, list[dict[str, Any]]], acts: list[dict[str, Any]], figures: list[dict[str, Any]]
) -> Iterator[Any]:
    """Tables of definitions and slices that changed, of acts, and of figures, where there are any."""
    for name, rows in {**changed, "figures on test": figures}.items():
        if rows:
            yield table(name.capitalize(), list(rows[0]), [[plain(value) for value in row.values()] for row in rows])
    if acts:
        yield table("Acts", ["commit", "act"], [[row["commit_id"], act_text(row)] for row in acts])


@click.command("revert")
@click.argument("commit", type=int)
@author
@token_option
@workspace
def revert_command(commit: int, author: str, token: str, home: str, as_json: bool) -> None:
    """Undo COMMIT with a new commit: it removes what COMMIT added and restores what COMMIT replaced."""
    catalog = Catalog.open(home)
    by = identity(catalog.home, token)
    with catalog.commit(author=author, message=f"revert commit {commit}") as change:
        moved = change.revert(commit, by=by)
        made = change.id
    undone = ", ".join(f"{count:,} {name}" for name, count in moved.items() if count and name != "kept") or "nothing"
    kept = f"; {moved['kept']:,} were replaced later, and are kept" if moved["kept"] else ""
    show({"commit": made, **moved}, as_json, lambda: f"commit {made} undoes {undone}{kept}")
