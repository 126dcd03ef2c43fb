"""The verb `amber drift`."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.compute as pc
from rich.console import Group

from amber.completion import RUN
from amber.terminal import note, show, table
from amber.verbs.moments import DAY, moment_of
from amber.verbs.options import seeded, using_files, workspace
from curation.arrays import Ints
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.files.locations import is_url
from curation.images.embeddings import models_of
from training.judging.drift import RATE, Drift, Drifted, drift

__all__ = ["drift_command"]


@click.command("drift")
@click.argument("first")
@click.argument("second")
@click.option(
    "--run", default="", type=RUN, help="Run whose predictions are compared; default: the newest, none without one."
)
@click.option(
    "--embeddings", default="", metavar="MODEL", help="Features that are compared; default: the first there are."
)
@seeded
@workspace
@using_files
def drift_command(first: str, second: str, run: str, embeddings: str, seed: int, home: str, as_json: bool) -> None:
    """Show what differs between two sets of images: attributes, predictions and features.

    FIRST and SECOND are commits or dates, as in `amber diff`: the images known at FIRST, and those that arrived from
    then to SECOND. Or they are folders, URLs or the beginning of keys ("night/"): the images there. Each group counts
    once, and of all differences shown at most 5% are expected to be false.
    """
    catalog = Catalog.open(home)
    with catalog.read() as now:
        ids = _ids(catalog.home, now, first, second)
        runs = now.runs()["run"].to_pylist()
        chosen = now.runs.full_id(run) if run else str(runs[-1]) if runs else ""
        features = embeddings or next(iter(models_of(catalog.home)), "")
        found = drift(now, catalog.home, *ids, run=chosen, embeddings=features, seed=seed)
    if run and not any(row.kind == "prediction" for row in found.rows):
        raise BadInput(
            f"run {chosen}: predicts no image of one of the sets that it was not trained on; name another run"
        )
    for line in found.notes:
        note(line)
    data = {"run": chosen, "embeddings": features, **asdict(found)}
    show(data, as_json, lambda: Group(*_tables(found, first, second)))


def _ids(home: Path, now: Snapshot, first: str, second: str) -> tuple[Ints, Ints]:
    """The samples of both sets."""
    places = [_is_place(text) for text in (first, second)]
    if any(places) and not all(places):
        raise BadInput(f"{first!r} and {second!r}: must be two commits or dates, or two folders; choose alike")
    if all(places):
        return _placed(now, first), _placed(now, second)
    commits = [moment_of(home, now, text).commit for text in (first, second)]
    if commits[0] >= commits[1]:
        raise BadInput(f"commits {commits[0]} and {commits[1]}: the earlier one comes first; swap them")
    before, after = (_samples(now, commit) for commit in commits)
    if not len(new := np.setdiff1d(after, before)):
        raise BadInput(f"no image arrived between commit {commits[0]} and {commits[1]}; `amber log` lists commits")
    return before, new


def _samples(now: Snapshot, commit: int) -> Ints:
    return np.asarray(now.earlier(commit).samples()["sample_id"].to_numpy(), np.int64)


def _is_place(text: str) -> bool:
    """Whether `text` names images by where they are: a folder, a URL, or the beginning of keys."""
    return not (text.isdecimal() or DAY.match(text)) and ("/" in text or Path(text).is_dir())


def _placed(now: Snapshot, text: str) -> Ints:
    """The samples whose image lies in a folder or at a URL, or whose key begins with `text`."""
    samples = now.samples()
    as_given = text.rstrip("/") + "/"
    folders = [as_given] if is_url(text) else [as_given, f"{Path(text).resolve()}/"]
    there = pc.starts_with(samples["key"], text if "/" in text else as_given)
    for folder in folders:
        there = pc.or_(there, pc.starts_with(samples["location"], folder))
    found = samples.filter(there)["sample_id"].to_numpy()
    if not len(found):
        raise BadInput(
            f"{text!r}: no image of the catalog lies there, and no key begins so; ingest it, or name another"
        )
    return np.asarray(found, np.int64)


def _tables(found: Drift, first: str, second: str) -> Iterator[Any]:
    title = (
        f"{first}: {found.images[0]:,} images of {found.groups[0]:,} groups; "
        f"{second}: {found.images[1]:,} images of {found.groups[1]:,} groups"
    )
    yield title
    columns = ["what", "name", "false discovery rate", "effect", "first", "second", "examples of the second"]
    named = (
        f"{len(found.found)} of {len(found.rows)} values differ (false discovery rate {100 * RATE:.0f}%), surest first"
    )
    yield table(named, columns, [_cells(row) for row in found.found])


def _cells(row: Drifted) -> list[Any]:
    return [
        row.kind,
        row.name,
        row.q,
        f"{row.effect:+.2f}",
        _side(row.before),
        _side(row.after),
        ", ".join(row.examples),
    ]


def _side(values: dict[str, float]) -> str:
    if "median" in values:
        return f"median {values['median']:.4g}"
    return ", ".join(f"{name} {100 * share:.1f}%" for name, share in values.items())
