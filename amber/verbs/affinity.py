"""The verb `amber affinity`."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa
from rich.console import Group, RenderableType

from amber.completion import RUN, TASK
from amber.extras import need_extra
from amber.terminal import Screen, note, show, table
from amber.verbs.options import grouped, seeded, using_files, workspace
from curation.catalog.catalog import Catalog, check_author
from curation.catalog.event_tables import REQUESTS
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from training.recipe import Recipe
from training.run import Run
from training.run_list import newest_run

if TYPE_CHECKING:
    from curation.requests.colabelling_requests import CoLabelling
    from training.dynamics.effects import Effects

__all__ = ["affinity_command"]

RELIABLE = 0.4
"""`training.loop.affinity.RELIABLE`, which is not imported here because it takes torch."""


@dataclass(frozen=True, kw_only=True)
class AffinityOptions:
    """What is measured, asked and written."""

    pairs: bool
    seeds: int
    split: str
    tasks: tuple[str, ...]
    out: Path
    ask: int | None
    author: str


affinity_options = grouped(
    "options", AffinityOptions,
    click.option("--pairs", is_flag=True, help="Measure: train each task alone and each pair, on frozen features."),
    click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1), help="Trainings of each pair."),
    click.option(
        "--split", type=click.Choice(["validation", "test"]), default="test", show_default=True,
        help="Whose labels judge pairs. Groups chosen on test look too good there: choose by validation.",
    ),
    click.option(
        "--task", "tasks", multiple=True, type=TASK, help="Only this task; may be given several times. Default: all."
    ),
    click.option(
        "--out", default="affinity.svg", show_default=True, type=click.Path(path_type=Path), metavar="FILE",
        help="Picture of the measured pairs: SVG, PNG or PDF.",
    ),
    click.option(
        "--ask", type=int, metavar="N",
        help="Request N labels that make tasks known on the same images, where the cosine is unknown.",
    ),
    click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the requests (AMBER_AUTHOR)."),
)  # fmt: skip


@click.command("affinity")
@click.argument("run", required=False, default="", type=RUN)
@affinity_options
@seeded
@workspace
@using_files
def affinity_command(run: str, options: AffinityOptions, seed: int, home: str, as_json: bool) -> None:
    """Show which tasks of RUN (default: the newest) help or harm each other.

    While a network learns from draws, the run records how far the gradients of each two tasks agree; a cosine is shown
    where at least 40% of the labels of both lie on the same images, otherwise it is unknown. It is a hint. The verdict
    is --pairs: each task alone beside each pair, with the same seeds; synergy, conflict, or cannot tell.

    \b
    amber affinity --pairs --seeds 3      # measure all pairs; writes affinity.svg
    amber affinity --ask 200              # request labels where two tasks are never known together
    """
    if options.ask is not None:
        check_author(options.author)
    if options.out.suffix not in (".svg", ".png", ".pdf"):
        raise BadInput(f"--out {options.out}: must end in .svg, .png or .pdf; rename it")
    from curation.requests.colabelling_requests import co_labellings

    catalog = Catalog.open(home)
    with catalog.read() as now:
        chosen = Run.open(catalog.home, now.runs.full_id(run) if run else newest_run(catalog.home, now))
        learned = _tasks(catalog, chosen, options.tasks)
        together = co_labellings(now, [name for name in learned if name in now.tasks()])
        rows = _to_ask(now, catalog, together, options.ask, seed, chosen.id) if options.ask is not None else []
    if rows:
        message = f"request {len(rows)} labels of tasks that are seldom known together"
        with catalog.commit(author=options.author, message=message) as change:
            change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    effects, left_out = _effects(catalog, chosen, options, seed, quiet=as_json)
    cells = [_pair(chosen, part) for part in together]
    for name, why in () if as_json else left_out.items():
        note(f"{name} is in no pair: {why}")
    data = {
        "run": chosen.id, "cosines": cells, "left_out": left_out, "requested": len(rows),
        "pairs": effects and {**asdict(effects), "effects": [_said(effects, at) for at in range(len(effects.effects))]},
        "picture": str(options.out) if options.pairs else "",
    }  # fmt: skip
    show(data, as_json, lambda: _tables(chosen, cells, effects, options, len(rows)))


def _tasks(catalog: Catalog, run: Run, only: Sequence[str]) -> list[str]:
    """The tasks of a run, or `only` those; BadInput for fewer than two, and for one that it did not learn."""
    from samplers.plan.plan import Plan

    names = [task.name for task in Plan.open(catalog.home, run.plan).tasks]
    if unknown := [name for name in only if name not in names]:
        raise BadInput(f"task {unknown[0]}: run {run.id} learned {', '.join(names)}; name some of these")
    found = [name for name in names if not only or name in only]
    if len(found) < 2:
        raise BadInput(
            f"task {found[0]}: affinity is between two tasks, and run {run.id} is asked about one; add another"
        )
    return found


def _to_ask(
    now: Snapshot, catalog: Catalog, together: "Sequence[CoLabelling]", count: int | None, seed: int, run: str
) -> list[dict[str, object]]:
    from curation.requests.colabelling_requests import rows_to_co_label

    pairs = [(part.one, part.other) for part in together if part.share < RELIABLE]
    return rows_to_co_label(now, catalog.home, pairs, count or 0, seed=seed, run=run)


def _effects(
    catalog: Catalog, run: Run, options: AffinityOptions, seed: int, *, quiet: bool
) -> "tuple[Effects | None, dict[str, str]]":
    """The effects that are measured now, or were measured before; None where there are none."""
    from training.dynamics.effects import Effects

    if not options.pairs:
        try:
            return Effects.open(catalog.home, run.id), {}
        except NotFound:
            return None, {}
    need_extra("train")
    from amber.effects_picture import write_effects_picture
    from amber.pairs import features_recipe, measure_run
    from amber.verbs.training import size_for

    size = size_for(catalog, Recipe.trunk)
    assert size is not None
    screen = Screen(quiet=quiet)
    with screen.stages():
        effects, left_out = measure_run(
            catalog, run, features_recipe(run, size), seeds=range(seed, seed + options.seeds), split=options.split,
            tasks=options.tasks, progress=screen.tell,
        )  # fmt: skip
    write_effects_picture(effects, options.out)
    return effects, left_out


def _pair(run: Run, part: "CoLabelling") -> dict[str, Any]:
    """What is known of the gradients of two tasks: the cosine as recorded, where labels lie together now too."""
    recorded = next(({**row} for row in run.affinity if {row["one"], row["other"]} == {part.one, part.other}), None)
    if recorded and part.share < RELIABLE:
        recorded["cosine"] = None
    return {
        "one": part.one, "other": part.other, "labels": part.known, "both": part.both, "share": part.share,
        "cosine": recorded["cosine"] if recorded else None, "missing": part.missing(RELIABLE),
        "why": _why(run, part, recorded),
    }  # fmt: skip


def _why(run: Run, part: "CoLabelling", recorded: dict[str, Any] | None) -> str:
    """Why a cosine is unknown; "" where it is known."""
    if recorded and recorded["cosine"] is not None:
        return ""
    if part.share < RELIABLE:
        return f"seldom known together; {part.missing(RELIABLE):,} labels would do"
    if recorded:
        more = recorded["share"] >= RELIABLE
        return "their heads read different layers" if more else "the draws had them together too seldom"
    return "no head of the run learned from draws" if run.recipe.solved else "the run recorded none"


def _said(effects: "Effects", at: int) -> dict[str, Any]:
    return {**asdict(effects.effects[at]), "verdict": effects.effects[at].verdict}


def _tables(
    run: Run, cells: Sequence[dict[str, Any]], effects: "Effects | None", options: AffinityOptions, requested: int
) -> Group:
    from amber.effects_picture import effects_tables

    rows = [
        [cell["one"], cell["other"], cell["both"], f"{cell['share']:.0%}",
         "unknown" if cell["cosine"] is None else f"{cell['cosine']:+.2f}", cell["why"]]
        for cell in cells
    ]  # fmt: skip
    columns = ["task", "and", "labelled together", "share", "cosine", "why unknown"]
    parts: list[RenderableType] = [table(f"Gradients of run {run.id}", columns, rows)]
    if effects:
        parts.append(effects_tables(effects))
        parts += [f"picture: {options.out}"] if options.pairs else []
    else:
        parts.append(f"verdicts: amber affinity {run.id} --pairs")
    missing = [cell for cell in cells if cell["share"] < RELIABLE]
    if requested:
        parts.append(f"{requested:,} labels requested")
    elif missing:
        tasks = shlex.join(["amber", "affinity", run.id, "--ask", str(min(200, missing[0]["missing"]))])
        parts.append(f"labels that would make cosines known: {tasks}")
    return Group(*parts)
