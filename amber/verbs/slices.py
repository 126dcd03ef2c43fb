"""Verbs that analyse samples and labels: coverage, slices, duplicates."""

from pathlib import Path

import click

from amber.completion import SLICE, TASK
from amber.tables import agreement_tables, coverage_tables
from amber.terminal import plain, show, table
from amber.verbs.options import author, has_verb, workspace
from curation.analysis.agreement import agreement
from curation.analysis.coverage import SPLITS, coverage
from curation.analysis.overlap import Overlap, overlaps
from curation.catalog.catalog import Catalog
from curation.images.embeddings import Embeddings
from curation.images.near_duplicates import MAX_DISTANCE, SIMILARITY, near_duplicate_groups, near_duplicate_vectors

__all__ = ["coverage_command", "duplicates_command", "slices"]


@click.command("coverage")
@click.option(
    "--split", type=click.Choice(SPLITS), help="Split to count; default: train, or all samples before the split."
)
@click.option("--annotators", is_flag=True, help="Show how far annotators agree, and the errors of each.")
@workspace
def coverage_command(split: str | None, annotators: bool, home: str, as_json: bool) -> None:
    """Show labels by task and slice, annotators, co-labelled tasks, and labels that are not missing at random."""
    from curation.analysis.missingness import label_missingness

    with Catalog.open(home).read() as now:
        if annotators:
            parts = [agreement(now, task) for task in now.tasks()]
            rows = {"commit": now.commit, "agreement": [part.row() for part in parts]}
            show(rows, as_json, lambda: agreement_tables(parts))
            return
        found, differences = coverage(now), label_missingness(now)
    chosen = split or found.split
    shown = {
        "commit": found.commit,
        "cells": [row for row in found.rows() if row["split"] == chosen],
        "annotators": [vars(part) for part in found.annotators],
        "overlap": found.overlap,
        "attributes": [part.row() for part in found.attributes if part.split == chosen],
        "missing": [part.row() for part in differences],
    }
    show(shown, as_json, lambda: coverage_tables(found, chosen, differences))


@click.group(invoke_without_command=True)
@click.option("--commit", type=int, help="As of this commit.")
@workspace
@click.pass_context
def slices(context: click.Context, commit: int | None, home: str, as_json: bool) -> None:
    """List slices with their sizes; `add` declares one, `show` evaluates one, `overlap` compares all."""
    if has_verb(context):
        return
    with Catalog.open(home).read(commit) as now:
        declared = now.slices()
        counted = {name: part.predicate for name, part in declared.items() if not part.reads_predictions}
        sizes = {name: len(ids) for name, ids in now.members_of(counted).items()}
        rows = [
            {"name": name, "task": part.task, "rare": part.rare, "samples": sizes.get(name),
             "predicate": part.predicate}
            for name, part in declared.items()
        ]  # fmt: skip
    show(
        rows,
        as_json,
        lambda: table("Slices", ["name", "task", "rare", "samples", "predicate"], [list(r.values()) for r in rows]),
    )


@slices.command("overlap")
@click.option("--commit", type=int, help="As of this commit.")
@workspace
def overlap_command(commit: int | None, home: str, as_json: bool) -> None:
    """Show for each pair of slices how many samples are in both, and how similar they are."""
    with Catalog.open(home).read(commit) as now:
        rows = [vars(row) for row in overlaps(now)]
    columns = list(Overlap.__annotations__)
    show(rows, as_json, lambda: table("Overlap of slices", columns, [list(row.values()) for row in rows]))


@slices.command("remove")
@click.argument("name", type=SLICE)
@author
@workspace
def remove_slice(name: str, author: str, home: str, as_json: bool) -> None:
    """Remove the slice NAME from now on; older commits keep it."""
    with Catalog.open(home).commit(author=author, message=f"remove slice {name}") as change:
        change.remove_slice(name)
    show({"removed": name, "commit": change.id}, as_json, lambda: f"slice {name} is removed in commit {change.id}")


@slices.command("add")
@click.argument("name")
@click.argument("predicate")
@click.option("--task", default="", type=TASK, help="Report it only for this task.")
@click.option("--rare", is_flag=True, help="Mine label requests for it.")
@author
@workspace
def add_slice(name: str, predicate: str, task: str, rare: bool, author: str, home: str, as_json: bool) -> None:
    """Declare the slice NAME: one boolean expression over attr.*, label.*, state.*, boxes.*."""
    catalog = Catalog.open(home)
    with catalog.read() as now:
        checked = now.check_slice(predicate)
    with catalog.commit(author=author, message=f"slice {name}") as change:
        made = change.add_slice(name, predicate, task=task, rare=rare, checked=checked)
    show(vars(made), as_json, lambda: f"slice {made.name}: {made.predicate}")


@slices.command("show")
@click.argument("name", type=SLICE)
@click.option("--commit", type=int, help="As of this commit.")
@workspace
def show_slice(name: str, commit: int | None, home: str, as_json: bool) -> None:
    """Print the keys of the samples in the slice NAME."""
    with Catalog.open(home).read(commit) as now:
        inside = set(now.members(now.slice(name).predicate).tolist())
        keys = [
            row["key"] for row in now.samples().select(["sample_id", "key"]).to_pylist() if row["sample_id"] in inside
        ]
    show(keys, as_json, lambda: "\n".join(keys))


@click.command("duplicates")
@click.option("--distance", default=MAX_DISTANCE, show_default=True, help="Bits, of 64, in which hashes may differ.")
@click.option("--embeddings", "model", default="", help="Compare the vectors of this model instead of hashes.")
@click.option(
    "--similarity",
    default=SIMILARITY,
    show_default=True,
    help="Cosine from which vectors count as duplicates.",
)
@click.option("--sheet", type=click.Path(path_type=Path), help="Write an HTML page of the images found.")
@click.option("--apply", is_flag=True, help="Join their groups; exclude the training side of pairs across splits.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the commit, with --apply (AMBER_AUTHOR).")
@workspace
def duplicates_command(
    distance: int, model: str, similarity: float, sheet: Path | None, apply: bool, author: str, home: str,
    as_json: bool,
) -> None:  # fmt: skip
    """List chains of near-duplicate images, and mark those across training and evaluation."""
    from amber.duplicates_page import write_sheet
    from curation.ingestion.leaks import exclude_training_side, near_duplicate_sets

    catalog = Catalog.open(home)
    with catalog.read() as now:
        hashes, samples = now.hashes(), {row["key"]: row for row in now.samples().to_pylist()}
        keys = hashes["key"].to_pylist()
        if model:
            kept = Embeddings.open(catalog.home, model)
            near = near_duplicate_vectors(keys, kept.standardised(kept.rows(keys)), similarity)
        else:
            near = near_duplicate_groups(keys, hashes["phash"].to_numpy(), distance)
        found = near_duplicate_sets(now, near, keys)
    if sheet:
        write_sheet(found, samples, sheet)
    moved, out = exclude_training_side(catalog, found, author=author) if apply else (0, 0)
    across = sum(one.across for one in found)
    told = f"{len(found):,} groups of near-duplicates, {across:,} of them across training and evaluation"
    told += f"; {moved:,} samples changed their group, {out:,} were excluded" if apply else ""
    rows = [[len(one.keys), plain(one.splits), one.keys[0], one.keys[-1]] for one in found]
    show(
        {"groups": [vars(one) for one in found], "across": across, "moved": moved, "excluded": out},
        as_json,
        lambda: table(told, ["images", "splits", "first", "last"], rows),
    )
