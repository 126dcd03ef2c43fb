"""The command line. Every verb has --json and --home; errors are one line and an exit code (`amber/guard.py`)."""

from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from click.core import ParameterSource

from amber.catalog import catalog_group
from amber.forget import forget
from amber.guard import guarded
from amber.loop import Loop, go_round
from amber.options import author, workspace
from amber.screen import Screen, interval, output, rounds_table, show, table
from amber.tables import agreement_tables, coverage_tables
from amber.twins import write_sheet
from curation import oracle
from curation.agreement import agreement
from curation.coverage import SPLITS, coverage
from curation.dataset import Dataset, parse
from curation.duplicates import MAX_DISTANCE, SIMILARITY, near_duplicate_groups, near_duplicate_vectors
from curation.embeddings import Embeddings
from curation.errors import BadInput, NotFound
from curation.ingest import ingest
from curation.leaks import separate, twins
from curation.ledger.catalog import Catalog
from curation.ledger.differences import Difference, differences
from curation.ledger.snapshot import Snapshot
from curation.missing import missing
from curation.overlap import Overlap, overlaps
from curation.requests import Proposal, propose
from curation.slices import Slice
from curation.tasks import Task
from curation.writers import WRITERS
from samplers.pack import Pack, make_pack
from samplers.plan import Plan, make_plan
from samplers.policy import Policy
from training.report import write_report
from training.runs import Recipe, Run

__all__ = ["cli", "run"]

SEED = click.IntRange(min=0)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error that a user can cause is one line on standard error."""
    return guarded(lambda: cli.main(arguments, prog_name="amber", standalone_mode=False))


seeded = click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of whatever is drawn.")
trunk_option = click.option(
    "--trunk", default="efficientnet_lite0", show_default=True, type=click.Choice(["efficientnet_lite0", "small"]),
    help="Pretrained and frozen, or a small one trained from scratch.",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="amber-curation", prog_name="amber")
def cli() -> None:
    """Curate and sample data for multitask vision: ledger, plan, stream, and the loop that asks for labels."""


cli.add_command(catalog_group)


@cli.command()
@click.option(
    "--catalog", "url", default="", help="Put the catalog on DuckLake: postgresql://USER@HOST/DB?data=FOLDER."
)
@workspace
def init(url: str, home: str, as_json: bool) -> None:
    """Make a workspace with an empty catalog (or open the one that is there)."""
    catalog = Catalog.create(home, url=url)
    where = f"workspace {catalog.home}" + (f", catalog {catalog.place.name}" if url else "")
    show({"home": str(catalog.home), "catalog": catalog.place.name}, as_json, lambda: where)


@cli.command("ingest")
@click.argument("dataset")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the splits.")
@click.option("--images", type=int, help="How many images to render (data sets that Amber draws).")
@click.option("--image-seed", type=SEED, help="Seed of the rendered images.")
@click.option("--quarantine", is_flag=True, help="Put unfit labels aside; by default nothing goes in where one is.")
@author
@workspace
def ingest_command(
    dataset: str, seed: int, images: int | None, image_seed: int | None, quarantine: bool, author: str, home: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Take the data set declared in the folder DATASET into the catalog, as one commit."""
    declared = Dataset.load(dataset)
    changed = {name: value for name, value in (("images", images), ("seed", image_seed)) if value is not None}
    if changed and declared.reader.kind != "streets":
        raise BadInput(
            f"data set {declared.name}: {_plain(list(changed))} is for images that Amber draws; leave it out"
        )
    if changed:
        declared = declared.with_reader(changed)
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = ingest(
            Catalog.create(home), declared, author=author, seed=seed, quarantine=quarantine, progress=screen.tell
        )
    for location, reason in done.quarantined:
        click.echo(f"quarantined {location}: {reason}", err=True)
    show(
        vars(done),
        as_json,
        lambda: (
            f"{done.dataset}: {done.samples:,} samples ({done.new:,} new), {done.labels:,} labels, "
            f"{done.held_back:,} held back, {len(done.quarantined):,} quarantined, commit {done.commit}"
        ),
    )
    if done.quarantined:
        raise click.exceptions.Exit(2)


@cli.group(invoke_without_command=True)
@workspace
@click.pass_context
def tasks(context: click.Context, home: str, as_json: bool) -> None:
    """List tasks: kind, classes, metric and owner; `redefine` changes one."""
    if _has_verb(context):
        return
    with Catalog.open(home).read() as now:
        rows = [task.model_dump(mode="json") for task in now.tasks().values()]
    columns = ["name", "kind", "classes", "unit", "metric", "owner"]
    show(rows, as_json, lambda: table("Tasks", columns, [[_plain(row[name]) for name in columns] for row in rows]))


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
    show(task.model_dump(mode="json"), as_json, lambda: f"task {name}: {_plain(task.classes) or task.unit}")


@cli.command("coverage")
@click.option(
    "--split", type=click.Choice(SPLITS), help="Of which samples; default: train, or all where nothing is split yet."
)
@click.option("--annotators", is_flag=True, help="Say how far annotators agree, and how each of them errs.")
@workspace
def coverage_command(split: str | None, annotators: bool, home: str, as_json: bool) -> None:
    """Say what is known by task and slice, who labelled it, what is labelled together, and what is not at random."""
    with Catalog.open(home).read() as now:
        if annotators:
            parts = [agreement(now, task) for task in now.tasks()]
            rows = {"commit": now.commit, "agreement": [part.row() for part in parts]}
            show(rows, as_json, lambda: agreement_tables(parts))
            return
        found, differences = coverage(now), missing(now)
    chosen = split or found.split
    shown = {
        "commit": found.commit,
        "cells": [row for row in found.rows() if row["split"] == chosen],
        "annotators": [vars(part) for part in found.annotators],
        "overlap": found.overlap,
        "missing": [part.row() for part in differences],
    }
    show(shown, as_json, lambda: coverage_tables(found, chosen, differences))


@cli.group(invoke_without_command=True)
@click.option("--commit", type=int, help="As of this commit.")
@workspace
@click.pass_context
def slices(context: click.Context, commit: int | None, home: str, as_json: bool) -> None:
    """List slices with their sizes; `add` declares one, `show` evaluates one, `overlap` compares all."""
    if _has_verb(context):
        return
    with Catalog.open(home).read(commit) as now:
        rows = []
        for part in now.slices().values():
            size = None if part.reads_predictions else len(now.members(part.predicate))
            rows.append(
                {"name": part.name, "task": part.task, "rare": part.rare, "samples": size, "predicate": part.predicate}
            )
    show(
        rows,
        as_json,
        lambda: table("Slices", ["name", "task", "rare", "samples", "predicate"], [list(r.values()) for r in rows]),
    )


@slices.command("overlap")
@click.option("--commit", type=int, help="As of this commit.")
@workspace
def overlap_command(commit: int | None, home: str, as_json: bool) -> None:
    """Say for each pair of slices how many samples are in both, and how alike they are."""
    with Catalog.open(home).read(commit) as now:
        rows = [vars(row) for row in overlaps(now)]
    columns = list(Overlap.__annotations__)
    show(rows, as_json, lambda: table("Overlap of slices", columns, [list(row.values()) for row in rows]))


@slices.command("remove")
@click.argument("name")
@author
@workspace
def remove_slice(name: str, author: str, home: str, as_json: bool) -> None:
    """Take the slice NAME away from now on; older commits keep it."""
    with Catalog.open(home).commit(author=author, message=f"remove slice {name}") as change:
        change.remove_slice(name)
    show({"removed": name, "commit": change.id}, as_json, lambda: f"slice {name} is gone since commit {change.id}")


@slices.command("add")
@click.argument("name")
@click.argument("predicate")
@click.option("--task", default="", help="Report it for this task only.")
@click.option("--rare", is_flag=True, help="Mine label requests for it.")
@author
@workspace
def add_slice(name: str, predicate: str, task: str, rare: bool, author: str, home: str, as_json: bool) -> None:
    """Declare the slice NAME: one boolean expression over attr.*, label.*, state.*, boxes.*."""
    with Catalog.open(home).commit(author=author, message=f"slice {name}") as change:
        made = change.add_slice(name, predicate, task=task, rare=rare)
    show(vars(made), as_json, lambda: f"slice {made.name}: {made.predicate}")


@slices.command("show")
@click.argument("name")
@click.option("--commit", type=int, help="As of this commit.")
@workspace
def show_slice(name: str, commit: int | None, home: str, as_json: bool) -> None:
    """Print the keys of the samples in the slice NAME."""
    with Catalog.open(home).read(commit) as now:
        inside = set(now.members(_slice(now, name).predicate).tolist())
        keys = [
            row["key"] for row in now.samples().select(["sample_id", "key"]).to_pylist() if row["sample_id"] in inside
        ]
    show(keys, as_json, lambda: "\n".join(keys))


@cli.command()
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


@cli.command()
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


@cli.command("revert")
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


@cli.command("forget")
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
    show(
        vars(gone), as_json,
        lambda: f"commit {gone.commit}: forgotten; {len(gone.packs)} packs written anew, {len(gone.plans)} plans and "
        f"{len(gone.runs)} runs withdrawn\nyours to delete, for they hold it or may: {', '.join(left)}",
    )  # fmt: skip


@cli.command("write")
@click.argument("kind", metavar="FORMAT", type=click.Choice(sorted(WRITERS)))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--task", "tasks", multiple=True, help="Only this task; may be given again.")
@click.option("--slice", "slice_", default="", help="Only the samples of this slice.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Only the samples of this split.")
@click.option("--commit", type=int, help="As of this commit.")
@workspace
def write_command(
    kind: str, out: Path, tasks: tuple[str, ...], slice_: str, split: str | None, commit: int | None, home: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Write what is known into the file OUT: a table (parquet, csv), boxes (coco), or each annotator's labels (labels).

    Unknown is an empty cell, or an image that is left out: never a negative.
    """
    with Catalog.open(home).read(commit) as now:
        count = WRITERS[kind](now, out, ids=_members(now, slice_, split), tasks=tasks)
    show({"file": str(out), "rows": count}, as_json, lambda: f"{out}: {count:,} rows")


@cli.command("duplicates")
@click.option("--distance", default=MAX_DISTANCE, show_default=True, help="Bits of 64 in which hashes may differ.")
@click.option("--embeddings", "model", default="", help="Compare the vectors of this model instead of hashes.")
@click.option("--similarity", default=SIMILARITY, show_default=True, help="Cosine from which vectors are alike.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a page of the pictures found.")
@click.option("--apply", is_flag=True, help="Join their groups; exclude the training side of those across splits.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Who commits, with --apply (AMBER_AUTHOR).")
@workspace
def duplicates_command(
    distance: int, model: str, similarity: float, sheet: Path | None, apply: bool, author: str, home: str,
    as_json: bool,
) -> None:  # fmt: skip
    """List images that are near-duplicates, by chains, and say which reach from training into evaluation."""
    catalog = Catalog.open(home)
    with catalog.read() as now:
        hashes, samples = now.hashes(), {row["key"]: row for row in now.samples().to_pylist()}
        keys = hashes["key"].to_pylist()
        if model:
            kept = Embeddings.open(catalog.home, model)
            near = near_duplicate_vectors(keys, kept.standardised(kept.rows(keys)), similarity)
        else:
            near = near_duplicate_groups(keys, hashes["phash"].to_numpy(), distance)
        found = twins(now, near, keys)
    if sheet:
        write_sheet(found, samples, sheet)
    moved, out = separate(catalog, found, author=author) if apply else (0, 0)
    across = sum(one.across for one in found)
    told = f"{len(found):,} groups of near-duplicates, {across:,} of them across training and evaluation"
    told += f"; {moved:,} samples changed their group, {out:,} were excluded" if apply else ""
    rows = [[len(one.keys), _plain(one.splits), one.keys[0], one.keys[-1]] for one in found]
    show(
        {"groups": [vars(one) for one in found], "across": across, "moved": moved, "excluded": out},
        as_json,
        lambda: table(told, ["images", "splits", "first", "last"], rows),
    )


@cli.group()
def policy() -> None:
    """What the owners of tasks ask for."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@workspace
def check_policy(file: Path, home: str, as_json: bool) -> None:
    """Say whether FILE is a sound policy for this catalog."""
    loaded = Policy.load(file)
    with Catalog.open(home).read() as now:
        loaded.check(now)
    rows = [
        [name, part.owner, part.share, part.importance, part.rule, _plain(part.boost)]
        for name, part in loaded.task.items()
    ]
    columns = ["task", "owner", "share", "importance", "rule", "boost"]
    show(loaded.model_dump(mode="json"), as_json, lambda: table(f"{file}: sound", columns, rows))


@cli.command("pack")
@click.option("--verify", is_flag=True, help="Hash every shard and image again.")
@workspace
def pack_command(verify: bool, home: str, as_json: bool) -> None:
    """Write the images of the catalog into WebDataset shards, once."""
    screen = Screen(quiet=as_json)
    with screen.stages():
        pack = make_pack(Catalog.open(home), progress=lambda done, total: screen.tell("pack", done, total))
        if verify:
            pack.verify(progress=lambda done, total: screen.tell("verify", done, total))
    shown = {"pack": pack.hash, "images": len(pack.keys), "shards": len(pack.shards)}
    show(shown, as_json, lambda: f"pack {pack.hash}: {len(pack.keys):,} images in {len(pack.shards):,} shards")


@cli.command("plan")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy file; default: even and balanced."
)
@click.option("--draws", default=6_400, show_default=True, type=click.IntRange(min=1), help="How many draws.")
@seeded
@click.option("--commit", type=int, help="Plan on what was known at this commit.")
@click.option("--list", "listed", is_flag=True, help="List the plans of the workspace instead.")
@workspace
def plan_command(
    policy_file: Path | None, draws: int, seed: int, commit: int | None, listed: bool, home: str, as_json: bool
) -> None:
    """Resolve a policy into a plan: what will be drawn, and what every task gets out of it."""
    catalog = Catalog.open(home)
    if listed:
        plans = sorted(path.parent.name for path in (catalog.home / "plans").glob("*/plan.json"))
        show(plans, as_json, lambda: "\n".join(plans))
        return
    with catalog.read(commit) as now:
        policy_ = Policy.load(policy_file) if policy_file else Policy.for_labelled(now)
    plan = make_plan(catalog, policy_, make_pack(catalog), draws=draws, seed=seed, commit=commit)
    rows = [vars(row) for row in plan.standings()]
    show(
        {"plan": plan.hash, "commit": plan.commit, "tasks": rows, "rates": plan.rates()},
        as_json,
        lambda: table(
            f"Plan {plan.hash} at commit {plan.commit}: {draws:,} draws",
            list(rows[0]),
            [list(row.values()) for row in rows],
        ),
    )


@cli.command("train")
@click.option("--plan", "plan_hash", default="", help="Plan to train on (a prefix of its hash); default: the newest.")
@trunk_option
@click.option(
    "--size", type=(int, int), metavar="HEIGHT WIDTH", help="Height and width in pixels; default: what suits the trunk."
)
@click.option("--batch", default=64, show_default=True, help="Global batch, in draws.")
@click.option("--learning-rate", type=float, help="Default: what suits the trunk.")
@click.option("--parent", default="", help="Run to go on from: its weights are where this one begins.")
@seeded
@author
@workspace
def train_command(
    plan_hash: str, trunk: str, size: tuple[int, int] | None, batch: int, learning_rate: float | None, parent: str,
    seed: int, author: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Train a network on a plan and record its predictions and slice figures."""
    from training.evaluation import evaluate
    from training.features import embed
    from training.trainer import train

    catalog = Catalog.open(home)
    plan = Plan.open(catalog.home, plan_hash) if plan_hash else Plan.newest(catalog.home)
    recipe = Recipe.of(trunk, size=size, global_batch=batch, seed=seed, learning_rate=learning_rate)
    screen = Screen(quiet=as_json)
    with screen.stages():
        pack = Pack.open(catalog.home, plan.pack_hash)
        embed(catalog.home, pack, recipe, progress=lambda done, total: screen.tell("embed", done, total))
        run_ = train(
            recipe, plan, catalog, parent=parent, progress=lambda done, total, loss: screen.tell("train", done, total)
        )
        figures = evaluate(
            run_, catalog, author=author, progress=lambda done, total: screen.tell("evaluate", done, total)
        ).to_pylist()
    show({"run": run_.id, "figures": figures}, as_json, lambda: _figures_table(f"Run {run_.id}", figures))


@cli.command("report")
@click.option("--run", "run_", default="", help="Run to report; default: the newest.")
@click.option(
    "--out", default="report.html", show_default=True, type=click.Path(path_type=Path), help="Where to write it."
)
@workspace
def report_command(run_: str, out: Path, home: str, as_json: bool) -> None:
    """Write report.html: figures of every slice, curves, coverage, and the worst slices as pictures."""
    catalog = Catalog.open(home)
    with catalog.read() as now:
        runs = now.runs()["run"].to_pylist()
    if not runs:
        raise NotFound(f"{home}: the catalog has no run yet; `amber train` makes one")
    path = write_report(catalog, run_ or runs[-1], out)
    show({"report": str(path)}, as_json, lambda: f"report {path}")


@cli.command("request")
@click.option("--budget", type=int, help="Ask for this many labels.")
@click.option("--run", "run_", default="", help="Run whose predictions mine; default: the newest.")
@click.option("--random-share", default=0.15, show_default=True, help="Part of the budget that is drawn at random.")
@seeded
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Who asks, with --budget (AMBER_AUTHOR).")
@workspace
def request_command(
    budget: int | None, run_: str, random_share: float, seed: int, author: str, home: str, as_json: bool
) -> None:
    """Ask for labels where they help most (with --budget), and list the open requests."""
    catalog = Catalog.open(home)
    if budget is not None:
        with catalog.read() as now:
            runs, head = now.runs()["run"].to_pylist(), now.digest
        used = run_ or (runs[-1] if runs else "")
        made = Proposal(
            budget=budget, seed=seed, random_share=random_share, run=used, embeddings=_embeddings(catalog, used)
        )
        propose(catalog, made, author=author, batch=f"request:{head}:{made}")
    with catalog.read() as now:
        rows = now.requests("open").to_pylist()
    columns = ["priority", "task", "key", "arm", "slice", "reason", "propensity"]
    show(
        rows,
        as_json,
        lambda: table(f"{len(rows):,} open requests", columns, [[row[name] for name in columns] for row in rows]),
    )


@cli.command("oracle")
@workspace
def oracle_command(home: str, as_json: bool) -> None:
    """Answer the open requests with the labels that the data set held back."""
    catalog = Catalog.open(home)
    with catalog.read() as now:
        digest = now.digest
    count = oracle.answer(catalog, batch=f"oracle:{digest}")
    show({"labels": count}, as_json, lambda: f"{count:,} labels")


@cli.command("loop")
@click.option("--rounds", default=3, show_default=True, help="Rounds after the first training.")
@click.option("--budget", default=20, show_default=True, help="Labels to buy in a round.")
@click.option("--start", default=40, show_default=True, help="Labels to buy before the first training.")
@click.option("--random", "random_arm", is_flag=True, help="Buy every label at random: the baseline.")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy file; default: even and balanced."
)
@trunk_option
@click.option("--draws", default=6_400, show_default=True, help="Draws of each round's plan.")
@click.option("--first-draws", type=int, help="Draws of the first plan, when the trunk is trained; default: --draws.")
@seeded
@author
@workspace
def loop_command(
    rounds: int, budget: int, start: int, random_arm: bool, policy_file: Path | None, trunk: str, draws: int,
    first_draws: int | None, seed: int, author: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Go round: ask, have answered, plan, train, evaluate. Killed and run again, it goes on where it was."""
    catalog = Catalog.open(home)
    loop = Loop(
        rounds=rounds, budget=budget, start=start, random_share=1.0 if random_arm else 0.15, draws=draws,
        first_draws=first_draws, seed=seed, recipe=Recipe.of(trunk, seed=seed),
        policy=Policy.load(policy_file) if policy_file else None,
    )  # fmt: skip
    screen = Screen(quiet=as_json)
    with screen.stages():
        done = list(go_round(catalog, loop, author=author, progress=screen.tell))
    with catalog.read() as now:
        rare = [part for part in now.slices().values() if part.rare and part.name in done[-1].found]

    def shown() -> None:
        for part in rare:
            output().print(rounds_table(f"{part.name} ({loop.arm})", {loop.arm: done}, task=part.task, rare=part.name))
        output().print(_figures_table(f"Run {done[-1].run}", done[-1].figures))

    show([vars(step) for step in done], as_json, shown)


def _has_verb(context: click.Context) -> bool:
    """Whether a verb follows the group, which then takes the options itself."""
    verb = context.invoked_subcommand
    if verb and any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
        raise click.UsageError(f"Options go behind '{verb}'", context)
    return bool(verb)


def _members(now: Snapshot, slice_: str, split: str | None) -> npt.NDArray[np.int64] | None:
    """Ids of the samples in a slice and a split; None for all."""
    if not slice_ and not split:
        return None
    samples = now.samples()
    inside = samples.filter(pc.equal(samples["split"], split)) if split else samples
    ids = np.asarray(inside["sample_id"].to_numpy(), np.int64)
    return np.intersect1d(ids, now.members(_slice(now, slice_).predicate)) if slice_ else ids


def _slice(now: Snapshot, name: str) -> Slice:
    if name not in now.slices():
        raise NotFound(f"slice {name!r}: the catalog has no such slice; `amber slices` lists them")
    return now.slices()[name]


def _figures_table(title: str, figures: list[dict[str, Any]]) -> Any:
    rows = [
        [row["task"], row["slice"] or "(all)", row["split"], row["n"], row["groups"], row["metric"], interval(row)]
        for row in figures
        if row["n"]
    ]
    return table(title, ["task", "slice", "split", "n", "groups", "metric", "value [95% interval]"], rows)


def _embeddings(catalog: Catalog, run_: str) -> str:
    """The embeddings that a run stands on, or else any that the workspace has."""
    name = Run.open(catalog.home, run_).recipe.embeddings if run_ else ""
    if name:
        return name
    found = sorted(path.parent.name for path in (catalog.home / "embeddings").glob("*/embeddings.json"))
    return found[0] if found else ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:,}" for name, number in value.items())
    return ", ".join(value) if isinstance(value, list | tuple) else value
